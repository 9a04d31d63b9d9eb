"""Cutting the training set: whole images at 16 bits, one after another in one file, patches as coordinates into them.

The grid and the choice of patches are those of the paper's lineage (DPDNet's preparation): side s, stride
int(0.4 s) with the last patch aligned to the border, and the 30 % least sharp patches of each image dropped. At
512 px on DPDD that gives 28 per image, 20 kept, 7,000 in all. `patch_set` reads the result; this module does without
torch.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ddnet.config import Patches
from ddnet.data.index import Scene
from ddnet.data.unchanged import require_unchanged
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.images import read_raw_rgb
from ddnet.runtime.log import Progress, format_bytes

SOBEL_SIZES = (3, 7, 11, 15)
SCENE_COLUMNS = ("position", "scene", "offset", "height", "width")
PATCH_COLUMNS = ("position", "y", "x", "size")
ARRAYS = ("images.npy", "targets.npy")
VIEWS = "views.npy"

Raw = NDArray[np.uint16]


def grid(length: int, size: int, stride: int) -> list[int]:
    """Starts of patches along one side, the last one aligned to the border."""
    if length < size:
        raise DDNetError(
            f"a side of {length} px is smaller than patches of {size} px; lower training.patches.size, or leave the "
            "image out"
        )
    starts = list(range(0, length - size + 1, stride))
    if starts[-1] != length - size:
        starts.append(length - size)
    return starts


def sharpness(target: NDArray[np.generic], corners: Sequence[tuple[int, int]], size: int) -> NDArray[np.float64]:
    """Sharpness of patches of one target image, one value in [0, 1] per corner (y, x).

    Product over four Sobel sizes of the patch's summed gradient magnitude, min-max normalised over the image's
    patches.
    """
    import cv2

    grey = cv2.cvtColor(np.asarray(target, np.float32), cv2.COLOR_RGB2GRAY)
    total = np.ones(len(corners))
    for ksize in SOBEL_SIZES:
        dx = cv2.Sobel(grey, cv2.CV_64F, 1, 0, ksize=ksize)
        dy = cv2.Sobel(grey, cv2.CV_64F, 0, 1, ksize=ksize)
        magnitude = np.hypot(dx, dy)
        sums = np.array([magnitude[y : y + size, x : x + size].sum() for y, x in corners])
        spread = sums.max() - sums.min()
        total *= (sums - sums.min()) / spread if spread > 0 else 1.0
    return total


def extract_patches(scenes: Sequence[Scene], folder: Path, spec: Patches, threads: int = 1) -> int:
    """Write `images.npy`, `targets.npy`, `views.npy`, `scenes.csv` and `patches.csv` for the training scenes.

    The arrays are flat uint16: image after image, each (H, W, 3) in C order; `scenes.csv` says at which element each
    begins and how large it is, so that images may differ in size. `views.npy` holds each image's left view, then its
    right one, from twice that element on; nothing where not all scenes have them. What is written does not depend on
    `threads`.

    Args:
        scenes: the training scenes; their order is that of the arrays.
        folder: receives the five files.
        spec: size, stride and share of the patches dropped.
        threads: images decoded at a time.

    Returns:
        Number of patches.

    Raises:
        DDNetError: no scenes, an image smaller than a patch or of another size than in the index, a full disk.
    """
    if not scenes:
        raise DDNetError(f"{folder}: no training scenes in the index; index the data again")
    corners = [_corners(scene, spec) for scene in scenes]
    offsets = np.cumsum([0] + [3 * scene.height * scene.width for scene in scenes])
    with_views = all(scene.views for scene in scenes)
    require_space(folder, "the training images", (len(ARRAYS) + 2 * with_views) * 2 * int(offsets[-1]))
    rows: list[tuple[int, int, int, int]] = []
    progress = Progress("patches", len(scenes))
    with (
        atomic_path(folder / ARRAYS[0]) as first,
        atomic_path(folder / ARRAYS[1]) as second,
        atomic_path(folder / VIEWS) as third,
        first.open("wb") as images,
        second.open("wb") as targets,
        third.open("wb") as views,
    ):
        for stream in (images, targets):
            _write_header(stream, int(offsets[-1]))
        _write_header(views, 2 * int(offsets[-1]) if with_views else 0)
        for position, (image, target, seen, kept) in enumerate(_prepared(scenes, corners, spec, threads, with_views)):
            images.write(image.data)
            targets.write(target.data)
            for view in seen:
                views.write(view.data)
            rows += [(position, y, x, spec.size) for y, x in kept]
            progress.advance()
    places = [(i, s.key, int(offsets[i]), s.height, s.width) for i, s in enumerate(scenes)]
    _write_csv(folder / "scenes.csv", SCENE_COLUMNS, places)
    _write_csv(folder / "patches.csv", PATCH_COLUMNS, rows)
    return len(rows)


def _corners(scene: Scene, spec: Patches) -> list[tuple[int, int]]:
    stride = int(spec.stride * spec.size)
    try:
        rows, columns = (grid(length, spec.size, stride) for length in (scene.height, scene.width))
    except DDNetError as error:
        raise DDNetError(f"{scene.image}: {error}") from None
    return [(y, x) for y in rows for x in columns]


def require_space(folder: Path, what: str, needed: int) -> None:
    """Make `folder`, and refuse to start where its disk has fewer than `needed` bytes free; `what` begins the error."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DDNetError(
            f"{folder}: {what} need {format_bytes(needed)} and {format_bytes(free)} are free; "
            "free some, or work in a folder on a larger disk"
        )


def _write_header(stream: IO[bytes], length: int) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint16))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": (length,)})


def _prepared(
    scenes: Sequence[Scene],
    corners: Sequence[Sequence[tuple[int, int]]],
    spec: Patches,
    threads: int,
    with_views: bool,
) -> Iterator[tuple[Raw, Raw, list[Raw], list[tuple[int, int]]]]:
    """Image, target, views and the corners kept, scene by scene in order; `threads` scenes in memory at a time."""

    def prepare(number: int) -> tuple[Raw, Raw, list[Raw], list[tuple[int, int]]]:
        scene = scenes[number]
        require_unchanged(scene)
        views = scene.views or () if with_views else ()
        image, target, *seen = (_read(path, scene) for path in (scene.image, scene.target, *views))
        sharp = sharpness(target, corners[number], spec.size)
        dropped = int(spec.drop * len(sharp))
        kept = np.sort(np.argsort(sharp, kind="stable")[dropped:])
        return image, target, seen, [corners[number][index] for index in kept]

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(scenes), threads):
            yield from pool.map(prepare, range(start, min(start + threads, len(scenes))))


def _read(path: Path, scene: Scene) -> Raw:
    """(H, W, 3) uint16; 8-bit values spread over 16 bits (255 -> 65535), 16-bit ones as they are."""
    raw = read_raw_rgb(path)
    if raw.shape != (scene.height, scene.width, 3):
        raise DDNetError(f"{path}: is {raw.shape[:2]}, the index says {(scene.height, scene.width)}; index it again")
    return raw.astype(np.uint16) * 257 if raw.dtype == np.uint8 else np.ascontiguousarray(raw, np.uint16)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
