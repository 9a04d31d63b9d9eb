"""The workflow on a real Slurm of one node, which these tests start and stop; they need root."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_slurm import PROGRAMS, LocalSlurm, local_slurm
from programs import require_program
from projects import copy_project, snakemake

PROFILE = ("--workflow-profile", "workflow/profiles/slurm", "--configfile", "workflow/config/smoke.yaml")
# Two processors, a node that answers at once, and no wait for a file system that other machines share.
HERE = ("--cores", "2", "--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2",
        "--seconds-between-status-checks", "2")  # fmt: skip


@pytest.fixture(scope="module")
def slurm() -> Iterator[LocalSlurm]:
    for name in PROGRAMS:
        require_program(name)
    if os.getuid() != 0:
        pytest.skip("slurmd of this test runs as root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # sockets want a short path
        inner = Path(folder, "s")
        inner.mkdir(mode=0o755)
        with local_slurm(inner) as running:
            yield running


def start(slurm: LocalSlurm, project: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = slurm.environment | {"PYTHONPATH": str(project)}
    command = (sys.executable, "-m", "snakemake", *arguments, *PROFILE, *HERE)
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    try:
        output = process.communicate(timeout=seconds)[0]
    except BaseException:  # an interrupted test, too, leaves nobody behind
        process.kill()
        raise
    assert process.returncode == 0, output[-6000:]
    return output


def jobs_of(slurm: LocalSlurm, project: Path) -> list[dict[str, str]]:
    return [job for job in slurm.jobs() if job["WorkDir"] == str(project)]


def test_a_dry_run_asks_for_gpus_and_groups_what_is_short(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    for profile in ("workflow/profiles/slurm", "slurm"):
        said = snakemake(project, "all", "-n", "--workflow-profile", profile, *PROFILE[2:])
        train = said.split("rule train:")[1].split("\n\n")[0]
        assert "gpu=1" in train and "runtime=1440" in train and "slurm_extra='--signal=USR1@300'" in train
        assert "\n    rule measure_complexity:" in said and "\n    rule train:" not in said  # in a group: indented


def test_jobs_go_through_slurm_with_what_they_ask_for(slurm: LocalSlurm, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    targets = ["data/smoke/index.csv", *(f"results/complexity/smoke/{name}.json" for name in ("unet", "unet_rcab"))]
    finish(start(slurm, project, *targets), 240)
    assert all((project / target).is_file() for target in targets)
    jobs = jobs_of(slurm, project)
    assert len(jobs) == 3, jobs  # two of the data; both counts share one
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    by_rule = {job["Comment"]: job for job in jobs}
    render = next(job for comment, job in by_rule.items() if "render_scenes" in comment)
    assert (render["CPUs/Task"], render["TimeLimit"], render["MinMemoryNode"]) == ("2", "01:00:00", "1000M")


@pytest.mark.slow
def test_the_whole_preset_goes_through_slurm(slurm: LocalSlurm, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    finish(start(slurm, project, "all"), 3600)
    states = Counter(job["JobState"] for job in jobs_of(slurm, project))
    assert states.keys() == {"COMPLETED"} and states.total() > 30, states
    assert (project / "results" / "report" / "smoke" / "index.html").is_file()
    # What a cluster has made counts as made here, too.
    said = snakemake(project, "all", "-n", "--cores", "2", *PROFILE[2:])
    assert "Nothing to be done" in said, said[-3000:]


@pytest.mark.slow
def test_a_preempted_training_goes_on_from_its_saved_state(slurm: LocalSlurm, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    preset = project / "workflow" / "config" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("  steps: 6\n", "  steps: 400\n"))
    model = "results/runs/smoke/unet-seed0/model.pt"
    running = start(slurm, project, model)
    log = project / "logs" / "smoke" / "train" / "unet-seed0.log"
    try:
        deadline, number = time.monotonic() + 600, ""
        while not (number and log.is_file() and "step" in log.read_text().lower()):
            assert time.monotonic() < deadline and running.poll() is None, "no training began"
            mine = [job for job in jobs_of(slurm, project) if "rule_train_" in job.get("Comment", "")]
            number = mine[-1]["JobId"] if mine and mine[-1]["JobState"] == "RUNNING" else ""
            time.sleep(0.5)
        slurm.command("scancel", "--signal=USR1", number)
        finish(running, 900)
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(60)
    trainings = [job for job in jobs_of(slurm, project) if "rule_train_" in job.get("Comment", "")]
    assert [job["JobState"] for job in trainings] == ["FAILED", "COMPLETED"]
    assert trainings[0]["TresPerJob"].endswith("gpu:1")
    assert "resuming at step" in log.read_text()
