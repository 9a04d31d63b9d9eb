"""Pictures that were restored elsewhere, by anyone's code, from files.

A line of the baselines file such as `mine: {system: external, label: Mine, options: {folder: restored/mine}}` measures
them on the same scenes and by the same metrics as every other row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnet.data.folder import SUFFIXES, stem_of
from ddnet.data.index import Scene, inspect_image
from ddnet.errors import DDNetError
from ddnet.io.files import expanded
from ddnet.io.images import read_raw_rgb, to_float

log = logging.getLogger(__name__)

# What a picture may be named after, the first that fits: its scene, its defocused image, its target.
NAMES: tuple[Callable[[Scene], str], ...] = (
    lambda scene: scene.scene,
    lambda scene: stem_of(scene.image),
    lambda scene: stem_of(scene.target),
)


class External:
    """A folder of restored pictures, one per test scene, at 8 or 16 bits per channel, each of its target's size.

    Pictures lie in `<folder>/<dataset>/`, or where there is no such folder in `<folder>` itself; below that, folders
    are not searched. A picture has the name of its scene, or of its defocused image or its target, such as
    `1P0A0917.png` or `1P0A0916.png` on DPDD. Other files are left aside.

    Args:
        folder: where they are, relative to the working directory.

    Raises:
        DDNetError: no such folder.
    """

    needs = frozenset({"pictures"})

    def __init__(self, folder: str | Path) -> None:
        if not isinstance(folder, str | Path) or not _is_folder(expanded(folder)):
            raise DDNetError(f"{folder}: no such folder; options.folder must name one with restored pictures in it")
        self.folder = expanded(folder)
        self.pictures: dict[str, Path] = {}

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Find the pictures of all scenes, and look into each, before the first is measured.

        Raises:
            DDNetError: some are missing, there twice, unreadable, or not of their target's size; says how many, and
                which is the first.
        """
        found: dict[str, Path] = {}
        for dataset in dict.fromkeys(scene.dataset for scene in scenes):
            inside = self.folder / dataset
            same = [scene for scene in scenes if scene.dataset == dataset]
            found |= _matched(inside if _is_folder(inside) else self.folder, same)
        problems = [problem for scene in scenes if (problem := _problem(found[scene.key], scene))]
        _refuse(problems, len(scenes), "cannot be used")
        self.pictures = found

    def restore_scene(self, scene: Scene) -> NDArray[np.float32]:
        """The picture of one of the scenes of `prepare`: (H, W, 3) RGB in [0, 1]."""
        return to_float(read_raw_rgb(self.pictures[scene.key]))


def _matched(folder: Path, scenes: Sequence[Scene]) -> dict[str, Path]:
    """Scene's key -> its picture in `folder`.

    Raises:
        DDNetError: a scene has none, or several.
    """
    names = _names(scenes)
    found: dict[str, list[Path]] = {scene.key: [] for scene in scenes}
    aside = []
    for file in _images(folder):
        stem = stem_of(file)
        if stem in names:
            found[names[stem]].append(file)
        else:
            aside.append(file.name)
    others = f" ({len(aside)} pictures there have other names, the first {aside[0]})" if aside else ""
    missing = [scene.scene for scene in scenes if not found[scene.key]]
    example = f"; write it to {folder / missing[0]}.png{others}" if missing else ""
    _refuse(missing, len(scenes), f"are missing in {folder}", example)
    doubled = [f"{several[0]} and {several[1].name}" for several in found.values() if len(several) > 1]
    _refuse(doubled, len(scenes), "are there more than once", "; rename one of them or move it elsewhere")
    if aside:
        log.info(
            "%s: %d pictures left aside, because no test scene is named so; the first %s", folder, len(aside), aside[0]
        )
    return {key: several[0] for key, several in found.items()}


def _names(scenes: Sequence[Scene]) -> dict[str, str]:
    """A file's name without its ending -> key of the scene that it belongs to; names of several scenes tell nothing."""
    names: dict[str, str] = {}
    for name_of in NAMES:
        keys: dict[str, list[str]] = {}
        for scene in scenes:
            keys.setdefault(name_of(scene), []).append(scene.key)
        for name, several in keys.items():
            if len(several) == 1:
                names.setdefault(name, several[0])
    return names


def _problem(file: Path, scene: Scene) -> str:
    """What is wrong with a picture; empty where nothing is."""
    try:
        found = inspect_image(file)
    except DDNetError as error:
        return str(error)
    if (found.height, found.width) == (scene.height, scene.width):
        return ""
    return (
        f"{file}: is {found.width} x {found.height}, its target {scene.width} x {scene.height}; restore whole pictures"
    )


def _refuse(problems: Sequence[str], count: int, what: str, fix: str = "") -> None:
    if problems:
        raise DDNetError(f"{len(problems)} of {count} restored pictures {what}, the first: {problems[0]}{fix}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look into a folder above it
        return False


def _images(folder: Path) -> list[Path]:
    """The images in a folder, by name; hidden files are none: some systems put one beside every picture."""
    try:
        inside = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise DDNetError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    return [file for file in inside if file.suffix.lower() in SUFFIXES]
