"""The circular domain in which an image is deconvolved: its extension, its tapered ends, its Fourier transforms.

An image is extended by its border pixels on every side, by the kernel's size and on to a fast length, and its
outermost pixels, which lie in that extension, are tapered four times into their own circular blur; then everything
is circular.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float32]
ComplexArray = NDArray[np.complex64]

TAPERS = 4


def forward(plane: FloatArray) -> ComplexArray:
    """(H, W) to its spectrum (H, W // 2 + 1)."""
    return np.asarray(fft.rfft2(plane), np.complex64)


def back(spectrum: ComplexArray, width: int) -> FloatArray:
    """The inverse of `forward`, which destroys `spectrum`: one axis in its place, then the other.

    Half the time of `irfft2`, which works on a copy.
    """
    return np.asarray(fft.irfft(fft.ifft(spectrum, axis=0, overwrite_x=True), width, axis=1), np.float32)


def convolve(plane: FloatArray, transfer: ComplexArray) -> FloatArray:
    """(H, W) convolved circularly with what `transfer` is the spectrum of."""
    spectrum = forward(plane)
    spectrum *= transfer
    return back(spectrum, plane.shape[1])


def transfer_of(kernel: FloatArray, shape: tuple[int, ...]) -> ComplexArray:
    """Spectrum in a domain of `shape` of the centred kernel, (k, k), k odd, divided by its sum."""
    k = kernel.shape[0]
    centred = np.zeros(shape, np.float32)
    centred[:k, :k] = kernel / kernel.sum(dtype=np.float64)
    return forward(np.roll(centred, (-(k // 2), -(k // 2)), axis=(0, 1)))


class Frame:
    """The circular domain of images of `shape` (H, W) and one kernel, with the kernel's transfer function in it."""

    def __init__(self, shape: tuple[int, int], kernel: FloatArray) -> None:
        k = kernel.shape[0]
        self.inner = (slice(k, k + shape[0]), slice(k, k + shape[1]))
        self.shape = tuple(fft.next_fast_len(side + 2 * k, real=True) for side in shape)
        self.extension = tuple((k, full - side - k) for full, side in zip(self.shape, shape, strict=True))
        self.transfer = transfer_of(kernel, self.shape)
        self.ends = [_Ends(self.shape, kernel, axis) for axis in (0, 1)]

    def extend(self, plane: FloatArray) -> FloatArray:
        """(H, W) to this frame: border pixels outwards, then the tapering of its ends."""
        full = np.pad(plane, self.extension, mode="edge")
        for _ in range(TAPERS):
            tapered = [ends.taper(full) for ends in self.ends]
            for ends, values in zip(self.ends, tapered, strict=True):
                full[ends.place] = values
        return full


class _Ends:
    """The two ends of a frame along one axis, a kernel's size each: neighbours, because the frame is circular.

    The taper changes nothing else. With half a kernel's size around them, and what makes the length a fast one, they
    are a strip that can be blurred by itself.
    """

    def __init__(self, frame: tuple[int, ...], kernel: FloatArray, axis: int) -> None:
        k = kernel.shape[0]
        reach = k + k // 2
        length = fft.next_fast_len(2 * reach, real=True)
        before = (slice(None),) * axis
        self.axis, self.strip = axis, np.arange(-reach, length - reach)
        self.inside = (*before, slice(reach - k, reach + k))
        self.place: tuple[Any, ...] = (*before, np.arange(-k, k))
        self.transfer = transfer_of(kernel, (*frame[:axis], length, *frame[axis + 1 :]))
        lines = [_kept(kernel.sum(axis=1 - side, dtype=np.float64), frame[side]) for side in (0, 1)]
        lines[axis] = np.roll(lines[axis], k)[: 2 * k]
        self.keep = np.outer(*lines).astype(np.float32)

    def taper(self, full: FloatArray) -> FloatArray:
        """What `full[self.place]` becomes."""
        strip = full.take(self.strip, axis=self.axis, mode="wrap")
        blurred = convolve(strip, self.transfer)[self.inside]
        return blurred + self.keep * (strip[self.inside] - blurred)


def _kept(line: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """How much of itself an image keeps in the taper: 0 at both ends, 1 from a kernel's size on inwards."""
    size = line.size
    away = np.correlate(line, line, "full")[size - 1 :]
    away /= away[0]
    kept = np.ones(length)
    kept[:size] -= away
    kept[::-1][:size] -= away
    return kept
