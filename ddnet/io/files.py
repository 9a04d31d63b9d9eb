"""Atomic files and digests: nothing half-written ever stands under a final name."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError

log = logging.getLogger(__name__)

_LEFTOVER = re.compile(r"\..+\.tmp-[a-z0-9_]{8}(\.\w+)?")
_SUFFIX = re.compile(r"\.\w{1,16}")  # longer ones name no format
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_tidied: set[Path] = set()


@contextmanager
def atomic_path(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, delete it otherwise.

    The suffix is kept, because writers such as OpenCV and NumPy choose the format by it. What a killed process left
    unfinished in the folder is deleted: the lock on a temporary file ends with its process.

    Args:
        path: the final name.
        durable: ask the disk to have the content before the name changes; survives a power cut, costs milliseconds.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _tidy(final.parent)
    temporary, lock = _temporary(final)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; results are meant to be shared
        if durable:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


def _temporary(final: Path) -> tuple[Path, int]:
    """A new file, locked: its path and the descriptor that holds the lock."""
    while True:
        suffix = final.suffix if _SUFFIX.fullmatch(final.suffix) else ""
        # Not named after the final one: what has just room for that would have none for more.
        lock, name = tempfile.mkstemp(dir=final.parent, prefix=".ddnet.tmp-", suffix=suffix)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:  # else another process tidied up between the two lines above
            return Path(name), lock
        os.close(lock)


def _tidy(folder: Path) -> None:
    """Delete temporary files whose process is gone; once for each folder and process."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    for entry in os.scandir(folder):
        if not _LEFTOVER.fullmatch(entry.name):
            continue
        try:
            with open(entry.path, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(entry.path).unlink()
        except OSError:
            continue  # at work, gone by now, or not ours to delete


@contextmanager
def alone(lock: Path, said: str) -> Iterator[None]:
    """Wait until no other process holds the lock file; a killed one lets go by itself.

    Args:
        said: what the log says when there is somebody to wait for.
    """
    try:
        stream = lock.open("ab")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield  # nothing can be written here by anybody
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s", said)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with `~` at its beginning replaced; it stays as it is where nobody has such a home, as in `~draft.png`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - that of `Path` raises instead


def listable(name: str) -> bool:
    """Whether a name may stand in a table: all but control characters, Unicode's directions, and bytes of no UTF-8."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNING for char in name)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | os.PathLike[str], fix: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        fix: what to do about a damaged file; ends the message.

    Raises:
        DDNetError: no such file, or it is not JSON, or not an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DDNetError(f"{path}: no such file; {fix}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise DDNetError(f"{path}: not JSON ({str(error)[:100]}); {fix}") from None
    if not isinstance(value, dict):
        raise DDNetError(f"{path}: holds a {type(value).__name__}, not an object of names and values; {fix}")
    return value


def read_rows(path: str | os.PathLike[str], columns: Sequence[str], fix: str) -> list[dict[str, str]]:
    """Read a CSV whose columns must be these, one dictionary per row.

    Args:
        fix: what to do about a damaged file; ends the message.

    Raises:
        DDNetError: no such file, other columns, a row with too few or too many cells, or no text.
    """
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream, strict=True) or [[]]
    except FileNotFoundError:
        raise DDNetError(f"{path}: no such file; {fix}") from None
    except (ValueError, csv.Error) as error:  # not UTF-8, a NUL, a quote without end, an enormous cell, an empty file
        raise DDNetError(f"{path}: not a readable CSV ({str(error)[:100]}); {fix}") from None
    if tuple(header) != tuple(columns):
        raise DDNetError(f"{path}: columns must be {','.join(columns)}; {fix}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise DDNetError(f"{path}: line {number} has {len(row)} cells for {len(columns)} columns; {fix}")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
