"""The plain U-Net that the paper's ablation starts from (Table 3, "Base")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions without bias, each followed by ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """U-Net of widths C-2C-2C-2C-2C: max pooling down, transposed 2x2 convolutions up, concatenated skips.

    2,539,427 parameters at C = 64, as in the authors' released file.

    Args:
        width: C.
        output: `sigmoid` (released) or `residual` (image plus last convolution, clipped when evaluating).
    """

    multiple = 16
    uses_depth = False

    def __init__(self, width: int = 64, output: str = "sigmoid") -> None:
        super().__init__()
        self.residual = output == "residual"
        double = 2 * width
        down = [(3, width), (width, double), (double, double), (double, double), (double, double)]
        self.encoder = nn.ModuleList(_double_conv(*channels) for channels in down)
        up = [(double, double), (double, double), (double, width), (width, width)]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(below, below, 2, stride=2) for below, _ in up)
        # Every skip has as many channels as what comes up from below.
        self.decoder = nn.ModuleList(_double_conv(2 * below, out) for below, out in up)
        self.tail = nn.Sequential(
            nn.Conv2d(width, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 1)
        )

    def forward(self, image: torch.Tensor, depth: torch.Tensor | None = None) -> torch.Tensor:
        """(B, 3, H, W) RGB in [0, 1] to the same shape; sides are multiples of 16; `depth` is ignored."""
        skips = []
        x = image
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()  # the bottleneck itself is no skip
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        restored = self.tail(x)
        if not self.residual:
            return torch.sigmoid(restored)
        restored = image + restored
        return restored if self.training else restored.clamp(0, 1)
