"""Where this suite's own files are: in a checkout, in a project folder that `ddnet init` made, or in a wheel."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

# The folder that holds the packages `ddnet` and `baselines`: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parents[2]
# A wheel carries the workflow inside the package; setup.py puts it there.
CARRIED = ROOT / "ddnet" / "_project"
# What makes a folder one that the workflow runs in, and what `ddnet init` lays out.
WORKFLOW = ("Snakefile", "workflow", "profiles", "constraints.txt", "results/paper")


def _project() -> Path:
    """The project in the working directory, else the checkout, else what the wheel carries."""
    for folder in (Path.cwd(), ROOT):
        if (folder / "Snakefile").is_file() and (folder / "workflow" / "config" / "variants.yaml").is_file():
            return folder
    return CARRIED


PROJECT = _project()
CONFIG = PROJECT / "workflow" / "config"


def install_command(extra: str = "") -> str:
    """What a user types to have the pinned versions, in a checkout or beside a wheel; with those of an extra."""
    checkout = (PROJECT / "Makefile").is_file()
    if checkout and not extra:
        return "make install"
    pins = shlex.quote(os.path.relpath(PROJECT / "constraints.txt"))
    what = shlex.quote(f"{'.' if checkout else 'ddnet-bench'}{f'[{extra}]' if extra else ''}")
    return f"pip install -c {pins} {'-e ' if checkout else ''}{what}"
