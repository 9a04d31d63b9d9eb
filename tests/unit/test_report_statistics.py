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
    SeedSpread,
    bootstrap_means,
    holm,
    interval,
    matrix,
    pair,
    paired_difference,
    pooled_seeds,
    precision,
    share_improved,
    signed_rank,
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


def test_holm_steps_down_and_never_falls() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([0.02, np.nan, 0.01])
    assert np.isnan(corrected[1]) and corrected[2] == pytest.approx(0.02)


def test_the_rank_test_is_that_of_the_images_means_over_seeds() -> None:
    values = np.random.default_rng(2).normal(0.1, 0.4, size=(3, 24))
    assert signed_rank(values) == pytest.approx(stats.wilcoxon(values.mean(axis=0)).pvalue)
    assert signed_rank(np.zeros((2, 5))) == 1.0
    row, reference = frame([[2.0, 3.0, 4.0, 7.0]], [0]), frame([[1.0, 1.0, 5.0, 4.5]], [0])
    assert paired_difference(row, reference).p == pytest.approx(stats.wilcoxon([1.0, 2.0, -1.0, 2.5]).pvalue)


def test_the_standard_error_has_the_crossed_designs_variance() -> None:
    # Means of a_s + b_i + e_si have the variance sd_a^2 / S + sd_b^2 / I + sd_e^2 / (S I).
    rng, squares = np.random.default_rng(3), []
    for _ in range(2000):
        values = rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 0.4, (1, 30)) + rng.normal(0, 0.2, (4, 30))
        squares.append(precision(values).error ** 2)
    assert np.mean(squares) == pytest.approx(0.1**2 / 4 + 0.4**2 / 30 + 0.2**2 / 120, rel=0.03)


def test_the_t_interval_covers_where_two_seeds_make_the_bootstrap_too_narrow() -> None:
    rng, covered = np.random.default_rng(4), np.zeros(2)
    for _ in range(600):
        values = rng.normal(0, 0.1, (2, 1)) + rng.normal(0, 0.3, (1, 24)) + rng.normal(0, 0.1, (2, 24))
        low, high = interval(values, draws=400)
        covered += [abs(values.mean()) <= precision(values).margin, low <= 0 <= high]
    assert covered[0] / 600 == pytest.approx(0.95, abs=0.03)
    assert covered[1] / 600 < 0.93


def test_a_difference_of_the_resolvable_size_is_found_in_four_cases_of_five() -> None:
    rng, found = np.random.default_rng(5), 0
    design = precision(rng.normal(0, 0.3, (1, 20_000)))  # the design's spread, as good as known
    resolvable = design.resolvable * np.sqrt(20_000 / 40)  # of 40 images
    for _ in range(1000):
        values = rng.normal(resolvable, 0.3, (1, 40))
        found += values.mean() > precision(values).margin
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_the_variance_over_seeds_is_pooled_over_contrasts() -> None:
    near, far = np.array([[0.1, 0.1], [0.1, 0.1]]), np.array([[0.0, 0.0], [0.4, 0.4], [0.2, 0.2]])
    spread = pooled_seeds([near, far, np.ones((1, 2))])
    assert spread == SeedSpread(pytest.approx((1 * 0.0 + 2 * 0.04) / 3), 1.5)
    assert pooled_seeds([np.ones((1, 5))]) is None
    assert precision(near).error == 0.0 < precision(near, spread).error == pytest.approx(np.sqrt(0.08 / 3 / 2))


def test_one_seed_leaves_only_the_images_spread() -> None:
    values = np.random.default_rng(6).normal(size=(1, 12))
    assert precision(values).error == pytest.approx(values.std(ddof=1) / np.sqrt(12))
    assert precision(values).df == 11
    assert precision(np.full((3, 8), 0.2)).resolvable == pytest.approx(0.0, abs=1e-12)
