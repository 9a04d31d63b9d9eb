"""True depth made worse by a known amount: how good must an estimate be before it helps?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ddnet.depth.sources._base import NOTHING, DepthSource, Given, matching, required
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray

SMOOTH_CELLS = 8  # cells of the smooth noise along the shorter side: errors as large as a card, not as a pixel


class Noisy(DepthSource):
    """True depth plus noise of standard deviation `sigma`, clipped to [0, 1].

    Half of the variance is smooth (whole regions at the wrong distance, as estimators err), half is white.

    Args:
        sigma: standard deviation in units of normalised inverse depth, before clipping.
    """

    needs = frozenset({"true_depth"})
    ranges = {"sigma": (0.0, 1.0)}

    def __init__(self, sigma: float = 0.1) -> None:
        if not 0.0 <= sigma <= 1.0:
            raise DDNetError(f"noisy({sigma:g}): sigma must lie in [0, 1]")
        self.sigma = sigma

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """The true depth plus noise drawn from `given.rng`, clipped to [0, 1], (H, W)."""
        depth = matching(required(given.true_depth, "true depth", "noisy"), image, "noisy")
        rng = np.random.default_rng(0) if given.rng is None else given.rng
        noise = (_smooth_noise(depth.shape, rng) + rng.standard_normal(depth.shape)) / np.sqrt(2.0)
        return np.clip(depth + self.sigma * noise, 0.0, 1.0).astype(np.float32)


def _smooth_noise(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Normal noise on a coarse grid, interpolated to `shape` and scaled back to unit variance."""
    height, width = shape
    cell = max(1.0, min(height, width) / SMOOTH_CELLS)
    grid = rng.standard_normal((int(np.ceil(height / cell)), int(np.ceil(width / cell))))
    coarse = torch.from_numpy(grid)[None, None]
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0, 0].numpy()
    return (smooth / max(float(smooth.std()), 1e-6)).astype(np.float32)
