"""Restoring an image tile by tile: less memory, and another result than that of the whole image.

Channel attention averages over all that a network sees, so a tile is restored otherwise than the same place of the
whole image; `ddnet bench tiles` measures by how much. Evaluation never uses tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray

SMALLEST = 64  # pixels of a tile's side
OVERLAP = 4  # a quarter of a tile is shared with the next one, and blended

Restore = Callable[[FloatArray, FloatArray | None], FloatArray]


def restore_in_tiles(restore: Restore, image: FloatArray, depth: FloatArray | None, tile: int) -> FloatArray:
    """Restore overlapping tiles and blend them linearly where they overlap.

    Args:
        restore: of a whole image, (H, W, 3), and its depth.
        image: (H, W, 3).
        depth: (H, W), or None.
        tile: side of the tiles in pixels; an image that is no larger is restored as a whole.

    Returns:
        (H, W, 3) float32.

    Raises:
        DDNetError: tiles of less than 64 px.
    """
    if tile < SMALLEST:
        raise DDNetError(f"tiles of {tile} px: at least {SMALLEST} are needed")
    height, width = image.shape[:2]
    if max(height, width) <= tile:
        return restore(image, depth)
    total, weights = np.zeros(image.shape, np.float32), np.zeros((height, width, 1), np.float32)
    for rows in _starts(height, tile):
        for columns in _starts(width, tile):
            place = rows, columns
            part = restore(image[place], None if depth is None else depth[place])
            weight = _ramp(rows, height)[:, None, None] * _ramp(columns, width)[None, :, None]
            total[place] += weight * part
            weights[place] += weight
    return total / weights


def pixels_in_tiles(height: int, width: int, tile: int) -> int:
    """How many pixels are restored, those that several tiles share as often as they are."""
    rows, columns = (sum(min(tile, side) for _ in _starts(side, tile)) for side in (height, width))
    return rows * columns


def _starts(length: int, tile: int) -> Iterator[slice]:
    """Tiles along one side, evenly spread so that the last one ends where the side does."""
    if length <= tile:
        yield slice(0, length)
        return
    count = -(-(length - tile) // (tile - tile // OVERLAP)) + 1
    for number in range(count):
        start = round(number * (length - tile) / (count - 1))
        yield slice(start, start + tile)


def _ramp(part: slice, length: int) -> FloatArray:
    """Weights along a side: 1 in the middle of a tile, falling towards the sides that another tile covers, too."""
    size = part.stop - part.start
    rising = np.minimum(1.0, (np.arange(size) + 0.5) / max(1, size // OVERLAP)).astype(np.float32)
    ramp = np.ones(size, np.float32)
    if part.start > 0:
        ramp *= rising
    if part.stop < length:
        ramp *= rising[::-1]
    return ramp
