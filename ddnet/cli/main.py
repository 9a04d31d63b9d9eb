"""Command line of DDNet Bench: what there is, what it costs, what is fetched, what this machine has."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ddnet import __version__
from ddnet.cli import bench as cli_bench
from ddnet.cli import completion as cli_completion
from ddnet.cli import deblur as cli_deblur
from ddnet.cli import doctor as cli_doctor
from ddnet.cli import init as cli_init
from ddnet.cli import list as cli_list
from ddnet.cli import release as cli_release
from ddnet.cli import verify as cli_verify
from ddnet.cli import weights as cli_weights
from ddnet.cli.list import PRESETS, variants_of
from ddnet.config import Settings, load_baselines, load_settings, load_sources
from ddnet.errors import DDNetError, printable
from ddnet.planning.plan import Plan
from ddnet.registry import did_you_mean
from ddnet.runtime.log import disk_problem, say, terminal_log
from ddnet.runtime.paths import CONFIG
from ddnet.runtime.signals import Stopped, stoppable

SUMMARY = "Benchmark of defocus deblurring; `snakemake --cores 8 all` runs all of it."
EXIT_STATUS = "Exit status: 0 done, 1 refused, 2 wrong usage, 128 + n left by signal n."


def _settings(name: str) -> Settings:
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    if not name.endswith((".yaml", ".yml")) and name not in PRESETS:
        raise DDNetError(f"unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return load_settings(path)


def _estimate(arguments: argparse.Namespace) -> None:
    """What a preset costs on this machine, from steps measured here and now."""
    # Before torch is imported: with OpenMP's default spinning, steps on shared cores take many times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from ddnet.benchmark.estimate_cost import estimate

    items = load_sources(CONFIG / "sources.yaml")
    say(*estimate(_plan(arguments), items, arguments.step_limit_s, arguments.tflops))


def _plan(arguments: argparse.Namespace) -> Plan:
    baselines = load_baselines(CONFIG / "baselines.yaml")
    return Plan(_settings(arguments.preset), variants_of(arguments.variants), baselines)


def _schema(_: argparse.Namespace) -> None:
    print(json.dumps(Settings.model_json_schema(), indent=2))


class _Grammar(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))  # it quotes what was typed


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top: argparse.ArgumentParser = _Grammar(prog="ddnet", description=SUMMARY, epilog=EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"ddnet-bench {__version__}")
    top.add_argument("--variants", type=Path, metavar="FILE", help="a table of variants other than the project's")
    commands = top.add_subparsers(required=True, metavar="COMMAND", title="commands")
    cli_deblur.add_parser(commands)
    cli_init.add_parser(commands)
    cli_list.add_parsers(commands, _settings)
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
        say(f"ddnet: {error}", error=True)
        return 1
    except Stopped as stop:
        say(f"ddnet: {stop}", error=True)
        return stop.status
    except BrokenPipeError:  # whoever reads, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not (words := disk_problem(error)):
            raise
        say(f"ddnet: {words}", error=True)
        return 1
    return 0
