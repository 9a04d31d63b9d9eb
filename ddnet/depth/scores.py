"""How good is an estimated depth map: mean absolute error, rank correlation, and the usual 1.25 accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ddnet.io.images import FloatArray

# Inverse metres at normalised 0 and 1 (ddnet.data.index: 100 m, 0.5 m): the ratio below is one of metres.
_FAR, _NEAR = 1.0 / 100.0, 1.0 / 0.5


class DepthScores(NamedTuple):
    """Means over images.

    Attributes:
        abs_error: mean |estimate - truth| of normalised inverse depth; 0 is best.
        spearman: rank correlation within each image, which no monotone rescaling changes; 1 is best.
        delta_125: share of pixels whose distance is within a factor 1.25 of the true one (Eigen et al.).
    """

    abs_error: float
    spearman: float
    delta_125: float


def score(estimates: Sequence[FloatArray], truths: Sequence[FloatArray]) -> DepthScores:
    """Scores of (H, W) maps in [0, 1] against the true ones; a flat truth has no ranks to compare."""
    rows = [
        (np.abs(estimate - truth).mean(), _spearman(estimate, truth), _delta(estimate, truth))
        for estimate, truth in zip(estimates, truths, strict=True)
    ]
    table = np.asarray(rows, dtype=np.float64)
    ranked = table[~np.isnan(table[:, 1]), 1]
    return DepthScores(
        float(table[:, 0].mean()), float(ranked.mean()) if ranked.size else 0.0, float(table[:, 2].mean())
    )


def _spearman(estimate: FloatArray, truth: FloatArray) -> float:
    from scipy.stats import rankdata

    if np.ptp(truth) == 0:
        return float("nan")
    if np.ptp(estimate) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(estimate), rankdata(truth))[0, 1])


def _delta(estimate: FloatArray, truth: FloatArray) -> float:
    first, second = (_FAR + (_NEAR - _FAR) * depth for depth in (estimate, truth))
    return float((np.maximum(first / second, second / first) < 1.25).mean())
