"""Circle-of-confusion fusion: the blur feature is changed where a thin lens would have blurred it."""

from __future__ import annotations

import torch
from torch import nn

from ddnet.models.blocks import conv3x3


class Coc(nn.Module):
    """blur + tanh(mix(|x - x_f|)) * conv3x3(blur): 37,512 parameters at C1 = 64, C2 = 16.

    A thin lens of aperture A, with its sensor at the distance s, blurs a point at the distance z over a circle of the
    diameter A s |1/z - 1/z_f|, where z_f is in focus: proportional to the difference of the inverse depths (Pentland,
    PAMI 1987). Here x are a few maps linear in the depth feature, which take the place of 1/z in units that
    are learnt, and x_f is one value per image and map: the average of x, weighted by a softmax over all pixels of a
    score of the blur feature. So whatever looks sharp says where the focus lies.

    In focus the gate is 0 and the feature stays as it is; far out of it, it saturates. Depth that is the same
    everywhere is all in focus: its fusion is the identity.

    Args:
        channels: channels of the blur feature, C1.
        depth_channels: channels of the depth feature, C2.
        maps: number of maps x.
    """

    # No `halo`: the focus is an average over the whole image.

    def __init__(self, channels: int, depth_channels: int, maps: int = 4) -> None:
        super().__init__()
        self.inverse_depth = nn.Conv2d(depth_channels, maps, 1)
        self.sharpness = nn.Conv2d(channels, maps, 1)
        self.mix = nn.Conv2d(maps, channels, 1, bias=False)  # a bias would open the gate in focus
        self.residual = conv3x3(channels, channels)

    def focus(self, blur: torch.Tensor, inverse_depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and maps x (B, M, H, W) to the values in focus, (B, M, 1, 1), within the range of x."""
        weights = torch.softmax(self.sharpness(blur).flatten(2), dim=2)
        return (weights * inverse_depth.flatten(2)).sum(2)[:, :, None, None]

    def gate(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """How much of the residual is let in, (B, C1, H, W) in (-1, 1); 0 in focus."""
        inverse_depth = self.inverse_depth(depth)
        return torch.tanh(self.mix((inverse_depth - self.focus(blur, inverse_depth)).abs()))

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        return torch.addcmul(blur, self.gate(blur, depth), self.residual(blur))
