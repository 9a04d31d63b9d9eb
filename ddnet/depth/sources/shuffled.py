"""Plausible depth of the wrong scene: separates "there is a depth map" from "the depth map is right"."""

from __future__ import annotations

from ddnet.depth.sources._base import NOTHING, DepthSource, Given, matching, required, resize_depth
from ddnet.io.images import FloatArray


class Shuffled(DepthSource):
    """Another scene's depth map, resized to this image.

    Which other scene is the caller's choice; `ddnet.depth.estimate` takes the next one in a seeded
    cycle through the scenes of the same split: every map is used exactly once and never for its own scene.
    """

    needs = frozenset({"other"})

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """The other scene's depth, resized to the image's size, (H, W)."""
        depth = resize_depth(
            required(given.other, "another scene's depth", "shuffled"), (image.shape[0], image.shape[1])
        )
        return matching(depth, image, "shuffled")
