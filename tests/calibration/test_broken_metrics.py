"""The golden values see through plausible mistakes: every deliberately broken metric misses at least one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from test_golden import CASES, GOLDEN

from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import FloatArray

Broken = Callable[[Callable[[FloatArray, FloatArray], float], FloatArray, FloatArray], float]


def _psnr(mse: float, peak: float = 1.0) -> float:
    return float(10 * np.log10(peak**2 / mse))


def _per_channel(_: object, a: FloatArray, b: FloatArray) -> float:
    return float(np.mean([_psnr(float(np.mean((a[..., c] - b[..., c]) ** 2))) for c in range(3)]))


def _luma(image: FloatArray) -> FloatArray:
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=2)


def _gaussian(_: object, a: FloatArray, b: FloatArray) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(a, b, channel_axis=2, data_range=1.0, **options))


BROKEN: dict[str, Broken] = {
    "psnr-per_channel": _per_channel,
    "psnr-of_255": lambda _, a, b: _psnr(float(np.mean((a - b) ** 2)), 255.0),
    "psnr-of_luma": lambda psnr, a, b: psnr(_luma(a), _luma(b)),
    "psnr-of_mae": lambda _, a, b: _psnr(float(np.mean(np.abs(a - b))) ** 2),
    "psnr-shaved": lambda psnr, a, b: psnr(a[4:-4, 4:-4], b[4:-4, 4:-4]),
    "psnr-resized": lambda psnr, a, b: psnr(a[::2, ::2], b[::2, ::2]),
    "psnr_8bit-not_rounded": lambda _, a, b: _psnr(float(np.mean((a - b) ** 2))),
    "ssim-gaussian": _gaussian,
    "ssim-of_luma": lambda ssim, a, b: ssim(_luma(a), _luma(b)),
    "ssim-range_2": lambda _, a, b: float(structural_similarity(a, b, channel_axis=2, data_range=2.0)),
    "ssim-window_11": lambda _, a, b: float(structural_similarity(a, b, channel_axis=2, data_range=1.0, win_size=11)),
    "mae-squared": lambda _, a, b: float(np.mean((a - b) ** 2)),
    "mae-signed": lambda _, a, b: abs(float(np.mean(a - b))),
    "lpips_alex-bgr": lambda lpips, a, b: lpips(a[..., ::-1].copy(), b[..., ::-1].copy()),
    "lpips_alex-no_rescaling": lambda lpips, a, b: lpips((a + 1) / 2, (b + 1) / 2),
    "lpips_vgg-bgr": lambda lpips, a, b: lpips(a[..., ::-1].copy(), b[..., ::-1].copy()),
    "lpips_vgg-no_rescaling": lambda lpips, a, b: lpips((a + 1) / 2, (b + 1) / 2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_metric_misses_a_golden_value(name: str, weights_folder: Path) -> None:
    column, broken = name.split("-")[0], BROKEN[name]
    metrics, unavailable = build_metrics([column], weights_folder)
    assert not unavailable
    rows = [row for row in GOLDEN if row["metric"] == column]
    with np.errstate(divide="ignore"):
        values = [broken(metrics[column], *CASES[row["case"]]()) for row in rows]
    missed = [
        row["case"]
        for row, value in zip(rows, values, strict=True)
        if not abs(value - float(row["value"])) <= float(row["tolerance"])
    ]
    assert missed, f"{name}: no golden value tells it from the right one"


def test_every_column_with_golden_values_was_broken_in_some_way() -> None:
    assert {row["metric"] for row in GOLDEN} == {name.split("-")[0] for name in BROKEN}
