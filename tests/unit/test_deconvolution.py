"""Deconvolution by a map of blur, proved against plain, independent solutions and against true defocus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from baselines.common.deconvolution import (
    BETAS,
    deblur_with_map,
    gaussian_kernel,
    hyper_laplacian,
    quantise_sigma,
    richardson_lucy,
    shrink,
)
from ddnet.data.embedded.dataset import render_benchmark
from ddnet.data.embedded.optics import Lens, circle_of_confusion_px
from ddnet.errors import DDNetError
from ddnet.evaluation.metrics.psnr import psnr_db
from ddnet.io.images import read_image

Array = NDArray[np.float64]


def blurred_scene(height: int, width: int, sigma: float, noise: float = 0.002) -> tuple[NDArray[np.float32], Array]:
    """Bars, discs and a ramp, blurred by a Gaussian, with noise; and the kernel that blurred it."""
    from scipy.ndimage import convolve

    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    sharp = 0.2 + 0.3 * x / width + 0.3 * ((x // 7 + y // 9) % 2) + 0.15 * (np.hypot(x - 20, y - 25) < 12)
    kernel = np.asarray(gaussian_kernel(sigma), np.float64)
    return (convolve(sharp, kernel, mode="nearest") + rng.normal(0, noise, sharp.shape)).astype(np.float32), kernel


def energy(w: Array, v: Array, alpha: float, beta: float) -> Array:
    return np.abs(w) ** alpha + beta / 2 * (w - v) ** 2


def reference_shrink(v: Array, alpha: float, beta: float) -> Array:
    """The minimiser by bisection of the derivative right of its least value, against w = 0."""
    magnitude = np.abs(v)
    low = np.full(v.shape, (alpha * (1 - alpha) / beta) ** (1 / (2 - alpha)) if alpha < 1 else 0.0)
    low, high = np.minimum(low, magnitude), magnitude.copy()
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            rising = alpha * middle ** (alpha - 1) + beta * (middle - magnitude) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return np.where(energy(high, magnitude, alpha, beta) < energy(0 * high, magnitude, alpha, beta), high, 0) * np.sign(
        v
    )


def reference_extension(image: Array, kernel: Array) -> tuple[Array, Array]:
    """Replicated border of the kernel's size, tapered four times; and the kernel's transfer function there."""
    k = kernel.shape[0]
    height, width = (next_fast_len(side + 2 * k, real=True) for side in image.shape)
    full = np.pad(image, ((k, height - k - image.shape[0]), (k, width - k - image.shape[1])), mode="edge")
    spread = np.zeros((height, width))
    for i in range(k):
        for j in range(k):
            spread[(i - k // 2) % height, (j - k // 2) % width] += kernel[i, j]
    transfer = np.fft.fft2(spread)
    weights = []
    for axis, length in ((0, height), (1, width)):
        profile = np.fft.fft(kernel.sum(axis=1 - axis), length - 1)
        overlap = np.fft.ifft(np.abs(profile) ** 2).real
        weights.append(1 - np.append(overlap, overlap[0]) / overlap[0])
    keep = np.outer(*weights)
    for _ in range(4):
        full = keep * full + (1 - keep) * np.fft.ifft2(np.fft.fft2(full) * transfer).real
    return full, transfer


def reference_hyper_laplacian(image: Array, kernel: Array, alpha: float, lam: float) -> Array:
    y, transfer = reference_extension(image, kernel)
    height, width = y.shape
    across, down = np.zeros((2, height, width))
    across[0, 0], across[0, -1], down[0, 0], down[-1, 0] = -1, 1, -1, 1
    dx, dy = np.fft.fft2(across), np.fft.fft2(down)
    x, beta = y, 1.0
    while beta < 256:
        wx = reference_shrink(np.fft.ifft2(dx * np.fft.fft2(x)).real, alpha, beta)
        wy = reference_shrink(np.fft.ifft2(dy * np.fft.fft2(x)).real, alpha, beta)
        above = lam * np.conj(transfer) * np.fft.fft2(y)
        above += beta * (np.conj(dx) * np.fft.fft2(wx) + np.conj(dy) * np.fft.fft2(wy))
        below = lam * np.abs(transfer) ** 2 + beta * (np.abs(dx) ** 2 + np.abs(dy) ** 2)
        x = np.fft.ifft2(above / below).real
        beta *= 2 * np.sqrt(2)
    k = kernel.shape[0]
    return x[k : k + image.shape[0], k : k + image.shape[1]]


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.7, 8.0, 20.0])
def test_gaussian_kernel_is_odd_symmetric_of_sum_one_and_has_its_sigma(sigma: float) -> None:
    kernel = gaussian_kernel(sigma)
    assert kernel is not None and kernel.shape[0] == kernel.shape[1] <= 101 and kernel.shape[0] % 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1].T)
    away = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    weight = np.exp(-(away**2) / (2 * sigma**2))
    np.testing.assert_allclose(kernel, np.outer(weight, weight) / weight.sum() ** 2, rtol=1e-5)
    if sigma <= 8:
        beyond = np.exp(-((away[-1] + 1) ** 2) / (2 * sigma**2))
        assert beyond < 1.3e-7 or kernel.shape[0] == 101


def test_hardly_any_blur_has_no_kernel() -> None:
    assert gaussian_kernel(0.0) is None and gaussian_kernel(0.117) is None
    kernel = gaussian_kernel(0.119)
    assert kernel is not None and kernel.shape == (3, 3) and 0 < kernel[1, 0] < 1e-15


@pytest.mark.parametrize("alpha", [0.5, 2 / 3, 0.8, 1.0, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_every_w_step_minimises_its_objective(alpha: float, beta: float) -> None:
    v = np.concatenate([np.linspace(-1.5, 1.5, 301), [1e-7, -1e-4, 3.0, -9.0]]).astype(np.float32)
    w = shrink(v, alpha, beta)
    exact = v.astype(np.float64)
    grid = np.linspace(0, 1, 4001)[:, None] * exact
    assert (
        energy(w.astype(np.float64), exact, alpha, beta) <= energy(grid, exact, alpha, beta).min(axis=0) + 1e-7
    ).all()
    clear = np.abs(
        energy(0 * exact, exact, alpha, beta) - energy(reference_shrink(exact, alpha, beta), exact, alpha, beta)
    )
    sure = (clear > 1e-4) | (alpha >= 1)  # at the jump itself either minimum is right
    np.testing.assert_allclose(w[sure], reference_shrink(exact, alpha, beta)[sure], atol=2e-6)


def test_w_step_takes_arrays_of_any_memory_order() -> None:
    v = np.random.default_rng(0).normal(0, 0.5, (6, 5)).astype(np.float32)
    for alpha in (0.5, 1.2):
        np.testing.assert_array_equal(shrink(np.asfortranarray(v), alpha, 8.0), shrink(v, alpha, 8.0))


@pytest.mark.parametrize(
    "alpha, lam", [(1.5, 16.8), (1.5, 400.0), (2 / 3, 2000.0), (0.5, 2000.0), (1.0, 200.0), (0.8, 500.0)]
)
def test_hyper_laplacian_is_the_half_quadratic_solution(alpha: float, lam: float) -> None:
    image, kernel = blurred_scene(60, 47, 1.5)
    expected = reference_hyper_laplacian(image.astype(np.float64), kernel, alpha, lam)
    np.testing.assert_allclose(hyper_laplacian(image, kernel.astype(np.float32), alpha, lam), expected, atol=1e-3)


def test_x_step_is_the_dense_least_squares_solution_for_a_lopsided_kernel() -> None:
    rng = np.random.default_rng(1)
    image, kernel = rng.random((8, 7)), rng.random((3, 3))
    kernel /= kernel.sum()
    y, _ = reference_extension(image, kernel)
    places = [(i, j) for i in range(y.shape[0]) for j in range(y.shape[1])]
    number = {place: n for n, place in enumerate(places)}
    blur, across, down = np.zeros((3, len(places), len(places)))
    for (i, j), n in number.items():
        for a in range(3):
            for b in range(3):  # convolution: the kernel mirrored
                blur[n, number[(i - a + 1) % y.shape[0], (j - b + 1) % y.shape[1]]] += kernel[a, b]
        across[n, n], down[n, n] = -1, -1
        across[n, number[i, (j + 1) % y.shape[1]]] += 1
        down[n, number[(i + 1) % y.shape[0], j]] += 1
    x, lam = y.ravel(), 16.8
    for beta in BETAS:
        wx, wy = (reference_shrink(d @ x, 1.5, beta) for d in (across, down))
        left = lam * blur.T @ blur + beta * (across.T @ across + down.T @ down)
        x = np.linalg.solve(left, lam * blur.T @ y.ravel() + beta * (across.T @ wx + down.T @ wy))
    found = hyper_laplacian(image.astype(np.float32), kernel.astype(np.float32))
    np.testing.assert_allclose(found, x.reshape(y.shape)[3:11, 3:10], atol=1e-4)


@pytest.mark.parametrize("iterations", [1, 10, 30])
def test_richardson_lucy_is_scikit_images(iterations: int) -> None:
    from skimage.restoration import richardson_lucy as reference

    image, kernel = blurred_scene(90, 80, 1.2)
    # Zeros beyond its border is what scikit-image assumes: keep them out of reach.
    margin = 6 * kernel.shape[0]
    wide = reference(np.pad(image.astype(np.float64), margin, mode="edge"), kernel, iterations, clip=False)
    found = richardson_lucy(image, kernel.astype(np.float32), iterations)
    np.testing.assert_allclose(found, wide[margin:-margin, margin:-margin], atol=1e-3)


def test_both_deconvolve_uniform_blur() -> None:
    from scipy.ndimage import gaussian_filter

    y, x = np.mgrid[:96, :96]
    sharp = (0.2 + 0.6 * ((x // 12 + y // 12) % 2)).astype(np.float32)
    image = gaussian_filter(sharp, 1.5, mode="nearest").astype(np.float32)
    kernel = gaussian_kernel(1.5)
    assert kernel is not None
    assert psnr_db(hyper_laplacian(image, kernel, lam=1000.0), sharp) > psnr_db(image, sharp) + 3
    assert psnr_db(richardson_lucy(image, kernel, 30), sharp) > psnr_db(image, sharp) + 2


def test_levels_are_left_edges_of_bins_between_quantiles_of_distinct_values() -> None:
    sigma = np.repeat(np.arange(100, dtype=np.float32) / 10, 7).reshape(70, 10)
    sigma[sigma == 3] = 2.9  # how often a value occurs is no matter
    values, index = quantise_sigma(sigma, levels=4)
    distinct = np.unique(sigma)
    expected = [0.0, *(float(np.percentile(distinct, 100 * q, method="hazen")) for q in (0.2, 0.4, 0.6, 0.8))]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert (values[index] <= sigma).all() and index.max() == 4
    assert ((index == 4) | (sigma < values[np.minimum(index + 1, 4)])).all()


def test_every_pixel_comes_from_the_whole_image_deconvolved_at_its_level() -> None:
    image = np.stack([blurred_scene(50, 64, sigma)[0] for sigma in (1.0, 1.5, 2.0)], axis=-1)
    sigma = np.zeros((50, 64), np.float32)
    sigma[:, 20:40], sigma[:, 40:] = 1.0, 2.0
    values, index = quantise_sigma(sigma)
    assert len(np.unique(index)) == 3 and values[index[0, 0]] == 0.0 and values[index[0, -1]] == 2.0
    for method, solve in (("hyper_laplacian", hyper_laplacian), ("richardson_lucy", richardson_lucy)):
        out = deblur_with_map(image, sigma, method)
        np.testing.assert_array_equal(out[:, :20], np.clip(image[:, :20], 0, 1))
        for part in (slice(20, 40), slice(40, 64)):
            kernel = gaussian_kernel(values[index[0, part.start]])
            assert kernel is not None
            np.testing.assert_array_equal(out[:, part], np.clip(solve(image, kernel), 0, 1)[:, part])


@pytest.mark.parametrize("method", ["hyper_laplacian", "richardson_lucy"])
def test_numbers_do_not_depend_on_threads(method: str) -> None:
    image = blurred_scene(70, 50, 1.0)[0]
    sigma = np.linspace(0, 3, image.size, dtype=np.float32).reshape(image.shape)
    one, three = (deblur_with_map(image, sigma, method, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["hyper_laplacian", "richardson_lucy"])
@pytest.mark.parametrize("name", ["flat", "black", "white", "edge", "noise"])
@pytest.mark.parametrize("blur", [0.0, 0.3, 2.0, 20.0, "ramp"])
def test_odd_images_and_maps_have_finite_answers(method: str, name: str, blur: float | str) -> None:
    image = np.full((40, 40, 3), {"flat": 0.4, "white": 1.0}.get(name, 0.0), np.float32)
    if name == "edge":
        image[:, 23:] = 1.0
    if name == "noise":
        image = np.random.default_rng(0).random(image.shape, np.float32)
    ramp = np.linspace(0, 20, 1600, dtype=np.float32).reshape(40, 40)
    sigma = ramp if blur == "ramp" else np.full((40, 40), blur, np.float32)
    out = deblur_with_map(image, sigma, method)
    assert out.shape == image.shape and out.dtype == np.float32
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    if name in ("flat", "black", "white"):
        np.testing.assert_allclose(out, image, atol=1e-4)
    if blur == 0.0:
        np.testing.assert_array_equal(out, image)


def test_a_grey_image_is_one_channel_of_a_colour_one() -> None:
    image = blurred_scene(40, 44, 1.0)[0]
    sigma = np.full(image.shape, 1.0, np.float32)
    colour = deblur_with_map(np.repeat(image[..., None], 3, axis=2), sigma)
    np.testing.assert_array_equal(deblur_with_map(image, sigma), colour[..., 1])


GOOD = np.full((12, 10, 3), 0.5, np.float32)
MAP = np.ones((12, 10), np.float32)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"sigma": np.where(np.arange(10) == 3, np.nan, MAP)}, "finite"),
        ({"sigma": MAP * np.inf}, "finite"),
        ({"sigma": -MAP}, "negative"),
        ({"sigma": MAP[:, :9]}, r"\(12, 9\)"),
        ({"sigma": GOOD}, r"\(12, 10, 3\)"),
        ({"image": GOOD * np.nan}, "not finite"),
        ({"image": GOOD[0, 0]}, r"\(3,\)"),
        ({"image": np.zeros((0, 4, 3), np.float32)}, r"\(0, 4, 3\)"),
        ({"image": (GOOD * 255).astype(np.uint8)}, "uint8"),
        ({"method": "wiener"}, "richardson_lucy"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 2.5}, "alpha"),
        ({"lam": 0.0}, "lam"),
        ({"lam": np.inf}, "lam"),
        ({"iterations": 0}, "iterations"),
        ({"levels": 0}, "levels"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changed: dict[str, object], words: str) -> None:
    with pytest.raises(DDNetError, match=words) as error:
        deblur_with_map(**{"image": GOOD, "sigma": MAP, **changed})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kernel", [np.ones((4, 4)), np.ones((3, 5)), np.zeros((3, 3)), -np.ones((3, 3)), np.ones(3)])
def test_kernels_that_cannot_be_are_refused(kernel: NDArray[np.float64]) -> None:
    for solve in (hyper_laplacian, richardson_lucy):
        with pytest.raises(DDNetError, match="kernel"):
            solve(GOOD, kernel.astype(np.float32))
    with pytest.raises(DDNetError, match="sigma"):
        gaussian_kernel(-1.0)


def test_the_true_map_of_true_defocus_gains(tmp_path: Path) -> None:
    gains: dict[str, list[float]] = {"richardson_lucy": [], "hyper_laplacian": []}
    for folder in render_benchmark(tmp_path, {"test": 4}, 192):
        record = json.loads((folder / "scene.json").read_text())
        circle = circle_of_confusion_px(np.load(folder / "depth_m.npy"), Lens(**record["lens"]), record["size"])
        sigma = (np.abs(circle) / 4).astype(np.float32)  # of equal second moment: a disc's is its diameter / 4 per axis
        image, target = read_image(folder / "image.png"), read_image(folder / "target.png")
        for method, found in gains.items():
            restored = deblur_with_map(image, sigma, method, lam=100.0)
            found.append(psnr_db(restored, target) - psnr_db(image, target))
    # The Gaussian stands in for a disc, and levels meet at depth edges: no more is to be had without more assumptions.
    assert np.mean(gains["richardson_lucy"]) > 1.0 and min(gains["richardson_lucy"]) > 0.5, gains
    assert np.mean(gains["hyper_laplacian"]) > 0.5, gains
