"""`ddnet release`: networks of finished runs into the package, for whoever publishes it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.runtime.log import say
from ddnet.runtime.paths import ROOT


def release(arguments: argparse.Namespace) -> None:
    """Take the networks that the package carries from finished runs of the preset `release`."""
    from ddnet.restoration.release import CARD, RELEASE, learned_from, make_release

    if not (ROOT / "Snakefile").is_file():
        raise DDNetError(f"{ROOT}: is no checkout of this project; networks are released from one")
    for variant, facts in make_release(arguments.runs).items():
        seeds = ", ".join(map(str, facts["of_seeds"]))
        say(
            f"{RELEASE / variant}.pt: seed {facts['seed']} of {seeds}, validation {facts['best_val_psnr']:.2f} dB, "
            f"commit {facts['commit'][:12]}, SHA-256 {facts['sha256'][:12]}; learned from {learned_from(facts)}"
        )
    say(f"{RELEASE / CARD}: their card")


def add_parser(commands: Any) -> None:
    """Add `release` to the commands of `ddnet`; not listed, since users have no need of it."""
    make = commands.add_parser("release", description="Networks of finished runs into the package that carries them.")
    default = Path("results/runs/release")
    make.add_argument("--runs", type=Path, default=default, help=f"a preset's runs (default: {default})")
    make.set_defaults(run=release)
