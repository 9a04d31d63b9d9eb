"""How the C library handles large arrays: given back when freed, or kept for the next of its size.

glibc returns freed arrays above 32 MiB to the system at once. The next one then waits for the system to hand out zeroed
pages, which for training steps on large crops takes as long as the arithmetic. Elsewhere than with glibc nothing
happens here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

# Parameters of mallopt(3), and what glibc has them at after it has seen arrays of every size.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 1024**2, TRIM_THRESHOLD: 64 * 1024**2}
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}


@lru_cache
def _library() -> Any:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _set(options: dict[int, int]) -> None:
    for name, value in options.items():
        _library().mallopt(name, value)


def keep_freed_memory() -> None:
    """From now on, this process keeps freed memory for its next arrays. Its peak may grow by a quarter."""
    if _library():
        _set(KEPT)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """`keep_freed_memory` within the block; after it, what is free goes back to the system."""
    keep_freed_memory()
    try:
        yield
    finally:
        if _library():
            _set(USUAL)
            _library().malloc_trim(0)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of the processor or of a GPU, did not suffice."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
        or "can't allocate memory" in str(error)  # torch's word on a processor, a plain RuntimeError
    )
