"""`ddnet verify`: checks against other people's software, too heavy for every test run."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnet.errors import DDNetError
from ddnet.runtime.log import say

if TYPE_CHECKING:
    from ddnet.verify.renderer import Comparison


def _line(result: Comparison) -> str:
    edges = "-" if math.isnan(result.edges_db) else f"{result.edges_db:.1f}"
    return (
        f"{result.scene:<18} {result.image_db:>8.1f} {edges:>8} {result.target_db:>8.1f} {result.noise_db:>8.1f} "
        f"{result.widest_px:>8.1f}  {result.about}"
    )


def verify_renderer(arguments: argparse.Namespace) -> None:
    """The embedded benchmark's renderer against Mitsuba 3."""
    from ddnet.verify.renderer import LEAST_DB
    from ddnet.verify.renderer import verify_renderer as verify

    if arguments.samples < 2 or arguments.samples % 2:
        raise DDNetError(f"--samples: {arguments.samples}; allowed is an even number, 2 or more")
    only = tuple(arguments.only.split(",")) if arguments.only else ()
    say("PSNR in dB        " + "".join(f" {name:>8}" for name in ("image", "edges", "target", "noise", "blur px")))
    results = verify(arguments.out, arguments.samples, arguments.seed, lambda one: say(_line(one)), only)
    say(f"pictures, all columns, manifest: {arguments.out}")
    if failed := [result.scene for result in results if not result.passed]:
        raise DDNetError(
            f"the two renderers disagree on {', '.join(failed)}: less than {LEAST_DB:g} dB; look at their pictures"
        )


def add_parser(commands: Any) -> None:
    """Add `verify renderer` to the commands of `ddnet`."""
    checks = commands.add_parser("verify", help="checks against other people's software")
    actions = checks.add_subparsers(required=True, metavar="WHAT")
    renderer = actions.add_parser(
        "renderer", help="the embedded benchmark's renderer against Mitsuba 3 (extra: verify)"
    )
    renderer.add_argument("--samples", type=int, default=1024, help="Mitsuba's samples per pixel (default: 1024)")
    renderer.add_argument("--seed", type=int, default=0)
    renderer.add_argument("--only", help="names of scenes, separated by commas (default: all)")
    renderer.add_argument(
        "--out", type=Path, default=Path("results/renderer"), help="folder (default: results/renderer)"
    )
    renderer.set_defaults(run=verify_renderer)
