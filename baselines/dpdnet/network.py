"""DPDNet: a U-Net of four levels.

Abuolaim and Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020. Written from a description of its published
Keras code; convolutions are made in its order. A level goes up by nearest-neighbour upsampling and a 2x2 convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.dpdnet_blocks import Head, Up, pair
from ddnet.errors import DDNetError

WIDTH = 64
WIDTHS = range(1, 257)
LEVELS = 4
DROPOUT = 0.4  # after the two deepest levels


class Level(nn.Module):
    """A level of the decoder: up, then a pair of convolutions on the encoder's features and those from below."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up, self.pair = Up(inputs, outputs), pair(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H, W) and the encoder's (B, C', 2H, 2W) to (B, C', 2H, 2W)."""
        return self.pair(torch.cat([skip, self.up(x)], dim=1))


class Network(nn.Module):
    """A picture in [0, 1] to a sharp one: 31,033,423 parameters at width 64, 31,035,151 with 6 channels.

    Args:
        width: channels at full resolution; every level down has twice as many. 64 is the published network.
        channels: of the input; 6 for a left and a right view.

    Raises:
        DDNetError: a width not in WIDTHS.
    """

    def __init__(self, width: int = WIDTH, channels: int = 3) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"DPDNet: width is {width}; it must be 1 to {WIDTHS[-1]}")
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.encoder = nn.ModuleList(pair(i, o) for i, o in zip([channels, *widths], widths))
        self.dropout = nn.Dropout(DROPOUT)
        self.decoder = nn.ModuleList(Level(2 * w, w) for w in widths[-2::-1])
        self.head = Head(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), sides multiples of 16, to (B, 3, H, W)."""
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if level else x)
            x = self.dropout(x) if level >= LEVELS - 1 else x
            skips.append(x)
        for level_up, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = level_up(x, skip)
        return self.head(x)
