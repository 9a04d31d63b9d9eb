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
from ddnet.fetch.checks import disk_errors
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.parallel import for_each
from ddnet.fetch.policy import Policy, SourceFailed
from ddnet.fetch.sources import PARTIAL, Place, from_archive, from_source
from ddnet.fetch.wanted import LICENCE_FILE, MANIFEST_FILE, Scan, Wanted, scan_folder
from ddnet.files import sha256, write_text
from ddnet.log import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A complete item: where from (words or URL), and path and SHA-256 of each file by canonical name."""

    source: str
    files: dict[str, Path]
    digests: dict[str, str]


@dataclass(frozen=True)
class ItemStatus:
    """How much of an item is at hand: files there and needed, their bytes, where from, and whether all are there."""

    have: int
    needed: int
    bytes: int
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
            SHA-256 at first sight and is enforced ever after.
        local: a copy at hand: a folder of any layout, read in place and never changed, or a zip.
        policy: patience with servers.

    Raises:
        DDNetError: the local copy lacks files, a file is not what was recorded, the disk is full, or no source is left.
    """
    with disk_errors(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(folder)
        fetch = _Fetch(Place(name, item, wanted, folder, manifest, policy or Policy()))
        try:
            return fetch.from_local(local) if local is not None else fetch.from_anywhere()
        finally:
            manifest.flush()


class _Fetch:
    """One call of `fetch_item`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.name, self.wanted, self.folder = place.name, place.wanted, place.folder

    def from_local(self, local: Path) -> Fetched:
        """Use a copy at hand, and nothing else."""
        if local.is_dir():
            scan = scan_folder(local, self.wanted)
            self._require_all(f"local copy {local}", set(scan.files))
            _log_others(f"{self.name}: local copy {local}", scan)
            self._check(scan.files, f"local copy {local}")
        elif _is_zip(local):
            self._check(scan_folder(self.folder, self.wanted).files, "found in the folder")
            try:
                from_archive(self.place, local, f"local copy {local.name}", whole=True)
            except SourceFailed as failure:
                raise DDNetError(f"{self.name}: local copy {local}: {failure}; correct {self._key()}") from None
        else:
            raise DDNetError(
                f"{self.name}: local copy {local} {_no_copy(local)}; correct {self._key()} or leave it out"
            )
        return self._result(f"local copy {local}")

    def from_anywhere(self) -> Fetched:
        """Use what lies in the folder, then zips put there by hand, then the sources in order."""
        self._check(scan_folder(self.folder, self.wanted).files, "found in the folder")
        reasons = []
        for label, attempt in self._attempts():
            if self._lacking() == "":
                break
            try:
                attempt()
            except SourceFailed as failure:
                reasons.append(f"{label}: {failure}")
                log.warning("%s: %s: %s; trying what comes next", self.name, label, failure)
        if lacking := self._lacking():
            told = "; ".join(reasons) or "no source is listed"
            raise DDNetError(
                f"{self.name}: lacks {lacking}, and no source gave them ({told}); by hand: get "
                f"{self.place.item.by_hand} and put it into {self.folder}{self._or_key()}, then run again"
            )
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
        return self._result(self.place.manifest.sources(sorted(self.place.files)))

    def _attempts(self) -> Iterator[tuple[str, Callable[[], None]]]:
        for archive in sorted(self.folder.glob("*.zip")):
            label = f"{archive.name}, put there by hand"
            yield archive.name, partial(from_archive, self.place, archive, label)
        for source in self.place.item.sources:
            yield urlsplit(source.url).netloc, partial(self._from_source, source)

    def _from_source(self, source: Source) -> None:
        self._tell_licence()
        log.info("%s: fetching from %s", self.name, source.url)
        from_source(self.place, source)
        if lacking := self._lacking():
            raise SourceFailed(f"lacks {lacking}")

    def _tell_licence(self) -> None:
        """Log the licence at the first fetch, and keep it beside the files."""
        text = f"{self.place.item.about}\n\n{self.place.item.licence.strip()}\n"
        path = self.folder / LICENCE_FILE
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            log.info("%s: licence: %s", self.name, " ".join(self.place.item.licence.split()))
            write_text(path, text)

    def _lacking(self) -> str:
        have = set(self.place.files)
        if surplus := self.wanted.surplus(have):
            raise DDNetError(
                f"{self.name}: {self.folder} holds {surplus}; delete those that do not belong, or all, and run again"
            )
        return self.wanted.missing(have)

    def _require_all(self, where: str, have: set[str]) -> None:
        if lacking := self.wanted.missing(have):
            raise DDNetError(f"{self.name}: {where} lacks {lacking}; complete it, or correct {self._key()}")
        if surplus := self.wanted.surplus(have):
            raise DDNetError(f"{self.name}: {where} holds {surplus}; leave only those, or correct {self._key()}")

    def _check(self, files: dict[str, Path], source: str) -> None:
        """Hold files to the manifest, their content to their names; several at a time."""
        progress = Progress(f"{self.name}: checking", sum(path.stat().st_size for path in files.values()), "B")
        stopped: list[bool] = []

        def check(name: str) -> None:
            path = files[name]
            if stopped:
                return
            if problem := self.place.problem(name, path):
                raise DDNetError(f"{self.name}: {path}: {problem}; replace or delete it and run again")
            self.place.add(name, path, sha256(path), source)
            progress.advance(path.stat().st_size)

        for_each(check, sorted(files), min(8, os.cpu_count() or 1), lambda: stopped.append(True))

    def _result(self, source: str) -> Fetched:
        names = sorted(self.place.files)
        return Fetched(
            source, {name: self.place.files[name] for name in names}, {name: self.place.digests[name] for name in names}
        )

    def _key(self) -> str:
        return f"data.{self.name}" if self.name in DpddData.model_fields else "the path"

    def _or_key(self) -> str:
        return f" or set {self._key()} to it" if self.name in DpddData.model_fields else ""


def _log_others(what: str, scan: Scan) -> None:
    if scan.others:
        log.info("%s: %d other files are not needed, first: %s", what, len(scan.others), scan.others[0])


def _is_zip(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def verify_item(name: str, folder: Path) -> list[str]:
    """Read every recorded file again; one line per problem, none where all is as recorded.

    Raises:
        DDNetError: `manifest.json` is damaged, or a file cannot be read.
    """
    with disk_errors(name, folder):
        manifest = Manifest(folder)
        if not manifest.entries:
            return [f"{name}: nothing is recorded in {folder / MANIFEST_FILE}; fetch it first"]
        problems: dict[str, str] = {}
        total = sum(int(entry["bytes"]) for entry in manifest.entries.values())
        progress = Progress(f"{name}: verifying", total, "B")

        def verify(entry: str) -> None:
            path, recorded = manifest.path_of(entry), manifest.recorded(entry) or ""
            if not path.is_file():
                problems[entry] = f"{name}: {path} is missing; fetch it again"
            elif (digest := sha256(path)) != recorded:
                problems[entry] = (
                    f"{name}: {path}: its SHA-256 {digest[:12]} is not the recorded {recorded[:12]}; "
                    "delete it and fetch it again"
                )
            progress.advance(int(manifest.entries[entry]["bytes"]))

        for_each(verify, sorted(manifest.entries), min(8, os.cpu_count() or 1), lambda: None)
        return [problems[entry] for entry in sorted(problems)]


def status_item(name: str, item: Item, wanted: Wanted, folder: Path, local: Path | None = None) -> ItemStatus:
    """How much of an item is at hand, by names and sizes only: no network, nothing read, nothing written.

    Raises:
        DDNetError: a damaged `manifest.json`, or a folder that cannot be read.
    """
    with disk_errors(name, folder):
        if local is None:
            files = scan_folder(folder, wanted).files if folder.is_dir() else {}
            sizes = {key: path.stat().st_size for key, path in files.items()}
            source = (Manifest(folder).sources(sorted(files)) or "found in the folder") if files else ""
        else:
            sizes, problem = _local_sizes(local, item, wanted)
            source = f"local copy {local}{problem and f' ({problem})'}"
        have = set(sizes)
        complete = not (wanted.missing(have) or wanted.surplus(have))
        return ItemStatus(len(have), wanted.needed, sum(sizes.values()), source, complete)


def _local_sizes(local: Path, item: Item, wanted: Wanted) -> tuple[dict[str, int], str]:
    """Bytes of each wanted file of a local copy by canonical name, and what is wrong with it in words."""
    if local.is_dir():
        return {key: path.stat().st_size for key, path in scan_folder(local, wanted).files.items()}, ""
    if not _is_zip(local):
        return {}, _no_copy(local)
    try:
        return {key: member.size for key, member in wanted_members(local, wanted, item.gigabytes).items()}, ""
    except SourceFailed as failure:
        return {}, str(failure)


def _no_copy(local: Path) -> str:
    return "is neither a folder nor a zip" if local.exists() else "does not exist"
