"""A copy of the project to run Snakemake in, as a user would, and what a dry run of it plans."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from ddnet.runtime.paths import ROOT

Job = tuple[str, str]  # rule, and what it is for
SUBJECTS = ("variant", "table", "study", "source", "baseline", "item", "system", "map")  # wildcards that say it


def copy_project(folder: Path) -> Path:
    """The sources that a run needs, copied into `folder`."""
    folder.mkdir(exist_ok=True)
    for name in ("Snakefile", "workflow", "profiles", "ddnet", "baselines", "CONTRIBUTING.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    shutil.copytree(ROOT / "results" / "paper", folder / "results" / "paper")
    return folder


def run(project: Path, *command: str, check: bool = True) -> str:
    """Standard output and error of `python -m ...` in the copy; with `check`, an exit status other than 0 fails.

    What a test installs into `outside/` of the copy counts as installed.
    """
    environment = os.environ | {"PYTHONPATH": f"{project}{os.pathsep}{project / 'outside'}"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output[-6000:]
    assert check or done.returncode != 0, f"expected to fail:\n{output[-3000:]}"
    return output


def snakemake(project: Path, *arguments: str, check: bool = True) -> str:
    """Run Snakemake in the copy; see `run`."""
    return run(project, "snakemake", *arguments, check=check)


def planned(project: Path, config: str, target: str = "all", *arguments: str) -> Counter[Job]:
    """Jobs of a dry run, without the target rule itself."""
    output = snakemake(project, target, "-n", "--cores", "2", "--configfile", config, *arguments)
    jobs: Counter[Job] = Counter()
    for block in re.split(r"(?=^(?:local)?rule \w+:$)", output, flags=re.M):
        rule = re.match(r"(?:local)?rule (\w+):$", block, re.M)
        if rule is None or rule[1] in ("all", "tables", "ablation"):
            continue
        wildcards = dict(re.findall(r"(\w+)=([^,\s]+)", (re.search(r"wildcards: (.*)", block) or [""] * 2)[1]))
        subject = [wildcards.get(name, "") for name in SUBJECTS]
        jobs[rule[1], "".join(subject)] += 1
    return jobs
