"""Short forms of the campaigns, whose long forms stand in results/reference/reliability.md."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import bad_input
import full_disk
import interruptions
import pytest
from projects import copy_project, snakemake

TARGETS = ("results/runs/smoke/ddnet_1b-seed0/per_image.csv", "results/runs/smoke/kpac/per_image.csv")
ARGUMENTS = (*TARGETS, *interruptions.SMOKE[1:])
ROOM_THEN_FORBIDDEN = 819  # the seed of: a megabyte of room; then, after 7 s, no writing


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A project whose run was let alone, and the digests of what it made."""
    project = copy_project(tmp_path_factory.mktemp("whole") / "project")
    wanted = interruptions.whole(project, ARGUMENTS)
    assert {"results/runs/smoke/ddnet_1b-seed0/model.pt", "results/systems/smoke/kpac/weights.npz"} <= set(wanted)
    return project, wanted


def test_damaged_files_of_every_kind_are_refused_in_one_line_or_do_no_harm(tmp_path: Path) -> None:
    outcome = bad_input.campaign(tmp_path, 400)
    assert outcome.failures == []
    assert outcome.cases >= 390 and len(outcome.refused) > 30 and outcome.refused.total() > 200


def test_a_killed_run_goes_on_to_the_same_bytes(whole: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    project = copy_project(tmp_path / "killed")
    shutil.copytree(whole[0] / "data" / "weights", project / "data" / "weights")
    found = interruptions.killing(project, ARGUMENTS, 4, whole[1], 3, (6.0, 14.0), interruptions.begin_again)
    assert (found.differing, found.problems) == ([], [])
    assert sum(found.ways.values()) == 4 and found.finished


def test_a_full_disk_and_a_read_only_one_damage_nothing(whole: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may mount a disk of its own")
    try:
        disk = full_disk.SmallDisk(tmp_path / "disk")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk of its own here: {error.stderr.decode(errors='replace').strip()}")
    try:
        project = copy_project(disk.place / "project")
        shutil.copytree(whole[0] / "data" / "weights", project / "data" / "weights")
        found = full_disk.disturbed(disk, whole[1], 2, ROOM_THEN_FORBIDDEN, lambda _: None, ARGUMENTS)
        compiled = list(project.rglob("*.pyc"))
    finally:
        disk.remove()
    assert not found["problems"], "\n".join(found["problems"])
    assert (found["files_differing"], compiled) == ([], [])
    assert found["ends"] == {"full, failed": 1, "forbidden, failed": 1}


def test_a_second_run_is_refused_and_a_stopped_one_leaves_nobody_behind(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    first = interruptions.Victim(project, ARGUMENTS)
    until = time.monotonic() + 60
    while not first.jobs() and time.monotonic() < until:
        time.sleep(0.1)
    said = snakemake(project, *ARGUMENTS, check=False)
    assert "another run of this preset is at work in this folder" in said and "Traceback" not in said
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) and not first.members()
    assert "What is finished is kept; the same command goes on from there." in first.said()
    assert snakemake(project, "data/smoke/scenes.json", *ARGUMENTS[2:])  # nothing to unlock


def test_a_killed_fetch_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    result = interruptions.fetch_campaign(3, 1, tmp_path, lambda _: None)
    assert (result["files_differing"], result["problems"]) == ([], [])
    assert result["kills"] == 3 and result["by_rule_at_work"]["fetch_item"] >= 2
