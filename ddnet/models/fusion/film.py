"""FiLM fusion: depth scales and shifts every blur feature, pixel by pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Film(nn.Module):
    """blur * (1 + scale) + shift, both from depth by two 1x1 convolutions each: 2,720 parameters at C1 = 64, C2 = 16.

    Feature-wise linear modulation (Perez et al., AAAI 2018) with a factor of its own for each pixel, which is the
    spatial feature transform of Wang et al. (CVPR 2018), whose leaky slope of 0.1 this has too. The blur feature goes
    through no layer here: what comes out is linear in it, and zero modulation leaves it as it is.
    """

    halo = 0

    def __init__(self, channels: int, depth_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(depth_channels, 2 * depth_channels, 1)
        self.scale = nn.Conv2d(depth_channels, channels, 1)
        self.shift = nn.Conv2d(depth_channels, channels, 1)

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        for_scale, for_shift = F.leaky_relu(self.hidden(depth), 0.1).chunk(2, dim=1)
        return blur * (1 + self.scale(for_scale)) + self.shift(for_shift)
