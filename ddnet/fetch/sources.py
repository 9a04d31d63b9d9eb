"""The kinds of sources: a folder of files by URL, a zip, parquet files."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from ddnet.config import Item, Source
from ddnet.fetch import archive as zips
from ddnet.fetch import parquet
from ddnet.fetch.checks import content_problem, require_space
from ddnet.fetch.http import Client, Order
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.parallel import for_each
from ddnet.fetch.policy import Policy, SourceFailed
from ddnet.fetch.wanted import Wanted
from ddnet.log import Progress

log = logging.getLogger(__name__)

PARTIAL = ".partial"


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

    def problem(self, name: str, path: Path) -> str:
        """Why a file cannot be what its name says, in words; what was recorded has passed before."""
        return content_problem(name, path) or ("" if self.manifest.recorded(name) else self.wanted.problem(path))

    def require_content(self, name: str, path: Path) -> None:
        """Refuse a file that came from a source and cannot be what its name says.

        Raises:
            SourceFailed: with the reason.
        """
        if problem := self.problem(name, path):
            raise SourceFailed(f"{name}: {problem}")

    def partial(self, name: str) -> Path:
        """Where a download keeps what has come so far."""
        folder = self.folder / PARTIAL
        folder.mkdir(exist_ok=True)
        return folder / quote(name, safe="")

    def require_space(self, needed: float) -> None:
        """Refuse what the disk cannot take."""
        require_space(self.name, self.folder, needed)


def from_source(place: Place, source: Source) -> None:
    """Bring whatever lacks from one source.

    Raises:
        SourceFailed: it cannot give that.
        DDNetError: the disk is full.
    """
    if source.files is not None:
        _from_files(place, source.files)
    elif source.archive is not None:
        _from_remote_archive(place, source)
    else:
        _from_parquet(place, source.url)


class _Room:
    """Whether the disk takes what is still to come, judged by the sizes that are known so far."""

    def __init__(self, place: Place, missing: int, progress: Progress) -> None:
        self.place, self.progress = place, progress
        self.sizes = [path.stat().st_size for path in place.files.values()]
        self.left, self.there = missing, sum(self.sizes)
        self._lock = threading.Lock()
        self._require(0)

    def expect(self, size: int, have: int) -> None:
        """The server named the size of one more file, of which `have` bytes are there."""
        with self._lock:
            self.sizes.append(size)
            self._require(size - have)

    def finished(self) -> None:
        """One file has come whole."""
        with self._lock:
            self.left -= 1

    def _require(self, least: int) -> None:
        if self.sizes:
            estimate = self.left * sum(self.sizes) / len(self.sizes)
            # The first sizes may be larger than most; the item's known size is the better word then.
            bound = max(self.place.item.gigabytes * 1e9 - self.there, least)
            needed = max(least, min(estimate, bound))
            self.progress.total = self.progress.done + round(needed)
            self.place.require_space(needed)


def _from_files(place: Place, base: str) -> None:
    if place.wanted.files is None:
        raise SourceFailed("the names to ask for are not known beforehand")
    missing = [name for name in place.wanted.files if name not in place.files]
    progress = Progress(place.name, 0, "B")
    room = _Room(place, len(missing), progress)
    with Client(place.policy) as client:

        def one(name: str) -> None:
            url = f"{base.rstrip('/')}/{quote(name)}"
            target = place.folder / name
            order = Order(
                name, url, target, place.partial(name), sha256=place.manifest.recorded(name),
                check=lambda path: place.require_content(name, path), expect=room.expect, advance=progress.advance,
            )  # fmt: skip
            try:
                digest = client.fetch(order)
            except SourceFailed as failure:
                raise SourceFailed(f"{name}: {failure}") from None
            place.add(name, target, digest, base)
            room.finished()

        for_each(one, missing, place.policy.connections, client.stop)


def _from_remote_archive(place: Place, source: Source) -> None:
    path = _download(place, source.url, ".zip", source)
    try:
        from_archive(place, path, source.url, whole=True)
    except SourceFailed:
        _remove([path])  # it would fail again; a full disk, on the other hand, keeps it
        raise
    _remove([path])


def _download(place: Place, url: str, suffix: str, stated: Source | None = None) -> Path:
    """One large file into the folder of partial downloads; what came whole in an earlier run is not asked for again."""
    stem = place.partial(urlsplit(url).netloc + urlsplit(url).path)
    target = stem.with_name(stem.name + suffix)
    if target.is_file():
        log.info("%s: going on with the complete %s", place.name, target)
        return target
    progress = Progress(place.name, 0, "B")

    def expect(size: int, have: int) -> None:
        progress.total = progress.done + size - have
        place.require_space(size - have)

    sha256, md5 = (stated.sha256, stated.md5) if stated else (None, None)
    order = Order(url, url, target, stem, sha256, md5, expect=expect, advance=progress.advance)
    with Client(place.policy) as client:
        client.fetch(order)
    return target


def from_archive(place: Place, path: Path, source: str, whole: bool = False) -> None:
    """Extract what lacks from a zip.

    Args:
        source: what the manifest calls it.
        whole: refuse a zip that does not have everything that lacks, before anything of it is extracted.

    Raises:
        SourceFailed: damaged, unsafe, or (`whole`) incomplete.
        DDNetError: the disk is full.
    """
    members = zips.wanted_members(path, place.wanted, place.item.gigabytes)
    _require_fit(place, set(members), whole)
    lacking = [member for name, member in members.items() if name not in place.files]
    place.require_space(sum(member.size for member in lacking))
    progress = Progress(f"{place.name}: unpacking", sum(member.size for member in lacking), "B")
    zips.extract(
        path, lacking, place.folder, place.manifest.recorded,
        lambda name, target, digest: place.add(name, target, digest, source), progress.advance, place.require_content,
    )  # fmt: skip


def _require_fit(place: Place, names: set[str], whole: bool) -> None:
    """Refuse to mix files of two sources that name them differently, and what is known to be incomplete."""
    foreign = sorted(set(place.files) - names)
    together = names | set(place.files)
    if whole and (lacking := place.wanted.missing(together)):
        raise SourceFailed(f"lacks {lacking}")
    if whole and foreign and place.wanted.files is None:
        raise SourceFailed(f"names its files differently from those in {place.folder} (first there: {foreign[0]})")
    if surplus := place.wanted.surplus(together):
        raise SourceFailed(f"with what is in the folder, {surplus}")


def _from_parquet(place: Place, url: str) -> None:
    listing = _download(place, url, ".list")
    try:
        urls = parquet.list_urls(listing)
    finally:
        listing.unlink(missing_ok=True)  # it may name other files next time
    files = [_download(place, part, ".parquet") for part in urls]
    try:
        table = parquet.read_table(files)
        names = set(table.names(place.wanted))
        _require_fit(place, names, whole=True)
        place.require_space(table.bytes)
        progress = Progress(f"{place.name}: unpacking", table.bytes, "B")
        parquet.write_images(
            table, names - set(place.files), place.wanted, place.folder, place.manifest.recorded,
            lambda name, target, digest: place.add(name, target, digest, url), progress.advance,
            place.require_content,
        )  # fmt: skip
    except SourceFailed:
        _remove(files)  # they would fail again; a full disk, on the other hand, keeps them
        raise
    _remove(files)


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
