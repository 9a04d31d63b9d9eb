"""Structural similarity."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch

from ddnet.evaluation.metrics._base import FloatArray, Metric

WINDOW = 7
C1, C2 = 0.01**2, 0.03**2  # of the SSIM paper, for values in [0, 1]
ROWS = 16  # of a band: its arrays stay in the cache


class Ssim(Metric):
    """Mean SSIM of scikit-image: 7x7 uniform window, sample covariance, mean over channels.

    The defocus papers that DDNet compares with use this variant; the Gaussian 11x11 window of the original
    SSIM paper gives other numbers. Windows lie inside the image, and count once per channel.
    """

    name = "ssim"
    lower_better = False
    unit = ""
    decimals = 3
    best = 1.0
    smallest_side = WINDOW

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """Mean SSIM, at most 1; computed in bands of rows by as many threads as torch uses, which change no bit."""
        rows, columns = (side - WINDOW + 1 for side in restored.shape[:2])

        def band(top: int) -> float:
            inside = slice(top, min(top + ROWS, rows) + WINDOW - 1)
            return _sum_of_windows(restored[inside].astype(np.float64), target[inside].astype(np.float64))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            total = math.fsum(pool.map(band, range(0, rows, ROWS)))
        return total / (rows * columns * restored.shape[2])


def _means(image: FloatArray) -> FloatArray:
    """Mean of each window inside the image: (H, W, 3) -> (H - 6, W - 6, 3)."""
    inside = slice(WINDOW // 2, -(WINDOW // 2))  # without the border that the filter invents
    means: FloatArray = cv2.blur(image, (WINDOW, WINDOW))  # type: ignore[assignment]
    return means[inside, inside]


def _sum_of_windows(x: FloatArray, y: FloatArray) -> float:
    """Sum of SSIM over all windows inside and all channels, of (H, W, 3) arrays in float64."""
    mean_x, mean_y = _means(x), _means(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    covariance = unbiased * (_means(x * y) - product)
    variances = unbiased * (_means(x**2 + y**2) - squares)  # of both together: SSIM needs no more
    return float(np.sum((2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))))
