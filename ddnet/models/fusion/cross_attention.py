"""Cross-attention fusion: every part of the image asks the depth of all others."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

STRIDE = 8  # pixels of the feature per cell of the grid; even
SHORTEST = 8  # wavelength of the finest position code, in cells of the grid


class CrossAttention(nn.Module):
    """blur + attention of the blur feature over the depth feature, on a coarse grid: 2,672 parameters at 64, 16.

    Scaled dot-product attention (Vaswani et al., NeurIPS 2017): queries from blur, keys and values from depth, one head
    of C2 channels (rounded up to a multiple of four). Both features are averaged over cells of 8 x 8 pixels first, and
    the result is interpolated back. Queries and keys carry the sines and cosines of their place in the grid, so that
    near depth counts more from the start.

    A fusion does not know at which scale of the decoder it stands, so that each pools its own feature by eight: the one
    at full size attends on 1/8 of the image's resolution, the coarser ones on 1/16, 1/32 and 1/64. At 1680 x 1120 these
    are 29,400, 7,350, 1,855 and 486 tokens, each of which sees all others: 29.5 GMACs beside the network's 830.
    PyTorch's fused attention never holds the 864 million weights of the largest grid at once, so no window is needed.

    Args:
        channels: channels of the blur feature, C1.
        depth_channels: channels of the depth feature, C2.
    """

    # No `halo`: it sees the whole image.

    def __init__(self, channels: int, depth_channels: int) -> None:
        super().__init__()
        inner = 4 * math.ceil(depth_channels / 4)  # sine and cosine of two coordinates
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(depth_channels, inner, 1)
        self.value = nn.Conv2d(depth_channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        height, width = blur.shape[2:]
        coarse, seen = (F.avg_pool2d(x, STRIDE, ceil_mode=True) for x in (blur, depth))
        query, key = self.query(coarse), self.key(seen)
        place = _places(query)
        tokens = [x.flatten(2).transpose(1, 2)[:, None] for x in (query + place, key + place, self.value(seen))]
        attended = F.scaled_dot_product_attention(*tokens)[:, 0].transpose(1, 2).reshape(query.shape)
        return blur + _interpolated(self.out(attended))[:, :, :height, :width]


def _places(grid: torch.Tensor) -> torch.Tensor:
    """Position code of a grid (B, C, H, W), (1, C, H, W) in [-1, 1]: wavelengths double from `SHORTEST` on."""
    channels, height, width = grid.shape[1:]
    steps = torch.arange(channels // 4, device=grid.device, dtype=grid.dtype)
    frequencies = (2 * math.pi / SHORTEST * 2**-steps)[:, None, None]
    rows = frequencies * torch.arange(height, device=grid.device, dtype=grid.dtype)[:, None]
    columns = frequencies * torch.arange(width, device=grid.device, dtype=grid.dtype)
    shape = (channels // 4, height, width)
    return torch.cat([wave.expand(shape) for x in (rows, columns) for wave in (x.sin(), x.cos())])[None]


def _interpolated(grid: torch.Tensor) -> torch.Tensor:
    """Bilinear interpolation by `STRIDE`, (B, C, H, W) to (B, C, 8 H, 8 W), as a transposed convolution.

    `F.interpolate` comes apart into products where a network is built of shapes alone, and ptflops counts those with
    the axes of the smaller factor on the wrong side: 29 GMACs at 512 x 512 that nobody computes.
    """
    steps = torch.arange(2 * STRIDE, device=grid.device, dtype=grid.dtype)
    hat = 1 - ((steps + 0.5) / STRIDE - 1).abs()
    kernel = torch.outer(hat, hat).expand(grid.shape[1], 1, -1, -1)
    padded = F.pad(grid, (1, 1, 1, 1), mode="replicate")
    return F.conv_transpose2d(padded, kernel, stride=STRIDE, padding=3 * STRIDE // 2, groups=grid.shape[1])
