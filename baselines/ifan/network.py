"""IFAN's network: features at 1/8 of the resolution go through small filters that are predicted for every pixel.

Lee, Son, Rim, Cho and Lee, "Iterative Filter Adaptive Network for Single Image Defocus Deblurring", CVPR 2021. Written
from a description of its published code; modules bear its names.

The published code filters rows with the kernel that was meant for columns only, and its weights learnt so. That is the
default; a network trained anew may use both kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError

WIDTH, FILTERS = 32, 17
WIDTHS, FILTER_COUNTS = range(4, 129, 4), range(1, 65)
TAPS = 3
SLOPE = 0.1


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with leaky ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(SLOPE))


def _upconv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE))


class Residual(nn.Module):
    """`units` residual units; where they are several, their input is added to their output."""

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.stem = nn.ModuleList(
            nn.Sequential(*conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(units)
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


def adapt_in_turn(
    x: Tensor, predicted: Callable[[int, int], Tensor], filters: int, both_kernels: bool, activate_last: bool = True
) -> Tensor:
    """Apply filters one after the other; something is added after each, and an activation follows.

    Args:
        x: (B, C, H, W).
        predicted: `count` channels from channel `start` on of what was predicted, (B, 7 C filters, H, W): the kernels
            of all filters first, two of each, and then what is added after each.
        both_kernels: whether rows are filtered with the second kernel instead of the first.
        activate_last: whether an activation follows the last filter, too.
    """
    channels = x.shape[1]
    kernels = 2 * TAPS * channels
    for place in range(filters):
        first, second = predicted(place * kernels, kernels).chunk(2, dim=1)
        added = predicted(filters * kernels + place * channels, channels)
        x = adapt(x, first, second if both_kernels else first) + added
        if activate_last or place < filters - 1:
            x = F.leaky_relu(x, SLOPE)
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
        self.width, self.filters, self.both_kernels = width, filters, bool(both_kernels)
        w1, w2, w3 = width, 2 * width, 4 * width
        for encoder in ("conv", "kconv"):
            inputs = 3
            for stage, outputs in enumerate((w1, w2, w3, w3), 1):
                for place in (1, 2, 3):
                    layer = conv(inputs, outputs, stride=2 if stage > 1 and place == 1 else 1)
                    self.add_module(f"{encoder}{stage}_{place}", layer)
                    inputs = outputs
        self.DME = nn.Sequential(conv(w3, w3), Residual(w3, 2), Residual(w3, 2), nn.Conv2d(w3, 1, 3, padding=1))
        self.conv_DME = conv(1, w3)
        self.conv4_4 = nn.Sequential(conv(2 * w3, w3), Residual(w3, 2), Residual(w3, 2), conv(w3, w3))
        predicted = filters * w3 * (2 * TAPS + 1)
        self.F = nn.Sequential(conv(w3, w3), Residual(w3, 2), Residual(w3, 2), nn.Conv2d(w3, predicted, 1))
        self.conv_res = nn.Sequential(conv(w3, w3), Residual(w3, 3), conv(w3, w3))
        for stage, inputs, outputs in ((3, w3, w3), (2, w3, w2), (1, w2, w1)):
            self.add_module(f"upconv{stage}_u", _upconv(inputs, outputs))
            self.add_module(f"upconv{stage}_1", Residual(outputs, 1))
            self.add_module(f"upconv{stage}_2", Residual(outputs, 1))
        self.out_res = conv(w1, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), sides multiples of 8, to the same shape; not clipped."""
        helper = self.F[:3](self._helper(image)[0])
        last = self.F[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        weight, bias = last.weight, last.bias

        def predicted(start: int, count: int) -> Tensor:
            """A part at a time: all at once would take gigabytes."""
            return F.conv2d(helper, weight[start : start + count], bias[start : start + count])

        return self._restored(image, predicted)

    def in_parts(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` gives, with what it makes on the way.

        Returns:
            The picture; all that `F` predicts, (B, 28 width filters, H/8, W/8), which takes 238 values for every pixel
            of the published network's input; and the disparity map of `DME`, (B, 1, H/8, W/8).
        """
        helper, disparity = self._helper(image)
        filters = self.F(helper)
        return self._restored(image, lambda start, count: filters.narrow(1, start, count)), filters, disparity

    def disparity(self, image: Tensor) -> Tensor:
        """The disparity map of `DME`, (B, 1, H/8, W/8), of a picture or a view, alone."""
        disparity: Tensor = self.DME(self._encode("kconv", image)[-1])
        return disparity

    def _helper(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the filters are predicted from, (B, 4 width, H/8, W/8), and the disparity map, (B, 1, H/8, W/8)."""
        features = self._encode("kconv", image)[-1]
        disparity = self.DME(features)
        return self.conv4_4(torch.cat([features, self.conv_DME(disparity)], dim=1)), disparity

    def _restored(self, image: Tensor, predicted: Callable[[int, int], Tensor]) -> Tensor:
        *skips, x = self._encode("conv", image)
        x = self.conv_res(adapt_in_turn(x, predicted, self.filters, self.both_kernels))
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
