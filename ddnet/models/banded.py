"""A DDNet's output for a large image on a CPU, computed in bands of rows: less waiting for memory, and less of it.

At DPDD's size a full-size feature of 64 channels takes half a gigabyte, and layers that write one after the other wait
for memory most of their time. Here every pass over a feature goes in bands that the cache holds, and what is cheap to
make again (head, upsampling, depth features) is made again instead of kept: three full-size features exist at once.
Channel attention averages over the whole image as ever: bands are an order of computation, not tiles, and the output
differs from that of `DDNet.forward` by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from ddnet.models.blocks import RCAB, ResidualGroup
from ddnet.models.ddnet import SCALES, Branch, DDNet

ROWS = 16  # of a band; even, for pooling and upsampling
TILE = 64, 448  # rows and columns that a fusion cell sees at once, without its halo
SMALLEST_BYTES = 1 << 26  # of a full-size feature: below this, memory is not what takes the time

Read = Callable[[int, int], torch.Tensor]  # rows [low, high) of a (B, C, H, W) feature


def forward(network: nn.Module, image: torch.Tensor, depth: torch.Tensor | None = None) -> torch.Tensor:
    """What `network(image, depth)` gives, in bands where that is faster: a DDNet, evaluated on a CPU, a large image."""
    if isinstance(network, DDNet) and not (network.training or torch.is_grad_enabled()) and image.device.type == "cpu":
        feature = image.numel() // image.shape[1] * network.head.out_channels * image.element_size()
        if feature >= SMALLEST_BYTES:
            return banded(network, image, depth)
    output: torch.Tensor = network(image, depth)
    return output


def banded(network: DDNet, image: torch.Tensor, depth: torch.Tensor | None = None) -> torch.Tensor:
    """`DDNet.forward` of an evaluated network, in bands; shapes and ranges as there.

    A fusion cell that says in `halo` how many rows and columns around a pixel it looks at is run in tiles; one without
    is run on the whole feature, because it may look anywhere.
    """
    x, depths = network.inputs(image, depth)
    height, channels = x.shape[2], network.head.out_channels

    def features(low: int, high: int) -> torch.Tensor:
        return _convolved(_rows(x), network.head, low, high, height).relu_()

    total = _empty(image, channels, 1)
    read: Read = features
    for number, branch in enumerate(network.branches):
        assert isinstance(branch, Branch)
        for rows, columns, part in _decoded(branch, _encoded(branch, features, image), network, depths, image):
            before = total[:, :, rows, columns] if number else features(rows.start, rows.stop)[:, :, :, columns]
            torch.add(before, part, out=total[:, :, rows, columns])
        read = _rows(total)
    restored = torch.empty_like(image)
    for low, high in _bands(height):
        band = _convolved(read, network.tail, low, high, height)
        restored[:, :, low:high] = (image[:, :, low:high] + band).clamp_(0, 1) if network.residual else band.sigmoid_()
    return restored


def _bands(height: int, rows: int = ROWS) -> Iterator[tuple[int, int]]:
    return ((low, min(low + rows, height)) for low in range(0, height, rows))


def _rows(x: torch.Tensor) -> Read:
    return lambda low, high: x[:, :, low:high]


def _empty(image: torch.Tensor, channels: int, scale: int) -> torch.Tensor:
    batch, _, height, width = image.shape
    shape = (batch, channels, height // scale, width // scale)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=torch.channels_last)


def _valid(x: torch.Tensor, conv: nn.Module, top: bool, bottom: bool) -> torch.Tensor:
    """3x3 convolution that drops the first and the last row, except where the image begins or ends there."""
    assert isinstance(conv, nn.Conv2d)
    if top or bottom:
        x = F.pad(x, (0, 0, int(top), int(bottom)))
    return F.conv2d(x, conv.weight, conv.bias, padding=(0, 1))


def _convolved(read: Read, conv: nn.Module, low: int, high: int, height: int) -> torch.Tensor:
    """Rows [low, high) of a 3x3 convolution."""
    return _valid(read(max(low - 1, 0), min(high + 1, height)), conv, low == 0, high == height)


def _rcab(block: RCAB, read: Read, out: torch.Tensor) -> None:
    """One block from `read` to `out`: the convolutions band by band, then, when the average is known, the gate."""
    height, width = out.shape[2:]
    sums = torch.zeros(*out.shape[:2], 1, 1, dtype=torch.float64)
    for low, high in _bands(height):
        top, bottom = low == 0, high == height
        band = _valid(read(max(low - 2, 0), min(high + 2, height)), block.conv1, top, bottom).relu_()
        band = _valid(band, block.conv2, top, bottom)
        sums += band.sum((2, 3), keepdim=True)
        out[:, :, low:high] = band
    gate = block.attention.gate((sums / (height * width)).to(out.dtype))
    for low, high in _bands(height):
        band = out[:, :, low:high]
        torch.addcmul(read(low, high), band, gate, out=band)


def _grouped(group: nn.Module, read: Read, image: torch.Tensor, channels: int, scale: int) -> Read:
    """A residual group: its blocks at once, in two features that take turns; its last convolution when it is read."""
    assert isinstance(group, ResidualGroup)
    height, inner = image.shape[2] // scale, read
    last: torch.Tensor | None = None
    spare: torch.Tensor | None = None
    for block in group.blocks:
        assert isinstance(block, RCAB)
        out = _empty(image, channels, scale) if spare is None else spare
        _rcab(block, inner, out)
        spare, last, inner = last, out, _rows(out)
    return lambda low, high: _convolved(inner, group.conv, low, high, height).add_(read(low, high))


def _encoded(branch: Branch, features: Read, image: torch.Tensor) -> list[torch.Tensor]:
    """What an encoder hands to its decoder: features at 1/2, 1/4, 1/8 and 1/16 size."""
    read, skips = features, []
    for level, group in enumerate(branch.encoder):
        scale, channels = 2**level, branch.channels
        grouped, pooled = _grouped(group, read, image, channels, scale), _empty(image, channels, 2 * scale)
        for low, high in _bands(image.shape[2] // scale):
            pooled[:, :, low // 2 : high // 2] = F.max_pool2d(grouped(low, high), 2)
        skips.append(pooled)
        read = _rows(pooled)
    return skips


def _decoded(
    branch: Branch, skips: list[torch.Tensor], network: DDNet, depths: list[torch.Tensor], image: torch.Tensor
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """A branch's output in pieces: rows, columns, and the feature there."""
    x = skips.pop()
    for stage, group in enumerate(branch.decoder):
        scale = 2 ** (SCALES - stage)
        if stage:
            x += skips.pop()
        grouped = _grouped(group, _rows(x), image, branch.channels, scale)
        pieces = _fused(branch, stage, grouped, network, depths, image)
        if stage == SCALES - 1:
            yield from pieces
            return
        x = _empty(image, branch.channels, scale // 2)
        for rows, columns, part in pieces:
            x[:, :, rows, columns] = part


def _fused(
    branch: Branch, stage: int, grouped: Read, network: DDNet, depths: list[torch.Tensor], image: torch.Tensor
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Upsampled by two and fused with depth, in pieces."""
    scale = 2 ** (SCALES - 1 - stage)
    height, width = image.shape[2] // scale, image.shape[3] // scale

    def upsampled(low: int, high: int) -> torch.Tensor:
        band = F.interpolate(grouped(low // 2, (high + 1) // 2), scale_factor=2, mode="nearest")
        return band[:, :, low % 2 : low % 2 + high - low]

    if not branch.cells:
        for low, high in _bands(height, TILE[0]):
            yield slice(low, high), slice(None), upsampled(low, high)
        return
    cell, depth = branch.cells[stage], _depth_feature(network, depths[SCALES - 1 - stage], image, scale)
    halo = getattr(cell, "halo", None)
    if halo is None:
        yield slice(0, height), slice(None), cell(upsampled(0, height), depth(0, height))
        return
    for low, high in _bands(height, TILE[0]):
        first, last = max(low - halo, 0), min(high + halo, height)
        above, beside = upsampled(first, last), depth(first, last)
        for left, right in _bands(width, TILE[1]):
            begin, end = max(left - halo, 0), min(right + halo, width)
            tile = cell(above[:, :, :, begin:end], beside[:, :, :, begin:end])
            tile = tile[:, :, low - first : high - first, left - begin : right - begin]
            yield slice(low, high), slice(left, right), tile


def _depth_feature(network: DDNet, depth: torch.Tensor, image: torch.Tensor, scale: int) -> Read:
    encoder = network.depth_encoder
    assert encoder is not None

    def lifted(low: int, high: int) -> torch.Tensor:
        return _convolved(_rows(depth), encoder.conv, low, high, depth.shape[2]).relu_()

    return _grouped(encoder.group, lifted, image, encoder.conv.out_channels, scale)
