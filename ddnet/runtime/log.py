"""Logging of workflow jobs and of the command line."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddnet.errors import DDNetError, printable
from ddnet.runtime.malloc import out_of_memory
from ddnet.runtime.signals import Stopped, stoppable

log = logging.getLogger(__name__)

_QUIET = ("lightning", "lightning_fabric", "matplotlib", "mlflow", "alembic", "PIL", "urllib3")
FIRST_LINE_S, NEXT_LINE_S = 5.0, 10.0


class OneLine(logging.Formatter):
    """Every message in one printable line, whatever names are in it; tracebacks and other libraries' lines stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        text = super().formatMessage(record)
        return "\n".join(map(printable, text.splitlines() if record.name.startswith(_QUIET) else [text]))


def say(*lines: str, error: bool = False) -> None:
    """Print each as one printable line, whatever the names in it, and whatever the terminal cannot show.

    Args:
        error: to standard error.
    """
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for line in lines:
        print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def log_to(
    *handlers: logging.Handler, level: int = logging.INFO, form: str = "%(message)s", force: bool = True
) -> None:
    """Log to these handlers.

    Args:
        force: to no others; else only where nobody has asked for others before.
    """
    for handler in handlers:
        handler.setFormatter(OneLine(form, "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=handlers, force=force)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def job_log(file: str | Path | None = None) -> Iterator[None]:
    """Log to the terminal and to `file`; what goes wrong on the user's side ends the process with one line.

    That is a DDNetError, the disk (full, read-only, forbidden), too little memory: status 1; and a signal to leave:
    status 128 and the signal's number. Any other exception is ours, and keeps its traceback.
    """
    logging.raiseExceptions = False  # a full disk is reported once, not for every line of the log
    form = "%(asctime)s %(message)s"
    log_to(logging.StreamHandler(), form=form)
    try:
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            log_to(logging.StreamHandler(), logging.FileHandler(file, mode="w", encoding="utf-8"), form=form)
        with stoppable():
            yield
    except DDNetError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except Stopped as stop:
        logging.error("%s; what is finished is kept, and the same command goes on from there", stop)
        sys.exit(stop.status)
    except OSError as error:
        if not (words := disk_problem(error)):
            raise
        logging.error("error: %s", words)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        logging.error("error: memory does not suffice for this job; free some, or run fewer at a time: --cores 1")
        sys.exit(1)


def terminal_log() -> None:
    """Log what a command is at to standard error where that is a terminal; elsewhere warnings alone."""
    level = logging.INFO if sys.stderr.isatty() else logging.WARNING
    log_to(logging.StreamHandler(), level=level, force=False)


def disk_problem(error: OSError) -> str:
    """What a disk refused, and what to do, in one line; empty where the error has another cause."""
    where = printable(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(Path.cwd()))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full at {where}, or a limit on file sizes is reached; free some space and run again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{where}: {error.strerror}; make it writable for this user, or work in another folder, and run again"
    if error.errno == errno.ENAMETOOLONG:
        return f"{where}: the name is too long (at most 255 bytes, fewer in some folders); choose a shorter one"
    if error.errno in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE):
        return f"{where}: {error.strerror}; correct that and run again"
    return ""


def format_bytes(count: float) -> str:
    """A number of bytes for people, in decimal units: `41 MB`, `8.5 GB`."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 999.5:
            return f"{_short(count)} {unit}"
        count /= 1000
    return f"{_short(count)} GB"


def _short(value: float) -> str:
    """Two digits where there are fewer, never an exponent: 0.42, 8.5, 41, 1250."""
    return f"{value:.0f}" if value >= 9.95 or value == int(value) else f"{value:.2g}"


class Progress:
    """Count, rate and time to go of a long loop, logged at most every 10 s; work shorter than 5 s logs nothing.

    Args:
        what: what the line begins with.
        total: how many there will be, 0 where nobody knows; may be corrected on the way (`progress.total = n`).
        unit: what is counted, "B" for bytes.
    """

    def __init__(self, what: str, total: int, unit: str = "images") -> None:
        self.what, self.total, self.unit = what, total, unit
        self._lock = threading.Lock()
        self.done = 0
        self._start = time.monotonic()
        self._next = self._start + FIRST_LINE_S

    def advance(self, n: int = 1) -> None:
        """Count `n` more (fewer, where negative: work that must be done again); any thread may call it."""
        with self._lock:
            self.done += n
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + NEXT_LINE_S
            line = self._line(now - self._start)
        log.info("%s", line)

    def _line(self, seconds: float) -> str:
        rate = max(self.done, 0) / seconds
        if self.unit == "B":
            text = _of(self.done, self.total) + f", {format_bytes(rate)}/s"
        else:
            text = f"{self.done}{f' of {self.total}' if self.total else ''} {self.unit}, {_short(rate)}/s"
        if rate and self.total > self.done:
            text += f", {_clock((self.total - self.done) / rate)} to go"
        return f"{self.what}: {text}"


def _of(done: int, total: int) -> str:
    """`3.2 of 8.1 GB`, the unit said once where both have the same."""
    if not total:
        return format_bytes(done)
    first, whole = format_bytes(done), format_bytes(total)
    return f"{first.split()[0] if first.split()[1] == whole.split()[1] else first} of {whole}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
