"""Where an item goes: the files that are there, room for more, and one process at a time."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from ddnet.config import Item
from ddnet.errors import DDNetError
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.policy import Policy, SourceFailed
from ddnet.fetch.wanted import Wanted
from ddnet.io.files import alone
from ddnet.runtime.log import format_bytes

log = logging.getLogger(__name__)

PARTIAL, LOCK = ".partial", ".lock"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
T = TypeVar("T")


@dataclass
class Place:
    """Where an item goes, and what of it is there: `files` and `digests` by canonical name, held to the manifest."""

    name: str
    item: Item
    wanted: Wanted
    folder: Path
    manifest: Manifest
    policy: Policy
    files: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, path: Path, digest: str, source: str) -> None:
        """One more file is there; any thread may say so.

        Raises:
            DDNetError: it differs from the manifest.
        """
        self.manifest.accept(name, path, digest, source)
        self.files[name], self.digests[name] = path, digest

    def deliver(self, name: str, blocks: Iterable[bytes], source: str, advance: Callable[[int], None]) -> None:
        """Write a file block by block; it gets its name only when its content holds.

        Raises:
            SourceFailed: not what its name says, or not what is recorded.
            OSError: the disk is full or cannot be written.
        """
        target, part = self.folder / name, self.partial(f"{name}.new")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as stream:
                for block in blocks:
                    digest.update(block)
                    stream.write(block)
                    advance(len(block))
            if problem := self.problem(name, part):
                raise SourceFailed(f"{name}: {problem}")
            found, expected = digest.hexdigest(), self.manifest.recorded(name)
            if expected not in (None, found):
                raise SourceFailed(f"{name}: its SHA-256 {found[:12]} is not the recorded {expected[:12]}")
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        self.add(name, target, found, source)

    def problem(self, name: str, path: Path) -> str:
        """Why a file cannot be what its name says, in words; empty where it can."""
        with path.open("rb") as stream:
            head = stream.read(len(PNG_SIGNATURE))
        if not head:
            return "an empty file"
        if name.lower().endswith(".png") and head != PNG_SIGNATURE:
            kind = "JPEG" if head.startswith(b"\xff\xd8\xff") else "something else"
            return f"{kind} under the name of a PNG file"
        return "" if self.manifest.recorded(name) else self.wanted.problem(path)  # what is recorded has passed before

    def partial(self, name: str) -> Path:
        """Where a download keeps what has come so far."""
        folder = self.folder / PARTIAL
        folder.mkdir(exist_ok=True)
        return folder / quote(name, safe="")

    def require_space(self, needed: float) -> None:
        """Refuse to begin what the disk cannot take.

        Raises:
            DDNetError: fewer than `needed` bytes are free.
        """
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DDNetError(
                f"{self.name}: needs {format_bytes(needed)}, {self.folder} has {format_bytes(free)} free; "
                "free some space or make the folder a link to a larger disk, and run again"
            )


@contextmanager
def disk_errors(what: str, folder: Path) -> Iterator[None]:
    """Say an OSError of the disk in one line: a full disk, a folder that may not be read or written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DDNetError(
                f"{what}: the disk is full at {folder}; what has come so far is kept: free some space and run again"
            ) from None
        where = error.filename or folder
        raise DDNetError(f"{what}: {where}: {error.strerror or error}; correct that and run again") from None


@contextmanager
def only_one(what: str, folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into the folder; a killed one lets go by itself."""
    said = f"{what}: another process is fetching into {folder}; waiting for it to end"
    with alone(folder / LOCK, said):
        yield


def for_each(
    work: Callable[[T], None], items: Iterable[T], threads: int, stop: Callable[[], None] = lambda: None
) -> None:
    """Call `work` for each item in threads; where a call fails or the user interrupts, the rest is left undone.

    Args:
        stop: ends the calls that are under way.

    Raises:
        Exception: of the call that failed first.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop()
            pool.shutdown(cancel_futures=True)
            raise
