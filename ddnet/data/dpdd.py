"""DPDD (Abuolaim and Brown 2020): its official pairs, recognised in any layout and checked file by file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from ddnet.config import Trial
from ddnet.data.index import ImageFile, PairFiles, Scene, describe_pairs, image_problem
from ddnet.errors import DDNetError
from ddnet.fetch import Wanted

SPLITS = ("train", "val", "test")
TABLE = Path(__file__).parent / "splits" / "dpdd.csv"
BITS = 16

# Folder that holds the file, lower case -> its role. Restormer's copies call the combined view inputC.
ROLE_OF = {"source": "source", "inputc": "source", "target": "target"}
SINGLE_VIEW = re.compile(r"(train|val|test)_[lr]", re.IGNORECASE)
SIDE_OF = {"train_l": "l", "inputl": "l", "train_r": "r", "inputr": "r"}  # likewise -> the view of a training scene


@dataclass(frozen=True)
class Pair:
    """An official pair: stems of the defocused and the all-in-focus file; location only in the test split, else ''."""

    split: str
    source: str
    target: str
    location: str


@lru_cache(maxsize=1)
def _table() -> tuple[Pair, ...]:
    with TABLE.open(newline="", encoding="utf-8") as stream:
        return tuple(Pair(**row) for row in csv.DictReader(stream))


def official_pairs(trial: Trial | None = None) -> list[Pair]:
    """The 350, 74 and 76 pairs of train, val and test, each in the order of names; with `trial`, the first of each."""
    pairs = []
    for split in SPLITS:
        ours = [pair for pair in _table() if pair.split == split]
        pairs += ours[: getattr(trial, split)] if trial else ours
    return pairs


def _view_name(stem: str, side: str) -> str:
    """Canonical name of a training scene's view; `side` is l or r."""
    return f"train_{side}/source/{stem}_{side.upper()}.png"


def _names(trial: Trial | None) -> dict[str, str]:
    """Stem -> canonical name. All 1,000 stems differ, so a stem alone tells split and role."""
    names = {}
    for pair in official_pairs(trial):
        names[pair.source] = f"{pair.split}_c/source/{pair.source}.png"
        names[pair.target] = f"{pair.split}_c/target/{pair.target}.png"
    return names


def wanted_dpdd(trial: Trial | None, size: tuple[int, int], views: bool = False) -> Wanted:
    """The combined views of DPDD, `size` = (height, width); with `trial`, those of its first scenes.

    Recognised are `{split}_c/{source,target}/`, `{split}[/DPDD]/{inputC,target}/` and `{inputC,target}/`, each under
    any folders; left aside are files that only look like images, and names that are not official. With `views` also
    the left and the right views of the training scenes, from `train_{l,r}/source/` or `{inputL,inputR}/`, whose names
    may end in `_L` and `_R`; without, all views of single sub-pixels are left aside.
    """
    names = _names(trial)
    seen = [pair.source for pair in official_pairs(trial) if pair.split == "train"] if views else []

    def view(file: PurePosixPath) -> str | None:
        sides = {SIDE_OF[folder.lower()] for folder in file.parts[-3:-1] if folder.lower() in SIDE_OF}
        if len(sides) != 1 or file.suffix.lower() != ".png":
            return None
        [side] = sides
        stem = file.stem.removesuffix(f"_{side.upper()}")
        return _view_name(stem, side) if stem in seen else None

    def canonical(path: str) -> str | None:
        file = PurePosixPath(path)
        folders = file.parts[:-1]
        if "__MACOSX" in folders:
            return None
        if name := view(file):
            return name
        if any(SINGLE_VIEW.fullmatch(folder) for folder in folders):
            return None
        name = names.get(file.stem) if file.suffix.lower() == ".png" else None
        role = ROLE_OF.get(file.parent.name.lower())
        return name if name and role == PurePosixPath(name).parent.name else None

    files = (*names.values(), *(_view_name(stem, side) for stem in seen for side in "lr"))
    return Wanted(canonical, files, problem=lambda path: image_problem(path, partial(_problem, size)))


def index_dpdd(
    files: Mapping[str, Path],
    digests: Mapping[str, str],
    size: tuple[int, int],
    trial: Trial | None,
    views: bool = False,
) -> list[Scene]:
    """Check the files of DPDD and make their index entries: dataset `dpdd`, scene = stem of the defocused image.

    Args:
        files: canonical name (`train_c/source/1P0A0890.png`) -> file.
        digests: canonical name -> SHA-256 of when the file was first seen.
        size: height and width that every image must have.
        trial: the first scenes of each split only; None for all of them.
        views: whether training scenes have their left and right views, which must be among the files then.

    Raises:
        DDNetError: the pairs are not the official ones, or a file is unreadable, changed, of another size, or has
            fewer than 16 bits.
    """
    pairs = official_pairs(trial)
    for split in SPLITS:
        _check_pairs(split, list(files), [pair for pair in pairs if pair.split == split])
    listed = [
        PairFiles(
            pair.split,
            pair.source,
            pair.location,
            files[f"{pair.split}_c/source/{pair.source}.png"],
            files[f"{pair.split}_c/target/{pair.target}.png"],
            _views_of(pair, files) if views and pair.split == "train" else None,
        )
        for pair in pairs
    ]
    recorded = {file: digests.get(name, "") for name, file in files.items()}
    return describe_pairs("dpdd", listed, recorded, partial(_problem, size))


def _views_of(pair: Pair, files: Mapping[str, Path]) -> tuple[Path, Path]:
    left, right = (_view_name(pair.source, side) for side in "lr")
    for name in (left, right):
        if name not in files:
            raise DDNetError(f"dpdd: lacks {name}, a view of a training scene; fetch it, or write data.views: false")
    return files[left], files[right]


def _check_pairs(split: str, names: list[str], official: list[Pair]) -> None:
    """Pair what was found by the order of names, as the authors did, and compare it with the official table."""
    sources, targets = (
        sorted(PurePosixPath(name).stem for name in names if name.startswith(f"{split}_c/{role}/"))
        for role in ("source", "target")
    )
    for number, (source, target, pair) in enumerate(zip_longest(sources, targets, official), start=1):
        if pair is None or (source, target) != (pair.source, pair.target):
            due = f"{pair.source} / {pair.target}" if pair else "none"
            raise DDNetError(
                f"dpdd: pair {number} of {split} is {source or 'none'} / {target or 'none'} (source / target), "
                f"officially {due}; found {len(sources)} sources and {len(targets)} targets, there must be "
                f"{len(official)} of each: a file is missing or too many"
            )


def _problem(size: tuple[int, int], found: ImageFile) -> str:
    """Why an image cannot be DPDD's, in words; empty where it can."""
    if found.bits != BITS:
        return f"{found.bits}-bit file where DPDD is {BITS}-bit: a preview or a converted copy; fetch the original"
    if (found.height, found.width) != size:
        return (
            f"{found.width} x {found.height} where every image of DPDD must be {size[1]} x {size[0]} "
            "(width x height): a resized or cropped copy; fetch the original"
        )
    if found.spread:
        return "16-bit file with only 8-bit values where DPDD has 16: a converted copy; fetch the original"
    return ""
