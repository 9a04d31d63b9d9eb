"""Depth estimated by Monodepth2's network, the paper's source: published weights, or fitted here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddnet.depth.network import STRIDE
from ddnet.depth.sources._base import (
    NOTHING,
    DepthSource,
    Given,
    full_precision,
    inference_device,
    resize_depth,
    resize_image,
)
from ddnet.depth.weights import load_weights
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray
from ddnet.io.tensors import to_tensor


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
    takes_size = True

    def __init__(self, model_path: str | Path, size: tuple[int, int] | None = None) -> None:
        self.weights = load_weights(model_path)
        self.size = check_size(size or self.weights.size)
        self.device = inference_device()
        for network in self.weights.networks:
            network.to(self.device)

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """Disparity in [0, 1] of the whole image, (H, W), estimated at the network's size."""
        # One image at a time fills two cores: 22 ms at 192x192, against 16 ms each in batches of eight.
        disparity = self._disparity(to_tensor(resize_image(image, self.size)), given)[0]
        return np.clip(resize_depth(disparity, (image.shape[0], image.shape[1])), 0.0, 1.0).astype(np.float32)

    def predict_patches(self, patches: Tensor, given: Given = NOTHING) -> FloatArray:
        """Disparity in [0, 1] of each patch at its own size, (B, S, S), as the paper's released code trains."""
        check_size((patches.shape[-2], patches.shape[-1]), "training.patches.size is")
        return np.clip(self._disparity(patches, given), 0.0, 1.0)

    @torch.inference_mode()
    def _disparity(self, images: Tensor, given: Given) -> FloatArray:
        """Finest disparity, (B, h, w), of images (B, 3, h, w): the mean over the networks that may see the scene."""
        batch = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with full_precision():
            estimates = [network(batch)[0][:, 0] for network in self.weights.networks_for(given.scene)]
        return torch.stack(estimates).mean(dim=0).cpu().numpy()


def check_size(size: tuple[int, int], what: str = "depth network input") -> tuple[int, int]:
    """`size` = (height, width), refused unless both are multiples of 32 and at least 64; `what` begins the error."""
    if any(side % STRIDE or side < 2 * STRIDE for side in size):
        raise DDNetError(f"{what} {size[0]}x{size[1]}: both sides must be multiples of {STRIDE}, at least 64")
    return size
