"""Which files an item consists of, and where they lie in a folder of any layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ddnet.errors import DDNetError


@dataclass(frozen=True)
class Wanted:
    """Which files an item consists of, under canonical names (POSIX relative, e.g. `train_c/source/1P0A0890.png`).

    Args:
        canonical: path inside any layout (of a zip, or relative to a folder) -> canonical name; None: not wanted.
        files: all canonical names, where they are known beforehand; None: whatever `canonical` accepts.
        count: how many files there must be where `files` is None.
        problem: why a file's content is not what the item is known to be, in words, empty where it is; asked once,
            before its digest is recorded, so that nothing wrong is ever recorded.
        called: what the files may be called, in words, where that is more than their canonical names.
    """

    canonical: Callable[[str], str | None]
    files: tuple[str, ...] | None
    count: int | None = None
    problem: Callable[[Path], str] = lambda path: ""
    called: str = ""

    def __post_init__(self) -> None:
        """Refuse what could never be called complete."""
        if self.files is None and self.count is None:
            raise ValueError("Wanted needs files or count: without either nobody can tell when an item is complete")

    @cached_property
    def _known(self) -> frozenset[str] | None:
        return None if self.files is None else frozenset(self.files)

    @property
    def needed(self) -> int:
        """How many files there must be."""
        return len(self.files) if self.files is not None else self.count or 0

    def name_of(self, path: str) -> str | None:
        """The canonical name of a path in any layout; None for what is not wanted, hidden or would leave its folder."""
        parts = PurePosixPath(path).parts
        if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
            return None
        name = self.canonical(path)
        if name is None or not is_plain(name) or (self._known is not None and name not in self._known):
            return None
        return name

    def missing(self, have: set[str]) -> str:
        """What lacks, in words (`3 of 1000 files, first: ...`); empty where nothing does."""
        if self.files is not None:
            lacking = [name for name in self.files if name not in have]
            return f"{len(lacking)} of {len(self.files)} files, first: {lacking[0]}" if lacking else ""
        lacking_count = self.needed - len(have)
        return f"{lacking_count} of {self.needed} files" if lacking_count > 0 else ""

    def surplus(self, have: set[str]) -> str:
        """What is too much where names are not known beforehand, in words; empty where nothing is."""
        return f"{len(have)} files where {self.needed} belong" if len(have) > self.needed else ""


def by_name(*names: str) -> Wanted:
    """Files known by their names alone, in any folder."""

    def canonical(path: str) -> str | None:
        name = PurePosixPath(path).name
        return name if name in names else None

    return Wanted(canonical, names)


def is_plain(path: str) -> bool:
    """Whether a path stays inside the folder it is joined to, whatever the system."""
    parts = path.split("/")
    drive = len(parts[0]) > 1 and parts[0][1] == ":"
    return bool(path) and not (path.startswith("/") or drive or "\\" in path or "\0" in path or ".." in parts)


def scan_folder(folder: Path, wanted: Wanted) -> tuple[dict[str, Path], list[str]]:
    """Wanted files of a folder of any layout by canonical name, and the paths of all others but hidden ones, sorted.

    Raises:
        DDNetError: two files stand for the same name.
        OSError: the folder or one below cannot be read.
    """
    files: dict[str, Path] = {}
    others = []
    for path in _walk(folder):
        relative = path.relative_to(folder).as_posix()
        name = wanted.name_of(relative)
        if name is None:
            others.append(relative)
        elif name in files and relative != name and files[name] != folder / name:
            raise DDNetError(f"{folder}: {files[name]} and {path} both stand for {name}; keep one of them")
        elif name not in files or relative == name:
            files[name] = path
    return files, others


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    seen = set()
    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root) / name
