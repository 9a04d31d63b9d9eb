"""What 8 bits keep of a picture: several systems learnt from such files, and store such files on the way."""

from __future__ import annotations

import torch
from torch import Tensor


def eight_bits(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as a reader gives them that keeps the upper 8 of 16 bits, again in [0, 1].

    What has been of 8 bits stays as it is. OpenCV and Pillow read 16-bit PNG so where 8 bits are asked for.
    """
    levels = torch.floor(torch.round(pixels.double().clamp(0.0, 1.0) * 65535.0) / 256.0)
    return (levels / 255.0).float()


def stored_in_eight_bits(values: Tensor) -> Tensor:
    """Values in [0, 1] as they come back from an 8-bit file that they were written to: the nearest of 256 levels."""
    return torch.floor(values * 255.0 + 0.5) / 255.0
