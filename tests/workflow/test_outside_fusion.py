"""A fusion in a package of one's own, installed beside this one: listed, described, planned, trained, measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from projects import copy_project, planned

from ddnet.places import ROOT

SMOKE = "workflow/config/smoke.yaml"
MINE = ("--config", "variants_file=mine.yaml")
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "swirl-fusion"
version = "0.1"

[project.entry-points."ddnet.fusion"]
swirl = "swirl_fusion.swirl:Swirl"
ghost = "swirl_fusion.no_such_module:Ghost"
gru = "swirl_fusion.swirl:Swirl"

[tool.setuptools]
packages = ["swirl_fusion"]
"""
SWIRL = '''"""Swirl fusion: depth is added to the blur feature."""

from torch import nn

from .strength import STRENGTH


class Swirl(nn.Module):
    """blur + strength * conv(depth)."""

    def __init__(self, channels, depth_channels):
        super().__init__()
        self.conv = nn.Conv2d(depth_channels, channels, 1)

    def forward(self, blur, depth):
        return blur + STRENGTH * self.conv(depth)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with a variants file of one's own, and `outside/`, where the package is installed."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    source = copy / "source"
    (source / "swirl_fusion").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    # Planning must not import it: this package cannot be imported unless torch is there already.
    (source / "swirl_fusion" / "__init__.py").write_text("import sys\n\nassert 'torch' in sys.modules\n")
    (source / "swirl_fusion" / "swirl.py").write_text(SWIRL)
    (source / "swirl_fusion" / "strength.py").write_text("STRENGTH = 0.5\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*install, "--target", copy / "outside", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (copy / "workflow/config/variants.yaml").read_text()
    (copy / "mine.yaml").write_text(f"{lines}\nfusion_swirl: {{fusion: swirl, study: fusion, label: Swirl fusion}}\n")
    patched = pytest.MonkeyPatch()
    patched.setenv("PYTHONPATH", f"{copy}{os.pathsep}{copy / 'outside'}")
    yield copy
    patched.undo()


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=project, capture_output=True, text=True)


def snakemake(project: Path, *arguments: str) -> str:
    done = run(project, "snakemake", *arguments)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr
