"""One measurement of a network of ours, in a process of its own: `ddnet bench step|inference` starts it.

`python -m ddnet.engine.measured_network ACTION --variant JSON ...` prints one line of JSON; an error is one line and
status 1. Weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddnet.config import Perceptual, Variant
from ddnet.engine.bench import best_of
from ddnet.engine.estimate_cost import random_trunk
from ddnet.errors import DDNetError
from ddnet.losses import DeblurLoss, VggFeatures
from ddnet.memory import keep_freed_memory
from ddnet.models import banded, build_model, initialise
from ddnet.models.ddnet import DDNet
from ddnet.plan import cpu_count
from ddnet.provenance import peak_memory_mib
from ddnet.tensors import channels_last

PLAIN, OURS = "plain", "ours"
WAYS = (PLAIN, "whole", "bands", OURS)  # of restoring one image, and of training
WARM_UP = 64  # pixels of a side: what is made once is not measured
SEED = 0
# VGG in the paper's loss sees every crop.
LOSS = Perceptual(weight=0.012, trunk="vgg19", crops=None)
LAYER = 64, 96, 4  # channels, side and batch of the convolution that the ceiling is measured with

Facts = dict[str, Any]


def inference(variant: Variant, channels: int, width: int, height: int, way: str, out: Path) -> Facts:
    """Seconds and peak memory of restoring one image, which is saved to `out` (.npy, (1, 3, H, W)).

    Args:
        way: `plain`: the network's own `forward` in NCHW; `whole`: the same, channels last; `bands`: as we restore.
    """
    network = build_model(variant, channels, "sigmoid").eval()
    initialise(network, SEED)
    run: Callable[..., torch.Tensor]
    generator = torch.Generator().manual_seed(SEED)
    image, depth = (torch.rand(1, planes, height, width, generator=generator) for planes in (3, 1))
    if way != PLAIN:
        network, image = channels_last(network), image.contiguous(memory_format=torch.channels_last)
    run = network
    if way == "bands":
        if not isinstance(network, DDNet):
            raise DDNetError(f"{variant.name} is not computed in bands")
        run = partial(banded.banded, network)
    with torch.inference_mode():
        run(image[..., :WARM_UP, :WARM_UP], depth[..., :WARM_UP, :WARM_UP])
        before = peak_memory_mib()
        wall, cpu = time.perf_counter(), time.process_time()
        restored = run(image, depth)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_memory_mib()
    np.save(out, restored.contiguous().numpy())
    return {"wall_s": wall, "cpu_s": cpu, "peak_memory_mib": peak, "work_memory_mib": peak - before}


def training_steps(variant: Variant, channels: int, crop: int, batch: int, rounds: int, way: str) -> Facts:
    """Seconds of `rounds` training steps, the first step's loss, the counted FLOP of a step, one convolution's rate.

    Args:
        way: `plain`: weights and images in NCHW, Adam as PyTorch has it by default; `ours`: as `train_step`. Both have
            the same loss and see the same crops.
    """
    ours = way == OURS
    if ours:
        keep_freed_memory()
    generator = torch.Generator().manual_seed(SEED)
    image, target, depth = (torch.rand(batch, planes, crop, crop, generator=generator) for planes in (3, 3, 1))
    network: nn.Module = build_model(variant, channels, "sigmoid")
    initialise(network, SEED)
    torch.manual_seed(SEED)
    loss: nn.Module = DeblurLoss(LOSS, VggFeatures(random_trunk()))
    if ours:
        network, loss = channels_last(network), channels_last(loss)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=ours or None)

    def step() -> float:
        seen = image.contiguous(memory_format=torch.channels_last) if ours else image
        value: torch.Tensor = sum(loss(network(seen, depth), target))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value.item()

    with FlopCounterMode(display=False) as counter:
        first = step()
    step()
    seconds = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    found: Facts = {"seconds": seconds, "first_loss": first, "gflop": counter.get_total_flops() / 1e9}
    return found | {"peak_memory_mib": peak_memory_mib(), "convolution_gflops": _convolution_rate()}


def _convolution_rate() -> float:
    """GFLOP/s of one 3x3 convolution, forward, whose data the cache holds: what the network's layers could reach."""
    channels, side, batch = LAYER
    x, weight = torch.rand(batch, channels, side, side), torch.rand(channels, channels, 3, 3)
    x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
    with torch.inference_mode():
        seconds = best_of(lambda: F.conv2d(x, weight, padding=1))
    return 2e-9 * batch * side**2 * channels**2 * 9 / seconds


def main(argv: list[str]) -> int:
    """One action; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("inference", "step"))
    parser.add_argument("--variant", type=Variant.model_validate_json, required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args(argv)
    torch.set_num_threads(cpu_count())
    try:
        if given.action == "inference":
            width, height = given.size
            facts = inference(given.variant, given.channels, width, height, given.way, given.out)
        else:
            facts = training_steps(given.variant, given.channels, given.crop, given.batch, given.rounds, given.way)
    except DDNetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
