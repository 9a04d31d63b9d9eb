"""Table S3: when a claim is called supported, not resolved or contradicted, and what the terminal shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import PAPER, VARIANTS, make_world, psnr, write_run

from ddnet.errors import DDNetError
from ddnet.planning.plan import CLAIMED
from ddnet.report.claims import CLAIMS, CONTRADICTED, SUPPORTED, UNMEASURED, UNRESOLVED, claims_text, table_s3, verdict
from ddnet.report.evidence import Evidence, gather
from ddnet.report.formats import write_table
from ddnet.report.statistics import holm, paired_difference, pooled_seeds, precision


def judged(differences: np.ndarray, contrasts: int = 6) -> str:
    frame = pd.DataFrame(differences, index=range(len(differences)))
    difference = paired_difference(frame, frame * 0)
    return verdict(difference, precision(differences), min(1.0, contrasts * difference.p))


def runs(mean: float, seeds: int, seed_sd: float = 0.03, image_sd: float = 0.3, images: int = 76) -> np.ndarray:
    """Differences whose means over seeds and over images have exactly these spreads."""
    across = np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1)
    along = np.random.default_rng(0).normal(size=images)
    across = across * seed_sd / across.std(ddof=1) if seeds > 1 else across
    along = (along - along.mean()) / along.std(ddof=1)
    return mean + across[:, None] + image_sd * along[None]


def test_a_large_difference_is_supported_or_contradicted() -> None:
    assert judged(runs(0.3, 5)) == SUPPORTED
    assert judged(runs(-0.3, 5)) == CONTRADICTED


def test_a_difference_within_the_spread_of_seeds_is_not_resolved() -> None:
    assert judged(runs(0.11, 3, seed_sd=0.1)) == UNRESOLVED
    assert judged(runs(0.0, 5)) == UNRESOLVED


def test_two_seeds_that_disagree_in_size_are_not_enough_although_the_bootstrap_excludes_zero() -> None:
    differences = runs(0.24, 2, seed_sd=0.2)
    frame = pd.DataFrame(differences)
    assert paired_difference(frame, frame * 0).low > 0
    assert judged(differences) == UNRESOLVED


def test_one_seed_resolves_nothing() -> None:
    assert judged(runs(0.5, 1)) == UNRESOLVED


def test_a_difference_carried_by_few_images_is_not_supported() -> None:
    values = np.full((5, 76), -0.01)
    values[:, :6] = 6.0
    assert values.mean() > 0.4
    assert judged(values) == UNRESOLVED


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    world = make_world(tmp_path_factory.mktemp("claims"), seeds=(0, 1, 2))
    return gather(
        world.runs, paper=PAPER, preset="embedded", dataset="embedded", complexity=world.complexity,
        variants=VARIANTS, draws=500,
    )  # fmt: skip


def test_the_six_claims_with_their_printed_differences(evidence: Evidence) -> None:
    table = table_s3(evidence)
    printed = dict(zip(table.frame["key"], table.frame["paper_delta_psnr"].round(2), strict=True))
    assert printed == {
        "rcab": 0.49, "gru": 0.26, "gru-conv": 0.29, "gru-input": 0.11, "branches-2": 0.09, "branches-3": 0.04,
    }  # fmt: skip
    assert {name for claim in CLAIMS for name in (claim.better, claim.worse)} == set(CLAIMED)


def test_differences_strata_and_correction_are_those_of_the_values(evidence: Evidence) -> None:
    frame = table_s3(evidence).frame.set_index("key")
    values = {
        name: np.array([[psnr(name, seed, image, "embedded") for image in range(6)] for seed in range(3)])
        for name in CLAIMED
    }
    expected = values["ddnet_1b"] - values["fusion_input"]
    row = frame.loc["gru-input"]
    assert row["delta_psnr"] == pytest.approx(expected.mean())
    assert row["indoor_delta"] == pytest.approx(expected[:, ::2].mean())
    assert row["outdoor_delta"] == pytest.approx(expected[:, 1::2].mean())
    assert row["seeds_in_favour"] == f"{int((expected.mean(axis=1) > 0).sum())}/3"
    spread = pooled_seeds([np.asarray(values[claim.better] - values[claim.worse]) for claim in CLAIMS])
    assert row["resolvable"] == pytest.approx(precision(expected, spread).resolvable)
    assert row["margin"] == pytest.approx(precision(expected, spread).margin)
    assert list(frame["delta_psnr_p_holm"]) == pytest.approx(holm(list(frame["delta_psnr_p"])))


def test_a_row_that_no_study_trains_is_not_measured(tmp_path: Path) -> None:
    refs = [write_run(tmp_path, name, seed) for name in ("ddnet_1b", "fusion_input") for seed in (0, 1)]
    table = table_s3(gather(refs, paper=PAPER, preset="embedded", dataset="embedded", variants=VARIANTS, draws=200))
    frame = table.frame.set_index("key")
    assert frame.loc["rcab", "verdict"] == UNMEASURED and np.isnan(frame.loc["rcab", "delta_psnr"])
    assert "unet_rcab or of unet" in frame.loc["rcab", "note"]
    assert frame.loc["gru-input", "verdict"] != UNMEASURED
    write_table(table, tmp_path / "tables")
    text = claims_text(tmp_path / "tables" / "tableS3_claims.csv").splitlines()
    assert "not measured" in text[1] and "printed +0.49" in text[1]


def test_the_terminal_shows_every_claim_its_verdict_and_interval(evidence: Evidence, tmp_path: Path) -> None:
    table = table_s3(evidence)
    write_table(table, tmp_path)
    head, *lines = claims_text(tmp_path / "tableS3_claims.csv").splitlines()
    assert "6 images of embedded" in head and "tableS3_claims.md" in head
    assert len(lines) == 6
    for line, row in zip(lines, table.frame.itertuples(), strict=True):
        assert row.label in line and row.verdict in line and f"{row.delta_psnr:+.2f}" in line


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "tableS3_claims.csv"
    file.write_text("key,label\nrcab,RCAB\n")
    with pytest.raises(DDNetError, match="not the table of claims .*; make the tables again"):
        claims_text(file)
