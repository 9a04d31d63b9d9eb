"""Fitting Monodepth2's network to true disparity: the stand-in where its public weights cannot be had.

The original learns from stereo and video without labels; a rendered scene has labels, so this fit is
supervised. Nothing else of the network differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnet.depth.network import SCALES, DepthNetwork
from ddnet.training.loop import LoopState, Task

WARM_UP = 0.1  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 1e-2
GRADIENT_WEIGHT = 0.5
LOG_WEIGHT = 0.1
LOG_FLOOR = 0.01  # of normalised inverse depth; below it, distances are sky
CLIP_NORM = 1.0
HISTORY = ("fold", "step", "loss", "val_abs_error", "val_spearman")
CHECKS = 10  # validations per network
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


class DepthTask(Task):
    """The depth network's training on whole images that are in memory; the weights of the last step are kept.

    Args:
        images: (N, 3, H, W) defocused images in [0, 1], sides multiples of 32.
        depths: (N, 1, H, W) true normalised inverse depth in [0, 1].
        validate: absolute error and rank correlation of a network in evaluation mode.
        fold: for the history and the log.
    """

    columns = HISTORY
    keeps_best = False

    def __init__(
        self,
        images: Tensor,
        depths: Tensor,
        settings: FitSettings,
        validate: Callable[[DepthNetwork], tuple[float, float]],
        fold: int = 0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = DepthNetwork()
            _start_at(network, float(depths.mean()))
        self.network: DepthNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images, self.depths, self.settings, self._validate, self.fold = images, depths, settings, validate, fold
        self.title, self.steps, self.lr = f"depth network {fold + 1}", settings.steps, settings.lr
        self.every = max(1, settings.steps // CHECKS)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
        self.order = torch.empty(0, dtype=torch.long)

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero: the best use of a few hundred steps."""
        warm = max(1, round(WARM_UP * self.steps))
        if step < warm:
            return self.lr * ((step + 1) / warm)
        return self.lr * (0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))))

    def train_step(self, step: int) -> Sequence[float]:
        """The loss."""
        while len(self.order) < self.settings.batch:
            self.order = torch.cat([self.order, torch.randperm(len(self.images), generator=self.generator)])
        chosen, self.order = self.order[: self.settings.batch], self.order[self.settings.batch :]
        image, depth = augment(self.images[chosen], self.depths[chosen], self.settings.crop, self.generator)
        self.network.train()
        loss = disparity_loss(self.network(image.contiguous(memory_format=torch.channels_last)), depth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        return [float(loss.detach())]

    def state(self) -> dict[str, Any]:
        """What is drawn next included."""
        return super().state() | {"generator": self.generator.get_state(), "order": self.order}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        super().load_state(state)
        self.generator.set_state(state["generator"])
        self.order = state["order"]

    def validate(self, step: int, asked: Callable[[], int]) -> Sequence[float] | None:
        """Absolute error, negative, and rank correlation."""
        if asked():
            return None
        error, spearman = self._validate(self.network.eval())
        return [-error, spearman]

    def row(self, state: LoopState, found: Sequence[float]) -> list[float]:
        """A validation as a row of `HISTORY`."""
        return [self.fold, state.step, state.last[0], -found[0], found[1]]

    def describe(self, state: LoopState, found: Sequence[float]) -> str:
        """The same for the log."""
        return f"loss {state.last[0]:.4f}  val absolute error {-found[0]:.4f}  spearman {found[1]:.3f}"


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
