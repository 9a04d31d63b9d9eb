"""Fitting Monodepth2's network to true disparity: the stand-in where its public weights cannot be had.

The original learns from stereo and video without labels; a rendered scene has labels, so this fit is
supervised. Nothing else of the network differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnet.depth.network import SCALES, DepthNetwork
from ddnet.depth.weights import load_encoder

WARM_UP = 0.1  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 1e-2
GRADIENT_WEIGHT = 0.5
LOG_WEIGHT = 0.1
LOG_FLOOR = 0.01  # of normalised inverse depth; below it, distances are sky
CLIP_NORM = 1.0
JITTER = 0.25  # log-uniform exposure, white balance and contrast


@dataclass(frozen=True)
class FitSettings:
    """How one network is fitted.

    Attributes:
        steps, batch, lr: optimiser steps, images per step, peak learning rate of AdamW.
        crop: side of the square training crops in pixels (a multiple of 32), or None for whole images.
        seed: of the initial weights, the order of the images and the augmentation.
    """

    steps: int
    batch: int
    lr: float
    crop: int | None
    seed: int


def fit_network(
    images: Tensor,
    depths: Tensor,
    settings: FitSettings,
    *,
    encoder: Mapping[str, Any] | None = None,
    after_step: Callable[[int, float, DepthNetwork], None] | None = None,
) -> DepthNetwork:
    """Fit one network from scratch, or from given encoder weights.

    Args:
        images: (N, 3, H, W) defocused images in [0, 1], sides multiples of 32.
        depths: (N, 1, H, W) true normalised inverse depth in [0, 1].
        encoder: state dict in the published key names to start the encoder from.
        after_step: called with the number of finished steps, the loss and the network, which it may set to
            evaluation mode.

    Returns:
        The network in evaluation mode. The same settings on the same machine give the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = DepthNetwork()
        _start_at(network, float(depths.mean()))
    if encoder is not None:
        load_encoder(network, encoder, "encoder weights")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings.steps))
    order = torch.empty(0, dtype=torch.long)
    for step in range(1, settings.steps + 1):
        while len(order) < settings.batch:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        chosen, order = order[: settings.batch], order[settings.batch :]
        image, depth = augment(images[chosen], depths[chosen], settings.crop, generator)
        network.train()
        loss = disparity_loss(network(image.contiguous(memory_format=torch.channels_last)), depth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()
        schedule.step()
        if after_step is not None:
            after_step(step, float(loss.detach()), network)
    return network.eval()


def disparity_loss(disparities: list[Tensor], depth: Tensor) -> Tensor:
    """L1, log-L1 and gradient matching, averaged over the scales with weights 1, 1/2, 1/4, 1/8, finest first.

    The logarithm makes far surfaces count, and keeps a gradient where L1 alone lets the sigmoid die at 0.

    Args:
        disparities: (B, 1, H/2^s, W/2^s) for s = 0..3.
        depth: (B, 1, H, W) in [0, 1]; averaged down to each scale.
    """
    total = depth.new_zeros(())
    for scale, disparity in enumerate(disparities):
        truth = F.avg_pool2d(depth, 2**scale) if scale else depth
        error = disparity - truth
        edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        logs = ((disparity + LOG_FLOOR).log() - (truth + LOG_FLOOR).log()).abs().mean()
        total = total + (error.abs().mean() + GRADIENT_WEIGHT * edges + LOG_WEIGHT * logs) / 2**scale
    return total / sum(0.5**scale for scale in range(SCALES))


def augment(image: Tensor, depth: Tensor, crop: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crop, mirror image, colours and a hidden rectangle, per image of the batch.

    Nothing that changes the scale: an enlarged picture shows the same depth with a larger blur, which would
    teach a wrong relation between the two.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    count, _, height, width = image.shape
    tall, wide = (height, width) if crop is None else (min(crop, height), min(crop, width))
    pairs = []
    for both in torch.cat([image, depth], dim=1):
        top = int(uniform(0, height - tall + 1, 1))
        left = int(uniform(0, width - wide + 1, 1))
        both = both[:, top : top + tall, left : left + wide]
        pairs.append(both.flip(-1) if bool(uniform(0, 1, 1) < 0.5) else both)
    joined = torch.stack(pairs)
    image, depth = joined[:, :3], joined[:, 3:]
    gain = uniform(-JITTER, JITTER, count, 3, 1, 1).exp()
    power = uniform(-JITTER, JITTER, count, 1, 1, 1).exp()
    image = _recolour(image.clamp_min(1e-4) ** power * gain, generator).clamp(0, 1)
    for index in range(count):
        high, across = int(uniform(1, tall / 3, 1)), int(uniform(1, wide / 3, 1))
        top, left = int(uniform(0, tall - high, 1)), int(uniform(0, wide - across, 1))
        image[index, :, top : top + high, left : left + across] = uniform(0, 1, 3, 1, 1)
    return image, depth


def _recolour(image: Tensor, generator: torch.Generator) -> Tensor:
    """Swap the channels of each image at random and scale its saturation by 0 to 1.5.

    A benchmark's few photographs would otherwise be told apart by colour, and depth learnt by heart.
    """
    count = len(image)
    swap = torch.rand((count, 3), generator=generator).argsort(dim=1)
    image = torch.stack([one[order] for one, order in zip(image, swap, strict=True)])
    grey = image.mean(dim=1, keepdim=True)
    return grey + (image - grey) * 1.5 * torch.rand((count, 1, 1, 1), generator=generator)


def _start_at(network: DepthNetwork, mean: float) -> None:
    """Let every disparity head begin at the mean depth: a few hundred steps are too few to spend on that."""
    mean = min(max(mean, 0.01), 0.99)
    for head in network.depth.heads():
        torch.nn.init.constant_(cast(Tensor, head.bias), math.log(mean / (1 - mean)))


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero: the best use of a few hundred steps."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
