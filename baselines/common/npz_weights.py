"""Reading weights on disk: .npz files of plain arrays, of which nothing is ever executed, each misfit one line."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, strided

from ddnet.errors import DDNetError

FloatArray = NDArray[np.float32]

# What a damaged .npz raises when it is opened or an entry is read.
UNREADABLE = (
    ValueError, OSError, EOFError, KeyError, MemoryError, RuntimeError, OverflowError, BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def opened(path: Path, title: str) -> Iterator[Any]:
    """The arrays of an .npz, by name, read one by one and never unpickled.

    Raises:
        DDNetError: no such file, or it or one of its entries cannot be read.
    """
    if not path.is_file():
        raise DDNetError(f"{path}: no such weights of {title}; train them or fetch the published file")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with loaded:
            yield loaded
    except DDNetError:
        raise
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "it holds Python objects" if "pickle" in reason else reason  # NumPy's advice is to load it unsafely
        raise DDNetError(f"{path}: not a readable .npz of plain arrays ({reason}); fetch or train it again") from None


def checked(value: Any, name: str, shape: tuple[int, ...], path: Path) -> FloatArray:
    """An array or a tensor as a float32 array of its own, if it is of this shape, floating point and finite.

    Raises:
        DDNetError: it is not.
    """
    array = as_array(value)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind != "f":
        raise DDNetError(f"{path}: '{name}' is {brief(value)}; expected floating point {shape}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise DDNetError(f"{path}: '{name}' has values that are not finite; the file is damaged")
    return array


def as_array(value: Any) -> Any:
    """A plain tensor of floating point as an array; anything else as it is."""
    dense = isinstance(value, Tensor) and value.is_floating_point() and value.layout == strided
    return value.detach().cpu().float().numpy() if dense else value


def brief(value: Any) -> str:
    """A value in a few characters, for messages: a number itself, of an array its type and shape."""
    if not isinstance(value, np.ndarray | Tensor):
        return type(value).__name__
    shape = tuple(value.shape)
    return repr(value.item())[:40] if shape == () else f"{str(value.dtype).removeprefix('torch.')} {shape}"
