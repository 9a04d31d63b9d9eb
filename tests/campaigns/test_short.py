"""Short forms of the campaigns, whose long forms stand in results/reference/reliability.md."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import bad_input
import interruptions
from projects import copy_project, snakemake

TARGETS = ("results/runs/smoke/ddnet_1b-seed0/per_image.csv", "results/runs/smoke/kpac/per_image.csv")


def test_damaged_files_of_every_kind_are_refused_in_one_line_or_do_no_harm(tmp_path: Path) -> None:
    outcome = bad_input.campaign(tmp_path, 400)
    assert outcome.failures == []
    assert outcome.cases >= 390 and len(outcome.refused) > 30 and outcome.refused.total() > 200


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    arguments = (*TARGETS, *interruptions.SMOKE[1:])
    project = copy_project(tmp_path / "killed")
    wanted = interruptions.whole(copy_project(tmp_path / "whole"), arguments)
    assert {"results/runs/smoke/ddnet_1b-seed0/model.pt", "results/systems/smoke/kpac/weights.npz"} <= set(wanted)
    shutil.copytree(tmp_path / "whole" / "data" / "weights", project / "data" / "weights")
    found = interruptions.killing(project, arguments, 4, wanted, 3, (6.0, 14.0), interruptions.begin_again)
    assert (found.differing, found.problems) == ([], [])
    assert sum(found.ways.values()) == 4 and found.finished


def test_a_second_run_is_refused_and_a_stopped_one_leaves_nobody_behind(tmp_path: Path) -> None:
    arguments, project = (*TARGETS, *interruptions.SMOKE[1:]), copy_project(tmp_path / "project")
    first = interruptions.Victim(project, arguments)
    until = time.monotonic() + 60
    while not first.jobs() and time.monotonic() < until:
        time.sleep(0.1)
    said = snakemake(project, *arguments, check=False)
    assert "another run of this preset is at work in this folder" in said and "Traceback" not in said
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) and not first.members()
    assert "What is finished is kept; the same command goes on from there." in first.said()
    assert snakemake(project, "data/smoke/scenes.json", *arguments[2:])  # nothing to unlock


def test_a_killed_fetch_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    result = interruptions.fetch_campaign(3, 1, tmp_path, lambda _: None)
    assert (result["files_differing"], result["problems"]) == ([], [])
    assert result["kills"] == 3 and result["by_rule_at_work"]["fetch_item"] >= 2
