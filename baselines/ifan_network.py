"""IFAN's network: features at 1/8 of the resolution go through small filters that are predicted for every pixel.

Lee, Son, Rim, Cho and Lee, "Iterative Filter Adaptive Network for Single Image Defocus Deblurring", CVPR 2021. Written
from a description of its published code; modules bear its names.

The published code filters rows with the kernel that was meant for columns only, and its weights learnt so. That is the
default; a network trained anew may use both kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError

WIDTH, FILTERS = 32, 17
WIDTHS, FILTER_COUNTS = range(4, 129, 4), range(1, 65)
TAPS = 3
SLOPE = 0.1


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(SLOPE))


def _upconv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))


class Residual(nn.Module):
    """`units` residual units; where they are several, their input is added to their output."""

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.stem = nn.ModuleList(
            nn.Sequential(*_conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(units)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = x
        for unit in self.stem:
            y = F.leaky_relu(y + unit(y), SLOPE)
        return x + y if len(self.stem) > 1 else y


def adapt(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Filter columns, then rows, with weights of their own at every pixel and channel; borders are repeated.

    Args:
        x: (B, C, H, W).
        down, across: (B, 3 C, H, W), a channel's 3 weights side by side.
    """
    for kernel, axis, padding in ((down, 2, (0, 0, 1, 1)), (across, 3, (1, 1, 0, 0))):
        weights, padded = kernel.unflatten(1, (-1, TAPS)), F.pad(x, padding, mode="replicate")
        length = x.shape[axis]
        x = sum((weights[:, :, tap] * padded.narrow(axis, tap, length) for tap in range(TAPS)), torch.zeros_like(x))
    return x


class Network(nn.Module):
    """Blurred to sharp pixels in [0, 1].

    10,476,996 parameters at width 32 with 17 filters; 9,436,740, 11,517,252, 12,557,508 and 13,597,764 with 8, 26, 35
    and 44.

    Args:
        width: channels at full resolution; all numbers of channels scale with it. 32 is the published network.
        filters: how many separable filters follow one another.
        both_kernels: 0 uses a filter's first kernel for columns and for rows, as the published weights need it; 1 uses
            its second one for rows. The parameters are the same.

    Raises:
        DDNetError: a width not in WIDTHS or filters not in FILTER_COUNTS.
    """

    def __init__(self, width: int = WIDTH, filters: int = FILTERS, both_kernels: int = 0) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"IFAN: width is {width}; it must be a multiple of 4 from 4 to {WIDTHS[-1]}")
        if filters not in FILTER_COUNTS:
            raise DDNetError(f"IFAN: filters is {filters}; it must be from 1 to {FILTER_COUNTS[-1]}")
        self.filters, self.both_kernels = filters, bool(both_kernels)
        w1, w2, w3 = width, 2 * width, 4 * width
        for encoder in ("conv", "kconv"):
            inputs = 3
            for stage, outputs in enumerate((w1, w2, w3, w3), 1):
                for place in (1, 2, 3):
                    layer = _conv(inputs, outputs, stride=2 if stage > 1 and place == 1 else 1)
                    self.add_module(f"{encoder}{stage}_{place}", layer)
                    inputs = outputs
        self.DME = nn.Sequential(_conv(w3, w3), Residual(w3, 2), Residual(w3, 2), nn.Conv2d(w3, 1, 3, padding=1))
        self.conv_DME = _conv(1, w3)
        self.conv4_4 = nn.Sequential(_conv(2 * w3, w3), Residual(w3, 2), Residual(w3, 2), _conv(w3, w3))
        predicted = filters * w3 * (2 * TAPS + 1)
        self.F = nn.Sequential(_conv(w3, w3), Residual(w3, 2), Residual(w3, 2), nn.Conv2d(w3, predicted, 1))
        self.conv_res = nn.Sequential(_conv(w3, w3), Residual(w3, 3), _conv(w3, w3))
        for stage, inputs, outputs in ((3, w3, w3), (2, w3, w2), (1, w2, w1)):
            self.add_module(f"upconv{stage}_u", _upconv(inputs, outputs))
            self.add_module(f"upconv{stage}_1", Residual(outputs, 1))
            self.add_module(f"upconv{stage}_2", Residual(outputs, 1))
        self.out_res = _conv(w1, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 8, to the same shape; not clipped."""
        *skips, x = self._encode("conv", image)
        helper = self._encode("kconv", image)[-1]
        helper = self.conv4_4(torch.cat([helper, self.conv_DME(self.DME(helper))], dim=1))
        x = self.conv_res(self._filter(x, self.F[:3](helper)))
        for stage in (3, 2, 1):
            x = self.get_submodule(f"upconv{stage}_u")(x) + skips[stage - 1]
            x = self.get_submodule(f"upconv{stage}_2")(self.get_submodule(f"upconv{stage}_1")(x))
        return image + self.out_res(x)

    def _encode(self, encoder: str, x: Tensor) -> list[Tensor]:
        """The features at full resolution, 1/2, 1/4 and 1/8."""
        features = []
        for stage in (1, 2, 3, 4):
            for place in (1, 2, 3):
                x = self.get_submodule(f"{encoder}{stage}_{place}")(x)
            features.append(x)
        return features

    def _filter(self, x: Tensor, helper: Tensor) -> Tensor:
        """Apply the filters, predicted one after the other: all at once they would take gigabytes.

        The last layer of `F` has the kernels of all filters first and then what is added after each.
        """
        last = self.F[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        weight, bias, channels = last.weight, last.bias, x.shape[1]
        kernels = 2 * TAPS * channels

        def predict(start: int, count: int) -> Tensor:
            return F.conv2d(helper, weight[start : start + count], bias[start : start + count])

        for place in range(self.filters):
            first, second = predict(place * kernels, kernels).chunk(2, dim=1)
            added = predict(self.filters * kernels + place * channels, channels)
            x = F.leaky_relu(adapt(x, first, second if self.both_kernels else first) + added, SLOPE)
        return x
