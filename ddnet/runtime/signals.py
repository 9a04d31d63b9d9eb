"""Leaving in good order when asked to: by Ctrl-C, a scheduler's SIGTERM, or the SIGUSR1 that SLURM can send first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
IMPATIENT_S = 2.0  # several senders mean the same wish: terminal, scheduler and main process all signal at once

Handler = Callable[[int, Any], None]


class Stopped(KeyboardInterrupt):
    """Somebody asked this process to leave. Libraries take it for Ctrl-C, whichever signal it was."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


def _stop(number: int, _: Any) -> None:
    raise Stopped(number)


def wait_for_job() -> None:
    """Let SIGUSR1 pass: a process between the scheduler and the job, which gets it too, must not die before the job.

    Programs started from here on are not affected, as they would be if the signal were ignored.
    """
    signal.signal(signal.SIGUSR1, lambda *_: None)


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    """Within the block `handler` gets the signals; elsewhere than in the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block each of the signals raises `Stopped`, so that temporary files are removed on the way out."""
    with _handled(_stop):
        yield


@contextmanager
def held_back() -> Iterator[Callable[[], int]]:
    """Within the block a signal is only noted, for work that first has something to save.

    Yields a function that gives the signal's number, 0 while there was none. One that comes more than two seconds after
    the first raises `Stopped` at once.
    """
    noted, since = 0, 0.0

    def note(number: int, _: Any) -> None:
        nonlocal noted, since
        if noted and time.monotonic() - since > IMPATIENT_S:
            raise Stopped(number)
        if not noted:
            noted, since = number, time.monotonic()

    with _handled(note):
        yield lambda: noted
