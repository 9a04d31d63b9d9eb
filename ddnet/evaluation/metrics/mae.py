"""Mean absolute error."""

from __future__ import annotations

import numpy as np

from ddnet.evaluation.metrics._base import FloatArray, Metric


class Mae(Metric):
    """Mean |restored - target| over all pixels and channels, on the [0, 1] scale, in float64."""

    name = "mae"
    lower_better = True
    unit = ""
    decimals = 4
    best = 0.0

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """Mean absolute difference."""
        return float(np.mean(np.abs(restored.astype(np.float64) - target.astype(np.float64))))
