"""The truth: exact depth of a rendered scene, the upper bound for every estimate."""

from __future__ import annotations

import numpy as np

from ddnet.depth._base import DepthSource, matching, required
from ddnet.images import FloatArray


class Rendered(DepthSource):
    """The true normalised inverse depth, unchanged. Only for scenes whose depth is known."""

    needs = frozenset({"true_depth"})

    def predict(
        self,
        image: FloatArray,
        *,
        scene: str | None = None,
        true_depth: FloatArray | None = None,
        other: FloatArray | None = None,
        rng: np.random.Generator | None = None,
    ) -> FloatArray:
        """`true_depth`, checked against the image's size."""
        return matching(required(true_depth, "true depth", "rendered"), image, "rendered")
