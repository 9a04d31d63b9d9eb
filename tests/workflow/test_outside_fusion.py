"""A fusion in a package of one's own, installed beside this one: listed, described, planned, trained, measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import copy_project, planned, run, snakemake

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
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return copy


def test_it_is_listed_and_described(project: Path) -> None:
    assert "swirl" in run(project, "ddnet", "list", "fusions").split()
    described = run(project, "ddnet", "describe", "swirl")
    assert "swirl_fusion.swirl" in described and "1,088 per scale" in described
    described = run(project, "ddnet", "--variants", "mine.yaml", "describe", "fusion_swirl")
    assert re.search(r"parameters: +2,0\d\d,\d{3} ", described) and "Swirl fusion" in described


def test_a_table_of_one_s_own_plans_it(project: Path) -> None:
    jobs = planned(project, SMOKE, "ablation", *MINE)
    needed = {"train", "evaluate", "measure_complexity", "write_card"}
    assert {rule for rule, subject in jobs if subject == "fusion_swirl"} == needed
    assert ("make_table", "table4") in jobs
    without = planned(project, SMOKE, "ablation")
    assert not [job for job in without if job[1] == "fusion_swirl"]


def test_it_is_trained_and_measured_and_an_edit_of_its_code_reruns_it_alone(project: Path) -> None:
    wanted = [f"results/runs/smoke/{variant}-seed0/per_image.csv" for variant in ("fusion_swirl", "fusion_conv")]
    snakemake(project, *wanted, "--cores", "8", "--configfile", SMOKE, *MINE)
    images = pd.read_csv(project / wanted[0])
    assert len(images) and np.isfinite(images["psnr"]).all()
    manifest = json.loads((project / wanted[0]).with_name("manifest.json").read_text())
    folder = project / "outside" / "swirl_fusion"

    def reruns() -> set[tuple[str, str]]:
        output = snakemake(project, *wanted, "-n", "--cores", "2", "--configfile", SMOKE, *MINE)
        return set(re.findall(r"^rule (\w+):$.*?variant=(\w+)", output, re.M | re.S))

    mine = {(rule, "fusion_swirl") for rule in ("train", "evaluate")}
    assert reruns() == set()
    for name, text, changes in (
        ("swirl.py", SWIRL + "\n# a remark\n", set()),
        ("swirl.py", SWIRL.replace("blur + STRENGTH", "blur - STRENGTH"), mine),
        ("strength.py", "STRENGTH = 0.25\n", mine),  # imported by its relative name
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(text)
        assert reruns() == changes, name
        (folder / name).write_text(before)
        assert reruns() == set(), name
    assert re.fullmatch("[0-9a-f]{12}", manifest["code_digest"])


def test_an_entry_point_to_nothing_is_one_line(project: Path) -> None:
    ghost = (project / "mine.yaml").read_text() + "ghost: {fusion: ghost, study: fusion}\n"
    (project / "ghost.yaml").write_text(ghost)
    options = ("--configfile", SMOKE, "--config", "variants_file=ghost.yaml")
    output = snakemake(project, "ablation", "-n", "--cores", "2", *options, check=False)
    assert "variant 'ghost': an installed package gives fusion 'ghost' as swirl_fusion.no_such_module" in output
    assert "Traceback" not in output
