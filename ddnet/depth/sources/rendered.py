"""The truth: exact depth of a rendered scene, the upper bound for every estimate."""

from __future__ import annotations

from ddnet.depth.sources._base import NOTHING, DepthSource, Given, matching, required
from ddnet.io.images import FloatArray


class Rendered(DepthSource):
    """The true normalised inverse depth, unchanged. Only for scenes whose depth is known."""

    needs = frozenset({"true_depth"})

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """The true depth, checked against the image's size."""
        return matching(required(given.true_depth, "true depth", "rendered"), image, "rendered")
