"""Progress of long loops: few lines, the right numbers."""

from __future__ import annotations

import errno
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import PLAIN, STEERING, is_quiet

from ddnet.runtime import log
from ddnet.runtime.log import Progress, format_bytes, say


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """What a test asks of the log is forgotten after it."""
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.raiseExceptions
    yield
    root.setLevel(before[0])
    root.handlers[:], logging.raiseExceptions = before[1:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    turned = Clock()
    monkeypatch.setattr(log, "time", turned)
    return turned


def test_short_work_logs_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("index", 1000)
    for _ in range(1000):
        clock.now += 0.0049
        progress.advance()
    assert caplog.messages == []


def test_the_first_line_comes_after_5_s_and_then_one_every_10_s(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("index", 1000)
    times = []
    for _ in range(320):
        clock.now += 0.125
        before = len(caplog.messages)
        progress.advance()
        times += [clock.now - 100] * (len(caplog.messages) - before)
    assert times == [5.0, 15.0, 25.0, 35.0]
    assert caplog.messages[1] == "index: 120 of 1000 images, 8/s, 1:50 to go"


def test_bytes_have_units_rate_and_time_to_go(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("dpdd", 8_100_000_000, "B")
    clock.now += 78
    progress.advance(3_200_000_000)
    assert caplog.messages == ["dpdd: 3.2 of 8.1 GB, 41 MB/s, 1:59 to go"]


def test_two_units_are_both_said_and_hours_too(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("dpdd", 8_100_000_000, "B")
    clock.now += 100
    progress.advance(100_000_000)
    assert caplog.messages == ["dpdd: 100 MB of 8.1 GB, 1 MB/s, 2:13:20 to go"]


def test_an_unknown_total_leaves_the_rest_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    images, size = Progress("index", 0), Progress("dpdd", 0, "B")
    clock.now += 10
    images.advance(5)
    size.advance(1_500_000)
    assert caplog.messages == ["index: 5 images, 0.5/s", "dpdd: 1.5 MB, 150 kB/s"]


def test_a_corrected_total_and_work_done_again_count(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("index", 10)
    progress.advance(30)
    progress.advance(-20)
    progress.total = 40
    clock.now += 10
    progress.advance(10)
    assert caplog.messages == ["index: 20 of 40 images, 2/s, 0:10 to go"]


def test_threads_lose_no_count() -> None:
    progress = Progress("index", 0)
    threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.done == 20_000


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (41_400_000, "41 MB"), (8.5e9, "8.5 GB"),
     (15.8e9, "16 GB"), (2.5e12, "2500 GB")],
)  # fmt: skip
def test_bytes_are_said_for_people(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_whatever_a_name_holds_a_message_is_one_line_that_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = 0
    with pytest.raises(SystemExit), log.job_log(tmp_path / "job.log"):
        for name in STEERING + PLAIN:
            logging.warning("%s: left aside", name)
            say(f"{name}: done")
            say(name, error=True)
            lines += 1
        raise OSError(errno.ENAMETOOLONG, "File name too long", STEERING[0])
    shown = capsys.readouterr()
    written = (tmp_path / "job.log").read_text(encoding="utf-8")
    assert all(map(is_quiet, (shown.out, shown.err, written)))
    assert [len(text.splitlines()) for text in (shown.out, shown.err, written)] == [lines, 2 * lines + 1, lines + 1]
    assert "k\\xe4se: done" in shown.out and "\\x1b[31mred" in written and "写真" in shown.out
    assert all(is_quiet(log.disk_problem(OSError(errno.EACCES, "denied", name))) for name in STEERING)


def test_a_traceback_keeps_its_lines(tmp_path: Path) -> None:
    with log.job_log(tmp_path / "job.log"):
        try:
            raise RuntimeError("a\x1bb")
        except RuntimeError:
            logging.exception("it failed")
    assert (tmp_path / "job.log").read_text().splitlines()[1] == "Traceback (most recent call last):"


def test_a_terminal_that_cannot_show_a_letter_gets_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    say("写真.png: done")
    assert stream.buffer.getvalue() == b"\\u5199\\u771f.png: done\n"  # type: ignore[attr-defined]
