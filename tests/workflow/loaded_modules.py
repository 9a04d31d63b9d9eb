"""Writes down which of our modules a Snakemake job has loaded at its end; installed as `sitecustomize` by a test.

One JSON file per job in the folder that LOADED_MODULES names: its rule, its wildcards, and the modules' files.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path


def note() -> None:
    """At the exit of a process; one that runs no job's script has no `snakemake` object."""
    job = getattr(sys.modules["__main__"], "snakemake", None)
    if job is None:
        return
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("ddnet", "baselines")}
    found = {"rule": job.rule, "wildcards": dict(job.wildcards.items())}
    found["modules"] = {name: module.__file__ for name, module in ours.items() if module.__file__}
    Path(os.environ["LOADED_MODULES"], f"{os.getpid()}.json").write_text(json.dumps(found), encoding="utf-8")


if "LOADED_MODULES" in os.environ:
    atexit.register(note)
