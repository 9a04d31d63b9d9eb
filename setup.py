"""Puts the workflow into the wheel, inside the package that it runs, where `ddnet init` finds it.

All else about this project is said in pyproject.toml.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def commit() -> str:
    """The commit that the wheel is built from, marked where it has changes; empty outside a repository.

    A container is built without the repository, and says it by DDNET_COMMIT.
    """
    if given := os.environ.get("DDNET_COMMIT"):
        return given
    command = ("git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


class BuildWithWorkflow(build_py):
    """The packages, and the workflow's files in ddnet/_project."""

    def run(self) -> None:
        """Build; an editable installation runs the workflow of the checkout, and needs no copy."""
        super().run()
        if self.editable_mode:
            return
        carried = Path(self.build_lib, "ddnet", "_project")
        shutil.rmtree(carried, ignore_errors=True)
        carried.mkdir(parents=True)
        for name in runpy.run_path(str(ROOT / "ddnet" / "runtime" / "paths.py"))["WORKFLOW"]:
            source, target = ROOT / name, carried / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (carried / "commit").write_text(commit(), encoding="ascii")


setup(cmdclass={"build_py": BuildWithWorkflow})
