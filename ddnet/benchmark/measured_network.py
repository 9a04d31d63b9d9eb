"""One measurement of a network of ours, in a process of its own: `ddnet bench step|inference` starts it.

`python -m ddnet.benchmark.measured_network ACTION --variant JSON ...` prints one line of JSON; an error is one line and
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
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ddnet.benchmark.bench import best_of
from ddnet.benchmark.estimate_cost import random_trunk
from ddnet.config import Perceptual, Variant
from ddnet.errors import DDNetError
from ddnet.io.arrays import write_npy
from ddnet.io.tensors import best_device, channels_last
from ddnet.models import banded, build_model, initialise
from ddnet.models.ddnet import DDNet
from ddnet.runtime.malloc import keep_freed_memory
from ddnet.runtime.provenance import peak_memory_mib
from ddnet.runtime.resources import cpu_count
from ddnet.training.losses import DeblurLoss, VggFeatures

PLAIN, OURS = "plain", "ours"
WARM_UP = 64  # pixels of a side: what is made once is not measured
SEED = 0
# VGG in the paper's loss sees every crop.
LOSS = Perceptual(weight=0.012, trunk="vgg19", crops=None)
LAYER = 64, 96, 4  # channels, side and batch of the convolution that the ceiling is measured with
GPU_MATRIX, GPU_COPIED = 8192, 1 << 30  # rows; bytes

Facts = dict[str, Any]


class Way(NamedTuple):
    """How a network is run; `plain` is none of it."""

    channels_last: bool = False  # and, in training, the fused optimiser and freed memory that is kept
    bands: bool = False
    tf32: bool | None = False  # of a GPU; None: as PyTorch has it by default, and training with it
    half: bool = False  # bfloat16 where autocast allows it; weights stay in 32 bits
    compiled: bool = False


INFERENCE = {
    PLAIN: Way(),
    "whole": Way(channels_last=True),
    "bands": Way(channels_last=True, bands=True),
    "half": Way(channels_last=True, half=True),
}
STEP = {
    PLAIN: Way(),
    "tf32": Way(tf32=True),
    OURS: Way(channels_last=True, tf32=None),
    "bf16": Way(channels_last=True, tf32=None, half=True),
    "compiled": Way(channels_last=True, tf32=None, half=True, compiled=True),
}


def _autocast(way: Way) -> torch.autocast:
    return torch.autocast(best_device().type, torch.bfloat16, enabled=way.half)


def _prepare(way: Way) -> torch.device:
    """Set the precision of a GPU's 32-bit arithmetic; PyTorch's own choice is TF32 for convolutions alone."""
    if way.tf32 is not None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = way.tf32
    return best_device()


def _peak_mib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_memory_mib()


def _timed(device: torch.device, work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and processor seconds, and what `work` gives, when the GPU is done, too."""
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - cpu, found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def inference(variant: Variant, channels: int, size: tuple[int, int, int], name: str, out: Path) -> Facts:
    """Seconds and peak memory of restoring images, saved to `out` (.npy, (B, 3, H, W)); on a GPU if there is one.

    Args:
        size: batch, height, width.
        name: `plain`: the network's own `forward` in NCHW; `whole`: the same, channels last; `bands`: as we restore
            on a CPU; `half`: `whole` in bfloat16.
    """
    way = INFERENCE[name]
    device = _prepare(way)
    network = build_model(variant, channels, "sigmoid").eval()
    initialise(network, SEED)
    network.to(device)
    run: Callable[..., torch.Tensor]
    generator = torch.Generator().manual_seed(SEED)
    batch, height, width = size
    image, depth = (torch.rand(batch, planes, height, width, generator=generator).to(device) for planes in (3, 1))
    if way.channels_last:
        network, image = channels_last(network), image.contiguous(memory_format=torch.channels_last)
    run = network
    if way.bands:
        if not isinstance(network, DDNet):
            raise DDNetError(f"{variant.name} is not computed in bands; choose a DDNet variant")
        run = partial(banded.banded, network)
    with torch.inference_mode(), _autocast(way):
        small = (
            (image, depth)
            if device.type == "cuda"
            else (image[..., :WARM_UP, :WARM_UP], depth[..., :WARM_UP, :WARM_UP])
        )
        run(*small)
        before = torch.cuda.memory_allocated() / 2**20 if device.type == "cuda" else peak_memory_mib()
        wall, cpu, restored = _timed(device, lambda: run(image, depth))
    peak = _peak_mib(device)
    write_npy(out, restored.float().cpu().contiguous().numpy())
    return {"wall_s": wall, "cpu_s": cpu, "peak_memory_mib": peak, "work_memory_mib": peak - before}


def training_steps(variant: Variant, channels: int, crop: int, batch: int, rounds: int, name: str) -> Facts:
    """Seconds of `rounds` training steps, the first one's loss, the counted FLOP, and what the device reaches.

    Args:
        name: `plain`: 32 bits, weights and images in NCHW, Adam as PyTorch has it by default; `tf32`: the same in a
            GPU's TF32; `ours`: as `train_step`; `bf16`: that with `precision: bf16-mixed`; `compiled`: that, by
            torch.compile. All have the same loss and see the same crops.
    """
    way = STEP[name]
    device = _prepare(way)
    if way.channels_last:
        keep_freed_memory()
    generator = torch.Generator().manual_seed(SEED)
    made = (torch.rand(batch, planes, crop, crop, generator=generator) for planes in (3, 3, 1))
    image, target, depth = (tensor.to(device) for tensor in made)
    network: nn.Module = build_model(variant, channels, "sigmoid")
    initialise(network, SEED)
    network.to(device)
    torch.manual_seed(SEED)
    loss: nn.Module = DeblurLoss(LOSS, VggFeatures(random_trunk())).to(device)
    if way.channels_last:
        network, loss = channels_last(network), channels_last(loss)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=way.channels_last or None)
    run, judge = (torch.compile(network), torch.compile(loss)) if way.compiled else (network, loss)

    def step(run: Callable[..., torch.Tensor] = run, judge: Callable[..., Any] = judge) -> float:
        seen = image.contiguous(memory_format=torch.channels_last) if way.channels_last else image
        with _autocast(way):
            restored = run(seen, depth)
        value: torch.Tensor = sum(judge(restored.float(), target))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value.item()

    with FlopCounterMode(display=False) as counter:
        first = step(network, loss)  # what is compiled cannot be counted
    for _ in range(3 if way.compiled else 1):
        step()
    seconds = [_timed(device, step)[:2] for _ in range(rounds)]
    found: Facts = {"seconds": seconds, "first_loss": first, "gflop": counter.get_total_flops() / 1e9}
    found |= {"peak_memory_mib": _peak_mib(device), "convolution_gflops": _convolution_rate(device, way)}
    if not way.compiled:
        found["convolution_share"] = _convolution_share(device, step)
    return found | (_gpu_ceiling(way) if device.type == "cuda" else {})


def _convolution_share(device: torch.device, step: Callable[[], float]) -> float:
    """Share of a step's time, by PyTorch's profiler, that convolutions take, forward and backward."""
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    with profile(activities=kinds) as profiler:
        _timed(device, step)
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    for event in profiler.key_averages():
        if event.key.startswith("aten::"):
            seconds["conv" in event.key] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return seconds[True] / sum(seconds.values())


def _convolution_rate(device: torch.device, way: Way) -> float:
    """GFLOP/s of one 3x3 convolution, forward, whose data a CPU's cache holds: what the layers could reach."""
    channels, side, batch = LAYER
    kind = torch.bfloat16 if way.half else torch.float32
    x, weight = torch.rand(batch, channels, side, side), torch.rand(channels, channels, 3, 3)
    x, weight = (tensor.to(device, kind, memory_format=torch.channels_last) for tensor in (x, weight))
    with torch.inference_mode():
        seconds = best_of(lambda: _timed(device, lambda: F.conv2d(x, weight, padding=1)))
    return 2e-9 * batch * side**2 * channels**2 * 9 / seconds


def _gpu_ceiling(way: Way) -> Facts:
    """The GPU's matrix product in this way's precision in GFLOP/s, and copying in GB/s (read and written)."""
    device = torch.device("cuda")
    kind = torch.bfloat16 if way.half else torch.float32
    one = torch.rand(GPU_MATRIX, GPU_MATRIX, device=device, dtype=kind)
    source = torch.empty(GPU_COPIED, dtype=torch.uint8, device=device)
    product_s = best_of(lambda: _timed(device, lambda: one @ one))
    copy_s = best_of(lambda: _timed(device, source.clone))
    return {"sgemm_gflops": 2e-9 * GPU_MATRIX**3 / product_s, "copy_gb_s": 2e-9 * GPU_COPIED / copy_s}


def main(argv: list[str]) -> int:
    """One action; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("inference", "step"))
    parser.add_argument("--variant", type=Variant.model_validate_json, required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--way", choices=(*INFERENCE, *STEP))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args(argv)
    torch.set_num_threads(cpu_count())
    try:
        if given.action == "inference":
            width, height = given.size
            size = given.batch, height, width
            facts = inference(given.variant, given.channels, size, given.way, given.out)
        else:
            numbers = given.crop, given.batch, given.rounds
            facts = training_steps(given.variant, given.channels, *numbers, given.way)
    except torch.OutOfMemoryError:
        sys.stderr.write("the GPU's memory does not hold it\n")
        return 1
    except DDNetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
