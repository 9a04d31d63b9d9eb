"""The circular domain of a deconvolution against a plain statement of it in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.common.frame import TAPERS, Frame, back, convolve, forward, transfer_of


def kernel_of(side: int) -> np.ndarray:
    """Lopsided, so that a mirrored or shifted kernel shows."""
    return np.random.default_rng(side).random((side, side)).astype(np.float32) ** 3


@pytest.mark.parametrize("shape, side", [((30, 41), 3), ((64, 50), 13), ((20, 31), 41), ((1, 1), 5)])
def test_an_extended_image_is_tapered_at_its_ends_and_nowhere_else(shape: tuple[int, int], side: int) -> None:
    image, kernel = np.random.default_rng(0).random(shape).astype(np.float32), kernel_of(side)
    frame = Frame(shape, kernel)
    spread = np.zeros(frame.shape)
    spread[:side, :side] = kernel / kernel.sum(dtype=np.float64)
    transfer = np.fft.fft2(np.roll(spread, (-(side // 2), -(side // 2)), axis=(0, 1)))
    lines = []
    for axis, length in enumerate(frame.shape):
        line = kernel.sum(axis=1 - axis, dtype=np.float64)
        overlap = np.correlate(line, line, "full")[side - 1 :] / (line @ line)
        kept = np.ones(length)
        kept[:side] -= overlap
        kept[length - side :] -= overlap[::-1]
        lines.append(kept)
    keep = np.outer(*lines)
    expected = np.pad(image.astype(np.float64), frame.extension, mode="edge")
    for _ in range(TAPERS):
        expected = keep * expected + (1 - keep) * np.fft.ifft2(np.fft.fft2(expected) * transfer).real
    found = frame.extend(image)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_array_equal(found[frame.inner], image)


def test_back_is_the_inverse_of_forward_and_convolve_is_circular() -> None:
    plane, kernel = np.random.default_rng(1).random((24, 25)).astype(np.float32), kernel_of(5)
    np.testing.assert_allclose(back(forward(plane), 25), plane, atol=1e-6)
    expected = sum(
        np.roll(plane, (i - 2, j - 2), axis=(0, 1)) * kernel[i, j] / kernel.sum() for i in range(5) for j in range(5)
    )
    np.testing.assert_allclose(convolve(plane, transfer_of(kernel, plane.shape)), expected, atol=1e-6)
