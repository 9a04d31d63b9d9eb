"""What a preset costs on this machine: time, disk and memory, each of them an estimate.

Counted, by tracing on the meta device, which computes nothing: FLOP of convolutions, two per multiply-accumulate, and
the tensors alive at a time. Measured: a training step. All else is taken to run at the FLOP/s of that step.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ddnet.config import DpddData, EmbeddedData, Item, Recipe, Settings, Variant
from ddnet.data.fetch_data import sized
from ddnet.data.patches import grid
from ddnet.depth.network import DepthNetwork
from ddnet.errors import DDNetError
from ddnet.io.tensors import best_device, channels_last
from ddnet.models import build_model, count_parameters
from ddnet.planning.baselines import system_needs
from ddnet.planning.compared import compared_systems
from ddnet.planning.plan import Plan, depth_needs
from ddnet.runtime.log import Progress
from ddnet.runtime.provenance import device_name
from ddnet.training.losses import DeblurLoss, VggFeatures

REFERENCE = "ddnet_1b"  # the variant that is measured where a CPU has no time for all
CROP = 256  # side in pixels of the one crop that a CPU is measured on, where a step has more pixels than two of them
WORKSPACE = 1.15  # peak memory over counted tensors (1.02 to 1.15 on a CPU): workspaces, fragmentation
TRUNK_PLACES, TRUNK_CHANNELS = (0, 2, 5, 7, 10, 12, 14), (3, 64, 64, 128, 128, 256, 256, 256)  # VGG to conv3_3
DPDD_SCENES = {"train": 350, "val": 74, "test": 76, "realdof": 50}
REALDOF_SIZE = (1536, 2320)  # about: it differs from image to image
PHOTO_BYTES = 4.2  # per pixel of a 16-bit RGB PNG: DPDD's of 1680 x 1120 pixels have about 7.9 MB
DEPTH_BYTES = 1.6  # per pixel of a 16-bit depth map as PNG, measured on maps enlarged from 640 x 192
PATCH_BYTES = 2.0 * 3 * 2  # per pixel of a training image: it and its target, three 16-bit channels each
EMBEDDED_BYTES = 4 * PHOTO_BYTES + 4  # per pixel of an embedded scene: four pictures, and depth in metres
TIMES = (("days", 86400, 3), ("h", 3600, 2), ("min", 60, 2), ("s", 1, 0))  # unit, seconds, least number of them


@dataclass(frozen=True)
class Scale:
    """Sizes (height, width) of images by split or test set, training patches, steps and validations of a run."""

    splits: dict[str, list[tuple[int, int]]]
    patches: int
    steps: int
    validations: int

    def pixels(self, *splits: str, first: int | None = None) -> int:
        """Pixels of the (first) images of some splits; of the test sets where none is named."""
        chosen = splits or [split for split in self.splits if split not in ("train", "val")]
        return sum(math.prod(size) for split in chosen for size in self.splits[split][:first])


@dataclass(frozen=True)
class Cost:
    """One variant: FLOP of a restored pixel, of a training step and of a run; FLOP/s, and where they are from."""

    variant: str
    pixel: float
    step: float
    run: float
    rate: float
    how: str


class LiveBytes(TorchDispatchMode):
    """`peak`: the most bytes alive at a time of the storages that were made under this mode."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        result = func(*args, **(kwargs or {}))
        self.alive.update(leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        self.peak = max(self.peak, sum(storage.nbytes() for storage in self.alive))
        return result


def random_trunk() -> dict[str, torch.Tensor]:
    """Weights of VGG's size up to conv3_3, which take the time and the memory of its own."""
    trunk = {}
    for place, inside, outside in zip(TRUNK_PLACES, TRUNK_CHANNELS, TRUNK_CHANNELS[1:]):
        trunk[f"features.{place}.weight"] = torch.randn(outside, inside, 3, 3) / (3 * inside**0.5)
        trunk[f"features.{place}.bias"] = torch.zeros(outside)
    return trunk


class Bench:
    """Counts and measures the work of one preset, on the GPU if there is one; measuring takes up to `limit_s`."""

    def __init__(self, settings: Settings, limit_s: float) -> None:
        self.settings, self.limit_s = settings, limit_s
        self.device = best_device()

    def job(self, variant: Variant, batch: int, height: int, width: int, device: str = "") -> Callable[[bool], None]:
        """A training step as `train_step` does it, or (False) the forward pass alone, on random weights and crops."""
        spec = self.settings.training
        with torch.device(device or self.device):
            network = channels_last(build_model(variant, self.settings.model.width, self.settings.model.output))
            image = torch.rand(batch, 3, height, width).contiguous(memory_format=torch.channels_last)
            target, depth = torch.rand_like(image), torch.rand(batch, 1, height, width) if variant.uses_depth else None
            trunk = VggFeatures(random_trunk()) if spec.perceptual.weight else None
            loss = channels_last(DeblurLoss(spec.perceptual, trunk))
        kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(spec.precision)
        mixed = torch.autocast(self.device.type, kind, enabled=kind is not None and device != "meta")
        optimizer = torch.optim.Adam(network.parameters(), lr=spec.lr, fused=device != "meta")

        def run(training: bool) -> None:
            with torch.set_grad_enabled(training), mixed:
                restored = network(image, depth)
            if training:
                content, perceptual = loss(restored.float(), target)
                optimizer.zero_grad(set_to_none=True)
                (content + perceptual).backward()
                optimizer.step()

        return run

    def count_flop(self, variant: Variant, batch: int, side: int, training: bool) -> float:
        """FLOP of a training step, or of the forward pass alone."""
        run = self.job(variant, batch, side, side, device="meta")  # building one tries its fusion, which does not count
        with FlopCounterMode(display=False) as counter:
            run(training)
        return counter.get_total_flops()

    def count_bytes(self, variant: Variant, batch: int, height: int, width: int, training: bool) -> float:
        """Peak memory of a training step, gradients and Adam's states included, or of restoring."""
        with LiveBytes() as memory:
            run = self.job(variant, batch, height, width, device="meta")
            for _ in range(2 if training else 1):  # Adam's states are there from the second step on
                run(training)
        return WORKSPACE * memory.peak

    def step_rate(self, variant: Variant) -> tuple[float, str]:
        """FLOP/s of a training step, and how they were measured.

        Raises:
            DDNetError: the GPU's memory does not hold a step.
        """
        batch, side, how = self.settings.training.batch, self.settings.training.patches.size, "measured"
        if self.device.type == "cpu" and batch * side**2 > 2 * CROP**2:
            batch, side, how = 1, min(side, CROP), f"measured on one crop of {CROP} px"
        try:
            run = self.job(variant, batch, side, side)
            return self.count_flop(variant, batch, side, True) / self.shortest(lambda: run(True)), how
        except torch.OutOfMemoryError:
            fix = "hide it (CUDA_VISIBLE_DEVICES=) and give --tflops to estimate for a larger one"
            raise DDNetError(f"{variant.name}: this GPU's memory does not hold a training step; {fix}") from None

    def shortest(self, run: Callable[[], object]) -> float:
        """Seconds of the shortest of five runs, or of three seconds' worth: other work only lengthens one."""
        times: list[float] = []
        while not times or ((len(times) < 5 or sum(times) < 3) and sum(times) + min(times) <= self.limit_s):
            start = time.perf_counter()
            run()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)


def scale_of(settings: Settings) -> Scale:
    """What a preset amounts to; a folder of one's own pairs is looked through.

    Raises:
        DDNetError: such a folder cannot be read, or an image is smaller than a patch.
    """
    data, spec = settings.data, settings.training
    if isinstance(data, EmbeddedData):
        counts = {"train": data.train, "val": data.val, "test": data.test, "second": data.embedded_ood}
        splits = {split: [(data.size, data.size)] * count for split, count in counts.items()}
    elif isinstance(data, DpddData):
        counts = data.trial.model_dump() if data.trial else DPDD_SCENES
        splits = {split: [REALDOF_SIZE if split == "realdof" else data.size] * n for split, n in counts.items()}
    else:
        from ddnet.data.folder import index_folder

        splits = {}
        for scene in index_folder(data):
            split = scene.split if scene.dataset == data.name else "second"
            splits.setdefault(split, []).append((scene.height, scene.width))
    side, stride = spec.patches.size, int(spec.patches.stride * spec.patches.size)
    corners = [len(grid(height, side, stride)) * len(grid(width, side, stride)) for height, width in splits["train"]]
    patches = sum(count - int(spec.patches.drop * count) for count in corners)
    steps = spec.steps or spec.epochs * math.ceil(patches / spec.batch)
    return Scale(splits, patches, steps, math.ceil(steps / max(1, round(spec.validate_every * steps))))


def measure_variants(plan: Plan, scale: Scale, bench: Bench) -> list[Cost]:
    """Every variant counted, and each network measured, or on a CPU without the time for all, one of them."""
    spec, variants = plan.settings.training, {name: plan.variants[name] for name in plan.selected}
    steps = {name: bench.count_flop(variant, spec.batch, spec.patches.size, True) for name, variant in variants.items()}
    measured: dict[float, tuple[str, float, str]] = {}  # by FLOP: variants of equal work differ in their depth alone
    for name in sorted(steps, key=lambda name: name != REFERENCE):
        if steps[name] not in measured:
            rate, how = bench.step_rate(variants[name])
            measured[steps[name]] = name, rate, how
            if bench.device.type == "cpu" and sum(set(steps.values())) > bench.limit_s * rate:
                break
    costs, (reference, known, _) = [], next(iter(measured.values()))
    progress = Progress("counting", len(steps), "variants")
    for name, step in steps.items():
        progress.advance()
        base, rate, how = measured.get(step, (name, known, f"from {reference} by FLOP"))
        pixel = bench.count_flop(variants[name], 1, CROP, False) / CROP**2
        run = scale.steps * step + scale.validations * scale.pixels("val") * pixel
        costs.append(Cost(name, pixel, step, run, rate, how if base == name else f"as {base}"))
    return costs


def disk_bytes(plan: Plan, sources: set[str], scale: Scale, items: Mapping[str, Item]) -> dict[str, float]:
    """What stays on disk, from counts and sizes; `sources` are those of depth."""
    settings, data, runs = plan.settings, plan.settings.data, [len(plan.seeds(name)) for name in plan.selected]
    asked = data if isinstance(data, DpddData) else None
    fetched = [sized(name, items[name], asked).gigabytes for name in plan.items if not plan.local_copy(name)]
    disk = {"downloads": 1e9 * sum(fetched)}
    if isinstance(data, EmbeddedData):
        scenes = data.train + data.train_depth + data.val + data.test + data.embedded_ood
        disk = {"rendered scenes": EMBEDDED_BYTES * scenes * data.size**2}
    maps = sources - {"constant"}  # its maps compress to nothing
    views = isinstance(data, EmbeddedData) or (asked is not None and asked.views)  # as much again as the pairs
    disk["patches"] = (1 + views) * PATCH_BYTES * scale.pixels("train")
    disk["depth maps"] = DEPTH_BYTES * len(maps) * (scale.pixels("train", "val") + scale.pixels())
    if settings.depth.training == "patch":
        estimated = sum("model" in depth_needs(source) for source in maps)
        disk["depth maps"] += 2.0 * estimated * scale.patches * settings.training.patches.size**2
    with torch.device("meta"):
        networks = [build_model(plan.variants[name], settings.model.width) for name in plan.selected]
    disk["trained networks"] = 4.0 * sum(
        n * count_parameters(network) for n, network in zip(runs, networks, strict=True)
    )
    kept = scale.pixels(first=settings.evaluation.panels if settings.evaluation.save == "panels" else None)
    disk["restored pictures"] = PHOTO_BYTES * sum(runs) * kept
    return disk


def depth_flop(settings: Settings, scale: Scale) -> float:
    """FLOP of estimating depth by Monodepth2's network, and of fitting it where the preset asks for that."""
    spec, fit, side = settings.depth, settings.depth.fit, settings.training.patches.size
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        DepthNetwork()(torch.zeros(1, 3, spec.height, spec.width))
    patches = scale.patches * side**2 / (spec.height * spec.width) if spec.training == "patch" else 0
    fitted = 3 * fit.batch * fit.steps * fit.folds if fit else 0
    return counter.get_total_flops() * (sum(map(len, scale.splits.values())) + patches + fitted)


def systems_flop(plan: Plan, scale: Scale) -> float:
    """FLOP of training the compared networks: those of their convolutions, not of losses, critics and validation."""
    complexity = compared_systems("complexity")
    side = plan.settings.training.patches.size
    recipes = {name: plan.training_of(name) for name in plan.systems_with("train") if "patches" in system_needs(name)}
    return sum(
        complexity.training_flop(name, Recipe.model_validate(recipe), side, scale.patches)
        for name, recipe in recipes.items()
    )


def estimate(plan: Plan, items: Mapping[str, Item], limit_s: float = 60.0, tflops: float | None = None) -> list[str]:
    """Count, measure, and say it in lines for people, in which `~` marks an estimate.

    Args:
        items: what can be fetched, for the size of the downloads.
        limit_s: seconds for measuring one step; a CPU measures every network if one step of each fits into it.
        tflops: a sustained rate in 10^12 FLOP per second, for the hours on a device that is not here.

    Raises:
        DDNetError: see `scale_of` and `Bench.step_rate`.
    """
    settings, scale, bench = plan.settings, scale_of(plan.settings), Bench(plan.settings, limit_s)
    batch, side = settings.training.batch, settings.training.patches.size
    seeds = {name: len(plan.seeds(name)) for name in plan.selected}
    sources = {settings.depth.source, *filter(None, map(plan.depth_source, plan.selected))}
    costs, disk = measure_variants(plan, scale, bench), disk_bytes(plan, sources, scale, items)
    table = [["", "TFLOP/step", "a step", "a run", "all seeds", *([f"at {tflops:g} T/s"] if tflops else []), "  step"]]
    for cost in costs:
        runs = seeds[cost.variant] * cost.run
        seconds = [flop / cost.rate for flop in (cost.step, cost.run, runs)]
        seconds += [runs / (1e12 * tflops)] if tflops else []
        table.append([cost.variant, f"~{cost.step / 1e12:.4g}", *map(duration, seconds), f"  {cost.how}"])
    largest = plan.variants[max(costs, key=lambda cost: cost.step).variant]
    sizes = [size for split, sizes in scale.splits.items() if split != "train" for size in sizes]
    height, width = (-(-length // 16) * 16 for length in max(sizes, key=math.prod))
    times, gib = {"training": sum(seeds[cost.variant] * cost.run / cost.rate for cost in costs)}, 2**30
    if networks := systems_flop(plan, scale):
        times["training, compared networks"] = networks / costs[0].rate
    pixels = scale.pixels()
    times["evaluation"] = sum(seeds[cost.variant] * cost.pixel / cost.rate for cost in costs) * pixels
    times["depth"] = depth_flop(settings, scale) / costs[0].rate if "monodepth2" in sources else 0.0
    times["sum"], disk["sum"] = sum(times.values()), sum(disk.values())
    if tflops:
        flop = sum(seeds[cost.variant] * cost.run for cost in costs)
        times[f"training at {tflops:g} TFLOP/s sustained"] = flop / (1e12 * tflops)
        times |= {f"compared networks at {tflops:g} TFLOP/s": networks / (1e12 * tflops)} if networks else {}
    memory = {f"training {largest.name}": bench.count_bytes(largest, batch, side, side, True) / gib}
    memory[f"restoring {width} x {height} px"] = bench.count_bytes(largest, 1, height, width, False) / gib
    if bench.device.type == "cuda":
        memory["training, measured on this GPU"] = torch.cuda.max_memory_allocated() / gib
    figures = [(f"time, {name}", duration(seconds)) for name, seconds in times.items()]
    figures += [(f"disk, {name}", f"{_about(size / 1e9)} GB") for name, size in disk.items()]
    figures += [(f"memory, {name}", f"{_about(size)} GiB") for name, size in memory.items()]
    return [
        f"ESTIMATE for preset {settings.preset} on {device_name()}, one job after the other; ~ marks an estimate",
        f"{len(costs)} variants, {sum(seeds.values())} runs with all seeds; a run is {scale.steps:,} steps of {batch} "
        f"crops of {side} px, and {scale.validations} x {len(scale.splits['val'])} validation images",
        "",
        *(f"{line[0]:<20}" + "".join(f"{cell:>12}" for cell in line[1:-1]) + line[-1] for line in table),
        "",
        *(f"{name:<56}{figure:>12}" for name, figure in figures),
        "",
        "note: not counted are fetching or rendering data, cutting patches, files, metrics and the start of jobs",
        "note: all but training steps is taken to run at their FLOP/s; of depth, only monodepth2 is counted",
        "note: memory is counted in 32 bits + 15 %; where there is room, the patches are held in memory as well",
    ]


def duration(seconds: float) -> str:
    """An estimated time in a unit that suits it: `~0.28 s`, `~12 min`, `~34 h`, `~51 days`."""
    unit, length, _ = next(entry for entry in TIMES if seconds >= entry[1] * entry[2])
    return f"{_about(seconds / length)} {unit}"


def _about(value: float) -> str:
    return f"~{value:,.0f}" if value >= 10 else f"~{value:.2g}"
