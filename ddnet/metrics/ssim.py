"""Structural similarity."""

from __future__ import annotations

import numpy as np

from ddnet.metrics._base import FloatArray, Metric


class Ssim(Metric):
    """Mean SSIM of scikit-image: 7x7 uniform window, sample covariance, mean over channels.

    The defocus papers that DDNet compares with use this variant; the Gaussian 11x11 window of the original
    SSIM paper gives other numbers.
    """

    name = "ssim"
    lower_better = False
    unit = ""
    decimals = 3
    best = 1.0
    smallest_side = 7

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """Mean SSIM, at most 1."""
        from skimage.metrics import structural_similarity

        value = structural_similarity(
            restored.astype(np.float64), target.astype(np.float64), channel_axis=2, data_range=1.0
        )
        return float(value)
