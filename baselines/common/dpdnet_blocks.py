"""What DPDNet's network is made of, and MDPNet's as well.

Abuolaim and Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020. Convolutions are made in the order of the
published Keras code.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU."""
    return nn.Sequential(conv3x3(inputs, outputs), conv3x3(outputs, outputs))


class Up(nn.Module):
    """Twice the size: each value repeated, a 2x2 convolution, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        # TensorFlow's "same" for an even kernel: zeros below and on the right.
        return F.relu_(self.conv(F.pad(x, (0, 1, 0, 1))))


class Head(nn.Sequential):
    """Features to a picture: 3x3 to three channels and ReLU, 1x1 and sigmoid."""

    def __init__(self, inputs: int) -> None:
        super().__init__(conv3x3(inputs, 3), nn.Conv2d(3, 3, 1), nn.Sigmoid())
