"""What every line of the baselines file must hold to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines import build
from ddnet.cli import CONFIG
from ddnet.config import Baseline, load_baselines, load_settings, load_variants
from ddnet.errors import DDNetError
from ddnet.plan import Plan

BASELINES = load_baselines(CONFIG / "baselines.yaml")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("kind", ["noise", "flat", "black", "edge"])
def test_any_picture_comes_back_finite_in_range_and_the_same_each_time(name: str, kind: str) -> None:
    image = np.full((40, 44, 3), 0.5 if kind == "flat" else 0.0, np.float32)
    if kind == "edge":
        image[:, 20:] = 0.8
    if kind == "noise":
        image = np.random.default_rng(0).random(image.shape, np.float32)
    given = image.copy()
    restored = build(BASELINES[name]).restore(image, None)
    assert restored.shape == image.shape and restored.dtype == np.float32
    assert np.isfinite(restored).all() and restored.min() >= 0 and restored.max() <= 1
    assert (image == given).all()
    assert (build(BASELINES[name]).restore(image, None) == restored).all()


def test_options_that_a_system_does_not_take_are_one_line() -> None:
    with pytest.raises(DDNetError, match=r"baseline 'mine': .*'lambda'; ebdb takes method, alpha, lam, iterations"):
        build(Baseline(name="mine", system="ebdb", label="Mine", options={"lambda": 3}))


def test_a_line_with_a_system_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "baselines.yaml"
    table.write_text((CONFIG / "baselines.yaml").read_text() + "\nmine: {system: mine, label: Mine}\n")
    with pytest.raises(DDNetError, match=r"baseline 'mine': no system 'mine'; correct it, or write baselines/mine.py"):
        Plan(load_settings(CONFIG / "smoke.yaml"), load_variants(CONFIG / "variants.yaml"), load_baselines(table))
    table.write_text("ebdb: {system: ebdb, label: EBDB}\n")
    with pytest.raises(DDNetError, match="lacks 'blurred"):
        load_baselines(table)
