"""Training patches: whole images kept memory-mapped at 16 bits, patches as coordinates into them.

The grid and the choice of patches are those of the paper's lineage (DPDNet's preparation): side s, stride
int(0.4 s) with the last patch aligned to the border, and the 30 % least sharp patches of each image dropped. At
512 px on DPDD that gives 28 per image, 20 kept, 7,000 in all.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnet.config import Patches
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.files import atomic_path
from ddnet.images import read_raw_rgb

SOBEL_SIZES = (3, 7, 11, 15)


def grid(length: int, size: int, stride: int) -> list[int]:
    """Starts of patches along one side, the last one aligned to the border."""
    if length < size:
        raise DDNetError(f"images of {length} px are smaller than patches of {size} px; lower training.patches.size")
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


def extract_patches(scenes: Sequence[Scene], folder: Path, spec: Patches) -> int:
    """Write `images.npy`, `targets.npy` (uint16, (N, H, W, 3)), `scenes.csv` and `patches.csv` for the training scenes.

    Returns:
        Number of patches.

    Raises:
        DDNetError: no scenes, sizes that differ, or images smaller than a patch.
    """
    if not scenes:
        raise DDNetError(f"{folder}: no training scenes in the index")
    sizes = {(scene.height, scene.width) for scene in scenes}
    if len(sizes) > 1:
        raise DDNetError(f"{folder}: training images of different sizes {sorted(sizes)}; they must agree")
    height, width = sizes.pop()
    stride = int(spec.stride * spec.size)
    corners = [(y, x) for y in grid(height, spec.size, stride) for x in grid(width, spec.size, stride)]
    dropped = int(spec.drop * len(corners))
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, int, int, int]] = []
    shape = (len(scenes), height, width, 3)
    with atomic_path(folder / "images.npy") as first, atomic_path(folder / "targets.npy") as second:
        images = np.lib.format.open_memmap(first, mode="w+", dtype=np.uint16, shape=shape)
        targets = np.lib.format.open_memmap(second, mode="w+", dtype=np.uint16, shape=shape)
        for position, scene in enumerate(scenes):
            images[position] = _as_uint16(read_raw_rgb(scene.image))
            targets[position] = _as_uint16(read_raw_rgb(scene.target))
            sharp = sharpness(targets[position], corners, spec.size)
            kept = np.sort(np.argsort(sharp, kind="stable")[dropped:])
            rows += [(position, *corners[index], spec.size) for index in kept]
        images.flush()
        targets.flush()
    _write_csv(folder / "scenes.csv", ("position", "scene"), [(i, scene.key) for i, scene in enumerate(scenes)])
    _write_csv(folder / "patches.csv", ("position", "y", "x", "size"), rows)
    return len(rows)


def _as_uint16(raw: NDArray[np.generic]) -> NDArray[np.uint16]:
    """8-bit values spread over 16 bits (255 -> 65535), 16-bit ones as they are."""
    return raw.astype(np.uint16) * 257 if raw.dtype == np.uint8 else raw.astype(np.uint16)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


class PatchSet:
    """Random access to the extracted patches, and the batch order of a training run.

    Args:
        folder: what `extract_patches` wrote.
        depths: (N, H, W) float32 in [0, 1], one map per training image in the order of `scene_keys`; None for
            networks without depth.
    """

    def __init__(self, folder: Path, depths: NDArray[np.float32] | None = None) -> None:
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.targets = np.load(folder / "targets.npy", mmap_mode="r")
        self.corners = np.loadtxt(folder / "patches.csv", delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
        if depths is not None and depths.shape != self.images.shape[:3]:
            raise DDNetError(f"{folder}: depth maps are {depths.shape}, images {self.images.shape[:3]}; estimate again")
        self.depths = depths

    @staticmethod
    def scene_keys(folder: Path) -> list[str]:
        """Keys of the training scenes in the order of the stacked images."""
        with (folder / "scenes.csv").open(newline="", encoding="utf-8") as stream:
            return [row["scene"] for row in csv.DictReader(stream)]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.corners)

    def steps_per_epoch(self, batch: int) -> int:
        """Optimiser steps in one pass over all patches."""
        return math.ceil(len(self) / batch)

    def order(self, seed: int, step: int, batch: int) -> NDArray[np.int64]:
        """Patch numbers of one step's batch.

        Each epoch is a permutation drawn from (seed, epoch), so every variant of a seed sees the same order, and a
        resumed run needs no stored sampler state.
        """
        positions = np.arange(step * batch, (step + 1) * batch)
        epochs = positions // len(self)
        return np.array(
            [
                _permutation(seed, int(epoch), len(self))[p % len(self)]
                for epoch, p in zip(epochs, positions, strict=True)
            ]
        )

    def batch(
        self, numbers: NDArray[np.int64], turns: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """Crops of a batch: image and target (B, 3, S, S), depth (B, 1, S, S) or None; float32 in [0, 1].

        Args:
            numbers: (B,) patch numbers.
            turns: (B,) in 0..7, one of the eight flips and quarter turns for each; None leaves them as they are.
        """
        images, targets, depths = [], [], []
        for place, (position, y, x, size) in enumerate(self.corners[numbers]):
            window = (position, slice(y, y + size), slice(x, x + size))
            turn = 0 if turns is None else int(turns[place])
            images.append(_turn(self.images[window], turn))
            targets.append(_turn(self.targets[window], turn))
            if self.depths is not None:
                depths.append(_turn(self.depths[window], turn))
        scale = np.float32(1 / 65535)
        image = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) * scale
        target = np.stack(targets).transpose(0, 3, 1, 2).astype(np.float32) * scale
        return image, target, np.stack(depths)[:, None] if depths else None


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


def _turn(window: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """Element `turn` of the square's symmetry group: quarter turns 0..3, then the same mirrored."""
    turned = np.rot90(window, turn % 4)
    return np.flip(turned, axis=1) if turn >= 4 else turned
