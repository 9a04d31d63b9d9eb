"""A local HTTP server that behaves, and misbehaves when told to.

    with Remote({"/data/a.png": b"..."}) as remote:           # or Remote(folder): every file below it
        remote.misbehave("/data/a.png", cut(1000), times=2)     # the next two requests get 1000 bytes and a hang-up
        fetch(remote.url + "/data/a.png")
        assert remote.asked("/data/a.png")[2].range == "bytes=2000-"

It knows Range, If-Range and strong ETags (the digest of the content). A path's faults are queued: each request takes
the next one, and when none is left it is served properly; `times=None` keeps a fault for good. The path `*` stands for
every path without faults of its own. Faults can be joined: `cut(10) | slow(0.01)`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Fault:
    """One way to answer a request wrongly; None: that part of the answer is right."""

    status: int | None = None  # with an empty body, unless `content` gives one
    content: bytes | None = None  # instead of the file's
    headers: Mapping[str, str] = field(default_factory=dict)  # added, or put in place of the right ones; "": left out
    cut: int | None = None  # hang up after so many bytes of the body
    length: int | None = None  # Content-Length that does not hold
    delay: float | None = None  # seconds before each block of the body
    block: int | None = None  # bytes of a block, all where None
    whole: bool | None = None  # ignore Range
    shift: int | None = None  # answer a range that begins so many bytes later

    def __or__(self, other: Fault) -> Fault:
        merged = {item.name: getattr(other, item.name) for item in fields(other)}
        mine = {item.name: getattr(self, item.name) for item in fields(self)}
        joined: dict[str, Any] = {key: mine[key] if value is None else value for key, value in merged.items()}
        return Fault(**joined | {"headers": {**self.headers, **other.headers}})


def status(code: int, retry_after: str | int | None = None) -> Fault:
    """An error status, e.g. 404, or 429 with Retry-After."""
    return Fault(status=code, headers={} if retry_after is None else {"Retry-After": str(retry_after)})


def cut(after: int) -> Fault:
    """A connection that ends after so many bytes of the body."""
    return Fault(cut=after)


def content(data: bytes, kind: str = "application/octet-stream") -> Fault:
    """Other bytes than the file's, with status 200."""
    return Fault(content=data, headers={"Content-Type": kind}, whole=True)


def page(text: str = "<!DOCTYPE html><html><body>Please log in</body></html>") -> Fault:
    """A web page with status 200."""
    return content(text.encode(), "text/html; charset=utf-8")


def drive_page(action: str, **hidden: str) -> Fault:
    """The page that asks whether a file shall be had although it was not scanned for viruses."""
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in hidden.items())
    return page(
        f'<!DOCTYPE html><html><body><form id="download-form" action="{action}" method="get">'
        f'<input type="submit" value="Download anyway"/>{inputs}</form></body></html>'
    )


def slow(delay: float, block: int = 1) -> Fault:
    """`block` bytes every `delay` seconds."""
    return Fault(delay=delay, block=block)


def redirect(target: str, **headers: str) -> Fault:
    """302 to another address; `X_Linked_Etag="..."` adds such a header."""
    added = {key.replace("_", "-"): value for key, value in headers.items()}
    return Fault(status=302, headers={"Location": target, **added})


def header(**headers: str) -> Fault:
    """Headers added or replaced (`ETag='"x"'`); an empty one is left out."""
    return Fault(headers={key.replace("_", "-"): value for key, value in headers.items()})


def no_range() -> Fault:
    """Range is ignored: the whole file with status 200."""
    return Fault(whole=True)


def wrong_range(shift: int) -> Fault:
    """A range that does not begin where it was asked to."""
    return Fault(shift=shift)


def wrong_length(length: int) -> Fault:
    """A Content-Length that does not hold."""
    return Fault(length=length)


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news; a fault of ours shows in what the client gets."""


class Remote:
    """The server; a context manager, also usable with `start` and `stop`. Files may be added while it runs."""

    def __init__(self, files: Mapping[str, bytes] | Path | None = None) -> None:
        if isinstance(files, Path):
            found = (path for path in sorted(files.rglob("*")) if path.is_file())
            files = {"/" + path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        self.files: dict[str, bytes] = dict(files or {})
        self.requests: list[Asked] = []
        self.sent = 0  # bytes of bodies, all requests together
        self._faults: defaultdict[str, list[tuple[Fault, bool]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"remote": self}))
        self._closing = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Remote:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Remote:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def misbehave(self, path: str, *faults: Fault, times: int | None = 1) -> None:
        """Queue faults for the next requests of a path, each `times` times; None: for good."""
        with self._lock:
            for fault in faults:
                self._faults[path] += [(fault, True)] if times is None else [(fault, False)] * times

    def behave(self) -> None:
        """Forget all faults and the log."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()
            self.sent = 0

    def asked(self, path: str) -> list[Asked]:
        """The requests for one path, in order."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def take(self, asked: Asked) -> Fault:
        """Log a request and take the fault that is due."""
        with self._lock:
            self.requests.append(asked)
            for key in (asked.path, "*"):
                if queue := self._faults[key]:
                    fault, for_good = queue[0]
                    if not for_good:
                        queue.pop(0)
                    return fault
        return Fault()

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the server lives."""
        self._closing.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    remote: Remote
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        fault = self.remote.take(Asked(path, parts.query, headers))
        data = fault.content if fault.content is not None else self.remote.files.get(path)
        code = fault.status or (404 if data is None else 200)
        if code != 200:
            self._answer(code, fault.content or b"", {}, fault)
            return
        assert data is not None
        tag = fault.headers.get("ETag", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
        start = self._start(headers, tag, fault)
        if start is None:
            self._answer(200, data, {"ETag": tag, "Accept-Ranges": "bytes"}, fault)
        elif start >= len(data):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"}, fault)
        else:
            start += fault.shift or 0
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._answer(206, data[start:], {"ETag": tag, "Content-Range": span}, fault)

    @staticmethod
    def _start(headers: Mapping[str, str], tag: str, fault: Fault) -> int | None:
        """First byte of the range that is asked for and may be given."""
        given = headers.get("range")
        if given is None or fault.whole or headers.get("if-range", tag) != tag:
            return None
        return int(given.removeprefix("bytes=").split("-")[0])

    def _answer(self, code: int, body: bytes, headers: dict[str, str], fault: Fault) -> None:
        length = len(body) if fault.length is None else fault.length
        right = {"Content-Type": "application/octet-stream", "Content-Length": str(length), **headers}
        self.close_connection = fault.cut is not None or fault.length is not None
        try:
            self.send_response(code)
            for key, value in {**right, **fault.headers}.items():
                if value:
                    self.send_header(key, value)
                else:
                    self.close_connection = True  # without a length the end is where the connection ends
            self.end_headers()
            body = body[: fault.cut]
            step = fault.block or max(len(body), 1)
            for position in range(0, len(body), step):
                if fault.delay:
                    self.wfile.flush()
                    self.remote.wait(fault.delay)
                self.wfile.write(body[position : position + step])
                self.remote.sent += step
        except OSError:  # the client hung up
            self.close_connection = True


def png(size: int = 3000, seed: int = 0) -> bytes:
    """Bytes that begin like a PNG file, different for each seed; for fetching, not for reading."""
    blocks = (hashlib.sha256(f"{seed}/{number}".encode()).digest() for number in range(size // 32 + 1))
    return (PNG + b"".join(blocks))[:size]


def wait_until(happens: Any, seconds: float = 10.0) -> None:
    """Return as soon as `happens()` is true; fail when it never is."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
