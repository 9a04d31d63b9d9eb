"""Share links made direct, and pages that come instead of a file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from ddnet.fetch.policy import SourceFailed

_LOCAL = ("localhost", "127.0.0.1", "::1")
_DRIVE = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_DRIVE_DOWNLOAD = "https://drive.usercontent.google.com/download"
PAGE = "an HTML page instead of the file (login, quota or consent page)"
QUOTA = "an HTML page instead of the file (the download quota is used up; it is renewed within a day)"


def require_safe(url: str, after: str = "") -> None:
    """Refuse what is not https; plain http only on this machine, and never once a redirect began at https.

    Raises:
        SourceFailed: another scheme, or http to another machine.
    """
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOCAL and not after.startswith("https:")
    if parts.scheme != "https" and not local:
        told = f"{parts.scheme or 'no'}:// is refused ({parts.hostname or url}); only https is allowed"
        raise SourceFailed(f"a redirect to {told}" if after else told)


def direct_url(url: str) -> str:
    """The address of the file itself behind a share link of Dropbox or Google Drive; any other URL unchanged."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("dropbox.com", "www.dropbox.com"):
        query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "dl"]
        return urlunsplit(parts._replace(query=urlencode([*query, ("dl", "1")])))
    if host in _DRIVE:
        query_values = parse_qs(parts.query)
        inside = re.search(r"/file/d/([\w-]+)", parts.path)
        file_id = inside.group(1) if inside else query_values.get("id", [""])[0]
        if file_id:
            new = {"id": file_id, "export": "download", "confirm": "t"}
            if "resourcekey" in query_values:  # older shared files cannot be had without it
                new["resourcekey"] = query_values["resourcekey"][0]
            return f"{_DRIVE_DOWNLOAD}?{urlencode(new)}"
    return url


def is_html(head: bytes) -> bool:
    """Whether the first bytes of a body are those of a web page."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower()
    return start.startswith((b"<!doctype html", b"<html"))


def page_reason(page: str) -> str:
    """What a web page that came instead of a file means, in few words."""
    return QUOTA if re.search(r"quota exceeded|too many users have viewed", page, re.I) else PAGE


def download_form(page: str, url: str) -> str | None:
    """Where the download button of a consent page leads, with the form's hidden values; None: there is no such form.

    Args:
        page: HTML of the page.
        url: the page's own address, for relative links.
    """
    parser = _Forms()
    parser.feed(page)
    for action, values in parser.forms:
        if "download" in action or "confirm" in values:
            target = urlsplit(urljoin(url, action))
            query = urlencode(parse_qsl(target.query) + list(values.items()))
            return urlunsplit(target._replace(query=query))
    return None


class _Forms(HTMLParser):
    """Collects `(action, hidden values)` of all GET forms."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        if tag == "form":
            self._inside = values.get("method", "get").lower() == "get"
            if self._inside:
                self.forms.append((values.get("action", ""), {}))
        elif tag == "input" and self._inside and values.get("type", "").lower() == "hidden" and values.get("name"):
            self.forms[-1][1][values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
