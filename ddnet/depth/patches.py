"""Depth of every training patch by itself, as the paper's released code feeds its network while training.

Its tests estimate from the whole image, so that depth differs between training and test; `depth.training: image`
avoids that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnet.data.patch_set import PatchSet
from ddnet.data.patches import require_space
from ddnet.depth.sources import build_depth_source
from ddnet.depth.sources._base import Given
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.images import quantise
from ddnet.runtime.log import Progress

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
    data = PatchSet(patches)
    count, size = len(data), int(data.corners[0, 3])
    require_space(out_file.parent, "the depth maps of the patches", 2 * count * size * size)
    progress = Progress(f"depth {source_spec}", count, "patches")
    header = {"descr": np.dtype(np.uint16).str, "fortran_order": False, "shape": (count, size, size)}
    with atomic_path(out_file) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for scene, numbers in _batches(data):
            image, _, _ = data.batch(numbers)
            depth = quantise(source.predict_patches(image, Given(scene=scene)), 16)
            stream.write(depth.tobytes())
            progress.advance(len(numbers))
    log.info("depth %s: %d patches of %d px -> %s", source_spec, count, size, out_file)


def _batches(data: PatchSet) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Scene key and numbers of the patches to estimate together, in the order of `patches.csv`."""
    positions = data.corners[:, 0]
    for position, key in enumerate(PatchSet.scene_keys(data.folder)):
        numbers = np.flatnonzero(positions == position)
        for start in range(0, len(numbers), BATCH):
            yield key, numbers[start : start + BATCH]
