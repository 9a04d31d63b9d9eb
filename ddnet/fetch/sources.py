"""The kinds of sources: a folder of files by URL, one file by its link, a zip, parquet files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from ddnet.config import Source
from ddnet.fetch import archive as zips
from ddnet.fetch import parquet
from ddnet.fetch.http import Client, Order
from ddnet.fetch.place import Place, for_each
from ddnet.fetch.policy import SourceFailed
from ddnet.runtime.log import Progress

log = logging.getLogger(__name__)


def from_source(place: Place, source: Source) -> None:
    """Bring whatever lacks from one source.

    Raises:
        SourceFailed: it cannot give that.
        DDNetError: the disk is full.
    """
    if source.files is not None:
        _from_files(place, source.files)
    elif source.file is not None:
        _from_file(place, source)
    elif source.archive is not None:
        with _downloads(place, [source.url], ".zip", source) as (path,):
            from_archive(place, path, source.url, whole=True)
    else:
        _from_parquet(place, source.url)


def _from_files(place: Place, base: str) -> None:
    if place.wanted.files is None:
        raise SourceFailed("the names to ask for are not known beforehand")
    missing = [name for name in place.wanted.files if name not in place.files]
    progress = Progress(place.name, 0, "B")
    sizes, lock = [path.stat().st_size for path in place.files.values()], threading.Lock()
    bound = place.item.gigabytes * 1e9 - sum(sizes)

    def require_room(least: int = 0) -> None:
        """Judge by the sizes known so far; the first may be larger than most, so never by more than the item takes."""
        estimate = (place.wanted.needed - len(place.files)) * sum(sizes) / max(len(sizes), 1)
        needed = max(least, min(estimate, bound))
        progress.total = progress.done + round(needed)
        place.require_space(needed)

    def expect(size: int, have: int) -> None:
        with lock:
            sizes.append(size)
            require_room(size - have)

    def one(name: str) -> None:
        def check(path: Path) -> None:
            if problem := place.problem(name, path):
                raise SourceFailed(problem)

        order = Order(
            name, f"{base.rstrip('/')}/{quote(name)}", place.folder / name, place.partial(name),
            place.manifest.recorded(name), check=check, expect=expect, advance=progress.advance,
        )  # fmt: skip
        try:
            digest = client.fetch(order)
        except SourceFailed as failure:
            raise SourceFailed(f"{name}: {failure}") from None
        place.add(name, order.target, digest, base)

    require_room()
    with Client(place.policy) as client:
        for_each(one, missing, place.policy.connections, client.stop)


def _from_file(place: Place, source: Source) -> None:
    """An item's only file behind a link, whatever the link calls it."""
    if place.wanted.files is None or len(place.wanted.files) != 1:
        raise SourceFailed(f"it is one file where {place.wanted.needed} belong")
    [name] = place.wanted.files
    recorded = place.manifest.recorded(name)
    if recorded and source.sha256 not in (None, recorded):
        raise SourceFailed(f"its stated SHA-256 {source.sha256[:12]} is not the recorded {recorded[:12]}")
    progress = Progress(place.name, 0, "B")

    def check(path: Path) -> None:
        if problem := place.problem(name, path):
            raise SourceFailed(problem)

    def expect(size: int, have: int) -> None:
        progress.total = progress.done + size - have
        place.require_space(size - have)

    stem = place.partial(urlsplit(source.url).netloc + urlsplit(source.url).path)
    order = Order(
        name, source.url, place.folder / name, stem, source.sha256 or recorded, source.md5,
        check=check, expect=expect, advance=progress.advance,
    )  # fmt: skip
    with Client(place.policy) as client:
        place.add(name, order.target, client.fetch(order), source.url)


@contextmanager
def _downloads(place: Place, urls: list[str], suffix: str, stated: Source | None = None) -> Iterator[list[Path]]:
    """Large files that are needed once: gone when they were used or found useless; a full disk keeps them."""
    files = [_download(place, url, suffix, stated) for url in urls]
    try:
        yield files
    except SourceFailed:
        _remove(files)
        raise
    _remove(files)


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _download(place: Place, url: str, suffix: str, stated: Source | None) -> Path:
    """A file in the folder of partial downloads; what came whole in an earlier run is not asked for again."""
    stem = place.partial(urlsplit(url).netloc + urlsplit(url).path)
    target = stem.with_name(stem.name + suffix)
    if target.is_file():
        log.info("%s: going on with the complete %s", place.name, target)
        return target
    progress = Progress(place.name, 0, "B")

    def expect(size: int, have: int) -> None:
        progress.total = progress.done + size - have
        # What is unpacked stands beside the download until all of it is there.
        there = sum(path.stat().st_size for path in place.files.values())
        unpacked = max(0.0, place.item.gigabytes * 1e9 - there)
        place.require_space(size - have + min(size, unpacked))

    sha256, md5 = (stated.sha256, stated.md5) if stated else (None, None)
    with Client(place.policy) as client:
        client.fetch(Order(url, url, target, stem, sha256, md5, expect=expect, advance=progress.advance))
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
    lacking = [name for name in members if name not in place.files]
    size = sum(members[name].file_size for name in lacking)
    _unpack(place, set(members), size, zips.contents(path, members, lacking), source, whole)


def _from_parquet(place: Place, url: str) -> None:
    with _downloads(place, [url], ".list") as (listing,):
        urls = parquet.list_urls(listing)
    with _downloads(place, urls, ".parquet") as files:
        table = parquet.read_table(files)
        names = table.names(place.wanted)
        images = parquet.contents(table, place.wanted, names - set(place.files))
        _unpack(place, names, table.bytes, images, url, whole=True)


def _unpack(
    place: Place, names: set[str], size: int, contents: Iterable[tuple[str, Iterable[bytes]]], source: str, whole: bool
) -> None:
    """Deliver the files of an archive that holds `names`, about `size` bytes of them."""
    _require_fit(place, names, whole)
    place.require_space(size)
    progress = Progress(f"{place.name}: unpacking", size, "B")
    for name, blocks in contents:
        place.deliver(name, blocks, source, progress.advance)


def _require_fit(place: Place, names: set[str], whole: bool) -> None:
    """Refuse to mix files of two sources that name them differently, and what is known to be incomplete."""
    together = names | set(place.files)
    if whole and (lacking := place.wanted.missing(together)):
        raise SourceFailed(f"lacks {lacking}")
    foreign = sorted(set(place.files) - names)
    if whole and foreign and place.wanted.files is None:
        raise SourceFailed(f"names its files differently from those in {place.folder} (first there: {foreign[0]})")
    if surplus := place.wanted.surplus(together):
        raise SourceFailed(f"with what is in {place.folder}, {surplus}" if place.files else f"holds {surplus}")
