"""Which jobs an edit of the code makes anew, for every rule of the default preset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import copy_project

GRU = {"ddnet_1b", "ddnet_1b_constant", "ddnet_1b_rendered", "ddnet_2b", "ddnet_3b"}
NETWORKS = {"defocusgan", "dpdnet", "ifan", "kpac", "mdpnet"}  # that learn with the common losses
TABLES, MEASURED = {"make_table", "make_defocus_table"}, {"evaluate", "evaluate_baseline"}
DRAWN = {"draw_study", "draw_controls", "draw_defocus_maps", "make_page"}
OF_A_SYSTEM = ("train_system", "import_system", "count_system", "evaluate_baseline")
REPORT = {*TABLES, *DRAWN, "write_card", "export_mlflow"}

# Messages, what a job does around its work, what brings files here, what is shown while it is at work.
NO_NUMBER = (
    "ddnet/fetch/http.py", "ddnet/fetch/*.py", "ddnet/runtime/log.py", "ddnet/runtime/*.py", "ddnet/io/contents.py",
    "ddnet/cli/*.py", "ddnet/planning/*.py", "ddnet/config/*.py", "ddnet/depth/preview.py",
    "ddnet/report/mlflow_live.py", "ddnet/restoration/deblur.py",
)  # fmt: skip
# Files -> the rules whose jobs they make anew, all of what the preset asks of those rules.
RULES = {
    **{file: set() for file in NO_NUMBER},
    "ddnet/report/formats.py": TABLES,
    "ddnet/report/tex.py": TABLES,
    "ddnet/report/style.py": DRAWN,
    "ddnet/report/model_card.py": {"write_card"},
    "ddnet/report/*.py": REPORT,
    "ddnet/evaluation/metrics/ssim.py": MEASURED,
    "ddnet/evaluation/evaluate.py": MEASURED,
    "ddnet/training/train.py": {"train"},
    "ddnet/data/embedded/render.py": {"render_scenes", "index_dataset"},
    "ddnet/data/depth_maps.py": {"fit_depth", "estimate_depth", "train", "evaluate"},
    "ddnet/depth/fit_network.py": {"fit_depth"},
    "ddnet/training/checkpoint.py": {"train", "evaluate"},
}  # fmt: skip
# Files -> for each rule, those of its jobs that they make anew.
JOBS = {
    "ddnet/models/fusion/gru.py": {"train": GRU, "evaluate": GRU, "measure_complexity": GRU},
    "ddnet/models/fusion/conv.py": {rule: {"fusion_conv"} for rule in ("train", "evaluate", "measure_complexity")},
    "ddnet/depth/sources/rendered.py": {"estimate_depth": {"rendered"}, "train": set()},
    "ddnet/training/loop.py": {"train_system": NETWORKS | {"dmenet"}, "evaluate": set(), "estimate_depth": set()},
    "baselines/ifan/network.py": {rule: {"ifan"} for rule in OF_A_SYSTEM},
    "ddnet/training/losses.py": {"train_system": NETWORKS},
    "workflow/scripts/train.py": {"evaluate": set(), "train_system": set()},
}


@pytest.fixture(scope="module")
def reruns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[str, str]]]:
    """Pattern of edited files -> rule and subject of the jobs that are made anew; of all under `every job`."""
    project = copy_project(tmp_path_factory.mktemp("digests") / "project")
    command = [
        sys.executable,
        str(Path(__file__).with_name("code_digests.py")),
        "edits",
        *RULES,
        *JOBS,
        "ddnet/io/photographs/*.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    jobs = json.loads(done.stdout.splitlines()[-1])
    return {
        pattern: {(name.partition(" ")[0], name.partition(" ")[2]) for name in found} for pattern, found in jobs.items()
    }


@pytest.mark.parametrize("pattern", RULES)
def test_an_edit_reruns_these_rules_and_no_others(reruns: dict[str, set[tuple[str, str]]], pattern: str) -> None:
    assert reruns[pattern] == {job for job in reruns["every job"] if job[0] in RULES[pattern]}


@pytest.mark.parametrize("pattern", JOBS)
def test_an_edit_reruns_these_jobs_of_a_rule(reruns: dict[str, set[tuple[str, str]]], pattern: str) -> None:
    for rule, subjects in JOBS[pattern].items():
        assert {subject for name, subject in reruns[pattern] if name == rule} == subjects, rule


def test_what_reads_other_people_s_photographs_trains_nothing(reruns: dict[str, set[tuple[str, str]]]) -> None:
    assert not {rule for rule, _ in reruns["ddnet/io/photographs/*.py"]} & {"render_scenes", "train", "evaluate"}


def test_every_rule_with_a_script_says_what_code_it_runs(reruns: dict[str, set[tuple[str, str]]]) -> None:
    scripts = {path.stem for path in (Path(__file__).parents[2] / "workflow" / "scripts").glob("*.py")}
    assert scripts - {rule for rule, _ in reruns["every job"]} == {"index_photographs"}  # of other presets
