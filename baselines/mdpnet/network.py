"""MDPNet: one encoder and three decoders, for the left view, the right view and the sharp picture.

Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through Multi-Task
Learning", WACV 2022. Written from a description of its published Keras code; convolutions are made in its order. The
early part of every decoder ends at half resolution, and the late part of each goes on from all three.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.dpdnet_blocks import Head, Up, conv3x3, pair
from ddnet.errors import DDNetError

WIDTH = 64
WIDTHS = range(1, 257)
DECODERS = ("left", "right", "sharp")


class Early(nn.Module):
    """The part of a decoder from 1/16 to 1/2 of the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.bottom = conv3x3(8 * w, 16 * w)
        self.up4, self.conv4 = Up(16 * w, 8 * w), conv3x3(16 * w, 8 * w)
        self.up3, self.conv3 = Up(8 * w, 4 * w), pair(8 * w, 4 * w)
        self.up2 = Up(4 * w, 2 * w)

    def forward(self, x: Tensor, skip4: Tensor, skip3: Tensor) -> Tensor:
        """(B, 8C, H/16, W/16) and the encoder's features at 1/8 and 1/4 to (B, 2C, H/2, W/2)."""
        x = self.conv4(torch.cat([skip4, self.up4(self.bottom(x))], dim=1))
        return self.up2(self.conv3(torch.cat([skip3, self.up3(x)], dim=1)))


class Late(nn.Module):
    """The part of a decoder from 1/2 to the full resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.conv2 = pair(8 * w, 2 * w)
        self.up1, self.conv1 = Up(2 * w, w), pair(2 * w, w)
        self.head = Head(w)

    def forward(self, x: Tensor, skip1: Tensor) -> Tensor:
        """(B, 8C, H/2, W/2) and the encoder's features at full resolution to a picture (B, 3, H, W)."""
        return self.head(self.conv1(torch.cat([skip1, self.up1(self.conv2(x))], dim=1)))


class Network(nn.Module):
    """A picture in [0, 1] to a sharp one, and to its left and right view.

    46,860,397 parameters at width 64; 45,094,735 without the late parts for the views, which the sharp picture does
    not depend on.

    Args:
        width: channels at full resolution; all numbers of channels scale with it. 64 is the published network.
        views: whether to have the late parts for the views.

    Raises:
        DDNetError: a width not in WIDTHS.
    """

    def __init__(self, width: int = WIDTH, views: bool = True) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"MDPNet: width is {width}; it must be 1 to {WIDTHS[-1]}")
        w = width
        self.encoder = nn.ModuleList([pair(3, w), pair(w, 2 * w), pair(2 * w, 4 * w), conv3x3(4 * w, 8 * w)])
        self.early = nn.ModuleDict({name: Early(w) for name in DECODERS})
        self.late = nn.ModuleDict({name: Late(w) for name in (DECODERS if views else DECODERS[-1:])})

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 16, to (B, 9, H, W): left, right, sharp; (B, 3, H, W) without views."""
        skips: list[Tensor] = []
        for stage in self.encoder:
            skips.append(stage(x))
            x = F.max_pool2d(skips[-1], 2)
        skip1, skip2, skip3, skip4 = skips
        shared = torch.cat([skip2, *(early(x, skip4, skip3) for early in self.early.values())], dim=1)
        return torch.cat([late(shared, skip1) for late in self.late.values()], dim=1)
