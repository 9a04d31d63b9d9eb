"""PSNR as it comes out of 8-bit image files: a check column beside `psnr`."""

from __future__ import annotations

import numpy as np

from ddnet.evaluation.metrics._base import FloatArray, Metric
from ddnet.evaluation.metrics.psnr import psnr_db


def _round_to_8_bit(image: FloatArray) -> FloatArray:
    return np.rint(image.astype(np.float64) * 255.0) / 255.0


class Psnr8Bit(Metric):
    """PSNR in dB after rounding both images to 8 bits, as papers that measure saved PNGs report."""

    name = "psnr_8bit"
    lower_better = False
    unit = "dB"
    decimals = 2
    best = float("inf")

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """PSNR in dB of the rounded pair."""
        return psnr_db(_round_to_8_bit(restored), _round_to_8_bit(target))
