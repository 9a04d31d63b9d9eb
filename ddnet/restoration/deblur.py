"""Restoring photographs of one's own: which files become which, and one photograph at a time."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddnet.errors import DDNetError
from ddnet.io.arrays import flat, read_npy
from ddnet.io.images import FloatArray, quantise, read_depth16, to_float
from ddnet.io.photographs import (
    HEIF,
    RAW,
    SUFFIXES,
    TURNS,
    Photograph,
    converted,
    mean_change,
    read_photograph,
    restored_pixels,
    write_beside,
    write_photograph,
)
from ddnet.io.photographs._made import made_here
from ddnet.restoration.work import shown_work

if TYPE_CHECKING:
    from ddnet.restoration.load import Loaded

RESTORED, DEPTH, BLUR = "_deblurred", "_depth", "_blur"
DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")
LONGEST_NAME = 255  # bytes, of a file on the usual disks
BLUR_SIDE = 1600  # pixels of the longer side of the picture that the blur is estimated from
SAME_SHAPE = 0.02  # by how much proportions may differ
GIVE = "give a grey PNG of 8 or 16 bits with 1 (white) nearest, or an .npy"


@dataclass(frozen=True)
class Task:
    """One photograph and the files it becomes.

    Attributes:
        depth: the map that was given for it.
        photos: all photographs of the same run, resolved; one may be called like what another becomes.
    """

    photo: Path
    restored: Path
    depth: Path | None = None
    save_depth: Path | None = None
    save_blur: Path | None = None
    photos: frozenset[Path] = frozenset()

    @property
    def outputs(self) -> list[Path]:
        """All files that are written."""
        return [path for path in (self.restored, self.save_depth, self.save_blur) if path]


@dataclass(frozen=True)
class Done:
    """What became of a photograph.

    Attributes:
        size: width x height.
        seconds: for reading, restoring and writing.
        change: mean absolute difference to the photograph, of the encoded values, in [0, 1].
        largest_blur: the end of the blur map's scale, sigma in pixels; None without one.
    """

    size: str
    seconds: float
    change: float
    largest_blur: float | None


@dataclass(frozen=True)
class Found:
    """Photographs; and files in folders that are some but of a kind that is not read here, or that were made here."""

    photos: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)


def find_photographs(places: Iterable[Path]) -> Found:
    """Files as they are named; of folders the photographs in them, sorted, without what earlier runs wrote.

    Raises:
        DDNetError: no such file or folder, or one without photographs.
    """
    found, seen = Found(), set()
    for place in places:
        if place.is_dir():
            inside = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
            photos = [path for path in inside if path.suffix.lower() in _known()]
            made = {path for path in photos if path.stem.endswith((RESTORED, DEPTH, BLUR)) and made_here(path)}
            found.made.extend(sorted(made))
            found.other.extend(path for path in inside if path.suffix.lower() in RAW + HEIF)
            photos = [path for path in photos if path not in made]
            if not photos:
                but = f" but {len(made)} that an earlier run wrote" if made else ""
                raise DDNetError(f"{place}: no photographs in it{but}; allowed are {', '.join(_known())}")
        elif place.exists():
            photos = [place]
        else:
            raise DDNetError(f"{place}: no such file or folder; name a photograph, or a folder of photographs")
        for path in photos:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                found.photos.append(path)
    return found


def _known() -> tuple[str, ...]:
    return tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def plan_tasks(
    photos: list[Path], out: Path | None, folder: bool, depth: Path | None, save_depth: bool, save_blur: bool
) -> list[Task]:
    """What each photograph becomes.

    Args:
        out: a folder, or for a single photograph a file; None: beside each photograph.
        folder: `out` is a folder even for a single photograph, because a folder was named.
        depth: a map, for a single photograph; or a folder of maps with the photographs' names.

    Raises:
        DDNetError: these do not go together, or two photographs would become the same file.
    """
    alone = len(photos) == 1 and not folder
    if depth and not depth.exists():
        raise DDNetError(
            f"{depth}: no such depth map or folder of depth maps; leave --depth out, and depth is estimated"
        )
    if depth and depth.is_file() and not alone:
        raise DDNetError(f"{depth}: one depth map, and {len(photos)} photographs; give a folder with one for each")
    into_file = out is not None and alone and not out.is_dir() and out.suffix.lower() in _known()
    if out is not None and not into_file and out.exists() and not out.is_dir():
        raise DDNetError(f"{out}: is a file; several photographs, or a folder of them, need a folder to go to")
    tasks, everyone = [], frozenset(photo.resolve() for photo in photos)
    for photo in photos:
        where = photo.parent if out is None else out.parent if into_file else out
        restored = out if into_file and out else where / f"{photo.stem}{RESTORED}{photo.suffix}"
        depth_to, blur_to = (
            where / f"{photo.stem}{end}.png" if wanted else None
            for end, wanted in ((DEPTH, save_depth), (BLUR, save_blur))
        )
        tasks.append(Task(photo, restored, depth, depth_to, blur_to, everyone))
    counts = Counter(path.absolute() for task in tasks for path in task.outputs)
    if doubled := [str(path) for path, count in counts.items() if count > 1]:
        raise DDNetError(f"{doubled[0]}: two photographs would both be written there; restore them one after another")
    return tasks


def check_outputs(task: Task, overwrite: bool) -> None:
    """Refuse before any work is done.

    Raises:
        DDNetError: an output has too long a name, is the photograph or the given depth map itself, or is there already.
    """
    for path in task.outputs:
        if (length := len(os.fsencode(path.name))) > LONGEST_NAME:
            raise DDNetError(
                f"{path.name}: is a name of {length} bytes, {LONGEST_NAME} are allowed; name another file for this "
                "photograph alone (-o), or give it a shorter name"
            )
        if not os.path.lexists(path):
            continue
        given = [file for file in (task.photo, task.depth) if file and file.is_file()]
        if path.exists() and any(path.samefile(file) for file in given):
            raise DDNetError(f"{path}: is what it is made from, which is never overwritten; name another file (-o)")
        if path.resolve() in task.photos:
            raise DDNetError(f"{path}: is a photograph of its own, which is never overwritten; name another place (-o)")
        if not overwrite:
            raise DDNetError(f"{path}: is there already; name another place (-o), or add --overwrite")


def restore_task(task: Task, network: Loaded, tile: int | None, quality: int, overwrite: bool) -> Done:
    """Restore one photograph and write all files that belong to it.

    Raises:
        DDNetError: the photograph or its depth map is refused, or memory does not suffice.
    """
    start = time.perf_counter()
    check_outputs(task, overwrite)
    photo = read_photograph(task.photo)
    like = _like(task, photo)
    depth = given_depth(_depth_file(task), photo) if task.depth else None
    with shown_work(network, photo.image, tile, str(task.photo)):
        restored, used = network.restore_with_depth(photo.image, depth, tile)
    pixels = restored_pixels(restored, like)
    if task.save_depth and used is not None:
        write_beside(task.save_depth, quantise(used, 16))
    largest = write_blur(task.save_blur, photo.image) if task.save_blur else None
    write_photograph(task.restored, pixels, like, quality)
    return Done(photo.size, time.perf_counter() - start, mean_change(pixels, like), largest)


def _like(task: Task, photo: Photograph) -> Photograph:
    """The photograph, as one of the format that the name of the restored file asks for."""
    wanted = task.restored.suffix.lower()
    if wanted == task.photo.suffix.lower():  # a name that ends wrongly already
        return photo
    return converted(photo, next((name for name, known in SUFFIXES.items() if wanted in known), photo.container))


def _depth_file(task: Task) -> Path:
    assert task.depth
    if task.depth.is_file():
        return task.depth
    names = [f"{task.photo.stem}{end}{suffix}" for end in ("", DEPTH) for suffix in DEPTH_SUFFIXES]
    fit = [task.depth / name for name in names if len(os.fsencode(name)) <= LONGEST_NAME]
    found = [path for path in fit if path.is_file() and not path.samefile(task.photo)]
    if not found:
        raise DDNetError(f"{task.photo}: {task.depth} has no depth map for it, such as {names[0]} or {names[1]}")
    return found[0]


def given_depth(path: Path, photo: Photograph) -> FloatArray:
    """A depth map of one's own, as large as the photograph and upright like it.

    It is taken to be upright, and turned with the photograph where only that makes their proportions agree.

    Returns:
        (H, W) float32 in [0, 1], 1 nearest.

    Raises:
        DDNetError: no such map: damaged, with colours, or values outside [0, 1].
    """
    import cv2

    depth = _npy_depth(path) if path.suffix.lower() == ".npy" else read_depth16(path)
    height, width = photo.image.shape[:2]
    if photo.orientation > 4 and abs(_shape(depth) * height / width - 1) < SAME_SHAPE < abs(
        _shape(depth) * width / height - 1
    ):
        depth = TURNS[photo.orientation](depth)
    if depth.shape == (height, width):
        return np.ascontiguousarray(depth)
    smaller = depth.shape[0] >= height and depth.shape[1] >= width
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(depth), (width, height), interpolation=way)
    return np.clip(resized, 0.0, 1.0).astype(np.float32)


def _shape(depth: FloatArray) -> float:
    """Height by width."""
    return float(depth.shape[0] / depth.shape[1])


def _npy_depth(path: Path) -> FloatArray:
    given = read_npy(path, GIVE)
    depth = flat(given)
    if depth.ndim != 2 or depth.size == 0:
        raise DDNetError(f"{path}: is {given.shape}; a depth map is (H, W)")
    if depth.dtype in (np.uint8, np.uint16):
        return to_float(depth)
    if depth.dtype.kind != "f":
        raise DDNetError(f"{path}: is of type {depth.dtype}; a depth map is floating point in [0, 1], uint8 or uint16")
    low, high = float(depth.min()), float(depth.max())
    if not (low >= 0.0 and high <= 1.0):  # a NaN is neither
        raise DDNetError(f"{path}: spans {low:.4g} to {high:.4g}; a depth map is in [0, 1], 1 nearest")
    return depth.astype(np.float32)


def write_blur(path: Path, image: FloatArray) -> float:
    """A picture of how strong the defocus is, as EBDB estimates it from (H, W, 3): dark where sharp.

    Large photographs are made smaller for it, by which blur below about half a pixel of the smaller one goes unseen.

    Returns:
        The sigma of the Gaussian blur, in pixels of the photograph, that the brightest colour stands for.
    """
    import cv2

    from ddnet.planning.compared import compared_systems

    height, width = image.shape[:2]
    factor = max(1.0, max(height, width) / BLUR_SIDE)
    small = image
    if factor > 1.0:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    sigma = compared_systems().system_class("ebdb")().defocus_map(small) * factor
    sigma = np.asarray(cv2.resize(sigma, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    largest = max(0.5, float(np.ceil(2 * sigma.max()) / 2))
    levels = np.rint(sigma * (255 / largest)).astype(np.uint8)
    colours = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)
    write_beside(path, colours)
    return largest
