"""One file by URL: streamed to a partial file, resumed by range, retried, checked, and only then given its name."""

from __future__ import annotations

import email.utils
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ddnet.fetch import links
from ddnet.fetch.partial import Partial, Version
from ddnet.fetch.policy import Policy, SourceFailed
from ddnet.io.files import sha256
from ddnet.runtime.log import format_bytes

log = logging.getLogger(__name__)

BLOCK = 1 << 18
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_PAGE_BYTES = 1 << 20
_WORDS = {401: "login required", 403: "access refused", 404: "not there", 410: "not there any more"}
_LOST = (requests.RequestException, urllib3.exceptions.HTTPError)


class Stopped(Exception):
    """Another thread failed or the user interrupted; nothing is wrong with this file."""


class _Interrupted(Exception):
    """An attempt that ended early; another one may bring the rest."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Order:
    """One file to have.

    Args:
        name: what messages call it.
        url: https, or http on this machine.
        target: where it goes when it is complete and passes every check.
        partial: `<partial>.part` and `<partial>.json` hold what has come so far.
        sha256: its digest where it is known.
        md5: the same, where its publisher states that one.
        check: raises SourceFailed where the content cannot be what is wanted.
        expect: called with size and bytes at hand, as soon as the server has named the size.
        advance: called with the number of bytes gained; negative where they must be had again.
    """

    name: str
    url: str
    target: Path
    partial: Path
    sha256: str | None = None
    md5: str | None = None
    check: Callable[[Path], None] = _nothing
    expect: Callable[[int, int], None] = _nothing
    advance: Callable[[int], None] = _nothing


class _Session(requests.Session):
    """Follows no redirect that leaves https."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target:
            links.require_safe(urljoin(resp.url, target), after=resp.url)
        return target


class Client:
    """Fetches files from one source, in as many threads as the policy has connections."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._session = _Session()
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "ddnet-bench"})
        adapter = HTTPAdapter(pool_connections=policy.connections, pool_maxsize=policy.connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._active: set[requests.Response] = set()
        self._reached: set[str] = set()

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._session.close()

    def stop(self) -> None:
        """End all transfers of other threads now; what they have stays for the next run."""
        self._stop.set()
        with self._lock:
            active = list(self._active)
        for response in active:
            with suppress(Exception):  # it may have ended by itself in the meantime
                response.raw.shutdown()

    def fetch(self, order: Order) -> str:
        """Bring one file to its place and return its SHA-256.

        Raises:
            SourceFailed: refused by the server, given up after the policy's attempts, or not the file that is wanted.
            Stopped: `stop` was called.
            OSError: the disk is full or cannot be written.
        """
        url = links.direct_url(order.url)
        links.require_safe(url)
        partial = Partial(order.partial, order.url)
        most, failures = partial.have, 0
        while True:
            try:
                if not partial.complete:
                    self._attempt(url, order, partial)
                return _finish(order, partial)
            except _Interrupted as reason:
                if self._stop.is_set():
                    raise Stopped from None
                gained = partial.have > most
                most, failures = max(most, partial.have), 0 if gained else failures + 1
                self._wait(order, url, reason, failures)

    def _wait(self, order: Order, url: str, reason: _Interrupted, failures: int) -> None:
        """Sleep before the next attempt.

        Raises:
            SourceFailed: too many attempts in vain, or the server asks for a longer wait than the policy grants.
            Stopped: `stop` was called meanwhile.
        """
        policy = self.policy
        attempts = policy.attempts if urlsplit(url).netloc in self._reached else policy.first_attempts
        if failures >= attempts:
            raise SourceFailed(f"{reason} ({failures} attempt{'s' if failures > 1 else ''} in vain)")
        seconds = min(policy.backoff_cap_s, policy.backoff_s * 2 ** max(failures - 1, 0))
        if reason.wait_s is not None:
            if reason.wait_s > policy.retry_after_cap_s:
                raise SourceFailed(f"{reason}; the server asks to wait {reason.wait_s:.0f} s")
            seconds = max(reason.wait_s, seconds)
        log.info("%s: %s; again in %.0f s (%d of %d)", order.name, reason, seconds, failures + 1, attempts)
        if self._stop.wait(seconds):
            raise Stopped

    def _attempt(self, url: str, order: Order, partial: Partial) -> None:
        """One request, as far as it goes."""
        headers = partial.headers()
        with self._open(url, headers) as response:
            if not _begin(response, order, partial):
                return
            if partial.version.size is not None:
                order.expect(partial.version.size, partial.have)
            self._stream(response, order, partial)
        if self._stop.is_set():  # the end of the body may be `stop`'s doing
            raise Stopped
        if partial.version.size is not None and partial.have < partial.version.size:
            raise _Interrupted("cut short")
        partial.end_reached = True

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The answer to one request; what goes wrong on the line inside the block is an interruption."""
        response = None
        try:
            response = self._get(url, headers)
            if _is_page(response):
                page = response.raw.read(_PAGE_BYTES, decode_content=True).decode("utf-8", "replace")
                form = links.download_form(page, response.url)
                if form is None:
                    raise SourceFailed(links.page_reason(page))
                self._close(response)
                links.require_safe(form, after=response.url)
                response = self._get(form, headers)
                if _is_page(response):
                    raise SourceFailed(links.PAGE)
            _require_status(response, resuming="Range" in headers)
            yield response
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise SourceFailed(f"bad address: {error}") from None
        except _LOST as error:
            raise _Interrupted(_line_reason(error, self.policy)) from None
        finally:
            if response is not None:
                self._close(response)

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        limits = (self.policy.connect_s, self.policy.read_s)
        response = self._session.get(url, headers=headers, stream=True, timeout=limits)
        with self._lock:
            self._active.add(response)
            self._reached.add(urlsplit(url).netloc)
        if self._stop.is_set():  # `stop` may have missed this one
            self._close(response)
            raise Stopped
        return response

    def _close(self, response: requests.Response) -> None:
        with self._lock:
            self._active.discard(response)
        response.close()

    def _stream(self, response: requests.Response, order: Order, partial: Partial) -> None:
        """Append the body; the connection is dropped when it stalls."""
        since, gained = time.monotonic(), 0
        with partial.append() as write:
            while block := response.raw.read1(BLOCK, decode_content=False):
                write(block)
                order.advance(len(block))
                gained += len(block)
                seconds = time.monotonic() - since
                if self._stop.is_set():
                    raise Stopped
                if seconds >= self.policy.stall_s:
                    if gained < self.policy.min_rate * seconds:
                        raise _Interrupted(f"stalled at {format_bytes(gained / seconds)}/s")
                    since, gained = time.monotonic(), 0


def _require_status(response: requests.Response, resuming: bool) -> None:
    """Accept 200 and 206, and 416 to the question for a rest."""
    status = response.status_code
    if status in _TRANSIENT:
        raise _Interrupted(f"HTTP {status}", _retry_after(response))
    if status not in (200, 206) and not (status == 416 and resuming):
        raise SourceFailed(f"HTTP {status}, {_WORDS.get(status, response.reason)}")


def _begin(response: requests.Response, order: Order, partial: Partial) -> bool:
    """Decide whether the answer goes on from the part at hand or begins anew; False: the part was all there is."""
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise SourceFailed("the server compresses what was asked for as it is")
    nothing_left = response.headers.get("Content-Range") == f"bytes */{partial.have}"
    if response.status_code == 416 and nothing_left and partial.version.size is None:
        partial.end_reached = True
        return False
    if response.status_code == 200:
        order.advance(-partial.gained)
        partial.restart(Version.of(response))
        return True
    if partial.continues(response):
        return True
    order.advance(-partial.gained)
    partial.restart()
    raise _Interrupted("the answer does not continue the part at hand; from the start again")


def _finish(order: Order, partial: Partial) -> str:
    """Check the whole file and give it its name."""
    with partial.path.open("rb") as stream:
        head = stream.read(_PAGE_BYTES)
    if links.is_html(head):
        partial.restart()
        raise SourceFailed(links.page_reason(head.decode("utf-8", "replace")))
    digest = sha256(partial.path)
    stated = [
        ("SHA-256", digest, order.sha256, "what is recorded"),
        ("SHA-256", digest, partial.version.sha256, "what the server states"),
        ("MD5", _md5(partial.path) if order.md5 else "", order.md5, "what its publisher states"),
    ]
    try:
        for kind, found, due, by in stated:
            if due not in (None, found):
                raise SourceFailed(f"its {kind} {found[:12]} is not {due[:12]}, {by}")
        order.check(partial.path)
    except SourceFailed as failure:
        resumed = partial.resumed
        order.advance(-partial.gained)
        partial.restart()
        if resumed:  # two versions may have been joined where the server gave no validator
            raise _Interrupted(f"{failure}; from the start again") from None
        raise
    order.target.parent.mkdir(parents=True, exist_ok=True)
    partial.move_to(order.target)
    return digest


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _is_page(response: requests.Response) -> bool:
    """Whether a web page came, by its declared type."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    return response.status_code in (200, 206) and kind in ("text/html", "application/xhtml+xml")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds until the server wants to be asked again or its quota is renewed; None: it says nothing of that."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    quota = re.search(r";\s*t=(\d+)", response.headers.get("RateLimit", ""))  # IETF draft; the hub sends it
    return float(quota[1]) if quota else None


def _line_reason(error: Exception, policy: Policy) -> str:
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
