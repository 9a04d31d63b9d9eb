"""One run of a preset at a time in a folder, and no job that outlives it.

A file lock, which the system takes back when its holder ends, however it ends: after `kill -9` there is nothing to
unlock. The main process of a run holds it alone. Each of its jobs waits for a share of it and gets that only when the
main process is gone; the job then leaves, keeping its share until it has, so that the next run can wait for it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ddnet.errors import DDNetError
from ddnet.runtime.signals import SIGNALS

VARIABLE = "DDNET_RUN_LOCK"
POLL_S, LEAVING_S = 0.2, 300.0

log = logging.getLogger(__name__)


def _locked(stream: IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class OnlyRun:
    """The lock as a main process sees it. Make it before looking at what there is to do, `take` it before doing it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[Any] | None = None
        self._began = time.time()
        self._busy = path.is_file() and self._other_runs()

    def _other_runs(self) -> bool:
        with self.path.open("rb") as stream:
            return not _locked(stream, fcntl.LOCK_SH)

    def take(self, tied: bool = True) -> None:
        """Hold the lock as long as this process lives; jobs of a killed run are awaited.

        Args:
            tied: jobs started from now on leave when this process is gone.

        Raises:
            DDNetError: another run holds it, or held it since this object was made, so that what there is to do is
                no longer known.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.path.open("a+b")
        until, said = time.monotonic() + LEAVING_S, False
        while not self._busy and not _locked(stream, fcntl.LOCK_EX):
            if self._other_runs() or time.monotonic() > until:
                self._busy = True
            elif not said:
                log.info("waiting for jobs of an interrupted run to save their state and leave")
                said = True
            time.sleep(POLL_S)
        if self._busy or self._held_since():
            stream.close()
            raise DDNetError(
                f"{self.path}: another run of this preset is at work in this folder, or has just ended; wait for it "
                "and run again, or work in another copy of the project"
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n{time.time()}".encode())
        stream.flush()
        self._stream = stream
        if tied:
            os.environ[VARIABLE] = str(self.path.resolve())

    def _held_since(self) -> bool:
        """Whether another run took the lock after this object was made; the file says when that was."""
        said = self.path.read_text(encoding="utf-8").split()
        return len(said) == 2 and float(said[1]) > self._began


def leave_with_main() -> None:
    """Send this process SIGTERM when the main process that holds the lock named in the environment is gone."""
    if path := os.environ.get(VARIABLE):
        threading.Thread(target=_watch, args=(Path(path),), daemon=True).start()


def _watch(path: Path) -> None:
    try:
        stream = path.open("rb")
        fcntl.flock(stream, fcntl.LOCK_SH)
    except OSError:
        return  # no lock is to be had there: nothing to watch
    log.info("the main process is gone")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()  # keeps the share until the process ends


def pass_on_stops() -> None:
    """Let the jobs of this main process have each stop signal it gets; it then waits for them to leave."""
    terminate = signal.getsignal(signal.SIGTERM)

    def pass_on(number: int, frame: FrameType | None) -> None:
        for job in _jobs():
            os.kill(job, signal.SIGTERM)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if callable(terminate):
            terminate(number, frame)

    for number in SIGNALS:
        signal.signal(number, pass_on)


def _jobs() -> Iterator[int]:
    """Python processes below this one, the uppermost of each line: a shell between would die at once, unheard."""
    import psutil

    below = psutil.Process().children()
    while below:
        process = below.pop()
        try:
            if process.name().startswith("python"):
                yield process.pid
            else:
                below += process.children()
        except psutil.NoSuchProcess:
            continue
