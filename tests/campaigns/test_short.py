"""Short forms of the campaigns, whose long forms stand in results/reference/reliability.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import bad_input
import interruptions
from projects import copy_project

TARGETS = ("results/runs/smoke/ddnet_1b-seed0/per_image.csv", "results/systems/smoke/kpac/weights.npz")


def test_damaged_files_of_every_kind_are_refused_in_one_line_or_do_no_harm(tmp_path: Path) -> None:
    outcome = bad_input.campaign(tmp_path, 400)
    assert outcome.failures == []
    assert outcome.cases >= 390 and len(outcome.refused) > 30 and outcome.refused.total() > 200


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    arguments = (*TARGETS, *interruptions.SMOKE[1:])
    project = copy_project(tmp_path / "killed")
    wanted = interruptions.whole(copy_project(tmp_path / "whole"), arguments)
    assert {"results/runs/smoke/ddnet_1b-seed0/model.pt", TARGETS[1]} <= set(wanted)
    shutil.copytree(tmp_path / "whole" / "data" / "weights", project / "data" / "weights")
    found = interruptions.killing(project, arguments, 4, wanted, 3, (6.0, 14.0), interruptions.begin_again)
    assert (found.differing, found.problems) == ([], [])
    assert sum(found.ways.values()) == 4 and found.finished


def test_a_killed_fetch_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    result = interruptions.fetch_campaign(3, 1, tmp_path, lambda _: None)
    assert (result["files_differing"], result["problems"]) == ([], [])
    assert result["kills"] == 3 and result["by_rule_at_work"]["fetch_item"] >= 2
