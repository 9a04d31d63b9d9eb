"""Convolution fusion: the second row of the paper's Table 4."""

from __future__ import annotations

import torch
from torch import nn

from ddnet.models.blocks import conv3x3


class Conv(nn.Module):
    """ReLU(conv3x3([blur, depth])): 46,144 parameters at C1 = 64, C2 = 16."""

    halo = 1

    def __init__(self, channels: int, depth_channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels + depth_channels, channels)

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        return torch.relu(self.conv(torch.cat([blur, depth], dim=1)))
