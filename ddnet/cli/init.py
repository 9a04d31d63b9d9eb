"""`ddnet init`: a folder that the workflow runs in, for whoever installed the package and has no checkout."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.io.files import expanded
from ddnet.runtime.log import say
from ddnet.runtime.paths import PROJECT, WORKFLOW


def init(arguments: argparse.Namespace) -> None:
    """Lay the workflow out in a folder that is new or empty: all of it, or nothing."""
    folder: Path = expanded(arguments.folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DDNetError(f"{folder}: is there already and is not empty; name a new or empty folder")
    if missing := [name for name in WORKFLOW if not (PROJECT / name).exists()]:
        raise DDNetError(f"{PROJECT}: lacks {', '.join(missing)}; install ddnet-bench again, or use a whole checkout")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ddnet-", dir=folder.parent) as scratch:
        laid = Path(scratch, "project")
        laid.mkdir()
        for name in WORKFLOW:
            source, target = PROJECT / name, laid / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        laid.replace(folder)
    say(f"{folder}: the workflow, its settings and the printed tables; next:")
    say(f"  cd {folder}")
    say("  snakemake --cores 8 all --configfile workflow/config/smoke.yaml   # everything, tiny, in minutes")
    say("  snakemake --cores 8 all                                           # the embedded benchmark")


def add_parser(commands: Any) -> None:
    """Add `init` to the commands of `ddnet`."""
    begin = commands.add_parser("init", help="a new folder to run the benchmark in, without a checkout")
    begin.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that is new or empty")
    begin.set_defaults(run=init)
