"""Files that a person already has, put into an item's folder as if they had been fetched."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ddnet.config import Item
from ddnet.errors import DDNetError
from ddnet.fetch import archive
from ddnet.fetch.item import Fetched, keep_licence
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.place import disk_errors, only_one
from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.wanted import Wanted, scan_folder
from ddnet.io.files import atomic_path, sha256


def put_item(
    name: str,
    item: Item,
    wanted: Wanted,
    folder: Path,
    files: Mapping[str, Path],
    source: str,
    expected: Mapping[str, str] | None = None,
) -> Fetched:
    """Copy files under their canonical names into `folder` and record them, so that `fetch_item` finds them.

    What is there already with the same content stays as it is.

    Args:
        files: canonical name -> the file at hand, which is not changed.
        source: what the manifest says of where they came from.
        expected: SHA-256 of the files when they were looked at, by canonical name; one that differs now is refused.

    Raises:
        DDNetError: a file lacks, or another one of its name is there or recorded; nothing is written then. Or the disk
            is full.
    """
    if lacking := wanted.missing(set(files)):
        raise DDNetError(f"{name}: lacks {lacking}; give all files of it")
    with disk_errors(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(name, folder):
            manifest, there = Manifest(folder), scan_folder(folder, wanted)[0]
            digests = {canonical: sha256(path) for canonical, path in files.items()}
            for canonical, digest in digests.items():
                if expected is not None and expected[canonical] != digest:
                    raise DDNetError(f"{files[canonical]}: changed while it was read; import it again")
                present = sha256(there[canonical]) if canonical in there else None
                for known in (present, manifest.recorded(canonical)):
                    if known not in (None, digest):
                        raise DDNetError(
                            f"{name}: {there.get(canonical, folder / canonical)} is another file, of SHA-256 "
                            f"{known[:12]}, not {digest[:12]}; to replace it, move the folder {folder} aside and "
                            "try again"
                        )
            try:
                for canonical, digest in digests.items():
                    if canonical not in there:
                        there[canonical] = _copied(files[canonical], folder / canonical, digest)
                    manifest.accept(canonical, there[canonical], digest, source)
            finally:
                manifest.flush()
            keep_licence(name, item, folder)
            return Fetched(manifest.sources(sorted(digests)), {key: there[key] for key in digests}, digests)


def unpack_zip(path: Path, wanted: Wanted, folder: Path, gigabytes: float, what: str) -> dict[str, Path]:
    """Unpack an item's files from a zip into `folder`, if all of them are in it; nothing otherwise.

    Args:
        gigabytes: about how much the item takes; a zip that claims ten times as much is refused.
        what: what messages call the zip.

    Returns:
        The files by canonical name; of an incomplete zip, none.

    Raises:
        DDNetError: a damaged or unsafe zip, or a full disk.
    """
    try:
        members = archive.wanted_members(path, wanted, gigabytes)
        if wanted.missing(set(members)):
            return {}
        files = {name: folder / name for name in members}
        with disk_errors(what, folder):
            for name, blocks in archive.contents(path, members, members):
                files[name].parent.mkdir(parents=True, exist_ok=True)
                with files[name].open("wb") as stream:
                    stream.writelines(blocks)
    except SourceFailed as failure:
        raise DDNetError(f"{what}: {failure}; download it again") from None
    return files


def _copied(path: Path, target: Path, digest: str) -> Path:
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
        if sha256(temporary) != digest:
            raise DDNetError(f"{path}: changed while it was copied; import it again")
    return target
