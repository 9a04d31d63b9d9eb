"""Convolution fusion with as many parameters as the GRU, so that only the gating differs."""

from __future__ import annotations

import torch
from torch import nn

from ddnet.models.blocks import conv3x3


class ConvMatched(nn.Module):
    """Three stacked 3x3 convolutions, each fed the depth feature anew: 138,432 parameters, exactly the GRU's.

    The GRU reads [blur, depth] in each of its three convolutions; so does this stack, without gates.
    """

    halo = 3  # one for each convolution

    def __init__(self, channels: int, depth_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels + depth_channels, channels) for _ in range(3))

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        for conv in self.convs:
            blur = torch.relu(conv(torch.cat([blur, depth], dim=1)))
        return blur
