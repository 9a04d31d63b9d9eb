from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import make_world
from scipy import stats

from ddnet.errors import DDNetError
from ddnet.report.collect import collect
from ddnet.report.statistics import (
    NO_SEED,
    bootstrap_means,
    interval,
    matrix,
    pair,
    paired_difference,
    share_improved,
    summarise,
)


def frame(values: object, seeds: list[int]) -> pd.DataFrame:
    array = np.asarray(values, dtype=float)
    return pd.DataFrame(array, index=seeds, columns=[f"s{i}" for i in range(array.shape[1])])


def test_summary_against_hand_computed_numbers() -> None:
    summary = summarise(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]))
    assert (summary.mean, summary.n_seeds, summary.n_images) == (3.0, 2, 3)
    assert summary.sd == pytest.approx(np.sqrt(2.0))  # of the seeds' means 2 and 4, n - 1


def test_summary_of_one_seed_has_no_sd_and_of_gaps_no_mean() -> None:
    assert np.isnan(summarise(np.array([[1.0, 2.0]])).sd)
    assert np.isnan(summarise(np.array([[1.0, np.nan]])).mean)
    assert summarise(np.empty((0, 0))).n_seeds == 0


def test_matrix_picks_dataset_and_stratum(tmp_path: Path) -> None:
    images = collect(make_world(tmp_path).runs)
    assert matrix(images, "ddnet_1b", "psnr", "embedded").shape == (2, 6)
    assert list(matrix(images, "ddnet_1b", "psnr", "embedded", "outdoor").columns) == ["s01", "s03", "s05"]
    assert list(matrix(images, "blurred", "psnr", "embedded").index) == [NO_SEED]
    assert matrix(images, "nothing", "psnr", "embedded").empty


def test_pairing_uses_common_seeds_and_broadcasts_a_baseline() -> None:
    row, reference = frame([[2, 4], [3, 6], [9, 9]], [0, 1, 2]), frame([[1, 1], [2, 2]], [1, 0])
    assert pair(row, reference).tolist() == [[0, 2], [2, 5]]
    assert pair(row, frame([[1, 1]], [NO_SEED])).tolist() == [[1, 3], [2, 5], [8, 8]]
    assert pair(frame([[1, 1]], [NO_SEED]), reference).tolist() == [[0, 0], [-1, -1]]


def test_pairing_refuses_other_images_and_other_seeds() -> None:
    with pytest.raises(DDNetError, match="different images"):
        pair(frame([[1, 2]], [0]), frame([[1, 2, 3]], [0]))
    with pytest.raises(DDNetError, match="no seed in common"):
        pair(frame([[1, 2]], [0]), frame([[1, 2]], [1]))


def test_bootstrap_of_constant_differences_is_a_point() -> None:
    assert interval(np.full((3, 20), 0.7), draws=500) == pytest.approx((0.7, 0.7))


def test_one_seed_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.5, size=76)
    low, high = interval(values[None], seed=0)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_bootstrap_variance_has_the_analytic_seed_and_image_parts() -> None:
    # For crossed additive effects a_s + b_i the variance is var(a)/S + var(b)/I (both with n in the denominator).
    seeds, images = np.array([-0.2, 0.0, 0.2]), np.linspace(-1, 1, 50)
    means = bootstrap_means(seeds[:, None] + images[None], draws=20_000)
    assert means.var() == pytest.approx(seeds.var() / 3 + images.var() / 50, rel=0.03)
    assert means.mean() == pytest.approx(0.0, abs=0.005)


def test_seed_variance_widens_the_interval() -> None:
    images = np.random.default_rng(0).normal(size=(1, 60))
    quiet, noisy = np.repeat(images, 2, axis=0), np.concatenate([images - 0.5, images + 0.5])
    assert np.ptp(interval(noisy)) > 1.5 * np.ptp(interval(quiet))


def test_bootstrap_is_reproducible_and_seeded() -> None:
    values = np.random.default_rng(0).normal(size=(2, 30))
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)


def test_share_improved_knows_which_way_is_better() -> None:
    differences = np.array([[1.0, -1.0, 0.0, 2.0], [1.0, -1.0, 0.0, -1.0]])
    assert share_improved(differences) == 0.5
    assert share_improved(differences, higher_is_better=False) == 0.25


def test_paired_difference_reports_all_parts() -> None:
    row, reference = frame([[2.0, 3.0, 4.0]], [0]), frame([[1.0, 1.0, 5.0]], [0])
    result = paired_difference(row, reference)
    assert result.mean == pytest.approx(2 / 3)
    assert result.low <= result.mean <= result.high
    assert (result.improved, result.n_seeds, result.n_images) == (pytest.approx(2 / 3), 1, 3)
    assert paired_difference(row, reference, metric="mae").improved == pytest.approx(1 / 3)


def test_paired_difference_of_a_missing_row_or_value_is_nan() -> None:
    row = frame([[2.0, np.nan]], [0])
    assert np.isnan(paired_difference(row, frame([[1.0, 1.0]], [0])).mean)
    assert np.isnan(paired_difference(row, pd.DataFrame()).low)
