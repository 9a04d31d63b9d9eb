"""GRU fusion: the paper's way of letting depth into the decoder."""

from __future__ import annotations

import torch
from torch import nn

from ddnet.models.blocks import conv3x3


class ConvGRU(nn.Module):
    """Convolutional GRU cell: z and r gate a candidate q, h' = (1 - z) h + z q; three biased 3x3 convolutions.

    Args:
        hidden_dim: channels of the state h, which is also the output.
        input_dim: channels of the input x.
        reset: without the reset gate (`False`) the candidate sees h itself, and `convr` does not exist.
    """

    def __init__(self, hidden_dim: int = 64, input_dim: int = 16, reset: bool = True) -> None:
        super().__init__()
        both = hidden_dim + input_dim
        self.convz = conv3x3(both, hidden_dim)
        self.convr = conv3x3(both, hidden_dim) if reset else None
        self.convq = conv3x3(both, hidden_dim)

    def gate(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Update gate z in (0, 1), (B, hidden_dim, H, W): 0 keeps the state, 1 replaces it."""
        return torch.sigmoid(self.convz(torch.cat([h, x], dim=1)))

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """State (B, hidden_dim, H, W) and input (B, input_dim, H, W) to the new state."""
        hx = torch.cat([h, x], dim=1)
        z = torch.sigmoid(self.convz(hx))
        if self.convr is not None:
            hx = torch.cat([torch.sigmoid(self.convr(hx)) * h, x], dim=1)
        return torch.lerp(h, torch.tanh(self.convq(hx)), z)


class Gru(nn.Module):
    """One fusion cell of the decoder (paper section 2.4), for one scale of one branch.

    Args:
        channels: channels of the blur feature, C1.
        depth_channels: channels of the depth feature, C2.
        roles: `released` takes the blur feature as state and the depth feature as input, which is what the
            published sizes come from; `paper` follows the paper's sentence, with the depth feature (lifted to
            C1 channels by a 3x3 convolution) as state and the blur feature as input.
        reset: keep the reset gate.
    """

    halo = 3  # two 3x3 convolutions in a row, and that of `lift`

    def __init__(self, channels: int, depth_channels: int, roles: str = "released", reset: bool = True) -> None:
        super().__init__()
        self.swap = roles == "paper"
        self.lift = conv3x3(depth_channels, channels) if self.swap else None
        self.cell = ConvGRU(channels, channels if self.swap else depth_channels, reset)

    def _roles(self, blur: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.lift(depth), blur) if self.lift is not None else (blur, depth)

    def gate(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Update gate in (0, 1), (B, C1, H, W), for inspection."""
        return self.cell.gate(*self._roles(blur, depth))

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Blur (B, C1, H, W) and depth (B, C2, H, W) features to a fused (B, C1, H, W)."""
        return self.cell(*self._roles(blur, depth))
