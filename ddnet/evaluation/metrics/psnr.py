"""Peak signal-to-noise ratio of float images."""

from __future__ import annotations

import numpy as np

from ddnet.evaluation.metrics._base import FloatArray, Metric


def psnr_db(restored: FloatArray, target: FloatArray) -> float:
    """10 log10(1 / mse) in dB over all pixels and channels, in float64; +inf for equal images."""
    mse = float(np.mean((restored.astype(np.float64) - target.astype(np.float64)) ** 2))
    return float("inf") if mse == 0.0 else 10.0 * float(np.log10(1.0 / mse))


class Psnr(Metric):
    """PSNR in dB of the unquantised restored image, peak 1."""

    name = "psnr"
    lower_better = False
    unit = "dB"
    decimals = 2
    best = float("inf")

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """PSNR in dB."""
        return psnr_db(restored, target)
