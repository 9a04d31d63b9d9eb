"""Building blocks: channel attention, RCAB and residual groups (RCAN's names), for the DDNet family.

Every convolution has a bias, the activation is ReLU, and there is no normalisation layer anywhere.
"""

from __future__ import annotations

import torch
from torch import nn


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from its global average (paper section 2.2).

    Pools over the whole image, so the output of a tile differs from the same tile of the whole output.

    Args:
        channels: C; the bottleneck has max(1, C // reduction) channels.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def gate(self, mean: torch.Tensor) -> torch.Tensor:
        """Averages over the image (B, C, 1, 1) to the channels' factors in (0, 1)."""
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return x * self.gate(x.mean((2, 3), keepdim=True))


class RCAB(nn.Module):
    """Residual channel attention block: conv, ReLU, conv, channel attention, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.attention = ChannelAttention(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.attention(self.conv2(torch.relu(self.conv1(x))))


class ResidualGroup(nn.Module):
    """`rcabs` RCABs and a convolution, plus the group's input.

    64 channels: 111,364 / 185,800 / 260,236 parameters for 1 / 2 / 3 RCABs.
    """

    def __init__(self, channels: int, rcabs: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(RCAB(channels) for _ in range(rcabs)))
        self.conv = conv3x3(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.conv(self.blocks(x))
