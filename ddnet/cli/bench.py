"""`ddnet bench`: what things cost on this machine, beside a plain run and the machine's own ceiling."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddnet.benchmark.bench import Records, Row
from ddnet.config import Variant, find_variant, load_baselines, load_variants
from ddnet.errors import DDNetError
from ddnet.planning.baselines import system_needs
from ddnet.registry import did_you_mean
from ddnet.runtime.log import say
from ddnet.runtime.paths import CONFIG
from ddnet.runtime.provenance import device_name

NETWORKS = "unet,ddnet_1b,ddnet_2b"
MULTIPLE, SMALLEST = 16, 64  # pixels of a side: the networks' pyramid, and the warm-up


def bench_systems(arguments: argparse.Namespace) -> None:
    """Time and memory of the compared systems, each measured in a process of its own."""
    from ddnet.benchmark.bench import HEADER, line, parse_size
    from ddnet.benchmark.bench import bench_systems as bench

    known = load_baselines(CONFIG / "baselines.yaml")
    measured = [name for name in known if "pictures" not in system_needs(known[name].system)]
    chosen = list(dict.fromkeys(arguments.only.split(","))) if arguments.only else measured
    for name in chosen:
        if name not in measured:
            raise DDNetError(f"unknown compared system '{name}'{did_you_mean(name, measured)}")
    size, records = parse_size(arguments.size), Records(arguments.out, "systems", device_name())
    say(HEADER)
    bench([known[name] for name in chosen], size, records, lambda row: say(line(row)))
    say(f"all columns: {records.file}")


def bench_inference(arguments: argparse.Namespace) -> None:
    """Whole images: as we restore them, and plainly."""
    from ddnet.benchmark import networks as bench_networks
    from ddnet.benchmark.bench import parse_size
    from ddnet.benchmark.measured_network import INFERENCE

    size, chosen = parse_size(arguments.size), _chosen(arguments)
    if any(side % MULTIPLE for side in size) or min(size) < SMALLEST:
        raise DDNetError(
            f"size is '{arguments.size}'; sides are multiples of {MULTIPLE} from {SMALLEST} on here, such as 1680x1120"
        )
    ways = _ways(arguments, INFERENCE, ("plain", "whole", "half") if cuda() else ("plain", "whole", "bands"))
    if arguments.batch < 1:
        raise DDNetError(f"--batch {arguments.batch}: at least 1 image")
    records = Records(arguments.out, "inference", device_name())
    say(bench_networks.HEADER)
    numbers = (arguments.channels, arguments.batch, arguments.rounds)
    bench_networks.bench_inference(chosen, size, *numbers, ways, records, _show)
    _finish(records, f"Restoring an image of {size[0]} x {size[1]}")


def bench_step(arguments: argparse.Namespace) -> None:
    """Training steps: as we train, and plainly."""
    from ddnet.benchmark import networks as bench_networks
    from ddnet.benchmark.measured_network import STEP

    chosen = _chosen(arguments)
    _require_crops(arguments)
    if arguments.turns < 1:
        raise DDNetError(f"--turns {arguments.turns}: at least 1")
    ways = _ways(arguments, STEP, tuple(STEP) if cuda() else ("plain", "ours", "bf16"))
    records = Records(arguments.out, "step", device_name())
    say(bench_networks.HEADER)
    numbers = (arguments.crop, arguments.batch, arguments.channels, arguments.rounds, arguments.turns)
    bench_networks.bench_step(chosen, *numbers, ways, records, _show)
    _finish(records, "A training step")


def bench_data(arguments: argparse.Namespace) -> None:
    """Training crops: from the memory-mapped images, and plainly from files."""
    from ddnet.benchmark.data import COLUMNS, HEADER, KEY, line
    from ddnet.benchmark.data import bench_data as bench

    variants = load_variants(arguments.variants or CONFIG / "variants.yaml")
    variant = find_variant(variants, arguments.only)
    _require_crops(arguments)
    records = Records(arguments.out, "data", device_name(), COLUMNS, KEY)
    say(HEADER)
    numbers = (arguments.channels, arguments.crop, arguments.batch)
    bench(variant, *numbers, records, lambda row: say(line(row)))
    _finish(records, "Loading a training crop")


def bench_metrics(arguments: argparse.Namespace) -> None:
    """The metrics of Table 2 on one image: as we measure, and plainly."""
    from ddnet.benchmark import metrics as bench_metrics
    from ddnet.benchmark import networks as bench_networks
    from ddnet.benchmark.bench import parse_size

    size = parse_size(arguments.size)
    if arguments.rounds < 1 or min(size) < SMALLEST:
        raise DDNetError(
            f"--size {arguments.size} --rounds {arguments.rounds}: sides from {SMALLEST} on, 1 round or more"
        )
    records = Records(arguments.out, "metrics", device_name())
    say(bench_networks.HEADER)
    bench_metrics.bench_metrics(size, arguments.weights, arguments.rounds, records, _show)
    _finish(records, f"Measuring an image of {size[0]} x {size[1]}")


def bench_pipeline(arguments: argparse.Namespace) -> None:
    """Work, start-up and waiting of the run in the working directory."""
    from ddnet.benchmark.pipeline import COLUMNS, HEADER, KEY, line
    from ddnet.benchmark.pipeline import bench_pipeline as bench
    from ddnet.report.bench_figure import draw_pipeline

    records = Records(arguments.out, "pipeline", device_name(), COLUMNS, KEY)
    say(HEADER)
    bench(Path.cwd(), arguments.preset, records, lambda row: say(line(row)))
    figure = draw_pipeline(records.file, arguments.preset, records.file.with_suffix(".png"))
    say(f"all columns: {records.file}; picture: {figure}")


def bench_tiles(arguments: argparse.Namespace) -> None:
    """A trained network in tiles, beside itself on the whole image."""
    from ddnet.benchmark.bench import parse_size
    from ddnet.benchmark.tiles import COLUMNS, HEADER, KEY, line
    from ddnet.benchmark.tiles import bench_tiles as bench
    from ddnet.restoration.load import load

    size, tiles = parse_size(arguments.size), arguments.tiles.split(",")
    if not all(tile.isdecimal() for tile in tiles):
        raise DDNetError(f"--tiles {arguments.tiles}: sides in pixels, separated by commas, such as 512,256")
    loaded, records = load(arguments.network), Records(arguments.out, "tiles", device_name(), COLUMNS, KEY)
    say(HEADER)
    bench(loaded, size, map(int, tiles), records, lambda row: say(line(row)))
    say(f"all columns: {records.file}")


def _require_crops(arguments: argparse.Namespace) -> None:
    if not 32 <= arguments.crop <= 1024 or arguments.crop % 16 or arguments.batch < 1:
        raise DDNetError(
            f"--crop {arguments.crop} --batch {arguments.batch}: crops are multiples of 16 from 32 to 1024, "
            "a batch 1 or more"
        )


def cuda() -> bool:
    """Whether networks are measured on a GPU."""
    import torch

    return torch.cuda.is_available()


def _ways(arguments: argparse.Namespace, known: Iterable[str], usual: tuple[str, ...]) -> list[str]:
    """The ways asked for, or the usual ones; `plain`, which the others are compared with, always and first."""
    ways = arguments.ways.split(",") if arguments.ways else list(usual)
    for way in ways:
        if way not in known:
            raise DDNetError(f"--ways: no way '{way}'{did_you_mean(way, list(known))}; there are {', '.join(known)}")
    return list(dict.fromkeys(["plain", *ways]))


def _chosen(arguments: argparse.Namespace) -> list[Variant]:
    if arguments.rounds < 1 or arguments.channels < 4:
        raise DDNetError(f"--rounds {arguments.rounds} --channels {arguments.channels}: at least 1 round, 4 channels")
    variants = load_variants(arguments.variants or CONFIG / "variants.yaml")
    return [find_variant(variants, name) for name in dict.fromkeys(arguments.only.split(","))]


def _show(row: Row) -> None:
    from ddnet.benchmark.networks import line

    say(line(row))


def _finish(records: Records, title: str) -> None:
    from ddnet.report.bench_figure import draw_bench

    figure = draw_bench(records.file, title, records.file.with_suffix(".png"))
    say(f"all columns: {records.file}; picture: {figure}")


def add_parser(commands: Any) -> None:
    """Add `bench systems|inference|metrics|tiles|step|data|pipeline` to the commands of `ddnet`."""
    bench = commands.add_parser("bench", help="time and memory, beside what this machine can do")
    measured = bench.add_subparsers(required=True, metavar="WHAT")
    systems = measured.add_parser("systems", help="the compared systems, and the parts of some")
    systems.add_argument("--only", help="names of compared systems, separated by commas (default: all)")
    systems.set_defaults(run=bench_systems)
    inference = measured.add_parser("inference", help="our networks on a whole image, plainly and as we do")
    inference.set_defaults(run=bench_inference)
    metrics = measured.add_parser("metrics", help="the metrics of Table 2 on one image, plainly and as we do")
    metrics.add_argument(
        "--weights", type=Path, default=Path("data/weights"), help="folder of fetched weights (default: data/weights)"
    )
    metrics.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    metrics.set_defaults(run=bench_metrics)
    tiles = measured.add_parser("tiles", help="a trained network in tiles, beside the whole image")
    tiles.add_argument("network", help="a name or a run's folder, as for ddnet.load")
    tiles.add_argument("--tiles", default="1024,512,256", help="sides of tiles in pixels (default: 1024,512,256)")
    tiles.set_defaults(run=bench_tiles)
    for parser in (systems, inference, metrics, tiles):
        parser.add_argument(
            "--size", default="1680x1120", help="width x height of the image (default: DPDD's 1680x1120)"
        )
    step = measured.add_parser("step", help="a training step of our networks, plainly and as we do")
    data = measured.add_parser("data", help="loading training crops, beside PNG files and beside a step")
    data.add_argument("--only", default="unet", help="the network of the step (default: unet, the fastest)")
    data.add_argument("--channels", type=int, default=64, help="the network's width (default: 64, the paper's)")
    data.set_defaults(run=bench_data)
    for parser in (step, data):
        parser.add_argument("--crop", type=int, default=96, help="side of a crop (default: 96)")
        parser.add_argument("--batch", type=int, default=4, help="crops per step (default: 4)")
    step.add_argument("--turns", type=int, default=3, help="processes per way (default: 3)")
    step.set_defaults(run=bench_step)
    inference.add_argument("--batch", type=int, default=1, help="images at once (default: 1)")
    for parser, rounds in ((inference, 2), (step, 5)):
        parser.add_argument(
            "--ways", help="how it is run, with commas; a wrong one names all (default: this machine's)"
        )
        parser.add_argument("--only", default=NETWORKS, help=f"names of variants, with commas (default: {NETWORKS})")
        parser.add_argument("--channels", type=int, default=64, help="the networks' width (default: 64, the paper's)")
        parser.add_argument(
            "--rounds", type=int, default=rounds, help=f"measurements per way or process (default: {rounds})"
        )
    pipeline = measured.add_parser("pipeline", help="what the finished run in this folder spent beside its work")
    pipeline.add_argument("--preset", default="embedded", help="whose run (default: embedded)")
    pipeline.set_defaults(run=bench_pipeline)
    for parser in (systems, inference, metrics, tiles, step, data, pipeline):
        parser.add_argument("--out", type=Path, default=Path("results/bench"), help="folder (default: results/bench)")
