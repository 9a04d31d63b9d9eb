"""DMENet's network for whole photographs on a CPU: the same numbers in less memory and time.

Normalisations are folded into the convolutions before them, the preprocessing into the first one. Convolutions go by
strips of rows with one row more at either side, so nothing is computed twice; upsampled and concatenated features
exist strip by strip only. A strip is small enough for its memory to be used again instead of being asked for anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.common.bit_depth import stored_in_eight_bits
from baselines.dmenet.network import EPSILON, MEAN_BGR, MULTIPLE, SLOPE, STAGES, UNITS, Network, Shift, upsample
from ddnet.io.tensors import crop_to, pad_to_multiple

STRIP = 1 << 22  # values: 16 MiB, below which the allocator keeps what is freed


class Layer(NamedTuple):
    """A convolution with its normalisation, and the slope of its leaky ReLU below 0: 0 is ReLU, 1 is none."""

    weight: Tensor
    bias: Tensor
    slope: float

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, H, W) without padding."""
        if self.weight.shape[2] == 1:  # PyTorch's convolution would take another routine on one thread than on two
            y = F.linear(x.movedim(1, 3), self.weight[:, :, 0, 0], self.bias).movedim(3, 1)
        else:
            y = F.conv2d(x, self.weight, self.bias)
        return y if self.slope == 1.0 else F.leaky_relu_(y, self.slope) if self.slope else F.relu_(y)


class Source(NamedTuple):
    """Features that a convolution reads: as they are, or upsampled to twice their size."""

    features: Tensor
    doubled: bool = False

    def rows(self, top: int, bottom: int) -> Tensor:
        """Rows `top` to `bottom`, both within the (upsampled) features."""
        if not self.doubled:
            return self.features[:, :, top:bottom]
        first = top // 2
        return upsample(self.features[:, :, first : (bottom + 1) // 2])[:, :, top - 2 * first : bottom - 2 * first]


def fold(network: Network) -> dict[str, Layer]:
    """The layers of a network in evaluation mode, by name (`conv1_1`, `u3.c1`), without the auxiliary heads."""
    layers = {}
    for name, conv in network.named_modules():
        if not isinstance(conv, nn.Conv2d) or "_aux." in name:
            continue
        assert conv.bias is not None
        weight, bias = conv.weight.detach().double(), conv.bias.detach().double()
        block, _, own = name.rpartition(".")
        shift = dict(network.get_submodule(block).named_children()).get(f"b{own[1:]}")
        slope = 0.0 if block == "encoder" else 1.0
        if isinstance(shift, Shift):
            statistics = (shift.get_buffer("moving_mean").double(), shift.get_buffer("moving_variance").double())
            scale = (statistics[1] + EPSILON).rsqrt()
            weight = weight * scale[:, None, None, None]
            bias, slope = (bias - statistics[0]) * scale + shift.beta.detach().double(), SLOPE
        if own == "conv1_1":  # BGR in 0..255 less its mean, from RGB in 0..1
            bias = bias - (weight.sum(dim=(2, 3)) * weight.new_tensor(MEAN_BGR)).sum(dim=1)
            weight = weight.flip(1) * 255.0
        kernel = weight.float().contiguous(memory_format=torch.channels_last)
        layers[name.removeprefix("encoder.")] = Layer(kernel, bias.float(), slope)
    return layers


def _strips(height: int, width: int, channels: int, strip: int) -> Iterator[tuple[int, int]]:
    rows = max(1, strip // (width * channels))
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def _convolve(
    layer: Layer,
    sources: tuple[Source, ...],
    strip: int,
    into: Tensor | None = None,
    side: Layer | None = None,
) -> Tensor:
    """A 3x3 convolution of the concatenated sources, borders repeated.

    Args:
        into: (1, C, H, W) where the result goes; a new tensor by default.
        side: a 1x1 convolution of what `into` held before, to add to the result: the other way of a residual unit.
    """
    first = sources[0]
    height, width = (length << first.doubled for length in first.features.shape[2:])
    outputs, inputs = layer.weight.shape[:2]
    if into is None:
        into = torch.empty((1, outputs, height, width), memory_format=torch.channels_last)
    for top, bottom in _strips(height, width, max(inputs, outputs), strip):
        above, below = max(top - 1, 0), min(bottom + 1, height)
        parts = [source.rows(above, below) for source in sources]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        y = layer(F.pad(whole, (1, 1, int(top == 0), int(bottom == height)), mode="replicate"))
        here = into[:, :, top:bottom]
        here.copy_(y if side is None else y.add_(side(here)))
    return into


@torch.inference_mode()
def estimate(layers: dict[str, Layer], image: Tensor, strip: int = STRIP) -> Tensor:
    """(1, 3, H, W) RGB in [0, 1], sides multiples of 16, to the map (1, 1, H, W) in [0, 1].

    Args:
        layers: of `fold`.
        strip: values worked on at once, at least one row's; the numbers do not depend on it but for rounding.
    """

    def convolve(name: str, *sources: Source) -> Tensor:
        return _convolve(layers[name], sources, strip)

    x = image.contiguous(memory_format=torch.channels_last)
    taps: list[Tensor] = []
    for stage, count in enumerate(STAGES, 1):
        if taps:
            x = F.max_pool2d(taps[-1], 2)
        for place in range(1, count + 1):
            x = convolve(f"conv{stage}_{place}", Source(x))
        taps.append(x)
    taps.pop()
    for stage_name in ("u3", "u2", "u1"):
        x = convolve(f"{stage_name}.c1", Source(x, doubled=True), Source(taps.pop()))
        x = convolve(f"{stage_name}.c3", Source(convolve(f"{stage_name}.c2", Source(x))))
    x = convolve("u0.c_init", Source(x, doubled=True), Source(taps.pop()))
    inside = torch.empty_like(x)
    for unit in range(UNITS):
        _convolve(layers[f"u0.c{unit}_1"], (Source(x),), strip, into=inside)
        _convolve(layers[f"u0.c{unit}_2"], (Source(inside),), strip, into=x, side=layers[f"u0.c_res{unit}"])
    x = _convolve(layers["uf.c1"], (Source(x),), strip, into=inside)
    return torch.sigmoid(convolve("uf.c3", Source(convolve("uf.c2", Source(x)))))


def sigma_map(
    layers: dict[str, Layer], image: Tensor, slope: float, offset: float, stored: bool = False
) -> NDArray[np.float32]:
    """(1, 3, H, W) of any size to the (H, W) blur in pixels, max(0, slope m + offset) of the map's m.

    Args:
        stored: whether the map is rounded to the 256 levels of an 8-bit file first.
    """
    padded, size = pad_to_multiple(image, MULTIPLE)
    m = crop_to(estimate(layers, padded), size)[0, 0]
    sigma = ((stored_in_eight_bits(m) if stored else m) * slope + offset).clamp_min(0.0)
    return sigma.contiguous().numpy()
