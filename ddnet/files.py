"""Atomic files and digests: nothing half-written ever stands under a final name."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LEFTOVER = re.compile(r"\..+\.tmp-[a-z0-9_]{8}(\.\w+)?")
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
        lock, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}.tmp-", suffix=final.suffix)
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
