"""Work and time of single steps on this machine: what `estimate_cost` multiplies.

Work and memory are counted: a step is traced on the meta device, which computes nothing, for the FLOP of its
convolutions, forward and backward, and for the most bytes alive at a time. Time is measured, with random images and
random weights, because neither changes it. A step of the preset's own size is measured where it fits into the time
limit and the free memory, otherwise one of fewer or smaller crops, scaled by FLOP.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ddnet.config import FitDepth, Settings, Variant
from ddnet.depth._base import resize_depth, resize_image
from ddnet.depth._fit import FitSettings, fit_network
from ddnet.depth._network import DepthNetwork
from ddnet.errors import DDNetError
from ddnet.images import read_image, write_depth16, write_image
from ddnet.losses import _TO_CONV3_3, DeblurLoss, VggFeatures
from ddnet.metrics._base import Metric
from ddnet.models import build_model, count_parameters
from ddnet.tensors import channels_last, to_tensor

log = logging.getLogger(__name__)

Size = tuple[int, int]  # height, width
Shape = tuple[int, int, int]  # batch, height, width

WORKSPACE = 1.15  # memory of a step over its counted tensors (1.02 to 1.15 on a CPU): workspaces, fragmentation
RUNS, ENOUGH_S = 5, 1.0  # a measurement is the shortest of so many runs, or of more if they take no second together
SMALLEST = 64  # side in pixels below which no crop is halved
PROBE = 128  # side in pixels of the crop that tells how fast the machine is
REFERENCE = "ddnet_1b"  # the variant that is measured where only one is
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Work:
    """FLOP (two per multiply-accumulate) and the most bytes of tensors alive at a time, both counted."""

    flop: float
    bytes: float


@dataclass(frozen=True)
class StepCost:
    """One variant's training step and whole image.

    Attributes:
        step, image: work of a training step, and of restoring one whole image.
        step_s, image_s: their seconds.
        how: where the seconds come from.
        gpu_bytes: peak memory measured on the GPU in a training step of full size; None where there was none.
    """

    variant: str
    step: Work
    image: Work
    step_s: float
    image_s: float
    how: str
    gpu_bytes: float | None


class _LiveBytes(TorchDispatchMode):
    """Sums the storages made and still alive; `peak` is the most bytes of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._alive.pop(key)


class Bench:
    """Counts and measures the steps of one preset, on the GPU if there is one.

    Args:
        settings: the preset.
        limit_s: seconds that one measurement may take.
    """

    def __init__(self, settings: Settings, limit_s: float) -> None:
        self.settings, self.limit_s = settings, limit_s
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def count_step(self, variant: Variant, shape: Shape) -> Work:
        """Work of a training step in 32 bits; weights, gradients and Adam's two states are in the memory."""
        with torch.device("meta"):
            network, loss = self._build(variant).train(), self._loss()
            image, depth = torch.zeros(shape[0], 3, *shape[1:]), torch.zeros(shape[0], 1, *shape[1:])
            with FlopCounterMode(display=False) as counter, _LiveBytes() as memory:
                content, perceptual = loss(network(image, depth), torch.zeros_like(image))
                (content + perceptual).backward()
        return Work(counter.get_total_flops(), memory.peak + 3 * 4 * count_parameters(network))

    def count_restore(self, variant: Variant, shape: Shape) -> Work:
        """Work of restoring images in 32 bits; the weights are in the memory."""
        with torch.device("meta"):
            network = self._build(variant).eval()
            image, depth = torch.zeros(shape[0], 3, *shape[1:]), torch.zeros(shape[0], 1, *shape[1:])
            with FlopCounterMode(display=False) as counter, _LiveBytes() as memory, torch.no_grad():
                network(image, depth)
        return Work(counter.get_total_flops(), memory.peak + 4 * count_parameters(network))

    def step_seconds(self, variant: Variant, shape: Shape) -> tuple[float, float | None]:
        """Seconds of a training step (forward, both losses, backward, Adam), and its peak of GPU memory in bytes.

        The batch is there already; without a GPU the peak is None.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        network, loss = channels_last(self._build(variant)).train().to(self.device), self._loss().to(self.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.settings.training.lr, fused=True)
        image, depth = self._inputs(variant, shape)
        target = torch.rand_like(image)

        def run() -> None:
            with self._autocast():
                restored = network(image, depth)
            content, perceptual = loss(restored.float(), target)
            optimizer.zero_grad(set_to_none=True)
            (content + perceptual).backward()
            optimizer.step()

        seconds = self.shortest(run)
        return seconds, float(torch.cuda.max_memory_allocated()) if self.device.type == "cuda" else None

    def restore_seconds(self, variant: Variant, shape: Shape) -> float:
        """Seconds of restoring images, without reading and writing them."""
        network = channels_last(self._build(variant)).eval().to(self.device)
        image, depth = self._inputs(variant, shape)

        def run() -> None:
            with torch.inference_mode(), self._autocast():
                network(image, depth)

        return self.shortest(run)

    def file_seconds(self, size: Size, folder: Path) -> tuple[float, float]:
        """Seconds of reading and of writing one 16-bit RGB image; it stays in `folder` as `image.png`."""
        image = _photograph(size)
        write = self.shortest(lambda: write_image(folder / "image.png", image))
        return self.shortest(lambda: read_image(folder / "image.png")), write

    def depth_seconds(self, size: Size, inside: Size, folder: Path) -> float:
        """Seconds of one image's depth by Monodepth2's network: read, resize to `inside`, network, resize, write."""
        network = channels_last(DepthNetwork()).eval().to(self.device)
        write_image(folder / "image.png", _photograph(size))

        def run() -> None:
            image = to_tensor(resize_image(read_image(folder / "image.png"), inside))
            with torch.inference_mode():
                disparity = network(image.to(self.device))[0][0, 0].cpu().numpy()
            write_depth16(folder / "depth.png", resize_depth(disparity, size))

        return self.shortest(run)

    def fit_depth_seconds(self, spec: FitDepth) -> float:
        """Seconds of one step of fitting the depth network."""
        images = torch.rand(spec.batch, 3, self.settings.depth.height, self.settings.depth.width)
        ends = [time.perf_counter()]
        fit_network(
            images, images[:, :1], FitSettings(RUNS, spec.batch, spec.lr, None, 0),
            after_step=lambda step, loss, network: ends.append(time.perf_counter()),
        )  # fmt: skip
        return float(np.diff(ends).min())

    def metric_seconds(self, metrics: Sequence[Metric], size: Size) -> float:
        """Seconds of measuring one restored image by all metrics."""
        restored, target = _photograph(size), _photograph(size)
        return sum(self.shortest(partial(metric, restored, target)) for metric in metrics)

    def shortest(self, work: Callable[[], object]) -> float:
        """Seconds of the shortest of several runs; another one starts only while it fits into the limit.

        The shortest, because other work on the machine, and first calls, only ever lengthen a run.
        """
        times: list[float] = []
        while len(times) < RUNS or sum(times) < ENOUGH_S:
            if times and sum(times) + min(times) > self.limit_s:
                break
            start = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    def affordable(self, count: Callable[[Shape], Work], shape: Shape, flop_per_s: float) -> Shape:
        """The shape, its batch and then its sides halved until the work fits into the limit and the free memory."""
        while True:
            work = count(shape)
            fits = work.flop <= flop_per_s * self.limit_s and WORKSPACE * work.bytes <= free_bytes(self.device)
            if fits or (shape[0] == 1 and min(shape[1:]) <= SMALLEST):
                return shape
            batch, height, width = shape
            shape = (batch // 2, height, width) if batch > 1 else (1, height // 32 * 16, width // 32 * 16)

    def _build(self, variant: Variant) -> torch.nn.Module:
        return build_model(variant, self.settings.model.width, self.settings.model.output)

    def _loss(self) -> DeblurLoss:
        spec = self.settings.training.perceptual
        return channels_last(DeblurLoss(spec, VggFeatures(_random_trunk()) if spec.weight else None))

    def _inputs(self, variant: Variant, shape: Shape) -> tuple[torch.Tensor, torch.Tensor | None]:
        image = torch.rand(shape[0], 3, *shape[1:], device=self.device).contiguous(memory_format=torch.channels_last)
        depth = torch.rand(shape[0], 1, *shape[1:], device=self.device) if variant.uses_depth else None
        return image, depth

    def _autocast(self) -> AbstractContextManager[object]:
        kind = AUTOCAST.get(self.settings.training.precision)
        return torch.autocast(self.device.type, kind) if kind else nullcontext()


def measure_variants(bench: Bench, variants: Sequence[Variant], step: Shape, image: Shape) -> list[StepCost]:
    """Count every variant; measure all of them, or one where all would take longer than the limit on a CPU.

    Args:
        step: crops of a training step.
        image: a whole image, sides multiples of 16.

    Raises:
        DDNetError: too little GPU memory for any step.
    """
    steps = {variant.name: bench.count_step(variant, step) for variant in variants}
    images = {variant.name: bench.count_restore(variant, image) for variant in variants}
    reference = next((variant for variant in variants if variant.name == REFERENCE), variants[0])
    # Variants that differ in their depth alone are the same network.
    first = {(steps[v.name], images[v.name]): v for v in reversed(variants)}
    same = {name: first[steps[name], images[name]].name for name in steps}
    flop_per_s, measured = math.inf, [variant for variant in variants if same[variant.name] == variant.name]
    if bench.device.type == "cpu":
        probe = (1, min(PROBE, step[1]), min(PROBE, step[2]))
        flop_per_s = bench.count_step(reference, probe).flop / bench.step_seconds(reference, probe)[0]
        if sum(steps[v.name].flop + images[v.name].flop for v in measured) > flop_per_s * bench.limit_s:
            measured = [reference]
    found: dict[str, StepCost] = {}
    for variant in measured:
        log.info("measuring %s: a training step and a whole image", variant.name)
        try:
            found[variant.name] = _measure(bench, variant, step, image, flop_per_s)
        except torch.OutOfMemoryError:
            raise DDNetError(
                f"{variant.name}: the GPU's memory does not hold a step; close what else runs on it, or hide it "
                "(CUDA_VISIBLE_DEVICES=) to estimate for the processor"
            ) from None
    return [
        found.get(name) or _derive(name, steps[name], images[name], found.get(same[name], found[measured[0].name]))
        for name in steps
    ]


def _derive(name: str, step: Work, image: Work, base: StepCost) -> StepCost:
    """A variant's seconds from another's by FLOP, which for the same network are the same seconds."""
    same = (step, image) == (base.step, base.image)
    return StepCost(
        variant=name,
        step=step,
        image=image,
        step_s=base.step_s * (step.flop / base.step.flop),
        image_s=base.image_s * (image.flop / base.image.flop),
        how=f"as {base.variant}" if same else f"from {base.variant} by FLOP",
        gpu_bytes=base.gpu_bytes if same else None,
    )


def _measure(bench: Bench, variant: Variant, step: Shape, image: Shape, flop_per_s: float) -> StepCost:
    """One variant, at reduced sizes and scaled by FLOP where the full ones are not affordable."""
    count_step, count_image = partial(bench.count_step, variant), partial(bench.count_restore, variant)
    step_work, image_work, how = count_step(step), count_image(image), ["measured"]
    smaller, part = bench.affordable(count_step, step, flop_per_s), bench.affordable(count_image, image, flop_per_s)
    step_s, gpu_bytes = bench.step_seconds(variant, smaller)
    if smaller != step:
        step_s, gpu_bytes = step_s * step_work.flop / count_step(smaller).flop, None
        how.append(f"step at {smaller[0]} x {smaller[1]} x {smaller[2]} px and scaled")
    image_s = bench.restore_seconds(variant, part)
    if part != image:
        image_s *= image_work.flop / count_image(part).flop
        how.append(f"image at {part[1]} x {part[2]} px and scaled")
    return StepCost(variant.name, step_work, image_work, step_s, image_s, ", ".join(how), gpu_bytes)


def free_bytes(device: torch.device) -> float:
    """Memory still free on a device; infinite where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what earlier measurements left there is free as well
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _random_trunk() -> dict[str, torch.Tensor]:
    """Weights for `VggFeatures`, small enough that no feature overflows."""
    state: dict[str, torch.Tensor] = {}
    channels, place = 3, 0
    for item in _TO_CONV3_3:
        if not isinstance(item, str):
            state[f"features.{place}.weight"] = torch.randn(item, channels, 3, 3) / (3 * channels**0.5)
            state[f"features.{place}.bias"] = torch.zeros(item)
            channels, place = item, place + 1  # its ReLU
        place += 1
    return state


def _photograph(size: Size) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A smooth random picture with a little noise, (H, W, 3) in [0, 1]; as PNG it is about as large as a photograph."""
    rng = np.random.default_rng(0)
    coarse = rng.random((max(2, size[0] // 32), max(2, size[1] // 32), 3), np.float32)
    smooth = np.stack([resize_depth(coarse[..., channel], size) for channel in range(3)], axis=-1)
    return np.clip(smooth + rng.normal(0, 0.003, smooth.shape), 0, 1).astype(np.float32)
