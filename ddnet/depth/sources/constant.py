"""No depth at all, through the same parameters: what does the depth branch gain by its weights alone?"""

from __future__ import annotations

import numpy as np

from ddnet.depth.sources._base import NOTHING, DepthSource, Given
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray


class Constant(DepthSource):
    """The same value everywhere; 0.5, the middle of the range, unless said otherwise.

    Args:
        value: normalised inverse depth in [0, 1].
    """

    ranges = {"value": (0.0, 1.0)}

    def __init__(self, value: float = 0.5) -> None:
        if not 0.0 <= value <= 1.0:
            raise DDNetError(f"constant({value:g}): the value must lie in [0, 1]")
        self.value = value

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """The same value everywhere, (H, W); the image only gives the size."""
        return np.full(image.shape[:2], self.value, dtype=np.float32)
