"""DefocusGAN's generator: branches of unequal depth, gone through at full, 1/4 and 1/8 of the resolution.

Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring in the Wild", AAAI 2023. Written from a
description of its published code, whose residual groups are DDNet's. In training it masks the branches by the amount of
blur; a trained network does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError
from ddnet.models.blocks import ResidualGroup, conv3x3

WIDTH = 64
WIDTHS = range(8, 257, 8)
RCABS = (0, 1, 2, 3)  # per group of each branch; the first one has 1x1 convolutions instead, and stays at full size
SCALES = 4
# The stages that a branch goes through after its first one: (stage, the stage whose output is added before it).
# Stages 1 to 4 halve the size, 5 to 8 double it.
FULL = ((2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 2), (8, 1))
QUARTER = ((2, 0), (7, 0), (8, 1))
EIGHTH = ((7, 0),)


class Branch(nn.Module):
    """Eight stages, of `rcabs` RCABs each; with 0, of a 1x1 convolution each that keeps the size."""

    def __init__(self, channels: int, rcabs: int) -> None:
        super().__init__()

        def stages() -> nn.ModuleList:
            return nn.ModuleList(
                ResidualGroup(channels, rcabs) if rcabs else nn.Conv2d(channels, channels, 1) for _ in range(SCALES)
            )

        self.keeps_size = rcabs == 0
        self.encoder, self.decoder = stages(), stages()

    def forward(self, x: Tensor, path: tuple[tuple[int, int], ...]) -> Tensor:
        """(B, C, H, W) to the same shape; before each stage but the first, the average-pooled input is added."""
        outputs = {1: self._stage(1, x)}
        y = outputs[1]
        for stage, skip in path:
            y = y + F.adaptive_avg_pool2d(x, (y.shape[2], y.shape[3]))
            y = outputs[stage] = self._stage(stage, y + outputs[skip] if skip else y)
        return y

    def _stage(self, stage: int, x: Tensor) -> Tensor:
        layer = self.encoder[stage - 1] if stage <= SCALES else self.decoder[stage - 1 - SCALES]
        if self.keeps_size:
            return F.relu_(layer(x))
        if stage <= SCALES:
            return F.max_pool2d(layer(x), 2)
        return F.interpolate(layer(x), scale_factor=2.0, mode="nearest")


class DoubleConv(nn.Module):
    """Two 3x3 convolutions without bias, each with ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))


class Network(nn.Module):
    """Blurred to sharp pixels in [0, 1].

    4,860,675 parameters at width 64. The published code has two more convolutions, 4,934,531 parameters in all, that
    nothing goes through.

    Args:
        width: channels at every resolution. 64 is the published network.

    Raises:
        DDNetError: a width not in WIDTHS.
    """

    branch_rcabs = RCABS  # for `ddnet.models.initialise`

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"DefocusGAN: width is {width}; it must be a multiple of 8 from 8 to {WIDTHS[-1]}")
        self.head = conv3x3(3, width)
        self.branches = nn.ModuleList(Branch(width, rcabs) for rcabs in RCABS)
        self.down4, self.down2 = DoubleConv(width, width), DoubleConv(width, width)
        self.up2 = DoubleConv(2 * width, width)
        self.up4_first = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.up4 = DoubleConv(width, width)
        self.up4_last = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.tail = conv3x3(width, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 16, to the same shape in (0, 1)."""
        features = F.relu_(self.head(image))
        full = self._branches(features, FULL)
        at_4 = self.down4(F.max_pool2d(full, 4))
        quarter = self._branches(at_4, QUARTER)
        at_8 = self.down2(F.max_pool2d(quarter, 2))
        eighth = self._branches(at_8, EIGHTH) + at_8
        larger = F.interpolate(eighth, scale_factor=2.0, mode="bilinear", align_corners=True)
        quarter = quarter + self.up2(torch.cat([at_4, larger], dim=1))
        restored = self.up4_last(self.up4(self.up4_first(quarter)))
        return torch.sigmoid(self.tail(features + restored + full))

    def _branches(self, x: Tensor, path: tuple[tuple[int, int], ...]) -> Tensor:
        first, *others = self.branches
        total: Tensor = first(x, path)
        for branch in others:
            total = total + branch(x, path)
        return total
