"""Command line of DDNet Bench: what there is, what it costs, what is fetched, what this machine has."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ddnet import cli_bench, cli_verify, cli_weights
from ddnet.config import (
    Complexity,
    DpddData,
    Settings,
    Variant,
    find_variant,
    load_baselines,
    load_settings,
    load_sources,
    load_variants,
    source_of,
)
from ddnet.errors import DDNetError
from ddnet.gpu import visible_gpus
from ddnet.log import disk_problem
from ddnet.plan import ROOT, TABLES, Plan
from ddnet.registry import did_you_mean, names
from ddnet.stopping import Stopped, stoppable

CONFIG = ROOT / "workflow" / "config"
PRESETS = ("embedded", "smoke", "paper", "paper-short", "folder")
LISTABLE = ("variants", "fusions", "depth", "metrics", "baselines", "presets", "studies")


def _variants(path: Path | None) -> dict[str, Variant]:
    return load_variants(path or CONFIG / "variants.yaml")


def _list(arguments: argparse.Namespace) -> None:
    kinds = [arguments.kind] if arguments.kind else list(LISTABLE)
    for kind in kinds:
        if len(kinds) > 1:
            print(f"{kind}:")
        for line in _listing(kind, arguments.variants):
            print(f"  {line}" if len(kinds) > 1 else line)


def _listing(kind: str, variants_file: Path | None) -> list[str]:
    variants = _variants(variants_file)
    if kind == "variants":
        rows = [(v.name, ", ".join(v.study), v.label, ", ".join(v.aliases)) for v in variants.values()]
        return [f"{n:<24}{s:<36}{label}{f'  (alias: {a})' if a else ''}" for n, s, label, a in rows]
    if kind == "fusions":
        return ["none", "input", *names("fusion")]
    if kind == "studies":
        studies = sorted({study for variant in variants.values() for study in variant.study})
        table = {study: name for name, study in TABLES.items() if study}
        return [f"{study:<12}{table.get(study, 'no table yet')}" for study in studies]
    if kind == "baselines":
        return [f"{b.name:<24}{b.label}" for b in load_baselines(CONFIG / "baselines.yaml").values()]
    if kind == "presets":
        return list(PRESETS)
    return names({"depth": "depth", "metrics": "metric"}[kind])


def _describe(arguments: argparse.Namespace) -> None:
    from ddnet.engine.complexity import measure_complexity

    variant = find_variant(_variants(arguments.variants), arguments.variant)
    settings = _settings(arguments.preset)
    paper = measure_complexity(variant, settings.complexity)
    trained = measure_complexity(variant, Complexity(width=settings.model.width, size=settings.complexity.size))
    facts: dict[str, Any] = {
        "variant": variant.name + (f" (alias: {', '.join(variant.aliases)})" if variant.aliases else ""),
        "label": variant.label,
        "studies": ", ".join(variant.study),
        "network": variant.arch,
        "fusion": variant.fusion,
        "RCABs per group": ", ".join(map(str, variant.branches)) if variant.arch == "ddnet" else "-",
        "output": variant.output or f"{settings.model.output} (preset {settings.preset})",
        "depth source": (variant.depth_source or settings.depth.source) if variant.uses_depth else "none",
        "parameters": f"{paper['params']:,} ({paper['params_m']:.2f} M) at width {paper['width']}",
        "MACs": f"{paper['macs_g']:.2f} G at {paper['size']} x {paper['size']}, {paper['tool']}",
        "MACs, cross-check": f"{paper['flopcounter_macs_g']:.2f} G (convolutions, torch FlopCounterMode)",
        f"trained in {settings.preset}": f"{trained['params']:,} parameters at width {trained['width']}",
    }
    for name, value in facts.items():
        print(f"{name + ':':<24}{value}")


def _settings(name: str) -> Settings:
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    if not name.endswith((".yaml", ".yml")) and name not in PRESETS:
        raise DDNetError(f"unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return load_settings(path)


def _doctor(_: argparse.Namespace) -> None:
    """Versions, devices and what is missing, for a bug report."""
    import torch

    from ddnet.provenance import device_name, git_state

    commit, dirty = git_state()
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{'commit:':<24}{commit}{' + uncommitted changes' if dirty else ''}")
    print(f"{'python:':<24}{sys.version.split()[0]}")
    print(f"{'device:':<24}{device_name()}, {cpus} processors, {len(visible_gpus())} GPUs")
    print(f"{'torch:':<24}{torch.__version__}, CUDA {'usable' if torch.cuda.is_available() else 'not usable'}")
    for package in ("torchvision", "lightning-fabric", "lpips", "ptflops", "scikit-image", "snakemake", "mlflow"):
        try:
            print(f"{package + ':':<24}{version(package)}")
        except PackageNotFoundError:
            print(f"{package + ':':<24}missing: run `make install`")


def _data_status(arguments: argparse.Namespace) -> None:
    """What a preset has, and what it would download, without asking the network."""
    import shutil

    from ddnet.engine.fetch_data import folder_of, wanted_files
    from ddnet.fetch import status_item
    from ddnet.log import format_bytes
    from ddnet.weights import read_manifest

    plan, sources = _plan(arguments), load_sources(arguments.sources or CONFIG / "sources.yaml")
    data = plan.settings.data if isinstance(plan.settings.data, DpddData) else None
    for name in plan.items:
        item, local = source_of(name, sources), plan.local_copy(name)
        wanted, folder = wanted_files(name, data), folder_of(name)
        found = status_item(name, item, wanted, folder, Path(local).expanduser() if local else None)
        begun = f", {format_bytes(found.begun)} of downloads begun" if found.begun else ""
        size = f"{format_bytes(found.bytes)}{begun} in {local or folder}"
        print(f"{name + ':':<16}{found.have:,} of {found.needed:,} files, {size}")
        print(f"{'':<16}{item.about}; licence: {item.licence}")
        if local and not found.complete:
            print(f"{'':<16}{found.source}; correct data.{name}, or leave it out to fetch")
        elif not found.complete and found.have >= found.needed:
            print(f"{'':<16}too many files; delete those that do not belong there")
        elif not found.complete:
            share = (found.needed - found.have) / wanted_files(name).needed  # a trial takes but a part of all
            first = item.sources[0].url if item.sources else item.by_hand
            print(f"{'':<16}to be fetched: about {format_bytes(share * item.gigabytes * 1e9)}, first from {first}")
    if not plan.items:
        print(f"preset {plan.settings.preset} fetches no dataset")
    trunks = read_manifest(Path("data") / "weights")
    for name in dict.fromkeys(["alexnet", "squeezenet1_1", plan.settings.training.perceptual.trunk]):
        entry = trunks.get(name, {"status": "to be fetched by the rule fetch_weights", "source": "", "reason": ""})
        print(f"{name + ':':<16}{': '.join(filter(None, [entry['status'], entry['source'] or entry['reason']]))}")
    free = shutil.disk_usage("data" if Path("data").is_dir() else ".").free  # data/ may be a link to a larger disk
    print(f"{'free space:':<16}{format_bytes(free)}")


def _data_verify(arguments: argparse.Namespace) -> None:
    """Hash every fetched file again and compare with what was recorded when it was first seen."""
    from ddnet.engine.fetch_data import folder_of, wanted_files
    from ddnet.fetch import verify_item

    plan = _plan(arguments)
    data = plan.settings.data if isinstance(plan.settings.data, DpddData) else None
    problems = []
    for name in plan.items:
        count, found = verify_item(name, wanted_files(name, data), folder_of(name))
        print(f"{name + ':':<16}{count:,} files verified{f', problems: {len(found)}' if found else ''}")
        problems += found
    for problem in problems:
        print(problem)
    if problems:
        raise DDNetError(
            f"not all is as recorded (problems: {len(problems)}); put the original files back, or delete those that "
            "were fetched, and fetch again: snakemake with --forcerun fetch_item"
        )


def _estimate(arguments: argparse.Namespace) -> None:
    """What a preset costs on this machine, from steps measured here and now."""
    # Before torch is imported: with OpenMP's default spinning, steps on shared cores take many times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from ddnet.engine.estimate_cost import estimate

    items = load_sources(CONFIG / "sources.yaml")
    print("\n".join(estimate(_plan(arguments), items, arguments.step_limit_s, arguments.tflops)))


def _plan(arguments: argparse.Namespace) -> Plan:
    baselines = load_baselines(CONFIG / "baselines.yaml")
    return Plan(_settings(arguments.preset), _variants(arguments.variants), baselines)


def _schema(_: argparse.Namespace) -> None:
    print(json.dumps(Settings.model_json_schema(), indent=2))


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog="ddnet", description=__doc__)
    top.add_argument("--variants", type=Path, help="another variants file than workflow/config/variants.yaml")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "list", help="all names: variants, fusions, depth sources, metrics, baselines, presets, studies"
    )
    listing.add_argument("kind", nargs="?", choices=LISTABLE)
    listing.set_defaults(run=_list)
    describe = commands.add_parser("describe", help="a variant's network, parameters and MACs")
    describe.add_argument("variant")
    describe.add_argument("--preset", default="embedded", help="a preset's name or file (default: embedded)")
    describe.set_defaults(run=_describe)
    data = commands.add_parser("data", help="datasets and weights of a preset: what is here, and whether it is intact")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("status", _data_status, "what is here, what would be downloaded and from where; asks no network"),
        ("verify", _data_verify, "hash every file again and compare with the recorded SHA-256"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--preset", default="paper", help="a preset's name or file (default: paper)")
        action.set_defaults(run=run)
        if run is _data_status:
            action.add_argument("--sources", type=Path, help="another table than workflow/config/sources.yaml")
    cli_weights.add_parser(commands)
    cli_verify.add_parser(commands)
    cost = commands.add_parser(
        "estimate", help="hours, disk and memory of a preset on this machine, steps measured now"
    )
    cost.add_argument("--preset", default="paper", help="a preset's name or file (default: paper)")
    cost.add_argument("--step-limit-s", type=float, default=60.0, help="seconds for measuring a step (default: 60)")
    cost.add_argument("--tflops", type=float, help="also the hours at so many TFLOP/s sustained, by counted FLOP")
    cost.set_defaults(run=_estimate)
    cli_bench.add_parser(commands)
    schema = commands.add_parser("schema", help="JSON schema of a preset, for editors: workflow/config/schema.json")
    schema.set_defaults(run=_schema)
    doctor = commands.add_parser("doctor", help="versions and devices of this installation")
    doctor.set_defaults(run=_doctor)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input is one line on standard error and exit status 1."""
    arguments = parser().parse_args(argv)
    try:
        with stoppable():
            arguments.run(arguments)
            sys.stdout.flush()
    except DDNetError as error:
        print(f"ddnet: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"ddnet: {stop}", file=sys.stderr)
        return stop.status
    except BrokenPipeError:  # whoever reads, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not (words := disk_problem(error)):
            raise
        print(f"ddnet: {words}", file=sys.stderr)
        return 1
    return 0
