"""The recursive filter against its formulas written out pixel by pixel, and what edge-aware smoothing promises."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from baselines.common.domain_transform import recursive_filter


def _by_the_book(image: np.ndarray, sigma_s: float, sigma_r: float, iterations: int, guide: np.ndarray) -> np.ndarray:
    """(H, W, C) image and (H, W, C') guide; one pixel at a time, rows first."""
    result = image.astype(np.float64).copy()
    height, width = image.shape[:2]

    def weight(a: tuple[int, int], b: tuple[int, int], sigma: float) -> float:
        distance = 1.0 + sigma_s / sigma_r * sum(abs(float(p) - float(q)) for p, q in zip(guide[a], guide[b]))
        return math.exp(-math.sqrt(2.0) / sigma) ** distance

    def line(places: list[tuple[int, int]], sigma: float) -> None:
        for before, here in pairwise(places):
            result[here] += weight(before, here, sigma) * (result[before] - result[here])
        for here, after in reversed(list(pairwise(places))):
            result[here] += weight(here, after, sigma) * (result[after] - result[here])

    for i in range(1, iterations + 1):
        sigma = sigma_s * math.sqrt(3.0) * 2.0 ** (iterations - i) / math.sqrt(4.0**iterations - 1.0)
        for y in range(height):
            line([(y, x) for x in range(width)], sigma)
        for x in range(width):
            line([(y, x) for y in range(height)], sigma)
    return result


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_is_the_recursion_of_the_paper(iterations: int) -> None:
    rng = np.random.default_rng(0)
    image, guide = rng.random((9, 14, 2)), rng.random((9, 14, 3))
    expected = _by_the_book(image, 4.0, 0.8, iterations, guide)
    np.testing.assert_allclose(recursive_filter(image, 4.0, 0.8, iterations, guide), expected, rtol=1e-12)


def test_without_a_guide_the_image_guides_itself_and_is_left_alone() -> None:
    image = np.random.default_rng(1).random((8, 11)).astype(np.float32)
    before = image.copy()
    filtered = recursive_filter(image, 5.0, 0.5)
    np.testing.assert_array_equal(filtered, recursive_filter(image, 5.0, 0.5, 3, image))
    np.testing.assert_allclose(filtered, _by_the_book(image[..., None], 5.0, 0.5, 3, image[..., None])[..., 0])
    np.testing.assert_array_equal(image, before)
    assert filtered.shape == image.shape
    assert filtered.dtype == np.float64


def test_noise_goes_and_the_edge_stays() -> None:
    rng = np.random.default_rng(2)
    clean = np.where(np.arange(80) < 40, 0.2, 0.8) * np.ones((60, 1))
    noisy = clean + rng.normal(0.0, 0.02, clean.shape)
    filtered = recursive_filter(noisy, 20.0, 0.3)
    assert (filtered - clean)[:, :36].std() < 0.005
    assert (filtered - clean)[:, 44:].std() < 0.005
    step = filtered[:, 40] - filtered[:, 39]
    assert step.min() > 0.5  # of 0.6; a Gaussian of this width leaves 0.01


def test_without_edges_it_is_a_blur_of_the_width_asked_for() -> None:
    impulse = np.zeros((1, 401))
    impulse[0, 200] = 1.0
    spread = recursive_filter(impulse, 10.0, 1.0, 5, np.zeros((1, 401)))[0]
    x = np.arange(401) - 200
    assert spread.sum() == pytest.approx(1.0, abs=1e-6)
    assert math.sqrt((spread * x**2).sum()) == pytest.approx(10.0, rel=0.02)


def test_a_constant_stays_that_constant_whatever_the_guide() -> None:
    guide = np.random.default_rng(3).random((20, 30, 3))
    np.testing.assert_allclose(recursive_filter(np.full((20, 30), 0.7), 7.0, 0.2, 5, guide), 0.7, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 1, 3)])
def test_images_of_a_single_line_or_pixel(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(4).random(shape)
    filtered = recursive_filter(image, 3.0, 0.5)
    assert filtered.shape == shape
    assert image.min() <= filtered.min() <= filtered.max() <= image.max()
