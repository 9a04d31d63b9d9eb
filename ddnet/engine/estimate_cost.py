"""What a preset costs on this machine: time, disk and memory, estimated from steps counted and measured here."""

from __future__ import annotations

import math
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ddnet.config import DpddData, EmbeddedData, Item, Settings
from ddnet.data.patches import grid
from ddnet.engine.measure_cost import WORKSPACE, Bench, Size, StepCost, measure_variants
from ddnet.metrics import build_metrics
from ddnet.models import build_model, count_parameters
from ddnet.plan import Plan, cpu_count, depth_needs
from ddnet.provenance import device_name

DPDD_SCENES = {"train": 350, "val": 74, "test": 76, "realdof": 50}
REALDOF_SIZE = (1536, 2320)  # about: it differs from image to image
PHOTO_BYTES = 4.2  # per pixel of a 16-bit RGB PNG: DPDD's of 1680 x 1120 pixels have about 7.9 MB
DEPTH_BYTES = 1.6  # per pixel of a 16-bit depth map as PNG, measured on maps enlarged from 640 x 192
PATCH_BYTES = 2.0 * 3 * 2  # per pixel of a training image: it and its target, three 16-bit channels each
EMBEDDED_BYTES = 4 * PHOTO_BYTES + 4  # per pixel of an embedded scene: four pictures, and depth in metres


@dataclass(frozen=True)
class Scale:
    """How much there is to do.

    Attributes:
        train, val: sizes (height, width) of the images of those splits.
        tests: the same of each test set, the main one first.
        patches: training patches.
        steps: optimiser steps of one run.
        validations: passes over the validation images in one run.
    """

    train: tuple[Size, ...]
    val: tuple[Size, ...]
    tests: dict[str, tuple[Size, ...]]
    patches: int
    steps: int
    validations: int

    @property
    def tested(self) -> tuple[Size, ...]:
        """Image sizes of all test sets."""
        return tuple(size for sizes in self.tests.values() for size in sizes)


@dataclass(frozen=True)
class VariantCost(StepCost):
    """One variant's training.

    Attributes:
        fit_s, validate_s: seconds of one run's training steps and of its validations.
        flop: work of both.
    """

    fit_s: float
    validate_s: float
    flop: float

    @property
    def run_s(self) -> float:
        """Seconds of one run."""
        return self.fit_s + self.validate_s


@dataclass(frozen=True)
class Estimate:
    """All that `format_estimate` prints.

    Attributes:
        jobs: seconds of everything but training, by name.
        disk, memory: bytes, by what takes them.
        tflops: the sustained rate asked for, 10^12 FLOP per second.
    """

    settings: Settings
    device: str
    scale: Scale
    variants: tuple[VariantCost, ...]
    jobs: dict[str, float]
    disk: dict[str, float]
    memory: dict[str, float]
    notes: tuple[str, ...]
    tflops: float | None


def scale_of(settings: Settings) -> Scale:
    """Images, patches, steps and validations of a preset; a folder of one's own pairs is looked through.

    Raises:
        DDNetError: such a folder cannot be read, or an image is smaller than a patch.
    """
    data, spec = settings.data, settings.training
    if isinstance(data, EmbeddedData):
        size = (data.size, data.size)
        train, val = (size,) * data.train, (size,) * data.val
        tests = {"embedded": (size,) * data.test, "embedded_ood": (size,) * data.embedded_ood}
    elif isinstance(data, DpddData):
        counts = data.trial.model_dump() if data.trial else DPDD_SCENES
        train, val = (data.size,) * counts["train"], (data.size,) * counts["val"]
        tests = {"dpdd": (data.size,) * counts["test"], "realdof": (REALDOF_SIZE,) * counts["realdof"]}
    else:
        from ddnet.data.folder import index_folder

        splits: dict[tuple[str, str], list[Size]] = {}
        for scene in index_folder(data):
            splits.setdefault((scene.dataset, scene.split), []).append((scene.height, scene.width))
        train, val = tuple(splits[data.name, "train"]), tuple(splits[data.name, "val"])
        tests = {dataset: tuple(sizes) for (dataset, split), sizes in splits.items() if split == "test"}
    side, stride = spec.patches.size, int(spec.patches.stride * spec.patches.size)
    corners = [len(grid(height, side, stride)) * len(grid(width, side, stride)) for height, width in train]
    patches = sum(count - int(spec.patches.drop * count) for count in corners)
    steps = spec.steps or spec.epochs * math.ceil(patches / spec.batch)
    interval = max(1, round(spec.validate_every * steps))
    return Scale(train, val, tests, patches, steps, math.ceil(steps / interval))


def estimate(
    plan: Plan, items: Mapping[str, Item], weights: Path, step_limit_s: float = 60.0, tflops: float | None = None
) -> Estimate:
    """Count and measure; takes a few times `step_limit_s` at most.

    Args:
        plan: the preset.
        items: what can be fetched, for the size of the downloads.
        weights: folder of pretrained trunks; metrics that lack theirs are left out, which a note says.
        step_limit_s: seconds that one measurement may take, and that decide whether every variant is measured.
        tflops: a sustained rate in 10^12 FLOP per second, for the hours on a device that is not here.

    Raises:
        DDNetError: see `scale_of` and `measure_variants`.
    """
    settings, scale, before = plan.settings, scale_of(plan.settings), _peak_bytes()
    bench = Bench(settings, step_limit_s)
    notes = ["fetching or rendering the data and cutting patches are not in it"]
    if bench.device.type == "cpu" and hasattr(os, "getloadavg") and os.getloadavg()[0] > cpu_count() / 4:
        notes.append(f"other work ran here (load {os.getloadavg()[0]:.1f} on {cpu_count()} processors): times too long")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        read_s, write_s = bench.file_seconds(scale.val[0], folder)
        variants = _variants(plan, scale, bench, 2 * read_s)
        jobs = _depth_jobs(plan, scale, bench, folder, notes)
    metrics, missing = build_metrics(settings.evaluation.metrics, weights)
    if missing:
        notes.append(f"evaluation is without {', '.join(missing)}: weights not here yet")
    measure_s = 2 * read_s + bench.metric_seconds(list(metrics.values()), scale.val[0])
    tested, kept = (
        pixels / _pixels(scale.val[:1]) for pixels in (_pixels(scale.tested), _kept_pixels(settings, scale))
    )
    restoring = sum(tested * (cost.image_s + measure_s) + kept * write_s for cost in variants)
    jobs["evaluation"] = tested * measure_s + restoring * len(settings.seeds)
    on_gpu = bench.device.type == "cuda"
    return Estimate(
        settings=settings,
        device=f"{device_name()} ({'GPU' if on_gpu else f'{torch.get_num_threads()} threads'})",
        scale=scale,
        variants=variants,
        jobs=jobs,
        disk=_disk(plan, scale, items),
        memory=_memory(bench, scale, variants, before),
        notes=tuple(notes),
        tflops=tflops,
    )


def _variants(plan: Plan, scale: Scale, bench: Bench, read_s: float) -> tuple[VariantCost, ...]:
    """Training of every variant; `read_s` seconds go into reading a pair of validation images."""
    spec = plan.settings.training
    height, width = (-(-side // 16) * 16 for side in scale.val[0])
    chosen = [plan.variants[name] for name in plan.selected]
    shape = (spec.batch, spec.patches.size, spec.patches.size)
    validated = scale.validations * _pixels(scale.val) / _pixels(scale.val[:1])
    return tuple(
        VariantCost(
            **vars(cost),
            fit_s=scale.steps * cost.step_s,
            validate_s=validated * (cost.image_s + read_s),
            flop=scale.steps * cost.step.flop + validated * cost.image.flop,
        )
        for cost in measure_variants(bench, chosen, shape, (1, height, width))
    )


def _depth_jobs(plan: Plan, scale: Scale, bench: Bench, folder: Path, notes: list[str]) -> dict[str, float]:
    """Seconds of fitting the depth network and of estimating depth, for the sources that run Monodepth2's."""
    spec, jobs = plan.settings.depth, {}
    if spec.fit:
        jobs["fitting the depth network"] = bench.fit_depth_seconds(spec.fit) * spec.fit.steps * spec.fit.folds
    used = {spec.source, *filter(None, map(plan.depth_source, plan.selected))}
    for source in sorted(used):
        if source == "monodepth2":
            one = bench.depth_seconds(scale.val[0], (spec.height, spec.width), folder)
            everything = _pixels((*scale.train, *scale.val, *scale.tested))
            jobs["depth estimation"] = one * everything / _pixels(scale.val[:1])
            if spec.training == "patch":
                side = (plan.settings.training.patches.size,) * 2
                jobs["depth of patches"] = bench.depth_seconds(side, side, folder) * scale.patches
        elif plan.weights_item(source):
            notes.append(f"depth source {source} is not timed")
    return jobs


def _pixels(sizes: tuple[Size, ...]) -> int:
    return sum(height * width for height, width in sizes)


def _kept_pixels(settings: Settings, scale: Scale) -> int:
    """Pixels of the restored pictures that one run keeps."""
    spec = settings.evaluation
    if spec.save == "panels":
        return sum(_pixels(sizes[: spec.panels]) for sizes in scale.tests.values())
    return _pixels(scale.tested) if spec.save == "all" else 0


def _disk(plan: Plan, scale: Scale, items: Mapping[str, Item]) -> dict[str, float]:
    """Bytes that stay on disk, from counts and sizes."""
    settings, runs = plan.settings, len(plan.settings.seeds)
    data, side = settings.data, settings.training.patches.size
    disk = {"downloads": 1e9 * sum(items[name].gigabytes for name in plan.items if not plan.local_copy(name))}
    if isinstance(data, EmbeddedData):
        scenes = data.train + data.train_depth + data.val + data.test + data.embedded_ood
        disk = {"rendered scenes": EMBEDDED_BYTES * scenes * data.size**2}
    disk["patches"] = PATCH_BYTES * _pixels(scale.train)
    sources = {settings.depth.source, *filter(None, map(plan.depth_source, plan.selected))}
    sources.discard("constant")  # its maps compress to nothing
    disk["depth maps"] = DEPTH_BYTES * len(sources) * _pixels((*scale.train, *scale.val, *scale.tested))
    if settings.depth.training == "patch":
        estimated = [source for source in sources if "model" in depth_needs(source)]
        disk["depth maps"] += 2.0 * len(estimated) * scale.patches * side**2
    with torch.device("meta"):
        networks = [build_model(plan.variants[name], settings.model.width) for name in plan.selected]
    disk["trained networks"] = 4.0 * runs * sum(map(count_parameters, networks))
    disk["restored pictures"] = PHOTO_BYTES * runs * len(networks) * _kept_pixels(settings, scale)
    return disk


def _memory(bench: Bench, scale: Scale, variants: tuple[VariantCost, ...], before: float) -> dict[str, float]:
    """Peak bytes of the most demanding variant, counted, and on a GPU measured as well."""
    largest = max(variants, key=lambda cost: cost.step.bytes)
    dataset = (PATCH_BYTES + 2.0) * _pixels(scale.train)
    growth = max(map(_area, scale.tested)) / _area(scale.val[0])
    image = max(cost.image.bytes for cost in variants) * max(1.0, growth)
    process = 0.0 if bench.device.type == "cuda" else before
    memory = {
        f"training {largest.variant}": WORKSPACE * largest.step.bytes + process,
        "restoring the largest test image": WORKSPACE * image + process,
        "training set (in memory where it fits)": dataset,
    }
    measured = [cost.gpu_bytes for cost in variants if cost.gpu_bytes]
    if measured:
        memory["training, measured on the GPU"] = max(measured)
        memory["main memory of a process"] = _peak_bytes()
    return memory


def _area(size: Size) -> int:
    return size[0] * size[1]


def _peak_bytes() -> float:
    """Most main memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def duration(seconds: float) -> str:
    """An estimated time in a unit that suits it: `~0.28 s`, `~12 min`, `~34 h`, `~51 days`."""
    for unit, length, least in (("days", 86400.0, 3 * 86400.0), ("h", 3600.0, 2 * 3600.0), ("min", 60.0, 120.0)):
        if seconds >= least:
            return f"~{_two_digits(seconds / length)} {unit}"
    return f"~{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _size(size: float, kilo: int) -> str:
    """An estimated size in M(i)B or G(i)B, `kilo` being 1000 or 1024."""
    binary = "i" if kilo == 1024 else ""
    return (
        f"~{_two_digits(size / kilo**3)} G{binary}B"
        if size >= kilo**3
        else f"~{_two_digits(size / kilo**2)} M{binary}B"
    )


def format_estimate(found: Estimate) -> list[str]:
    """Lines for people; `~` marks an estimate, as every figure of time, disk and memory is."""
    settings, scale = found.settings, found.scale
    runs, seeds, spec = len(found.variants) * len(settings.seeds), len(settings.seeds), settings.training
    height, width = scale.val[0]
    head = f"{f'at {found.tflops:g}':>11}" if found.tflops else ""

    def at_rate(flop: float) -> str:
        return f"{duration(flop / found.tflops / 1e12):>11}" if found.tflops else ""

    lines = [
        f"ESTIMATE for preset {settings.preset} on {found.device}, one job after the other",
        f"{_count(runs, 'run')} ({_count(len(found.variants), 'variant')} x {_count(seeds, 'seed')}); a run is "
        f"{scale.steps:,} steps of {spec.batch} crops of {spec.patches.size} x {spec.patches.size}, and "
        f"{_count(scale.validations, 'validation')} on {_count(len(scale.val), 'image')} of {width} x {height}",
        "",
        f"{'training':<20}{'TFLOP/step':>11}{'step':>10}{'steps':>11}{'validation':>12}{'a run':>11}{'all seeds':>11}"
        f"{head}  time of a step and an image",
    ]
    for cost in found.variants:
        times = (cost.fit_s, cost.validate_s, cost.run_s, cost.run_s * seeds)
        steps, validation, run, every = map(duration, times)
        lines.append(
            f"{cost.variant:<20}{cost.step.flop / 1e12:>11.4g}{duration(cost.step_s):>10}{steps:>11}{validation:>12}"
            f"{run:>11}{every:>11}{at_rate(cost.flop)}  {cost.how}"
        )
    training = sum(cost.run_s for cost in found.variants) * seeds
    flop = sum(cost.flop for cost in found.variants) * seeds
    lines.append(f"{'all':<20}{'':>44}{'':>11}{duration(training):>11}{at_rate(flop)}")
    if found.tflops:
        lines.append(
            f"at {found.tflops:g}: a run (all: every seed) on a device that sustains {found.tflops:g} TFLOP/s, "
            "from counted FLOP; not measured"
        )
    jobs = found.jobs | {"all, training included": training + sum(found.jobs.values())}
    disk = found.disk | {"all": sum(found.disk.values())}
    lines += ["", *(f"{'time, ' + name:<52}{duration(seconds):>11}" for name, seconds in jobs.items())]
    lines += ["", *(f"{'disk, ' + name:<52}{_size(size, 1000):>11}" for name, size in disk.items())]
    lines += ["", *(f"{'memory, ' + name:<52}{_size(size, 1024):>11}" for name, size in found.memory.items())]
    return [line.rstrip() for line in [*lines, "", *(f"note: {note}" for note in found.notes)]]
