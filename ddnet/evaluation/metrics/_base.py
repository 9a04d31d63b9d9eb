"""What every metric is, and the guard at its door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError

FloatArray = NDArray[np.floating[Any]]


class Unavailable(DDNetError):
    """A metric that cannot be computed here (weights or package missing), with the reason in one line."""


def _check_one(which: str, image: FloatArray) -> None:
    if not isinstance(image, np.ndarray) or not np.issubdtype(image.dtype, np.floating):
        found = getattr(image, "dtype", type(image).__name__)
        raise DDNetError(f"{which} is {found}; metrics take float arrays in [0, 1] (ddnet.io.images.read_image)")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DDNetError(f"{which} has shape {image.shape}; allowed is (H, W, 3) RGB")
    low, high = float(image.min()), float(image.max())  # NaN anywhere makes both NaN
    if np.isnan(low):
        raise DDNetError(f"{which} contains {int(np.isnan(image).sum())} NaN values; metrics take numbers in [0, 1]")
    if low < 0.0 or high > 1.0:
        worst = low if low < 0.0 else high
        raise DDNetError(f"{which} contains the value {worst:.9g}; allowed is [0, 1]: clip it before measuring")


def check_pair(restored: FloatArray, target: FloatArray) -> None:
    """Refuse all but two (H, W, 3) float arrays of one shape in [0, 1], naming the array and the value."""
    _check_one("restored", restored)
    _check_one("target", target)
    if restored.shape != target.shape:
        raise DDNetError(f"restored has shape {restored.shape}, target {target.shape}; images are never resized here")


class Metric(ABC):
    """One number per image pair.

    Subclasses set the class attributes and `measure`. A metric with `needs_weights` is constructed as
    `Kind(weights_folder, device)` and raises `Unavailable` where they cannot be had; others as `Kind()`.
    """

    name: ClassVar[str]  # registry name = column name
    lower_better: ClassVar[bool]
    unit: ClassVar[str]  # "" where dimensionless
    decimals: ClassVar[int]  # digits printed in tables
    best: ClassVar[float]  # value of an image against itself
    needs_weights: ClassVar[bool] = False
    smallest_side: ClassVar[int] = 1  # pixels

    def __call__(self, restored: FloatArray, target: FloatArray) -> float:
        """Measure `restored` against `target`, both (H, W, 3) RGB in [0, 1].

        Raises:
            DDNetError: see `check_pair`; or an image smaller than the metric's window.
        """
        check_pair(restored, target)
        if min(restored.shape[:2]) < self.smallest_side:
            raise DDNetError(
                f"{self.name} of an image of {restored.shape[0]}x{restored.shape[1]} pixels is not defined; "
                f"both sides must be at least {self.smallest_side}"
            )
        return float(self.measure(restored, target))

    @abstractmethod
    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """The formula, on a pair that `check_pair` has passed."""
