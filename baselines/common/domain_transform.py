"""The domain transform's recursive filter: edge-aware smoothing whose cost does not grow with its width.

Gastal and Oliveira, "Domain Transform for Edge-Aware Image and Video Processing", SIGGRAPH 2011, section 4.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
DoubleArray = NDArray[np.float64]


def _distances(guide: DoubleArray, ratio: float) -> DoubleArray:
    """(L, K, C) guide to the (L - 1, K) distances 1 + ratio · sum_c |difference| between neighbours along axis 0."""
    return 1.0 + ratio * np.abs(np.diff(guide, axis=0)).sum(axis=2)


def _pass(signal: DoubleArray, weights: DoubleArray) -> None:
    """Recur along axis 0 of `signal` (L, C, K) there and back, in place; `weights` is (L - 1, K).

    Each step of the loop moves one whole line, which is contiguous.
    """
    step = np.empty_like(signal[0])
    for here, before, weight in zip(signal[1:], signal, weights):
        np.subtract(before, here, out=step)
        step *= weight
        here += step
    for here, after, weight in zip(signal[-2::-1], signal[:0:-1], weights[::-1]):
        np.subtract(after, here, out=step)
        step *= weight
        here += step


def recursive_filter(
    image: FloatArray, sigma_s: float, sigma_r: float, iterations: int = 3, guide: FloatArray | None = None
) -> DoubleArray:
    """Smooth `image` within the regions between the guide's edges.

    Iteration i of N has the width sigma_i = sigma_s √3 2^(N-i) / √(4^N - 1); with D = 1 + sigma_s/sigma_r · sum_c
    |difference| between neighbours of the guide and V = exp(-√2 D / sigma_i), a line becomes F_j += V_j (F_(j-1) - F_j)
    from the left, then the same from the right; rows first, columns next.

    Args:
        image: (H, W) or (H, W, C), any range.
        sigma_s: width in pixels, above 0.
        sigma_r: width in units of the guide's values, above 0.
        iterations: N, at least 1.
        guide: (H, W) or (H, W, C'), whose edges are kept; the image itself where it is not given.

    Returns:
        float64, the image's shape. Each value is a weighted mean of the image's values.
    """
    height, width = image.shape[:2]
    edges = np.asarray(image if guide is None else guide, np.float64).reshape(height, width, -1)
    # A line to be moved is the last axis: (H, C, W) is filtered along columns, (W, C, H) along rows.
    signal = image.reshape(height, width, -1).transpose(1, 2, 0).astype(np.float64, order="C")
    ratio = sigma_s / sigma_r
    across, down = _distances(np.ascontiguousarray(edges.transpose(1, 0, 2)), ratio), _distances(edges, ratio)
    for i in range(1, iterations + 1):
        sigma = sigma_s * math.sqrt(3.0) * 2.0 ** (iterations - i) / math.sqrt(4.0**iterations - 1.0)
        for distances in (across, down):
            _pass(signal, np.exp(-math.sqrt(2.0) / sigma * distances))
            signal = np.ascontiguousarray(signal.transpose(2, 1, 0))
    return np.ascontiguousarray(signal.transpose(2, 0, 1)).reshape(image.shape)
