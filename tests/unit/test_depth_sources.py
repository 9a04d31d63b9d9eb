"""How a config names a depth source, and what each control does to the truth."""

from __future__ import annotations

import numpy as np
import pytest

from ddnet.depth.scores import score
from ddnet.depth.sources import build_depth_source, parse_spec
from ddnet.depth.sources._base import Given, resize_image
from ddnet.errors import DDNetError

IMAGE = np.random.default_rng(0).random((96, 128, 3), dtype=np.float32)
TRUTH = np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (96, 1))


def test_a_spec_is_a_name_or_a_name_with_numbers() -> None:
    assert parse_spec("noisy") == ("noisy", ())
    assert parse_spec(" noisy( 0.25 ) ") == ("noisy", (0.25,))
    assert parse_spec("constant()") == ("constant", ())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("monodeph2", "did you mean 'monodepth2'.*allowed: .*constant.*shuffled"),
        ("noisy(loud)", "'loud' is not a list of numbers"),
        ("noisy(0.1, 0.2)", "noisy takes sigma"),
        ("rendered(1)", "rendered takes nothing"),
        ("noisy(0.1", "write a name, or a name and numbers"),
        ("noisy(-1)", "sigma must lie in"),
        ("constant(1.5)", "value must lie in"),
        ("noisy(nan)", "sigma must lie in"),
    ],
)
def test_a_bad_spec_is_refused_with_what_is_allowed(spec: str, message: str) -> None:
    with pytest.raises(DDNetError, match=message):
        build_depth_source(spec)


def test_constant_is_one_half_unless_told() -> None:
    assert np.unique(build_depth_source("constant").predict(IMAGE)).tolist() == [0.5]
    assert np.unique(build_depth_source("constant(0.25)").predict(IMAGE)).tolist() == [0.25]


def test_rendered_is_the_truth_and_refuses_what_is_no_depth() -> None:
    source = build_depth_source("rendered")
    np.testing.assert_array_equal(source.predict(IMAGE, Given(true_depth=TRUTH)), TRUTH)
    with pytest.raises(DDNetError, match=r"spans 1.2 to 4.8; .*\[0, 1\]"):
        source.predict(IMAGE, Given(true_depth=TRUTH * 6))
    with pytest.raises(DDNetError, match="sizes must agree"):
        source.predict(IMAGE, Given(true_depth=TRUTH[:-1]))


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.05])
def test_noisy_adds_noise_of_the_stated_size_half_of_it_smooth(sigma: float) -> None:
    source = build_depth_source(f"noisy({sigma})")
    noisy = source.predict(IMAGE, Given(true_depth=TRUTH, rng=np.random.default_rng(1)))
    noise = (noisy - TRUTH).astype(np.float64)
    assert noise.std() == pytest.approx(sigma, rel=0.1)
    blocks = noise.reshape(12, 8, 16, 8).mean(axis=(1, 3))  # white noise leaves sigma/11 there
    assert sigma == 0 or 0.3 * sigma < blocks.std() < sigma


def test_shuffled_is_the_other_map_in_this_images_size() -> None:
    source = build_depth_source("shuffled")
    np.testing.assert_array_equal(source.predict(IMAGE, Given(other=TRUTH)), TRUTH)
    smaller = source.predict(IMAGE, Given(other=TRUTH[::2, ::2].copy()))
    assert smaller.shape == TRUTH.shape
    np.testing.assert_allclose(smaller, TRUTH, atol=0.02)


def test_images_are_resized_in_float_and_stay_in_range() -> None:
    half = resize_image(IMAGE, (48, 64))
    assert half.shape == (48, 64, 3) and half.dtype == np.float32 and half.min() >= 0 and half.max() <= 1
    flat = resize_image(np.full((50, 70, 3), 12345 / 65535, dtype=np.float32), (32, 64))
    np.testing.assert_allclose(flat, 12345 / 65535, atol=1e-6)  # eight bits would be off by 1e-3


def test_scores_of_known_errors() -> None:
    exact = score([TRUTH], [TRUTH])
    assert exact == pytest.approx((0.0, 1.0, 1.0))
    shifted = score([TRUTH + 0.1], [TRUTH])
    assert shifted.abs_error == pytest.approx(0.1, abs=1e-6) and shifted.spearman == pytest.approx(1.0)
    share = float(((0.01 + 1.99 * (TRUTH + 0.1)) / (0.01 + 1.99 * TRUTH) < 1.25).mean())
    assert 0 < share < 1 and shifted.delta_125 == pytest.approx(share, abs=1e-3)
    assert score([1 - TRUTH], [TRUTH]).spearman == pytest.approx(-1.0)
    assert score([np.full_like(TRUTH, 0.5)], [TRUTH]).spearman == 0.0
