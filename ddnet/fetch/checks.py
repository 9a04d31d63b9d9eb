"""Room on the disk, and whether a file can be what its name says."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddnet.errors import DDNetError
from ddnet.log import format_bytes

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def require_space(what: str, folder: Path, needed: float) -> None:
    """Refuse to begin what the disk cannot take.

    Raises:
        DDNetError: fewer than `needed` bytes are free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DDNetError(
            f"{what}: needs {format_bytes(needed)}, {folder} has {format_bytes(free)} free; "
            "free some space or make the folder a link to a larger disk, and run again"
        )


@contextmanager
def disk_errors(what: str, folder: Path) -> Iterator[None]:
    """Say an OSError of the disk in one line: a full disk, a folder that may not be read or written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DDNetError(
                f"{what}: the disk is full at {folder}; what has come so far is kept: free some space and run again"
            ) from None
        where = error.filename or folder
        raise DDNetError(f"{what}: {where}: {error.strerror or error}; correct that and run again") from None


def content_problem(name: str, path: Path) -> str:
    """Why a file cannot be what its canonical name says, in words; empty where it can."""
    head = read_head(path, len(PNG_SIGNATURE))
    if not head:
        return "an empty file"
    if name.lower().endswith(".png") and not head.startswith(PNG_SIGNATURE):
        kind = "JPEG" if head.startswith(b"\xff\xd8\xff") else "something else"
        return f"{kind} under the name of a PNG file"
    return ""


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a file, at most `size`."""
    with path.open("rb") as stream:
        return stream.read(size)
