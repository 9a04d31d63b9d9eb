"""DMENet's network: a VGG-19 encoder, a decoder with skips, and a chain of residual units at full resolution.

Lee, Lee, Cho and Lee, "Deep Defocus Map Estimation Using Domain Adaptation", CVPR 2019. Written from a description of
its published TensorFlow code; modules bear the names of its variables, so `u3.c1.weight` here is `u3/c1/kernel` there.
Padding is symmetric by one pixel, which is to repeat the border. Batch normalisation has a shift and no scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError

WIDTH = 64
WIDTHS = range(2, 513, 2)
MULTIPLE = 16  # of the sides of the input
STAGES = (2, 2, 4, 4, 4)  # convolutions of VGG-19 before each pooling; the last stage is not pooled
UNITS = 7
SLOPE = 0.2
EPSILON, MOMENTUM = 1e-5, 0.1  # PyTorch's momentum 0.1 is TensorFlow's decay 0.9
MEAN_BGR = (103.939, 116.779, 123.68)  # of ImageNet, for pixels in 0..255: Caffe's preprocessing


class Shift(nn.Module):
    """Batch normalisation without a scale (gamma)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("moving_mean", torch.zeros(channels))
        self.register_buffer("moving_variance", torch.ones(channels))
        self.momentum = MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, by the batch's statistics in training, by the moving ones otherwise."""
        mean, variance = self.get_buffer("moving_mean"), self.get_buffer("moving_variance")
        return F.batch_norm(x, mean, variance, None, self.beta, self.training, self.momentum, EPSILON)


def _conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, padding_mode="replicate")


class Encoder(nn.Module):
    """The 16 convolutions of VGG-19."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inputs = 3
        for stage, (count, times) in enumerate(zip(STAGES, (1, 2, 4, 8, 8), strict=True), 1):
            for place in range(1, count + 1):
                self.add_module(f"conv{stage}_{place}", _conv(inputs, times * width))
                inputs = times * width

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) preprocessed images to the last features of each stage, at H, H/2, H/4, H/8, H/16."""
        taps: list[Tensor] = []
        for stage, count in enumerate(STAGES, 1):
            if taps:
                x = F.max_pool2d(taps[-1], 2)
            for place in range(1, count + 1):
                x = F.relu_(self.get_submodule(f"conv{stage}_{place}")(x))
            taps.append(x)
        return taps


class Block(nn.Module):
    """Convolutions `c1`, `c2`, ... with their normalisations `b1`, `b2`, ...

    Args:
        layers: what follows the c and the b of a name -> (input channels, output channels, side of the kernel).
        bare: those without normalisation.
    """

    def __init__(self, layers: dict[str, tuple[int, int, int]], bare: tuple[str, ...] = ()) -> None:
        super().__init__()
        for name, (inputs, outputs, side) in layers.items():
            self.add_module(f"c{name}", _conv(inputs, outputs, side))
            if name not in bare:
                self.add_module(f"b{name}", Shift(outputs))

    def normed(self, name: str, x: Tensor) -> Tensor:
        """Convolution and normalisation."""
        return self.get_submodule(f"b{name}")(self.get_submodule(f"c{name}")(x))

    def activated(self, name: str, x: Tensor) -> Tensor:
        """Convolution, normalisation and leaky ReLU."""
        return F.leaky_relu_(self.normed(name, x), SLOPE)


def _stage(inputs: int, outputs: int) -> Block:
    return Block({"1": (inputs, outputs, 3), "2": (outputs, outputs, 3), "3": (outputs, outputs, 3)})


def _residual(inputs: int, width: int) -> Block:
    layers = {"_init": (inputs, width, 3)}
    for unit in range(UNITS):
        layers[f"_res{unit}"] = (width, width, 1)
        layers |= {f"{unit}_{place}": (width, width, 3) for place in (1, 2)}
    return Block(layers)


def _auxiliary(inputs: int) -> Block:
    return Block({"1": (inputs, inputs // 2, 3), "2": (inputs // 2, 1, 3)})


def upsample(x: Tensor) -> Tensor:
    """Twice the size, each value repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Network(nn.Module):
    """An image to a map of its blur in [0, 1]; what a map's value means is up to its training.

    26,939,819 parameters at width 64; 25,349,025 without the auxiliary heads, which only training uses. Moving
    statistics are no parameters.

    Args:
        width: channels at full resolution; all numbers of channels scale with it. 64 is the published network.
        auxiliary: whether to have the five heads that learn the map at lower resolutions.

    Raises:
        DDNetError: a width not in WIDTHS.
    """

    def __init__(self, width: int = WIDTH, auxiliary: bool = True) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise DDNetError(f"DMENet: width is {width!r}; it must be an even number from 2 to {WIDTHS[-1]}")
        self.width, self.auxiliary = width, auxiliary
        w = width
        self.encoder = Encoder(w)
        self.u3 = _stage(8 * w + 8 * w, 4 * w)
        self.u2 = _stage(4 * w + 4 * w, 2 * w)
        self.u1 = _stage(2 * w + 2 * w, w)
        self.u0 = _residual(w + w, w)
        self.uf = Block({"1": (w, w, 3), "2": (w, w // 2, 3), "3": (w // 2, 1, 3)}, bare=("3",))
        if auxiliary:
            for name, inputs in zip(("u4", "u3", "u2", "u1", "u0"), (8 * w, 4 * w, 2 * w, w, w), strict=True):
                self.add_module(f"{name}_aux", _auxiliary(inputs))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) RGB in [0, 1], sides multiples of 16, to maps in [0, 1].

        Returns:
            The map (B, 1, H, W), and those of the auxiliary heads at H/16, H/8, H/4, H/2 and H; none without them.
        """
        d0, d1, d2, d3, x = self.encoder(image.flip(1) * 255.0 - image.new_tensor(MEAN_BGR).reshape(1, 3, 1, 1))
        helped = [x]
        for stage, skip in ((self.u3, d3), (self.u2, d2), (self.u1, d1)):
            x = torch.cat([upsample(x), skip], dim=1)
            for place in "123":
                x = stage.activated(place, x)
            helped.append(x)
        x = self.u0.activated("_init", torch.cat([upsample(x), d0], dim=1))
        helped.append(x)
        for unit in range(UNITS):
            inside = self.u0.activated(f"{unit}_2", self.u0.activated(f"{unit}_1", x))
            x = self.u0.activated(f"_res{unit}", x) + inside
        x = self.uf.activated("2", self.uf.activated("1", x))
        heads = [torch.sigmoid(head.normed("2", head.activated("1", y))) for head, y in zip(self.heads(), helped)]
        return torch.sigmoid(self.uf.get_submodule("c3")(x)), heads

    def heads(self) -> list[Block]:
        """The auxiliary heads from H/16 to H; none without them."""
        return [block for name, block in self.named_children() if name.endswith("_aux") and isinstance(block, Block)]
