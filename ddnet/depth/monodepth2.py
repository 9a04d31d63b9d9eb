"""Depth estimated by Monodepth2's network, the paper's source: published weights, or fitted here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddnet.depth._base import NOTHING, DepthSource, Given, resize_depth, resize_image
from ddnet.depth._network import STRIDE
from ddnet.depth._weights import load_weights
from ddnet.errors import DDNetError
from ddnet.images import FloatArray
from ddnet.tensors import to_tensor


class Monodepth2(DepthSource):
    """The sigmoid disparity of Monodepth2, from the defocused image alone.

    The whole image is resized to the network's input, and the finest disparity back to the image (bilinear,
    `align_corners=False`). With published weights the disparity is relative: Monodepth2's own scale (0.1 to
    100 units), not metres. A fitted file may hold several networks; a scene is estimated by the mean of those
    that were not fitted on it, so that training scenes get no better depth than unseen ones.

    Args:
        model_path: a fitted file, or a folder with the published `encoder.pth` and `depth.pth`.
        size: network input (height, width), multiples of 32; by default what the weights were made for.

    Raises:
        DDNetError: no or unusable weights, or a size that the network cannot take.
    """

    needs = frozenset({"model"})

    def __init__(self, model_path: str | Path, size: tuple[int, int] | None = None) -> None:
        self.weights = load_weights(model_path)
        self.size = check_size(size or self.weights.size)

    @torch.inference_mode()
    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """Disparity in [0, 1] of the whole image, (H, W), estimated at the network's size."""
        # One image at a time fills two cores: 22 ms at 192x192, against 16 ms each in batches of eight.
        batch = to_tensor(resize_image(image, self.size)).contiguous(memory_format=torch.channels_last)
        networks = self.weights.networks_for(given.scene)
        disparity = torch.stack([network(batch)[0][0, 0] for network in networks]).mean(dim=0).numpy()
        return np.clip(resize_depth(disparity, (image.shape[0], image.shape[1])), 0.0, 1.0).astype(np.float32)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` = (height, width), refused unless both are multiples of 32 and at least 64."""
    if any(side % STRIDE or side < 2 * STRIDE for side in size):
        raise DDNetError(
            f"depth network input {size[0]}x{size[1]}: both sides must be multiples of {STRIDE}, at least 64"
        )
    return size
