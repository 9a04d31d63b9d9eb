"""Command line of DDNet Bench: what there is, what it costs, what is fetched, what this machine has."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddnet import (
    __version__,
    cli_bench,
    cli_completion,
    cli_deblur,
    cli_doctor,
    cli_init,
    cli_release,
    cli_verify,
    cli_weights,
)
from ddnet.config import (
    Complexity,
    Settings,
    Variant,
    find_variant,
    load_baselines,
    load_settings,
    load_sources,
    load_variants,
)
from ddnet.errors import DDNetError
from ddnet.log import disk_problem, terminal_log
from ddnet.places import CONFIG
from ddnet.plan import TABLES, Plan
from ddnet.registry import did_you_mean, names
from ddnet.stopping import Stopped, stoppable

PRESETS = ("embedded", "smoke", "paper", "paper-short", "folder")
SUMMARY = "Benchmark of defocus deblurring; `snakemake --cores 8 all` runs all of it."
EXIT_STATUS = "Exit status: 0 done, 1 refused, 2 wrong usage, 128 + n left by signal n."
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
    top = argparse.ArgumentParser(prog="ddnet", description=SUMMARY, epilog=EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"ddnet-bench {__version__}")
    top.add_argument("--variants", type=Path, metavar="FILE", help="a table of variants other than the project's")
    commands = top.add_subparsers(required=True, metavar="COMMAND", title="commands")
    cli_deblur.add_parser(commands)
    cli_init.add_parser(commands)
    listing = commands.add_parser("list", help="names of variants, fusions, depth sources, metrics, ...")
    listing.add_argument("kind", nargs="?", choices=LISTABLE)
    listing.set_defaults(run=_list)
    describe = commands.add_parser("describe", help="a variant's network, parameters and MACs")
    describe.add_argument("variant")
    describe.add_argument("--preset", default="embedded", help="a preset's name or file (default: embedded)")
    describe.set_defaults(run=_describe)
    cli_doctor.add_parsers(commands, _plan)
    cli_weights.add_parser(commands)
    cli_verify.add_parser(commands)
    cost = commands.add_parser("estimate", help="hours, disk and memory of a preset on this machine")
    cost.add_argument("--preset", default="paper", help="a preset's name or file (default: paper)")
    cost.add_argument("--step-limit-s", type=float, default=60.0, help="seconds for measuring a step (default: 60)")
    cost.add_argument("--tflops", type=float, help="also the hours at so many TFLOP/s sustained, by counted FLOP")
    cost.set_defaults(run=_estimate)
    cli_bench.add_parser(commands)
    schema = commands.add_parser("schema", description="JSON schema of a preset, for editors")  # not listed above
    schema.set_defaults(run=_schema)
    cli_release.add_parser(commands)
    cli_completion.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input is one line on standard error and exit status 1."""
    grammar = parser()
    cli_completion.complete(grammar)
    arguments = grammar.parse_args(argv)
    terminal_log()
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
