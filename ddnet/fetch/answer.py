"""What an HTTP answer says: version and range of a file, waits, pages, and what happened where none came."""

from __future__ import annotations

import email.utils
import re
import time
from contextlib import suppress

import requests
import urllib3

from ddnet.fetch.partial import Version
from ddnet.fetch.policy import Policy


def is_page(response: requests.Response) -> bool:
    """Whether a web page came, by its declared type."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    return response.status_code in (200, 206) and kind in ("text/html", "application/xhtml+xml")


def version_of(response: requests.Response) -> Version:
    """What the server says about the file: its size, its validator, and its SHA-256 where the hub states it."""
    size = response.headers.get("Content-Length", "")
    linked = None
    for answer in (*response.history, response):
        digest = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
        linked = digest if re.fullmatch("[0-9a-f]{64}", digest) else linked
    etag = response.headers.get("ETag", "")
    return Version(
        size=int(size) if size.isdigit() else None,
        etag="" if etag.startswith("W/") else etag,
        modified=response.headers.get("Last-Modified", ""),
        sha256=linked,
    )


def content_range(response: requests.Response) -> tuple[int, int | None]:
    """First byte and whole size of a 206 answer; (-1, None) where the header is missing or broken."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None: it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def line_reason(error: Exception, policy: Policy) -> str:
    """What happened on the line, in few words."""
    text = str(error)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {policy.connect_s:g} s"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError) or "Read timed out" in text:
        return f"no data for {policy.read_s:g} s"
    if "IncompleteRead" in text:
        return "cut short"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached or refuses"
    if "NameResolution" in text or "Failed to resolve" in text:
        return "the host name cannot be resolved"
    if isinstance(error, requests.exceptions.SSLError):
        return "no trusted TLS connection"
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)", text)
    return system.group(1).strip().lower() if system else "connection lost"
