"""Reading the training set that `patches` cut: batches of patches as tensors, from the disk, memory or the GPU."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ddnet.data.patches import ARRAYS, PATCH_COLUMNS, SCENE_COLUMNS, VIEWS, Raw
from ddnet.errors import DDNetError
from ddnet.io.arrays import read_npy
from ddnet.io.files import read_rows

Place = Literal["disk", "ram", "gpu"]
PLACE_VARIABLE = "DDNET_TRAINING_SET"
SCALE = float(np.float32(1 / 65535))
GPU_SHARE = 0.4  # of the free GPU memory; the rest is for the network's activations


def training_set_place(needed: int, gpu_free: int | None) -> Place:
    """Where this machine keeps the training set while training; the numbers do not depend on it.

    The environment variable DDNET_TRAINING_SET says `disk` (memory-mapped), `ram`, `gpu`, or `auto` (also where it is
    unset): the GPU where the set takes less than 40 % of its free memory, the disk otherwise.

    Args:
        needed: bytes of the training set.
        gpu_free: free bytes of the GPU that trains; None on the CPU.

    Raises:
        DDNetError: another value, or `gpu` where there is none.
    """
    wanted = os.environ.get(PLACE_VARIABLE) or "auto"
    if wanted not in (*get_args(Place), "auto"):
        raise DDNetError(f"{PLACE_VARIABLE} is '{wanted}'; allowed are disk, ram, gpu and auto")
    if wanted == "gpu" and gpu_free is None:
        raise DDNetError(f"{PLACE_VARIABLE} is 'gpu', but there is no GPU here; set it to disk, ram or auto")
    if wanted == "auto":
        return "gpu" if gpu_free is not None and needed < GPU_SHARE * gpu_free else "disk"
    return cast(Place, wanted)


SCENES, PATCHES = "scenes.csv", "patches.csv"
AGAIN = "move the folder aside and extract the patches again"


class PatchSet:
    """Random access to the extracted patches, and the batch order of a training run.

    Args:
        folder: what `extract_patches` wrote.
        depths: uint16 depth, 65535 for 1: a list of (H, W), one map per training image in the order of `scene_keys`;
            or one (P, S, S) array, a map per patch in the order of `patches.csv`; None for networks without depth.
        place: `disk` maps the files, `ram` reads them whole, `gpu` puts them into the memory of `device`.
        device: torch device that the batches are for.
        views: whether to hold the two views of each image, too, for `views`.

    Raises:
        DDNetError: files of another version, depth of another number or size than the images, or views wanted where
            the images have none.
    """

    def __init__(
        self,
        folder: Path,
        depths: Sequence[Raw] | Raw | None = None,
        place: Place = "disk",
        device: str | torch.device = "cpu",
        views: bool = False,
    ) -> None:
        self.folder, self.place, self.device = folder, place, torch.device(device)
        self.corners = _numbers(folder / PATCHES, read_rows(folder / PATCHES, PATCH_COLUMNS, AGAIN), PATCH_COLUMNS)
        places = _numbers(folder / SCENES, _read_scenes(folder), ("offset", "height", "width"))
        self.sizes = [(height, width) for _, height, width in places.tolist()]
        self._require_inside()
        if views and not self.has_views(folder):
            raise DDNetError(f"{folder / VIEWS}: the training images have no left and right views; use `views: true`")
        names = (*ARRAYS, VIEWS) if views else ARRAYS
        flat = [self._flat(folder / name, share, places) for share, name in zip((1, 1, 2), names)]
        self._images, self._targets, *rest = (
            [
                values[share * start : share * (start + 3 * height * width)].view(share * height, width, 3)
                for start, height, width in places.tolist()
            ]
            for share, values in zip((1, 1, 2), self._resident(flat))
        )
        self._views = rest[0] if rest else None  # the left one above the right one
        self._require_fit(depths)
        self.depth_per_patch = isinstance(depths, np.ndarray)
        self._depths = None if depths is None else list(self._resident(depths))
        self._depth_scale = torch.tensor(65535.0, device=self.device)

    def _resident(self, arrays: Iterable[Raw]) -> Iterator[torch.Tensor]:
        """Arrays at their place as int16 tensors of the same bits: uint16 is not turned or stacked on every device."""
        for array in arrays:
            bits = np.ascontiguousarray(array).view(np.int16)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor written to
                tensor = torch.from_numpy(bits.copy() if self.place == "ram" else bits)
            yield tensor.to(self.device, copy=True) if self.place == "gpu" else tensor

    @staticmethod
    def _flat(path: Path, share: int, places: NDArray[np.int64]) -> Raw:
        """All pictures of one kind, as they lie on disk, if there are as many values as `places` speak of."""
        values = read_npy(path, AGAIN, mapped=True)
        needed = max((share * (start + 3 * height * width) for start, height, width in places.tolist()), default=0)
        if values.ndim != 1 or values.dtype != np.uint16 or len(values) < needed:
            raise DDNetError(f"{path}: is {values.dtype} {values.shape}; expected uint16 ({needed},) or more; {AGAIN}")
        return values

    def _require_inside(self) -> None:
        """Every patch lies within its image."""
        sizes = np.array(self.sizes, np.int64).reshape(-1, 2)
        position, top, left, size = self.corners.T
        inside = position < len(sizes)
        ends = np.stack([top + size, left + size], axis=1)[inside]
        inside[inside] = (ends <= sizes[position[inside]]).all(axis=1)
        if not len(self.corners) or not inside.all() or not size.all() or len(set(size.tolist())) > 1:
            raise DDNetError(f"{self.folder / PATCHES}: patches outside of all images, or of several sizes; {AGAIN}")

    def _require_fit(self, depths: Sequence[Raw] | Raw | None) -> None:
        if depths is None:
            return
        wanted = self.sizes
        if isinstance(depths, np.ndarray):
            side = int(self.corners[0, 3])
            wanted = [(side, side)] * len(self)
        found = [depth.shape for depth in depths]
        if found != wanted or any(depth.dtype != np.uint16 for depth in depths):
            first = next((f"{a} for {b}" for a, b in zip(found, wanted, strict=False) if a != b), "uint16 is needed")
            raise DDNetError(
                f"{self.folder}: {len(found)} depth maps for {len(wanted)} places ({first}); estimate the depth again"
            )

    @staticmethod
    def scene_keys(folder: Path) -> list[str]:
        """Keys of the training scenes in the order of the stored images."""
        return [row["scene"] for row in _read_scenes(folder)]

    @staticmethod
    def stored_bytes(folder: Path, views: bool = False) -> int:
        """Bytes of the stored images and targets, and of their views if wanted."""
        return sum((folder / name).stat().st_size for name in ((*ARRAYS, VIEWS) if views else ARRAYS))

    @staticmethod
    def has_views(folder: Path) -> bool:
        """Whether each training image has its left and right view there."""
        return bool(read_npy(folder / VIEWS, AGAIN, mapped=True).size)

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
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Crops of a batch: image and target (B, 3, S, S), depth (B, 1, S, S) or None; float32 in [0, 1].

        Contiguous, on the set's device, and the same numbers from every place.

        Args:
            numbers: (B,) patch numbers.
            turns: (B,) in 0..7, one of the eight flips and quarter turns for each; None leaves them as they are.
        """
        turned = [0] * len(numbers) if turns is None else turns.tolist()
        windows = self._windows_of(numbers)
        image, target = (
            self._stack([arrays[p][rows, columns] for p, rows, columns in windows], turned).mul_(SCALE)
            for arrays in (self._images, self._targets)
        )
        if self._depths is None:
            return image, target, None
        if self.depth_per_patch:
            crops = [self._depths[number] for number in numbers.tolist()]
        else:
            crops = [self._depths[p][rows, columns] for p, rows, columns in windows]
        # By a tensor on the device: a CUDA tensor over a Python number is multiplied by the rounded reciprocal.
        return image, target, self._stack([crop[..., None] for crop in crops], turned).div_(self._depth_scale)

    def views(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        """Crops of the left and the right view, (B, 6, S, S), as `batch` gives those of the image; they never turn."""
        assert self._views is not None
        windows, none = self._windows_of(numbers), [0] * len(numbers)
        halves = [(self._views[p].chunk(2), rows, columns) for p, rows, columns in windows]
        left, right = (
            self._stack([half[side][rows, columns] for half, rows, columns in halves], none) for side in (0, 1)
        )
        return torch.cat([left, right], dim=1).mul_(SCALE)

    def _windows_of(self, numbers: NDArray[np.int64]) -> list[tuple[int, slice, slice]]:
        """Of each patch the position of its image, rows and columns."""
        return [(p, slice(y, y + size), slice(x, x + size)) for p, y, x, size in self.corners[numbers].tolist()]

    def _stack(self, crops: Sequence[torch.Tensor], turns: Sequence[int]) -> torch.Tensor:
        """(S, S, C) bit patterns to (B, C, S, S) float32 in 0..65535 on the device."""
        turned = [_turn(crop, turn) for crop, turn in zip(crops, turns, strict=True)]
        values = torch.stack(turned).to(self.device).view(torch.uint16).permute(0, 3, 1, 2)
        return values.to(torch.float32, memory_format=torch.contiguous_format)


def _read_scenes(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / SCENES, SCENE_COLUMNS, AGAIN)


def _numbers(path: Path, rows: Sequence[dict[str, str]], names: Sequence[str]) -> NDArray[np.int64]:
    """Columns of whole numbers from 0 on, (rows, names).

    Raises:
        DDNetError: something else stands there.
    """
    cells = [[row[name] for name in names] for row in rows]
    if (
        bad := next((cell for line in cells for cell in line if not re.fullmatch(r"\d{1,15}", cell, re.A)), None)
    ) is not None:
        raise DDNetError(f"{path}: {bad[:40]!r} is not a whole number from 0 on; {AGAIN}")
    return np.array(cells, np.int64).reshape(len(cells), len(names))


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


def _turn(window: torch.Tensor, turn: int) -> torch.Tensor:
    """Element `turn` of the square's symmetry group: quarter turns 0..3, then the same mirrored."""
    turned = window.rot90(turn % 4) if turn % 4 else window
    return turned.flip(1) if turn >= 4 else turned
