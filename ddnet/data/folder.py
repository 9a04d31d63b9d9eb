"""Anyone's own pairs of photographs: defocused images in `source/`, all-in-focus ones in `target/`."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ddnet.config import FolderData
from ddnet.data.index import ImageFile, PairFiles, Scene, describe_pairs
from ddnet.errors import DDNetError
from ddnet.io.files import expanded, listable
from ddnet.io.images import stored_orientation

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SPLITS = ("train", "val", "test")
LONGEST_NAME = 80
SMALLEST_SIDE = 32  # pixels; AlexNet's strides (LPIPS) leave nothing of less than 31

Files = tuple[Path, Path]  # source, target


def index_folder(data: FolderData) -> list[Scene]:
    """Check a user's pairs and make their index entries: dataset `data.name`, and `<name>_second` if there is one.

    `data.path` holds either `source/` and `target/`, whose pairs are then drawn into train, val and test, or the
    three splits with both folders each. Sub-folders are not searched, hidden files ignored.

    Raises:
        DDNetError: a folder is missing or empty; an image has no partner, is unreadable, too small or to be turned, or
            differs from its partner in size or bit depth, or not at all; a picture is in two splits; or there are too
            few pairs for three splits.
    """
    path = expanded(data.path)
    _require_folder(path, "data.path")
    given = [split for split in SPLITS if _is_folder(path / split)]
    flat = [role for role in ("source", "target") if _is_folder(path / role)]
    if given and flat:
        raise DDNetError(f"{path}: has {given[0]}/ beside {flat[0]}/; keep either the splits or source/ and target/")
    if given and len(given) < len(SPLITS):
        raise DDNetError(
            f"{path}: has {', '.join(given)} of {', '.join(SPLITS)}; all three are needed, or source/ and target/ alone"
        )
    if given:
        pairs = {split: _pairs(path / split) for split in SPLITS}
    else:
        pairs = draw_splits(path, _pairs(path), data.val, data.test, data.seed)
    listed = {data.name: [entry for split in SPLITS for entry in _entries(split, pairs[split])]}
    if data.second:
        second = expanded(data.second)
        _require_folder(second, "data.second")
        listed[f"{data.name}_second"] = _entries("test", _pairs(second))
    scenes = [
        scene for name, entries in listed.items() for scene in describe_pairs(name, entries, problem=_size_problem)
    ]
    _require_apart(scenes)
    return scenes


def _size_problem(found: ImageFile) -> str:
    if min(found.height, found.width) >= SMALLEST_SIDE:
        return ""
    return (
        f"{found}; both sides must be at least {SMALLEST_SIDE} px, or LPIPS cannot measure it: move the pair elsewhere"
    )


def _require_apart(scenes: Sequence[Scene]) -> None:
    """Refuse a file that is in two splits: what was trained or chosen on would be tested on."""
    seen: dict[str, tuple[str, Path]] = {}
    for scene in scenes:
        for file, digest in ((scene.image, scene.image_sha256), (scene.target, scene.target_sha256)):
            split, first = seen.setdefault(digest, (scene.split, file))
            if split != scene.split:
                raise DDNetError(
                    f"{file}: the same file as {first}, one for {scene.split}, the other for {split}; move one "
                    "elsewhere, or lay out train/, val/ and test/ yourself with both in the same one"
                )


def draw_splits(path: Path, pairs: Sequence[Files], val: float, test: float, seed: int) -> dict[str, list[Files]]:
    """Draw validation and test pairs by a hash of their names, so that neither order nor content of files matters.

    The test pairs have the smallest hashes, the validation pairs the largest. Pairs added later move others only
    between training and one of the two, never from validation to test.

    Raises:
        DDNetError: fewer than one pair would be left for training.
    """
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}/{stem_of(pair[0])}".encode()).digest())
    tests, vals = (max(1, int(share * len(ranked) + 0.5)) for share in (test, val))
    if tests + vals >= len(ranked):
        raise DDNetError(
            f"{path}: of {len(ranked)} pairs, {vals} for validation and {tests} for test leave none for training; "
            "add pairs (at least 3) or lower data.val or data.test"
        )
    drawn = {"test": ranked[:tests], "train": ranked[tests:-vals], "val": ranked[-vals:]}
    return {split: sorted(drawn[split]) for split in SPLITS}


def pair_by_stem(sources: Mapping[str, Path], targets: Mapping[str, Path]) -> list[Files] | None:
    """Pairs of equal stems, in the order of names; None where a stem has no partner."""
    if sources.keys() != targets.keys():
        return None
    return [(sources[stem], targets[stem]) for stem in sorted(sources, key=natural)]


def pair_by_order(sources: Mapping[str, Path], targets: Mapping[str, Path]) -> list[Files]:
    """Pairs by the order of names; the two must be of the same number."""
    first, second = (sorted(files, key=natural) for files in (sources, targets))
    return [(sources[left], targets[right]) for left, right in zip(first, second, strict=True)]


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Stem -> file.

    Raises:
        DDNetError: two files that differ only in their ending.
    """
    found: dict[str, Path] = {}
    for file in sorted(files):
        stem = stem_of(file)
        if stem in found:
            raise DDNetError(
                f"{file}: {found[stem].name} beside it has the same name; rename one of the two or move it elsewhere"
            )
        found[stem] = file
    return found


def stem_of(file: Path) -> str:
    """A file's name without its ending, in Unicode's composed form: macOS writes the umlauts of its names in two parts.

    Raises:
        DDNetError: the name is not UTF-8 (files of an old system) or has line breaks: no table could list it.
    """
    stem = unicodedata.normalize("NFC", file.stem)
    if not listable(stem):
        raise DDNetError(f"{file.parent}: the name {os.fsencode(file.name)!r} is not plain UTF-8; rename the file")
    return stem


def natural(stem: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key in which 2 comes before 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", stem)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], stem


def scene_names(stems: Sequence[str]) -> list[str]:
    """Names for scenes that are safe as file names: letters, digits, `.`, `_` and `-`, no two alike in any case."""
    safe = []
    for stem in stems:
        ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
        safe.append(re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_stem).strip("._-")[:LONGEST_NAME])
    taken = Counter(name.lower() for name in safe)
    return [
        name if name and taken[name.lower()] == 1 else f"{name or 'scene'}_{_digest(stem)}"
        for name, stem in zip(safe, stems, strict=True)
    ]


def _digest(stem: str) -> str:
    return hashlib.sha256(stem.encode()).hexdigest()[:8]


def _entries(split: str, pairs: Sequence[Files]) -> list[PairFiles]:
    names = scene_names([stem_of(source) for source, _ in pairs])
    return [PairFiles(split, name, "", *pair) for name, pair in zip(names, pairs, strict=True)]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # no right to look into a folder above it
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DDNetError:
    return DDNetError(f"{path}: cannot be read ({error.strerror}); check its name and permissions")


def _require_folder(path: Path, key: str) -> None:
    if not _is_folder(path):
        raise DDNetError(f"{path}: no such folder; {key} must name one with source/ and target/ in it")


def _images(folder: Path) -> dict[str, Path]:
    """The images of one folder by their stems."""
    if not _is_folder(folder):
        raise DDNetError(f"{folder}: no such folder; defocused images belong into source/, sharp ones into target/")
    try:
        files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise _unreadable(folder, error) from None
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not images:
        raise DDNetError(f"{folder}: no images in it; allowed are {', '.join(SUFFIXES)}")
    if others := sorted(file.name for file in files if file not in images):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        log.warning("%s: left aside, because of its ending: %s%s", folder, others[0], more)
    for image in images:
        _require_upright(image)
    return by_stem(images)


def _require_upright(file: Path) -> None:
    """Refuse a picture that viewers turn by its EXIF tag: of a pair turned by other software one may be turned."""
    orientation = stored_orientation(file)
    if orientation != 1:
        raise DDNetError(
            f"{file}: its EXIF orientation ({orientation}) asks viewers to turn it, which is not done here; turn the "
            "pixels of source and target for good (exiftran -a, mogrify -auto-orient)"
        )


def _pairs(folder: Path) -> list[Files]:
    """Pairs of one `source/` and `target/`: by equal stems; by order where no stem is in both and counts agree."""
    sources, targets = _images(folder / "source"), _images(folder / "target")
    pairs = pair_by_stem(sources, targets)
    if pairs is not None:
        return pairs
    if len(sources) == len(targets) and not sources.keys() & targets.keys():
        pairs = pair_by_order(sources, targets)
        first = " with ".join(file.name for file in pairs[0])
        log.warning("%s: no name is in both folders; paired by order, first %s", folder, first)
        return pairs
    lonely = {**{s: sources[s] for s in sources.keys() - targets}, **{t: targets[t] for t in targets.keys() - sources}}
    file = lonely[min(lonely, key=natural)]
    missing = "target" if file.parent.name == "source" else "source"
    raise DDNetError(
        f"{file}: no image named '{file.stem}' in {folder / missing}; add it, or move this one elsewhere "
        f"({len(sources)} in source/, {len(targets)} in target/)"
    )
