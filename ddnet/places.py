"""Where this suite's own files are: in a checkout, in a project folder that `ddnet init` made, or in a wheel."""

from __future__ import annotations

from pathlib import Path

# The folder that holds the packages `ddnet` and `baselines`: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parent.parent
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
