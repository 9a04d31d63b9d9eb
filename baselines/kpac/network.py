"""KPAC's network: a small encoder and decoder around blocks of one kernel that is dilated five ways.

Son, Lee, Cho and Lee, "Single Image Defocus Deblurring Using Kernel-Sharing Parallel Atrous Convolutions", ICCV 2021.
Written from a description of its published TensorFlow code; layers bear its names and stand in its order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError

WIDTH = 48
WIDTHS = range(12, 193, 12)
LEVELS = (2, 3)
BLOCKS, DILATIONS = 2, (1, 2, 3, 4, 5)
SLOPE = 0.2


def _conv(inputs: int, outputs: int, side: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2 * dilation, dilation=dilation)


def _deconv(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu_(x, SLOPE)


def halve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3x3 convolution of stride 2 as TensorFlow's padding 'same' has it: at even sides one at the end only."""
    return F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, conv.bias, stride=2)


class SharedKernelBlock(nn.Module):
    """One 5x5 kernel at five dilations, each weighed per pixel, its channels per picture.

    Args:
        width: channels per dilation; the block takes and gives twice as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        wide, narrow = 2 * width // 3, width // 3
        self.dc1 = nn.Conv2d(2 * width, width, 5, bias=False)
        self.sca_dc1 = _conv(2 * width, wide, 5, 2)
        self.sca_dc2 = _conv(wide, wide, 5, 2)
        self.sca_dc3 = _conv(wide, narrow, 5, 2)
        self.sca_dc4 = _conv(narrow, narrow, 5, 2)
        self.sca_c2 = _conv(narrow, len(DILATIONS), 5)
        self.sha_c1 = _conv(2 * width, width // 4, 1)
        self.sha_c2 = _conv(width // 4, width, 1)
        self.cf = _conv(len(DILATIONS) * width, 2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 width, H, W) to the same shape."""
        scale = x
        for conv in (self.sca_dc1, self.sca_dc2, self.sca_dc3, self.sca_dc4):
            scale = _active(conv(scale))
        scale = torch.sigmoid(self.sca_c2(scale))
        shape = torch.sigmoid(self.sha_c2(_active(self.sha_c1(x.mean((2, 3), keepdim=True)))))
        parts = [
            _active(F.conv2d(x, self.dc1.weight, padding=2 * dilation, dilation=dilation))
            * (scale[:, place : place + 1] * shape)
            for place, dilation in enumerate(DILATIONS)
        ]
        return _active(self.cf(torch.cat(parts, dim=1)))


class Network(nn.Module):
    """Blurred to sharp pixels in [-1, 1].

    2,057,893 parameters at width 48 with 3 levels, 1,578,277 with 2.

    Args:
        width: channels at full resolution; all numbers of channels scale with it. 48 is the published network.
        levels: how often the resolution is halved.

    Raises:
        DDNetError: a width not in WIDTHS, or other levels than 2 or 3.
    """

    def __init__(self, width: int = WIDTH, levels: int = 3) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"KPAC: width is {width}; it must be a multiple of 12 from 12 to {WIDTHS[-1]}")
        if levels not in LEVELS:
            raise DDNetError(f"KPAC: levels is {levels}; it must be 2 or 3")
        self.levels = levels
        w = width
        self.c0, self.c0_2 = _conv(3, w, 5), _conv(w, w, 3)
        self.c2, self.c2_2 = _conv(w, w, 3), _conv(w, w, 3)
        self.c3, self.c3_2 = _conv(w, 2 * w, 3), _conv(2 * w, 2 * w, 3)
        if levels == 3:
            self.c4, self.c4_2 = _conv(2 * w, 2 * w, 3), _conv(2 * w, 2 * w, 3)
        self.blocks = nn.ModuleList(SharedKernelBlock(w) for _ in range(BLOCKS))
        self.cm_1, self.cm_2 = _conv((BLOCKS + 1) * 2 * w, 2 * w, 3), _conv(2 * w, 2 * w, 3)
        if levels == 3:
            self.d0, self.d0_2 = _deconv(2 * w, 2 * w), _conv(4 * w, 2 * w, 3)
        self.d1, self.d1_2 = _deconv(2 * w, w), _conv(2 * w, w, 3)
        self.d2, self.d2_2 = _deconv(w, w), _conv(2 * w, 3, 5)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 8 (3 levels) or 4 (2), to the same shape; not clipped."""
        f1 = _active(self.c0_2(_active(self.c0(image))))
        f2 = _active(self.c2_2(_active(halve(self.c2, f1))))
        x = f3 = _active(self.c3_2(_active(halve(self.c3, f2))))
        if self.levels == 3:
            x = _active(self.c4_2(_active(halve(self.c4, f3))))
        stack = [x]
        for block in self.blocks:
            stack.append(block(stack[-1]))
        x = _active(self.cm_2(_active(self.cm_1(torch.cat(stack, dim=1)))))
        if self.levels == 3:
            x = _active(self.d0_2(torch.cat([_active(self.d0(x)), f3], dim=1)))
        x = _active(self.d1_2(torch.cat([_active(self.d1(x)), f2], dim=1)))
        return image + self.d2_2(torch.cat([_active(self.d2(x)), f1], dim=1))
