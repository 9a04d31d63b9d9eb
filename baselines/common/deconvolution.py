"""Non-blind deconvolution by a map of Gaussian blur: what turns a defocus map into a restored image.

Two deconvolutions by one kernel, and their compositing by a map. Hyper-Laplacian: D. Krishnan and R. Fergus, Fast
image deconvolution using hyper-Laplacian priors, NIPS 2009. Richardson-Lucy: W. H. Richardson 1972, L. B. Lucy 1974.
Compositing by levels of sigma, with alpha 1.5 and lambda 16.8 for DPDD, is how map-based methods are compared on that
dataset. There input and map are rounded to 8 bits first; here that is up to a system: DMENet with its authors' weights.

An image is extended and its ends are tapered as `frame` says; then everything is circular. Both depend on the kernel,
so nothing of one level is of use to another. Levels run in threads, each sequential: numbers do not depend on the
number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from baselines.common.frame import Frame, back, convolve, forward
from ddnet.errors import DDNetError
from ddnet.runtime.resources import cpu_count

FloatArray = NDArray[np.float32]

METHODS = ("hyper_laplacian", "richardson_lucy")
ALPHA, LAMBDA, ITERATIONS, LEVELS = 1.5, 16.8, 10, 32

WIDEST = 50  # pixels from a Gaussian kernel's centre to its side at most
BETAS = tuple(8.0 ** (step / 2) for step in range(6))  # 1, times 2 sqrt(2) while below 256
NEWTON_STEPS = 12
TABLE_END, TABLE_STEP = 10.0, 1e-4  # of |v|; differences of images in [0, 1] hardly pass 2
FLOOR = 1e-6  # of a blurred estimate that divides: what float32 transforms leave of an exact zero stays below
STRIP = 1 << 16  # values worked on at once: they stay in the cache


def gaussian_kernel(sigma: float) -> FloatArray | None:
    """Gaussian of `sigma` pixels, (k, k), k odd, sum 1; None, for the identity, below 0.118 pixels.

    There a neighbour is less beside the centre than double precision's step. At most 101 x 101, and trimmed to what
    single precision tells from zero: |x| <= 5.6 sigma, but never to less than 3 x 3.

    Raises:
        DDNetError: sigma is negative or not finite.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise DDNetError(f"gaussian kernel: sigma is {sigma}; it must be a finite number of pixels, 0 or more")
    if sigma * math.sqrt(-2.0 * math.log(np.finfo(np.float64).eps)) < 1.0:
        return None
    radius = min(WIDEST, max(1, math.floor(sigma * math.sqrt(-2.0 * math.log(np.finfo(np.float32).eps)))))
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    line /= line.sum()
    return np.outer(line, line).astype(np.float32)


def shrink(gradient: FloatArray, alpha: float, beta: float) -> FloatArray:
    """The w-step: what minimises |w|^alpha + beta/2 (w - v)^2, for every v of `gradient`.

    Closed forms for alpha 1/2 (a cubic), 2/3 (a quartic), 1 (soft threshold) and 3/2 (a quadratic in sqrt w); a table
    made by Newton's iteration otherwise. Any shape; alpha above 0, at most 2; beta 1 or more.
    """
    if alpha == 1.5:  # w = s^2 with beta s^2 + 3/2 s = beta |v|
        root = np.sqrt(np.abs(gradient) * np.float32(4.0 * beta * beta) + np.float32(2.25))
        return gradient * ((root - np.float32(1.5)) / (root + np.float32(1.5)))
    if alpha == 1.0:
        return gradient - np.clip(gradient, np.float32(-1.0 / beta), np.float32(1.0 / beta))
    if alpha > 1.0:
        found = _look_up(np.abs(gradient).astype(np.float64), alpha, beta)
        return np.copysign(found, gradient).astype(np.float32)
    jump = _jump(alpha, beta)
    out = np.zeros(gradient.shape, np.float32)
    large = np.flatnonzero(np.abs(gradient) > jump)
    kept = gradient.reshape(-1)[large].astype(np.float64)
    v = np.abs(kept)
    if alpha == 0.5:  # w (w - v)^2 = 1 / (4 beta^2), by Viète: the largest root below v
        angle = np.arccos(np.minimum(1.0, (3.0 / v) ** 1.5 / (4.0 * beta)))
        found = 2.0 / 3.0 * v * (1.0 + np.cos(2.0 / 3.0 * (np.pi - angle)))
    elif math.isclose(alpha, 2.0 / 3.0, rel_tol=1e-9):  # with w = s^3: s^4 - v s + 2 / (3 beta) = 0, by Ferrari
        angle = np.arccosh(np.maximum(1.0, 27.0 / 16.0 * v * v * (beta / 2.0) ** 1.5))
        square = 4.0 / 3.0 * math.sqrt(2.0 / beta) * np.cosh(angle / 3.0)
        side = np.sqrt(square)
        found = ((side + np.sqrt(np.maximum(0.0, 2.0 * v / side - square))) / 2.0) ** 3
    else:
        found = _look_up(v, alpha, beta)
    out.reshape(-1)[large] = np.copysign(found, kept)
    return out


def _jump(alpha: float, beta: float) -> float:
    """Up to which |v| the w-step's answer is 0, for alpha below 1; from there it is the other local minimum."""
    landing = (2.0 * (1.0 - alpha) / beta) ** (1.0 / (2.0 - alpha))
    return landing + alpha / beta * landing ** (alpha - 1.0)


def _look_up(v: NDArray[np.float64], alpha: float, beta: float) -> NDArray[np.float64]:
    """The w-step's answer for magnitudes `v`, above the jump where there is one, linear between a table's entries."""
    start, found = _table(alpha, beta)
    place = (v - start) / TABLE_STEP
    left = np.minimum(place.astype(np.int32), found.size - 2)
    return np.asarray(found[left] + (place - left) * (found[left + 1] - found[left]), np.float64)


@lru_cache(maxsize=2 * len(BETAS))
def _table(alpha: float, beta: float) -> tuple[float, NDArray[np.float64]]:
    """First |v| of the table and its entries: roots w of alpha w^(alpha-1) + beta (w - v), by Newton's iteration.

    Below alpha 1 that function of w is convex: from above, w comes down to its larger root. Above 1 it is concave: from
    below, w comes up to its only root.
    """
    start = _jump(alpha, beta) if alpha < 1.0 else 0.0
    v = np.arange(start, TABLE_END, TABLE_STEP)
    found = v.copy() if alpha < 1.0 else np.minimum((beta / (2.0 * alpha) * v) ** (1.0 / (alpha - 1.0)), v / 2.0)
    positive = found > 1e-30
    w, goal = found[positive], v[positive]
    for _ in range(NEWTON_STEPS):
        pull = alpha * w ** (alpha - 1.0)
        w = w - (pull + beta * (w - goal)) / ((alpha - 1.0) * pull / w + beta)
    found[positive] = w
    return start, found


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows of about STRIP values each."""
    rows = max(1, STRIP // shape[1])
    return (slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows))


def _divergence(image: FloatArray, alpha: float, beta: float) -> FloatArray:
    """D^T w, where D takes circular forward differences of `image` down and right, and w is their w-step."""
    out = np.empty_like(image)
    for strip in _strips(image.shape):
        rows = image.take(range(strip.start - 1, strip.stop + 1), axis=0, mode="wrap")
        down = shrink(rows[1:] - rows[:-1], alpha, beta)
        right = shrink(np.diff(rows[1:-1], axis=1, append=rows[1:-1, :1]), alpha, beta)
        part = out[strip]
        np.subtract(down[:-1], down[1:], out=part)
        part -= right
        part[:, 1:] += right[:, :-1]
        part[:, 0] += right[:, -1]
    return out


def _hyper_laplacian(frame: Frame, alpha: float, lam: float) -> Callable[[FloatArray], FloatArray]:
    """Half-quadratic minimisation of lam/2 |k * x - y|^2 + |Dx|^alpha in one frame: a function of a plane y."""
    height, width = frame.shape
    # Every value twice: as real and imaginary parts lie in memory.
    power = np.repeat(np.square(frame.transfer.real) + np.square(frame.transfer.imag), 2, axis=1)
    down = 4.0 * np.sin(np.pi * np.arange(height) / height) ** 2
    right = 4.0 * np.sin(np.pi * np.arange(frame.transfer.shape[1]) / width) ** 2
    roughness = np.repeat((down[:, None] + right).astype(np.float32), 2, axis=1)
    adjoint = np.conj(frame.transfer)

    def solve(plane: FloatArray) -> FloatArray:
        estimate = frame.extend(plane)
        given = (forward(estimate) * adjoint).view(np.float32)
        for beta in BETAS:
            weight = np.float32(beta / lam)
            spectrum = forward(_divergence(estimate, alpha, beta))
            values = spectrum.view(np.float32)
            for strip in _strips(values.shape):
                part = values[strip]
                part *= weight
                part += given[strip]
                part /= roughness[strip] * weight + power[strip]
            estimate = back(spectrum, width)
        return estimate[frame.inner]

    return solve


def _richardson_lucy(frame: Frame, iterations: int) -> Callable[[FloatArray], FloatArray]:
    """x <- x . corr(k, y / conv(k, x)) from x = 1/2, in one frame: a function of a plane y."""
    adjoint = np.conj(frame.transfer)

    def solve(plane: FloatArray) -> FloatArray:
        given = frame.extend(plane)
        estimate = np.full_like(given, 0.5)
        for step in range(iterations):
            ratio = convolve(estimate, frame.transfer) if step else estimate.copy()  # a flat image is its own blur
            np.maximum(ratio, np.float32(FLOOR), out=ratio)
            np.divide(given, ratio, out=ratio)
            factor = convolve(ratio, adjoint)
            np.maximum(factor, np.float32(0.0), out=factor)
            estimate *= factor
        return estimate[frame.inner]

    return solve


def _each_channel(solve: Callable[[FloatArray], FloatArray], image: FloatArray) -> FloatArray:
    """`solve` on a grey image or on every channel of a colour one."""
    if image.ndim == 2:
        return np.ascontiguousarray(solve(image))
    return np.stack([solve(image[..., channel]) for channel in range(image.shape[2])], axis=-1)


def _checked(image: FloatArray) -> FloatArray:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape or not np.issubdtype(image.dtype, np.floating):
        what = f"{image.dtype} {image.shape}"
        raise DDNetError(f"deconvolution: the image is {what}; it must be floating point (H, W) or (H, W, C)")
    if not np.isfinite(image).all():
        raise DDNetError("deconvolution: the image has values that are not finite; they must be in [0, 1]")
    return image.astype(np.float32, copy=False)


def _checked_kernel(kernel: FloatArray) -> FloatArray:
    kernel = np.asarray(kernel)
    square = kernel.ndim == 2 and kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
    if not (square and np.isfinite(kernel).all() and kernel.min() >= 0 and kernel.sum() > 0):
        raise DDNetError(
            f"deconvolution: kernel {kernel.shape}; it must be (k, k), k odd, finite, 0 or more, not all 0"
        )
    return kernel.astype(np.float32, copy=False)


def _check_settings(alpha: float = ALPHA, lam: float = LAMBDA, iterations: int = ITERATIONS) -> None:
    if not (0 < alpha <= 2 and math.isfinite(lam) and lam > 0 and iterations >= 1):
        given = f"alpha is {alpha}, lam {lam}, iterations {iterations}"
        raise DDNetError(f"deconvolution: {given}; allowed are 0 < alpha <= 2, finite lam above 0, iterations from 1")


def hyper_laplacian(image: FloatArray, kernel: FloatArray, alpha: float = ALPHA, lam: float = LAMBDA) -> FloatArray:
    """Deconvolve a whole image by one kernel under the prior |Dx|^alpha; (H, W[, C]) float32, not clipped.

    Args:
        image: (H, W[, C]) in [0, 1].
        kernel: (k, k), k odd; divided by its sum.
        alpha: exponent of the prior, above 0, at most 2.
        lam: weight of the data term: larger is sharper and noisier.

    Raises:
        DDNetError: a shape, value or setting that is not allowed.
    """
    _check_settings(alpha, lam)
    image, kernel = _checked(image), _checked_kernel(kernel)
    return _each_channel(_hyper_laplacian(Frame(image.shape[:2], kernel), alpha, lam), image)


def richardson_lucy(image: FloatArray, kernel: FloatArray, iterations: int = ITERATIONS) -> FloatArray:
    """The same by Richardson-Lucy from a flat 1/2: at least 1 of `iterations`; more is sharper and noisier."""
    _check_settings(iterations=iterations)
    image, kernel = _checked(image), _checked_kernel(kernel)
    return _each_channel(_richardson_lucy(Frame(image.shape[:2], kernel), iterations), image)


def quantise_sigma(sigma: FloatArray, levels: int = LEVELS) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Levels of a map of sigma and (H, W) which of them every pixel gets: the left edge of its bin.

    Edges of the bins are the least value, `levels` evenly spaced quantiles of the distinct values, the largest value.
    """
    distinct = np.unique(sigma).astype(np.float64)
    inner = np.quantile(distinct, np.arange(1, levels + 1) / (levels + 1), method="hazen")
    left = np.concatenate([distinct[:1], inner])
    return left, np.searchsorted(left, sigma.astype(np.float64), side="right") - 1


def deblur_with_map(
    image: FloatArray,
    sigma: FloatArray,
    method: str = "hyper_laplacian",
    alpha: float = ALPHA,
    lam: float = LAMBDA,
    levels: int = LEVELS,
    iterations: int = ITERATIONS,
    threads: int | None = None,
) -> FloatArray:
    """Deconvolve the whole image once per level of sigma and take every pixel from its level; clipped to [0, 1].

    Args:
        image: (H, W[, C]) in [0, 1].
        sigma: (H, W) standard deviation of the Gaussian blur in pixels, 0 or more.
        method: "hyper_laplacian", which reads `alpha` and `lam`, or "richardson_lucy", which reads `iterations`.
        levels: quantiles between the bins of sigma; one level more than that at most.
        threads: levels worked on at once, each in about 20 times the memory of one channel; None: one per processor.

    Raises:
        DDNetError: a shape, value or setting that is not allowed.
    """
    if method not in METHODS:
        raise DDNetError(f"deconvolution: method is {method!r}; allowed are {', '.join(METHODS)}")
    if levels < 1 or (threads is not None and threads < 1):
        raise DDNetError(f"deconvolution: levels is {levels} and threads is {threads}; both must be at least 1")
    _check_settings(alpha, lam, iterations)
    image, sigma = _checked(image), np.asarray(sigma)
    if sigma.shape != image.shape[:2] or not np.isfinite(sigma).all() or sigma.min() < 0:
        raise DDNetError(
            f"deconvolution: the map of sigma is {sigma.shape}, the image {image.shape}; the map must be (H, W) of the "
            "image, finite and nowhere negative (pixels)"
        )
    values, index = quantise_sigma(sigma, levels)
    out = np.clip(image, 0.0, 1.0)

    def restore(level: int) -> None:
        kernel = gaussian_kernel(values[level])
        if kernel is None:
            return
        frame = Frame(image.shape[:2], kernel)
        by_prior = method == "hyper_laplacian"
        solve = _hyper_laplacian(frame, alpha, lam) if by_prior else _richardson_lucy(frame, iterations)
        here = index == level
        out[here] = np.clip(_each_channel(solve, image)[here], 0.0, 1.0)

    with ThreadPoolExecutor(threads or cpu_count()) as executor:
        list(executor.map(restore, np.unique(index)))
    return out
