"""What 8 bits instead of 16 change: little in a metric, and visibly where a reader drops them in silence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import chelsea

from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import FloatArray
from ddnet.io.images import read_image, write_image


@pytest.fixture(scope="module")
def pair() -> tuple[FloatArray, FloatArray]:
    """About 24 dB, as on DPDD; reduced from a larger photograph, so that values lie between the 8-bit levels."""
    photograph = chelsea().astype(np.float32) / 255
    target = cv2.resize(photograph, (225, 150), interpolation=cv2.INTER_AREA)
    restored = cv2.GaussianBlur(target, (0, 0), 4.0)
    return np.clip(restored, 0, 1), np.clip(target, 0, 1)


def test_rounding_to_8_bits_costs_thousandths_of_a_decibel(pair: tuple[FloatArray, FloatArray], tmp_path: Path) -> None:
    """Reported of DPDD: 0.002 to 0.007 dB. Two roundings add 2 / (12 * 255^2) to a mean squared error."""
    metrics, _ = build_metrics(["psnr", "psnr_8bit"], tmp_path)
    exact, rounded = metrics["psnr"](*pair), metrics["psnr_8bit"](*pair)
    mse = 10 ** (-exact / 10)
    expected = 10 * np.log10(1 + 2 / (12 * 255**2) / mse)
    assert 20 < exact < 30
    assert 0.001 < expected < 0.007
    assert exact - rounded == pytest.approx(expected, abs=0.0015)


def test_the_float_metrics_see_16_bits(pair: tuple[FloatArray, FloatArray], tmp_path: Path) -> None:
    restored, target = pair
    for name, bits in (("sixteen", 16), ("eight", 8)):
        levels = 2**bits - 1
        stored = np.round(target * levels).astype(np.uint16 if bits == 16 else np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), stored[..., ::-1])
    read = {name: read_image(tmp_path / f"{name}.png") for name in ("sixteen", "eight")}
    assert np.abs(read["sixteen"] - target).max() <= 0.51 / 65535
    assert 0.4 / 255 < np.abs(read["eight"] - target).max() <= 0.51 / 255
    metrics, _ = build_metrics(["psnr", "mae"], tmp_path)
    differences = {
        name: metrics["psnr"](restored, one) - metrics["psnr"](restored, target) for name, one in read.items()
    }
    assert abs(differences["sixteen"]) < 1e-5 < abs(differences["eight"]) < 0.01
    # Against itself the 8-bit picture's distance is that of the rounding: a quarter of a level on average.
    assert metrics["mae"](read["eight"], read["sixteen"]) == pytest.approx(0.25 / 255, rel=0.02)


def test_what_is_saved_is_what_was_measured(pair: tuple[FloatArray, FloatArray], tmp_path: Path) -> None:
    """Restored pictures are kept with 16 bits: measured again from the file, PSNR agrees to a hundred-thousandth."""
    restored, target = pair
    write_image(tmp_path / "restored.png", restored)
    metrics, _ = build_metrics(["psnr"], tmp_path)
    again = metrics["psnr"](read_image(tmp_path / "restored.png"), target)
    assert again == pytest.approx(metrics["psnr"](restored, target), abs=1e-5)
