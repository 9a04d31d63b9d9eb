"""The same work for many files in threads; the first failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")


def for_each(work: Callable[[T], None], items: Iterable[T], threads: int, stop: Callable[[], None]) -> None:
    """Call `work` for each item; where one call fails or the user interrupts, `stop` is called and no other begins.

    Raises:
        Exception: of the call that failed first.
    """
    failures: list[Exception] = []
    lock = threading.Lock()
    ended = threading.Event()

    def end() -> None:
        ended.set()
        stop()

    def one(item: T) -> None:
        if ended.is_set():
            return
        try:
            work(item)
        except Exception as failure:
            with lock:  # what others raise once they are stopped comes later
                failures.append(failure)
            end()

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(one, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            end()
            raise
    if failures:
        raise failures[0]
