"""What JNB, EBDB and DMENet share: a map of the blur is estimated, and deconvolution by that map restores the image."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from baselines.common.deconvolution import ALPHA, ITERATIONS, LAMBDA, deblur_with_map

FloatArray = NDArray[np.float32]


class MapBased(ABC):
    """A defocus map, then deconvolution with the Gaussian of every pixel.

    Args:
        method, alpha, lam, iterations: see `deblur_with_map`; the defaults are how the field ran it on DPDD.
    """

    def __init__(
        self,
        method: str = "hyper_laplacian",
        alpha: float = ALPHA,
        lam: float = LAMBDA,
        iterations: int = ITERATIONS,
    ) -> None:
        self.method, self.alpha, self.lam, self.iterations = method, alpha, lam, iterations

    @abstractmethod
    def defocus_map(self, image: FloatArray) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] to (H, W) sigma of the Gaussian blur in pixels, finite and 0 or more."""

    def restore(self, image: FloatArray, depth: FloatArray | None = None) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] to the deblurred image of the same shape and range; `depth` is not used."""
        sigma = self.defocus_map(image)
        return deblur_with_map(image, sigma, self.method, self.alpha, self.lam, iterations=self.iterations)
