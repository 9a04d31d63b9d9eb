"""A whole item: a copy at hand, what lies in its folder, and then its sources in order."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ddnet.config import DpddData, Item, Source
from ddnet.errors import DDNetError
from ddnet.fetch.archive import wanted_members
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.place import PARTIAL, Place, disk_errors, for_each, only_one
from ddnet.fetch.policy import Policy, SourceFailed
from ddnet.fetch.sources import from_archive, from_source
from ddnet.fetch.wanted import Wanted, scan_folder
from ddnet.io.files import sha256, write_text
from ddnet.runtime.log import Progress

log = logging.getLogger(__name__)

LICENCE_FILE = "LICENCE.txt"
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Fetched:
    """A complete item: where from (words or URL), and path and SHA-256 of each file by canonical name."""

    source: str
    files: dict[str, Path]
    digests: dict[str, str]


@dataclass(frozen=True)
class ItemStatus:
    """How much of an item is at hand, by names and sizes only.

    Args:
        have: files.
        needed: files.
        bytes: of the files.
        begun: bytes of downloads that are not files of the item yet.
        source: where from; of a copy at hand, also what is wrong with it.
        complete: nothing lacks and nothing is too many.
    """

    have: int
    needed: int
    bytes: int
    begun: int
    source: str
    complete: bool


def fetch_item(
    name: str, item: Item, wanted: Wanted, folder: Path, local: Path | None = None, policy: Policy | None = None
) -> Fetched:
    """Bring an item's files together; an interrupted call is continued by the next one.

    Args:
        name: what messages call it, `dpdd`.
        item: where it can be had.
        wanted: which files it consists of.
        folder: where it goes; files or a zip put there by hand are used. `manifest.json` in it records each file's
            SHA-256 at first sight and is enforced ever after. One process at a time: others wait.
        local: a copy at hand: a folder of any layout, read in place and never changed, or a zip.
        policy: patience with servers.

    Raises:
        DDNetError: the local copy lacks files, a file is not what was recorded, the disk is full, or no source is left.
    """
    with disk_errors(name, folder):
        if folder.is_symlink() and not folder.exists():
            raise DDNetError(f"{name}: {folder} is a link to {folder.readlink()}, which is not there; attach that disk")
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(name, folder):
            manifest = Manifest(folder)
            place = Place(name, item, wanted, folder, manifest, policy or Policy())
            try:
                source = _from_local(place, local) if local is not None else _from_anywhere(place)
            finally:
                manifest.flush()
            if local is None:  # beside a copy at hand, a download that another preset began may wait for its rest
                shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        return Fetched(source, dict(sorted(place.files.items())), dict(sorted(place.digests.items())))


def _from_local(place: Place, local: Path) -> str:
    """Use a copy at hand, and nothing else."""
    what, key = f"local copy {local}", _key(place.name) or "the path"
    if local.is_dir():
        files, others = scan_folder(local, place.wanted)
        if problem := _incomplete(place.wanted, set(files)):
            raise DDNetError(f"{place.name}: {what} {problem}; correct that, or {key}")
        if others:
            log.info("%s: %s: %d other files are not needed, first: %s", place.name, what, len(others), others[0])
        _check(place, files, what)
    elif _is_zip(local):
        _check(place, scan_folder(place.folder, place.wanted)[0], "found in the folder")
        try:
            from_archive(place, local, f"local copy {local.name}", whole=True)
        except SourceFailed as failure:
            raise DDNetError(f"{place.name}: {what}: {failure}; correct {key}") from None
    else:
        raise DDNetError(f"{place.name}: {what} {_no_copy(local)}; correct {key} or leave it out")
    return what


def _from_anywhere(place: Place) -> str:
    """Use what lies in the folder, then zips put there by hand, then the sources in order."""
    _check(place, scan_folder(place.folder, place.wanted)[0], "found in the folder")
    reasons = []
    for label, attempt in _attempts(place):
        if not _lacking(place):
            break
        try:
            attempt()
        except SourceFailed as failure:
            reasons.append(f"{label}: {failure}")
            log.warning("%s: %s: %s; trying what comes next", place.name, label, failure)
    if lacking := _lacking(place):
        key = _key(place.name)
        raise DDNetError(
            f"{place.name}: lacks {lacking}, and no source gave them ({'; '.join(reasons) or 'no source is listed'}); "
            f"by hand: get {place.item.by_hand} and put it into {place.folder}{key and f' or set {key} to it'}, "
            "then run again"
        )
    return place.manifest.sources(sorted(place.files))


def _attempts(place: Place) -> Iterator[tuple[str, Callable[[], None]]]:
    for archive in sorted(place.folder.glob("*.zip")):
        yield archive.name, partial(from_archive, place, archive, f"{archive.name}, put there by hand")
    for source in place.item.sources:
        yield urlsplit(source.url).netloc, partial(_from_source, place, source)


def _from_source(place: Place, source: Source) -> None:
    keep_licence(place.name, place.item, place.folder)
    log.info("%s: fetching from %s", place.name, source.url)
    from_source(place, source)


def keep_licence(name: str, item: Item, folder: Path) -> None:
    """Say an item's licence once, when its first file comes into `folder`, and keep it there."""
    text = f"{item.about}\n\n{item.licence.strip()}\n"
    path = folder / LICENCE_FILE
    if not path.is_file() or path.read_bytes() != text.encode():
        log.info("%s: licence: %s", name, " ".join(item.licence.split()))
        write_text(path, text)


def _lacking(place: Place) -> str:
    if surplus := place.wanted.surplus(set(place.files)):
        raise DDNetError(
            f"{place.name}: {place.folder} holds {surplus}; move those that do not belong elsewhere and run again"
        )
    return place.wanted.missing(set(place.files))


def _incomplete(wanted: Wanted, have: set[str]) -> str:
    if lacking := wanted.missing(have):
        return f"lacks {lacking}"
    surplus = wanted.surplus(have)
    return surplus and f"holds {surplus}"


def _check(place: Place, files: dict[str, Path], source: str) -> None:
    """Hold files to the manifest, their content to their names; several at a time."""
    progress = Progress(f"{place.name}: checking", sum(path.stat().st_size for path in files.values()), "B")

    def check(name: str) -> None:
        path = files[name]
        if problem := place.problem(name, path):
            raise DDNetError(f"{place.name}: {path}: {problem}; replace it or move it aside, and run again")
        place.add(name, path, sha256(path), source)
        progress.advance(path.stat().st_size)

    for_each(check, sorted(files), _THREADS)


def _key(name: str) -> str:
    return f"data.{name}" if name in DpddData.model_fields else ""


def _is_zip(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def _no_copy(local: Path) -> str:
    return "is neither a folder nor a zip" if local.exists() else "does not exist"


def verify_item(name: str, wanted: Wanted, folder: Path) -> tuple[int, list[str]]:
    """Read every recorded file again: how many are as recorded, and one line per problem.

    Raises:
        DDNetError: `manifest.json` is damaged, or a file cannot be read.
    """
    with disk_errors(name, folder):
        manifest = Manifest(folder)
        problems: dict[str, str] = {}
        total = sum(int(entry["bytes"]) for entry in manifest.entries.values())
        progress = Progress(f"{name}: verifying", total, "B")

        def verify(entry: str) -> None:
            path, recorded = manifest.path_of(entry), manifest.entries[entry]["sha256"]
            if not path.is_file():
                problems[entry] = f"{name}: {path} is missing"
            elif (digest := sha256(path)) != recorded:
                problems[entry] = f"{name}: {path}: its SHA-256 {digest[:12]} is not the recorded {recorded[:12]}"
            progress.advance(int(manifest.entries[entry]["bytes"]))

        for_each(verify, sorted(manifest.entries), _THREADS)
        lines = [problems[entry] for entry in sorted(problems)]
        if lacking := wanted.missing(set(manifest.entries)):
            lines.append(f"{name}: {lacking}, not fetched yet: nothing is recorded in {manifest.path}")
        return len(manifest.entries) - len(problems), lines


def status_item(name: str, item: Item, wanted: Wanted, folder: Path, local: Path | None = None) -> ItemStatus:
    """How much of an item is at hand: no network, nothing read, nothing written.

    Raises:
        DDNetError: a damaged `manifest.json`, or a folder that cannot be read.
    """
    with disk_errors(name, folder):
        sizes: dict[str, int] = {}
        begun, problem = 0, ""
        where = folder if local is None else local
        if local is None:
            begun = sum(path.stat().st_size for path in folder.glob(f"{PARTIAL}/*"))
        if where.is_dir():
            sizes = {key: path.stat().st_size for key, path in scan_folder(where, wanted)[0].items()}
        elif local is not None and _is_zip(local):
            try:
                sizes = {key: info.file_size for key, info in wanted_members(local, wanted, item.gigabytes).items()}
            except SourceFailed as failure:
                problem = str(failure)
        elif local is not None:
            problem = _no_copy(local)
        problem = problem or _incomplete(wanted, set(sizes))
        source = Manifest(folder).sources(sorted(sizes)) or "found in the folder" if sizes else ""
        if local is not None:
            source = f"local copy {local}{problem and f' ({problem})'}"
        return ItemStatus(len(sizes), wanted.needed, sum(sizes.values()), begun, source, not problem)
