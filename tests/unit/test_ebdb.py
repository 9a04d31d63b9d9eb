"""EBDB's defocus map against known blur, its linear system against a dense solve, and images it must survive."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from baselines.ebdb.baseline import (
    CANNY_SIGMAS,
    EDGE_SCALES,
    Ebdb,
    canny,
    edge_blur,
    luma,
    select_scales,
    smooth_along_edges,
)
from ddnet.data.embedded.dataset import render_split
from ddnet.data.embedded.optics import Lens, circle_of_confusion_px
from ddnet.errors import DDNetError
from ddnet.io.images import read_image

SIDE = 224


def _polygons(seed: int = 0) -> np.ndarray:
    """(SIDE, SIDE) overlapping triangles to pentagons of random grey, sharp."""
    import cv2

    rng = np.random.default_rng(seed)
    canvas = np.full((SIDE, SIDE), 0.4)
    for _ in range(50):
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, rng.integers(3, 6)))
        corners = rng.integers(0, SIDE, 2) + rng.integers(15, 60) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(canvas, [corners.astype(np.int32)], float(rng.uniform(0.05, 0.95)))
    return canvas


def _as_image(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(grey, 0.0, 1.0)[..., None], 3, axis=2).astype(np.float32)


def _blurred(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Blur in linear light, as a lens does."""
    return ndimage.gaussian_filter(grey**2.4, sigma) ** (1.0 / 2.4)


def _edges(image: np.ndarray) -> np.ndarray:
    grey = luma(image)
    return np.logical_and.reduce([canny(grey, sigma) for sigma in CANNY_SIGMAS[:EDGE_SCALES]])


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_known_gaussian_blur_is_found_within_15_percent(sigma: float, noise: float) -> None:
    grey = _blurred(_polygons(), sigma)
    image = _as_image(grey + np.random.default_rng(1).normal(0.0, noise, grey.shape))
    edges = _edges(image)
    assert edges.sum() > 500
    assert float(np.median(Ebdb().defocus_map(image)[edges])) == pytest.approx(sigma, rel=0.15)


def test_blur_of_encoded_values_is_found_within_15_percent_too() -> None:
    image = _as_image(ndimage.gaussian_filter(_polygons(), 2.0))
    assert float(np.median(Ebdb().defocus_map(image)[_edges(image)])) == pytest.approx(2.0, rel=0.15)


def test_luma_is_studio_range_bt601_to_the_power_of_2_4() -> None:
    image = np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]], np.float32)
    # The levels of the coloured bars in 8 bits: black 16, white 235, red 81, green 145, blue 41.
    np.testing.assert_allclose(255 * luma(image)[0] ** (1 / 2.4), [16, 235, 81, 145, 41], atol=0.6)


def test_a_pixel_is_measured_at_the_last_scale_before_it_first_disappears() -> None:
    columns = ["111111111", "111100000", "111110111", "111011111", "011111111", "000000000"]
    found = np.array([[[c == "1" for c in (column[s] for column in columns)]] for s in range(9)])
    edges, scales, confidence = select_scales(found)
    np.testing.assert_array_equal(edges, [[True, True, True, False, False, False]])
    np.testing.assert_array_equal(scales, [8, 3, 4])
    np.testing.assert_array_equal(confidence, [9, 4, 8])


def test_the_second_gaussian_is_half_of_the_chosen_canny_scale() -> None:
    texture = ndimage.gaussian_filter(np.random.default_rng(2).random((60, 60)), 1.5)
    edges = np.zeros(texture.shape, bool)
    edges[20:40, 20:40] = True
    for scale, sigma in enumerate([1.25, 1.5, 1.75, 2.0, 2.25, 2.5], start=3):
        one, two = (
            np.hypot(*(ndimage.gaussian_filter(texture, s, order, truncate=8.0) for order in ((0, 1), (1, 0))))[edges]
            for s in (1.0, sigma)
        )
        ratio = one / two
        expected = np.sqrt(((ratio**2 - sigma**2) / (1 - ratio**2)).clip(0, 25))
        # Its kernels are cut off at a finite radius, which counts where two gradients are nearly equal.
        found = edge_blur(texture, edges, np.full(400, scale))
        assert np.median(np.abs(found - expected)) < 1e-3
        assert len(np.unique(expected)) > 100


@pytest.mark.parametrize("scale", range(EDGE_SCALES - 1, len(CANNY_SIGMAS)))
def test_a_lone_step_gives_its_sigma_at_every_scale(scale: int) -> None:
    step = ndimage.gaussian_filter(np.where(np.arange(120) < 60, 0.0, 1.0) * np.ones((60, 1)), 1.5, truncate=8.0)
    edges = np.zeros(step.shape, bool)
    edges[20:40, 59:61] = True
    # Half a pixel off the crest the ratio is a little above the formula's.
    found = edge_blur(step, edges, np.full(40, scale))
    np.testing.assert_allclose(found, 1.5, atol=0.12)


def test_ratios_without_a_real_solution_give_zero() -> None:
    line = np.zeros((41, 41))
    line[:, 20] = 1.0
    edges = np.zeros(line.shape, bool)
    edges[20, [10, 20, 21]] = True  # no gradient at all; its sign changes; next to a line, sharper than a step can be
    np.testing.assert_array_equal(edge_blur(line, edges, np.full(3, 8)), 0.0)


def test_smoothing_solves_each_components_system() -> None:
    edges = np.zeros((12, 15), bool)
    edges[2, 1:7] = edges[3:6, 7] = True  # a bent line, joined at a corner
    edges[9, 2:5] = edges[8, 3] = True  # a clot
    edges[11, 14] = True  # alone
    rng = np.random.default_rng(0)
    count = int(edges.sum())
    blur, confidence = rng.uniform(0.0, 5.0, count), rng.integers(4, 10, count)
    solved = smooth_along_edges(edges, blur, confidence)

    labels, components = ndimage.label(edges, np.ones((3, 3)))
    assert components == 3
    places, label = np.argwhere(edges), labels[edges]
    for component in range(1, components + 1):
        mine = label == component
        apart = np.abs(places[mine][:, None] - places[mine][None]).max(axis=2)
        near = (apart == 1).astype(float)
        system = np.diag(1.0 + confidence[mine] + 20.0 * near.sum(axis=1)) - 20.0 * near
        expected = np.linalg.solve(system, (1.0 + confidence[mine]) * blur[mine])
        np.testing.assert_allclose(solved[mine], expected, rtol=1e-10)
    assert solved[-1] == pytest.approx(blur[-1])


def test_two_halves_of_different_blur_are_told_apart() -> None:
    sharp = _polygons(3)
    halves = np.where(np.arange(SIDE) < SIDE // 2, _blurred(sharp, 1.0), _blurred(sharp, 3.0))
    found = Ebdb().defocus_map(_as_image(halves))
    left, right = found[:, : SIDE // 2 - 16], found[:, SIDE // 2 + 16 :]
    assert np.quantile(left, 0.9) < 2.0 < np.quantile(right, 0.1)


@pytest.mark.parametrize(("side", "least"), [(192, 0.5), (256, 0.6)])
def test_the_map_ranks_the_true_defocus_of_rendered_scenes_and_larger_pictures_help(
    side: int, least: float, tmp_path: Path
) -> None:
    found: dict[int, list[np.ndarray]] = {1: [], 2: []}
    true = []
    for folder in render_split("embedded", "test", 6, side, 16, 0, tmp_path):
        image, target = read_image(folder / "image.png"), read_image(folder / "target.png")
        lens = Lens(**json.loads((folder / "scene.json").read_text())["lens"])
        sigma = np.abs(circle_of_confusion_px(np.load(folder / "depth_m.npy"), lens, image.shape[1])) / 4.0
        gradient = ndimage.uniform_filter(np.hypot(*np.gradient(target.mean(axis=2))), 5)
        textured = gradient > np.median(gradient)
        for times, maps in found.items():
            maps.append(Ebdb(magnify=times).defocus_map(image)[textured])
        true.append(sigma[textured])
    plain, magnified = (spearmanr(np.concatenate(maps), np.concatenate(true)).statistic for maps in found.values())
    assert magnified > least and (magnified > plain + 0.05 or side > 192)


def test_a_magnification_that_there_is_not_is_one_line() -> None:
    with pytest.raises(DDNetError, match="EBDB: magnify is 0; it must be a whole number from 1 to 4"):
        Ebdb(magnify=0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 80, 3), np.float32),
        np.full((64, 80, 3), 0.3, np.float32),
        np.ones((64, 80, 3), np.float32),
        np.full((1, 1, 3), 0.5, np.float32),
    ],
    ids=["black", "grey", "white", "one pixel"],
)
def test_an_image_without_edges_is_sharp_everywhere(image: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Ebdb().defocus_map(image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.zeros(image.shape[:2]))


@pytest.mark.parametrize(
    "image",
    [
        _as_image(np.random.default_rng(0).random((40, 40))),
        _as_image(np.where(np.arange(90) < 45, 0.2, 0.7) * np.ones((50, 1))),
        _as_image(np.random.default_rng(0).random((3, 40))),
    ],
    ids=["40x40 noise", "one edge", "three rows"],
)
def test_the_map_is_finite_and_in_range_without_a_warning(image: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Ebdb().defocus_map(image)
    assert found.dtype == np.float32
    assert found.shape == image.shape[:2]
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() <= 5.0


def test_a_place_that_no_estimate_reaches_is_sharp() -> None:
    x = np.arange(1600)
    step = ndimage.gaussian_filter(np.where(x < 40, 0.1, 0.7), 2.0)
    # Stripes of one pixel: Canny's first Gaussian levels them, but for the filter each is an edge to be kept.
    image = _as_image(np.where(x < 80, step, np.where(x % 2, 0.95, 0.3)) * np.ones((48, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Ebdb().defocus_map(image)
    assert np.isfinite(found).all()
    assert (found[:, 35:45] > 1.0).all()
    np.testing.assert_array_equal(found[:, -100:], 0.0)


def test_the_same_image_gives_the_same_map_and_stays_as_it_is() -> None:
    image = _as_image(_blurred(_polygons(5), 1.5))
    before = image.copy()
    np.testing.assert_array_equal(Ebdb().defocus_map(image), Ebdb().defocus_map(image))
    np.testing.assert_array_equal(image, before)


def test_restoring_sharpens_a_defocused_image() -> None:
    sharp = _polygons(6)
    image = _as_image(ndimage.gaussian_filter(sharp, 1.5))
    restored = Ebdb().restore(image)
    assert restored.shape == image.shape
    assert restored.dtype == np.float32
    assert 0.0 <= restored.min() <= restored.max() <= 1.0
    target = _as_image(sharp)
    assert np.mean((restored - target) ** 2) < 0.95 * np.mean((image - target) ** 2)
