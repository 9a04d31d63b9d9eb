"""Depth of every training patch by itself, as the paper's released code feeds its network while training.

Its tests estimate from the whole image, so that depth differs between training and test; `depth.training: image`
avoids that.
"""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from ddnet.data.patches import PatchSet
from ddnet.depth import build_depth_source
from ddnet.depth._base import Given
from ddnet.errors import DDNetError
from ddnet.files import atomic_path
from ddnet.images import quantise
from ddnet.log import Progress

log = logging.getLogger(__name__)

BATCH = 16  # patches a time; those of one image only, because a fitted network may depend on the scene


def estimate_patch_depth(patches: Path, source_spec: str, out_file: Path, model_path: Path | None = None) -> None:
    """Estimate the depth of every training patch from the patch alone.

    Monodepth2 sees the patch at its own size, never resized; other networks pre-process it like a whole image.

    Args:
        patches: folder that `extract_patches` wrote.
        source_spec: a depth source that needs the image alone, such as `monodepth2` or `depth_anything`.
        out_file: receives (P, S, S) uint16, 65535 nearest, in the order of `patches.csv` (NumPy's `.npy`).
        model_path: weights for a source that needs a model.

    Raises:
        DDNetError: the source needs more than the image or cannot take patches of this size, or the disk is full.
    """
    source = build_depth_source(source_spec, model_path)
    if extra := source.needs - {"model"}:
        raise DDNetError(
            f"depth.training: '{source_spec}' needs {' and '.join(sorted(extra))}, which a patch by itself does not "
            "have; write image"
        )
    count, size, batches = _batches(patches)
    _require_space(out_file, 2 * count * size * size)
    data, progress = PatchSet(patches), Progress(f"depth {source_spec}", count, "patches")
    header = {"descr": np.dtype(np.uint16).str, "fortran_order": False, "shape": (count, size, size)}
    with atomic_path(out_file) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for scene, numbers in batches:
            image, _, _ = data.batch(numbers)
            depth = quantise(source.predict_patches(image, Given(scene=scene)), 16)
            stream.write(depth.tobytes())
            progress.advance(len(numbers))
    log.info("depth %s: %d patches of %d px -> %s", source_spec, count, size, out_file)


def _batches(patches: Path) -> tuple[int, int, Iterator[tuple[str, np.ndarray]]]:
    """Number of patches, their side, and batches (scene key, patch numbers) in the order of `patches.csv`."""
    keys = PatchSet.scene_keys(patches)
    with (patches / "patches.csv").open(newline="", encoding="utf-8") as stream:
        rows = [(int(row["position"]), int(row["size"])) for row in csv.DictReader(stream)]
    if not rows:
        raise DDNetError(f"{patches / 'patches.csv'}: no patches; run the rule extract_patches again")

    def batches() -> Iterator[tuple[str, np.ndarray]]:
        for position, group in groupby(range(len(rows)), key=lambda number: rows[number][0]):
            numbers = np.array(list(group), dtype=np.int64)
            for start in range(0, len(numbers), BATCH):
                yield keys[position], numbers[start : start + BATCH]

    return len(rows), rows[0][1], batches()


def _require_space(out_file: Path, needed: int) -> None:
    out_file.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out_file.parent).free
    if free < needed:
        raise DDNetError(
            f"{out_file}: needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; free some, or write "
            "depth.training: image"
        )
