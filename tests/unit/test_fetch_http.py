"""One file over HTTP from a server that misbehaves in every way we know."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from remote import (
    Fault,
    Remote,
    content,
    cut,
    drive_page,
    header,
    no_range,
    page,
    png,
    redirect,
    slow,
    status,
    wait_until,
    wrong_length,
    wrong_range,
)

from ddnet.fetch.http import Client, Order, Stopped
from ddnet.fetch.policy import Policy, SourceFailed

QUICK = Policy(
    attempts=3, backoff_s=0.001, backoff_cap_s=0.004, retry_after_cap_s=2.0, connect_s=2.0, read_s=2.0, connections=4
)
DATA = png(3000)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Remote({"/a.png": DATA}) as server:
        yield server


class Fetch:
    """One file wanted, with the client that fetches it."""

    def __init__(self, remote: Remote, folder: Path) -> None:
        (folder / ".partial").mkdir()
        self.order = Order("a.png", remote.url + "/a.png", folder / "out" / "a.png", folder / ".partial" / "a.png")
        self.policy = QUICK

    def __call__(self, **changes: Any) -> str:
        self.order = replace(self.order, **changes)
        with Client(self.policy) as client:
            return client.fetch(self.order)

    @property
    def part(self) -> Path:
        return self.order.partial.with_name("a.png.part")

    @property
    def left(self) -> list[str]:
        """What there is beside the final file."""
        return sorted(path.name for path in self.order.partial.parent.iterdir())


@pytest.fixture
def fetch(remote: Remote, tmp_path: Path) -> Fetch:
    return Fetch(remote, tmp_path)


def _ranges(remote: Remote) -> list[str | None]:
    return [request.range for request in remote.asked("/a.png")]


def _assert_whole(fetch: Fetch, digest: str) -> None:
    assert fetch.order.target.read_bytes() == DATA
    assert digest == hashlib.sha256(DATA).hexdigest()
    assert fetch.left == []


def _assert_refused(fetch: Fetch, match: str) -> None:
    with pytest.raises(SourceFailed, match=match):
        fetch()
    assert not fetch.order.target.exists()


def test_a_file_arrives_whole_and_nothing_else_is_left(remote: Remote, fetch: Fetch) -> None:
    sizes: list[tuple[int, int]] = []
    gained: list[int] = []
    _assert_whole(fetch, fetch(expect=lambda size, have: sizes.append((size, have)), advance=gained.append))
    assert sizes == [(3000, 0)] and sum(gained) == 3000
    assert remote.asked("/a.png")[0].headers["accept-encoding"] == "identity"


def test_cut_connections_are_resumed_where_they_ended(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(1000), cut(500), cut(700))
    gained: list[int] = []
    _assert_whole(fetch, fetch(advance=gained.append))
    assert _ranges(remote) == [None, "bytes=1000-", "bytes=1500-", "bytes=2200-"]
    assert all(request.headers["if-range"].startswith('"') for request in remote.asked("/a.png")[1:])
    assert sum(gained) == 3000


def test_attempts_that_gain_bytes_are_not_counted(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(100), times=20)
    _assert_whole(fetch, fetch())
    assert len(remote.requests) == 21


def test_an_interrupted_fetch_goes_on_in_the_next_process(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(1200), *[status(503)] * 3)
    _assert_refused(fetch, r"HTTP 503 \(3 attempts in vain\)")
    assert fetch.part.read_bytes() == DATA[:1200]
    remote.behave()
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == ["bytes=1200-"]


def test_a_partial_file_that_is_all_there_is_not_asked_for_again(remote: Remote, fetch: Fetch) -> None:
    fetch.part.write_bytes(DATA)
    note = {"url": fetch.order.url, "version": {"size": 3000, "etag": '"x"', "modified": "", "sha256": None}}
    fetch.order.partial.with_name("a.png.json").write_text(json.dumps(note))
    _assert_whole(fetch, fetch())
    assert remote.requests == []


def test_without_a_known_size_416_says_that_nothing_is_left(remote: Remote, fetch: Fetch) -> None:
    fetch.part.write_bytes(DATA)
    note = {"url": fetch.order.url, "version": {"size": None, "etag": "", "modified": "then", "sha256": None}}
    fetch.order.partial.with_name("a.png.json").write_text(json.dumps(note))
    remote.misbehave("/a.png", Fault(status=416, headers={"Content-Range": "bytes */3000"}))
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == ["bytes=3000-"]


@pytest.mark.parametrize("headers", [{}, {"Content-Range": "bytes */2999"}])
def test_416_with_another_size_begins_again(remote: Remote, fetch: Fetch, headers: dict[str, str]) -> None:
    remote.misbehave("/a.png", cut(1000), Fault(status=416, headers=headers))
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == [None, "bytes=1000-", None]


def test_a_server_that_ignores_range_sends_everything_again(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(1000), no_range())
    gained: list[int] = []
    _assert_whole(fetch, fetch(advance=gained.append))
    assert sum(gained) == 3000 and -1000 in gained


def test_a_server_that_always_cuts_and_ignores_range_is_given_up(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", no_range() | cut(1000), times=None)
    _assert_refused(fetch, r"cut short \(3 attempts in vain\)")


def test_a_range_that_begins_elsewhere_is_not_joined(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(1000), wrong_range(7))
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == [None, "bytes=1000-", None]


@pytest.mark.parametrize("etag", ["", '"second"'])
def test_a_file_that_changed_in_between_is_had_anew(remote: Remote, fetch: Fetch, etag: str) -> None:
    other = png(3000, seed=1)
    remote.misbehave("/a.png", content(other) | cut(1000) | header(ETag='"first"'), header(ETag=etag))
    _assert_whole(fetch, fetch())  # If-Range makes the server send all; without an ETag nobody would know


def test_a_range_of_another_version_is_refused_even_if_the_server_joins_it(remote: Remote, fetch: Fetch) -> None:
    tail = {"Content-Range": "bytes 1000-2999/3000", "ETag": '"second"'}
    forged = Fault(status=206, content=DATA[1000:], headers=tail)
    remote.misbehave("/a.png", content(png(3000, seed=1)) | cut(1000) | header(ETag='"first"'), forged)
    _assert_whole(fetch, fetch())
    assert len(remote.requests) == 3


def test_versions_joined_for_lack_of_a_validator_are_found_by_the_digest(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", content(png(3000, seed=1)) | cut(1000) | header(ETag=""), header(ETag=""))
    _assert_whole(fetch, fetch(sha256=hashlib.sha256(DATA).hexdigest()))
    assert _ranges(remote) == [None, "bytes=1000-", None]


def test_bytes_of_another_url_are_not_used(remote: Remote, fetch: Fetch) -> None:
    fetch.part.write_bytes(b"x" * 500)
    note = {"url": "https://elsewhere.org/a.png", "version": {"size": 3000, "etag": "", "modified": "", "sha256": None}}
    fetch.order.partial.with_name("a.png.json").write_text(json.dumps(note))
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == [None]


def test_a_damaged_note_means_from_the_start(remote: Remote, fetch: Fetch) -> None:
    fetch.part.write_bytes(DATA[:500])
    fetch.order.partial.with_name("a.png.json").write_text("{")
    _assert_whole(fetch, fetch())
    assert _ranges(remote) == [None]


def test_a_body_shorter_than_its_length_is_never_taken_for_whole(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", wrong_length(4000), times=None)
    _assert_refused(fetch, r"\(3 attempts in vain\)")


def test_a_body_without_a_length_ends_where_the_connection_ends(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", header(Content_Length=""))
    _assert_whole(fetch, fetch())


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final(remote: Remote, fetch: Fetch, code: int) -> None:
    remote.misbehave("/a.png", status(code), times=None)
    _assert_refused(fetch, f"HTTP {code}, (login required|access refused|not there)")
    assert len(remote.requests) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again_and_then_given_up(remote: Remote, fetch: Fetch, code: int) -> None:
    remote.misbehave("/a.png", status(code), status(code))
    _assert_whole(fetch, fetch())
    remote.misbehave("/a.png", status(code), times=None)
    with pytest.raises(SourceFailed, match=rf"HTTP {code} \(3 attempts in vain\)"):
        fetch()


class Waits(threading.Event):
    """Notes how long the client would have waited."""

    asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


def _client(policy: Policy) -> tuple[Client, list[float]]:
    client = Client(policy)
    client._stop = Waits()
    client._stop.asked = []
    return client, client._stop.asked


def test_waits_double_up_to_their_cap(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", status(503), times=None)
    client, waits = _client(replace(QUICK, attempts=6, backoff_s=1.0, backoff_cap_s=5.0))
    with client, pytest.raises(SourceFailed):
        client.fetch(fetch.order)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_stated_wait_is_honoured_in_seconds_as_a_date_and_as_a_quota(remote: Remote, fetch: Fetch) -> None:
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    quota = header(RateLimit='"resolvers";r=0;t=42')
    remote.misbehave("/a.png", status(429, 30), status(503, date), status(429) | quota, status(503, "soon"))
    client, waits = _client(replace(QUICK, attempts=9, retry_after_cap_s=200))
    with client:
        client.fetch(fetch.order)
    assert waits[0] == 30 and 80 < waits[1] <= 100 and waits[2:] == [42, QUICK.backoff_cap_s]


def test_a_server_that_asks_for_too_long_a_wait_has_failed(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", status(429, 3600), times=None)
    _assert_refused(fetch, "HTTP 429; the server asks to wait 3600 s")
    assert len(remote.requests) == 1


def test_a_stalled_connection_is_made_anew_and_resumed(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", slow(0.01))
    fetch.policy = replace(QUICK, stall_s=0.05, min_rate=10_000)
    _assert_whole(fetch, fetch())
    first, second = _ranges(remote)
    assert first is None and second is not None and 0 < int(second[6:-1]) < 3000


def test_a_slow_but_steady_connection_is_left_alone(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", slow(0.02, block=300))
    fetch.policy = replace(QUICK, stall_s=0.05, min_rate=10)
    _assert_whole(fetch, fetch())
    assert len(remote.requests) == 1


def test_a_silent_connection_is_given_up(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", slow(30), times=None)
    fetch.policy = replace(QUICK, read_s=0.05)
    _assert_refused(fetch, r"no data for 0\.05 s \(3 attempts in vain\)")


@pytest.mark.parametrize(
    "fault",
    [
        page(),
        page("<html>login"),
        content(b"\xef\xbb\xbf \r\n\t<!doctype HTML><html></html>"),
        content(b"\n<HTML><head>"),
        content(DATA, kind="text/html"),
    ],
)
def test_a_web_page_is_never_stored(remote: Remote, fetch: Fetch, fault: Fault) -> None:
    remote.misbehave("/a.png", fault, times=None)
    _assert_refused(fetch, r"an HTML page instead of the file \(login, quota or consent page\)")
    assert fetch.left == [] and len(remote.requests) == 1


def test_a_quota_page_is_called_so(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", page("<!doctype html><title>Google Drive - Quota exceeded</title>"), times=None)
    _assert_refused(fetch, "download quota is used up")


def test_a_consent_page_is_answered_once(remote: Remote, fetch: Fetch) -> None:
    remote.files["/download"] = DATA
    remote.misbehave("/a.png", drive_page("/download", id="18M", confirm="t", uuid="a b"))
    _assert_whole(fetch, fetch())
    (asked,) = remote.asked("/download")
    assert asked.query == "id=18M&confirm=t&uuid=a+b"


def test_a_cut_behind_a_consent_page_is_resumed_behind_it(remote: Remote, fetch: Fetch) -> None:
    remote.files["/download"] = DATA
    remote.misbehave("/a.png", drive_page("/download", confirm="t"), times=None)
    remote.misbehave("/download", cut(1000))
    _assert_whole(fetch, fetch())
    assert [request.range for request in remote.asked("/download")] == [None, "bytes=1000-"]


def test_a_consent_page_behind_a_consent_page_is_refused(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("*", drive_page("/download", confirm="t"), times=None)
    _assert_refused(fetch, "an HTML page instead")
    assert len(remote.requests) == 2


def test_a_consent_form_that_leads_to_plain_http_elsewhere_is_refused(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", drive_page("http://example.org/download", confirm="t"))
    _assert_refused(fetch, r"redirect to http:// is refused \(example.org\)")


def test_redirects_are_followed(remote: Remote, fetch: Fetch) -> None:
    remote.files["/moved.png"] = DATA
    remote.misbehave("/a.png", redirect("/moved.png"), times=None)
    remote.misbehave("/moved.png", cut(1000))
    _assert_whole(fetch, fetch())
    assert [request.range for request in remote.asked("/moved.png")] == [None, "bytes=1000-"]


@pytest.mark.parametrize("target", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_redirects_out_of_https_are_refused(remote: Remote, fetch: Fetch, target: str) -> None:
    remote.misbehave("/a.png", redirect(target), times=None)
    _assert_refused(fetch, "is refused.*only https")
    assert len(remote.requests) == 1


def test_a_redirect_from_https_to_http_on_this_machine_is_refused() -> None:
    answer = requests.Response()
    answer.url, answer.status_code = "https://example.org/a", 302
    answer.headers["location"] = "http://127.0.0.1/a"
    with Client(QUICK) as client, pytest.raises(SourceFailed, match="a redirect to http:// is refused"):
        client._session.get_redirect_target(answer)


def test_redirects_in_a_circle_are_refused(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", redirect("/a.png"), times=None)
    _assert_refused(fetch, "30 redirects")


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://example.org/a", "file:///etc/passwd", "a.png"])
def test_only_https_is_asked(fetch: Fetch, url: str) -> None:
    fetch.order = replace(fetch.order, url=url)
    _assert_refused(fetch, "is refused.*only https is allowed")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_published_digest_is_enforced(remote: Remote, fetch: Fetch, kind: str) -> None:
    right = hashlib.new(kind, DATA).hexdigest()
    fetch.order = replace(fetch.order, **{kind: "0" * len(right)})
    _assert_refused(fetch, rf"its (SHA-256|MD5) {right[:12]} is not 000000000000")
    assert fetch.left == []
    _assert_whole(fetch, fetch(**{kind: right}))


@pytest.mark.parametrize("place", ["redirect", "answer"])
def test_the_digest_that_the_hub_states_is_enforced(remote: Remote, fetch: Fetch, place: str) -> None:
    def state(digest: str) -> None:
        fault = header(X_Linked_Etag=f'"{digest}"')
        remote.files["/moved.png"] = DATA
        remote.misbehave("/a.png", redirect("/moved.png") | fault if place == "redirect" else fault)

    state("0" * 64)
    _assert_refused(fetch, "is not 000000000000, what the server states")
    state(hashlib.sha256(DATA).hexdigest())
    _assert_whole(fetch, fetch())


def test_a_linked_etag_that_is_no_sha256_is_passed_by(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", header(X_Linked_Etag='"b1946ac92492d2347c6235b4d2611184b1946ac9"'))
    _assert_whole(fetch, fetch())


def test_wrong_content_is_had_once_more_only_if_it_was_joined(remote: Remote, fetch: Fetch) -> None:
    right = hashlib.sha256(DATA).hexdigest()
    remote.misbehave("/a.png", content(png(3000, seed=2)), times=None)
    fetch.order = replace(fetch.order, sha256=right)
    _assert_refused(fetch, f"is not {right[:12]}, what is recorded")
    assert len(remote.requests) == 1 and fetch.left == []


def test_a_failed_check_leaves_nothing(fetch: Fetch) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == DATA
        raise SourceFailed("not this")

    fetch.order = replace(fetch.order, check=refuse)
    _assert_refused(fetch, "not this")
    assert fetch.left == []


def test_a_compressed_answer_is_refused(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", header(Content_Encoding="gzip"))
    _assert_refused(fetch, "compresses")


def test_no_network_is_said_in_few_words_after_few_attempts(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    caplog.set_level(logging.INFO)
    fetch.order = replace(fetch.order, url=f"http://127.0.0.1:{port}/a.png")
    _assert_refused(fetch, r"^connection refused \(2 attempts in vain\)$")
    assert len([line for line in caplog.messages if "again in" in line]) == 1


def test_an_unknown_host_is_said_in_few_words(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fetch.order = replace(fetch.order, url="https://nowhere.invalid/a.png")
    _assert_refused(fetch, r"^the host name cannot be resolved \(2 attempts in vain\)$")


def test_a_server_without_tls_is_said_so(remote: Remote, fetch: Fetch) -> None:
    fetch.order = replace(fetch.order, url=fetch.order.url.replace("http:", "https:"))
    _assert_refused(fetch, r"^no trusted TLS connection \(2 attempts in vain\)$")


def test_a_full_disk_is_an_oserror_and_the_part_stays(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", cut(1200), times=None)

    def full(size: int, have: int) -> None:
        if have:
            fetch.part.unlink()
            fetch.part.symlink_to("/dev/full")

    with pytest.raises(OSError) as caught:
        fetch(expect=full)
    assert caught.value.errno == errno.ENOSPC
    assert not fetch.order.target.exists() and fetch.left == ["a.png.json", "a.png.part"]


def _in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("length", ["3000", ""])
def test_stop_ends_a_transfer_that_waits_for_bytes(remote: Remote, fetch: Fetch, length: str) -> None:
    silent = slow(60, block=1000) | header(Content_Length=length)
    remote.misbehave("/a.png", silent, times=None)
    with Client(replace(QUICK, read_s=50)) as client:
        thread, raised = _in_thread(lambda: client.fetch(fetch.order))
        wait_until(lambda: client._active)
        client.stop()
        thread.join(20)
    assert not thread.is_alive() and [type(error) for error in raised] == [Stopped]
    assert not fetch.order.target.exists()


def test_stop_ends_a_wait_between_attempts(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", status(503), times=None)
    with Client(replace(QUICK, backoff_s=60, backoff_cap_s=60)) as client:
        thread, raised = _in_thread(lambda: client.fetch(fetch.order))
        wait_until(lambda: remote.requests)
        client.stop()
        thread.join(20)
    assert not thread.is_alive() and [type(error) for error in raised] == [Stopped]
    with pytest.raises(Stopped):
        client.fetch(fetch.order)


def test_a_broken_line_is_given_two_minutes_to_come_back(remote: Remote, fetch: Fetch) -> None:
    remote.misbehave("/a.png", status(503), *[cut(0)] * 6)
    client, waits = _client(Policy())
    with client:
        client.fetch(fetch.order)
    assert waits == [1, 2, 4, 8, 16, 32, 60]
