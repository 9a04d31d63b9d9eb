"""Monodepth2's network: a ResNet-18 encoder and a U-Net decoder with sigmoid disparity at four scales.

Written from the published architecture (Godard et al., ICCV 2019) under the published key names, so that the
released `encoder.pth` and `depth.pth` load unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODER_CHANNELS = (64, 64, 128, 256, 512)
DECODER_CHANNELS = (16, 32, 64, 128, 256)
SCALES = 4
STRIDE = 32
INPUT_MEAN, INPUT_SCALE = 0.45, 0.225  # one scalar for all channels, as published


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, in, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class _ResNet18(nn.Module):
    """ResNet-18 without pooling and classifier, under torchvision's key names; 11,176,512 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for stage in range(1, 5):
            inside, outside = ENCODER_CHANNELS[stage - 1], ENCODER_CHANNELS[stage]
            first = _BasicBlock(inside, outside, stride=1 if stage == 1 else 2)
            setattr(self, f"layer{stage}", nn.Sequential(first, _BasicBlock(outside, outside, stride=1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Encoder(nn.Module):
    """Feature maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of an RGB image in [0, 1] with sides divisible by 32."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _ResNet18()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to four maps, finest first."""
        net = self.encoder
        x = F.relu(net.bn1(net.conv1((image - INPUT_MEAN) / INPUT_SCALE)))
        features = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(net, f"layer{stage}")(x)
            features.append(x)
        return features


class _Conv3x3(nn.Module):
    """Reflection padding, then a 3x3 convolution."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class _ConvBlock(nn.Module):
    """`_Conv3x3` and ELU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = _Conv3x3(inside, outside)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x))


class Decoder(nn.Module):
    """Five feature maps -> disparities at full, 1/2, 1/4 and 1/8 resolution; 3,152,724 parameters.

    `decoder` is one flat list, as published: the blocks before and after the upsampling of levels 4 to 0
    (indices 0-9), then the four disparity heads (indices 10-13), finest first.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        below = ENCODER_CHANNELS[-1]
        for level in reversed(range(5)):
            outside = DECODER_CHANNELS[level]
            skip = ENCODER_CHANNELS[level - 1] if level > 0 else 0
            blocks += [_ConvBlock(below, outside), _ConvBlock(outside + skip, outside)]
            below = outside
        heads = [_Conv3x3(DECODER_CHANNELS[scale], 1) for scale in range(SCALES)]
        self.decoder = nn.ModuleList([*blocks, *heads])

    def heads(self) -> list[nn.Conv2d]:
        """The convolutions whose sigmoid is the disparity, finest first."""
        return [self.decoder[10 + scale].conv for scale in range(SCALES)]  # type: ignore[misc]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features of the encoder, finest first, to disparity in [0, 1] at four scales, finest first."""
        x = features[-1]
        disparities: list[Tensor] = []
        for level in reversed(range(5)):
            before, after = self.decoder[2 * (4 - level)], self.decoder[2 * (4 - level) + 1]
            x = F.interpolate(before(x), scale_factor=2.0, mode="nearest")
            if level > 0:
                x = torch.cat([x, features[level - 1]], dim=1)
            x = after(x)
            if level < SCALES:
                disparities.insert(0, torch.sigmoid(self.decoder[10 + level](x)))
        return disparities


class DepthNetwork(nn.Module):
    """(B, 3, H, W) RGB in [0, 1] -> four disparities in (0, 1): (B, 1, H/2^s, W/2^s) for s = 0..3.

    Both sides must be multiples of 32, and at least 64: reflection needs two pixels at the coarsest level.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.depth = Decoder()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to four maps, finest first."""
        return self.depth(self.encoder(image))
