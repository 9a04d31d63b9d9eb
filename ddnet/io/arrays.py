"""NumPy's files: written whole, and read without trust: nothing is unpickled, and each damage is one line."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path

# What a damaged .npy or .npz raises when it is opened or an entry is read.
UNREADABLE = (
    ValueError, OSError, EOFError, KeyError, MemoryError, RuntimeError, OverflowError, TypeError, SyntaxError,
    BadZipFile, TokenError, zlib.error,
)  # fmt: skip


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it holds Python objects" if "pickle" in text else text[:200]  # NumPy's advice is to load it unsafely


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W) of an array with more axes of length 1, such as (1, 1, H, W) or (H, W, 1); others as they are."""
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    return array


def read_npy(path: Path, fix: str, mapped: bool = False) -> NDArray[Any]:
    """The array of an .npy.

    Args:
        fix: what to do about a damaged file; ends the message.
        mapped: leave it on disk and read what is asked for.

    Raises:
        DDNetError: no such file, or it cannot be read so.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("several arrays")
        return array
    except UNREADABLE as error:
        raise DDNetError(f"{path}: not a readable .npy ({_reason(error)}); {fix}") from None


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """An array as .npy, whole or not at all."""
    # NumPy writes to a file by itself, and of a full disk says no error number, so that nobody would know it for one.
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_npz(path: Path, names: Sequence[str], fix: str) -> list[NDArray[Any]]:
    """The named arrays of an .npz.

    Args:
        fix: what to do about a damaged file; ends the message.

    Raises:
        DDNetError: no such file, or it cannot be read so, or lacks one of them.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("a single array")
        with archive:
            return [archive[name] for name in names]
    except UNREADABLE as error:
        raise DDNetError(f"{path}: not a readable .npz of {', '.join(names)} ({_reason(error)}); {fix}") from None
