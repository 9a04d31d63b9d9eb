"""EBDB: edge-based defocus blur estimation with adaptive scale selection, then non-blind deconvolution.

Karaali and Jung, "Edge-Based Defocus Blur Estimation With Adaptive Scale Selection", IEEE TIP 27(3), 2018. Written from
a description of the method; its own code is MATLAB. Ours are: Canny is scikit-image's, with thresholds in the manner of
MATLAB's automatic ones (the high one is the gradient magnitude below which 70 % of the pixels lie, rounded up to 1/64
of the largest; the low one is 0.4 of it); an image without an edge is taken for sharp, and so is a place that no edge's
estimate reaches.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from baselines.common.deconvolution import ALPHA, ITERATIONS, LAMBDA
from baselines.common.domain_transform import recursive_filter
from baselines.common.map_based import MapBased
from ddnet.errors import DDNetError

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CANNY_SIGMAS = tuple(1.0 + 0.5 * i for i in range(9))
EDGE_SCALES = 4  # an edge pixel is one at the first four scales
QUANTILE, BINS, LOW_TO_HIGH = 0.7, 64, 0.4
FLATTEST = 1e-9  # a largest gradient below it is rounding: 16-bit images have steps of 7e-7 and more
GAMMA = 10.0
LARGEST = 5.0  # pixels
MAGNIFICATIONS = range(1, 5)


def luma(image: FloatArray) -> DoubleArray:
    """(H, W, 3) RGB in [0, 1] to (H, W) BT.601 luma in its studio range 16/255..235/255, to the power of 2.4."""
    red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
    return ((16.0 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255.0) ** 2.4


def canny(grey: DoubleArray, sigma: float) -> BoolArray:
    """Canny edges of `grey` (H, W) smoothed by a Gaussian of `sigma` pixels, with automatic thresholds."""
    from skimage.feature import canny as hysteresis_canny

    smooth = ndimage.gaussian_filter(grey, sigma, mode="reflect")
    magnitude = np.hypot(ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1))
    largest = float(magnitude.max())
    if largest < FLATTEST:
        return np.zeros(grey.shape, bool)
    full_bins = math.ceil(BINS * float(np.quantile(magnitude, QUANTILE)) / largest)
    high = min(max(full_bins, 1), BINS - 1) * largest / BINS
    return hysteresis_canny(smooth, 0.0, LOW_TO_HIGH * high, high, mode="reflect")


def select_scales(found: BoolArray) -> tuple[BoolArray, NDArray[np.intp], NDArray[np.intp]]:
    """Which pixels are edge pixels, and at which scale each is measured.

    Args:
        found: (S, H, W) edges at each of CANNY_SIGMAS.

    Returns:
        (H, W) pixels that are edges at the first four scales; (P,) for each the last scale before its first
        disappearance, an index into CANNY_SIGMAS; (P,) the number of scales at which it is an edge.
    """
    unbroken = np.logical_and.accumulate(found).sum(axis=0)
    edges = unbroken >= EDGE_SCALES
    return edges, unbroken[edges] - 1, found.sum(axis=0)[edges]


def _gradient(grey: DoubleArray, sigma: float, radius: int) -> DoubleArray:
    """Gradient magnitude (H, W) by first-derivative-of-Gaussian kernels of side 2 radius + 1, symmetric borders."""
    x = np.arange(-radius, radius + 1)
    gauss = np.exp(-(x**2) / (2.0 * sigma**2)) / (math.sqrt(2.0 * math.pi) * sigma)
    slope = x / sigma**2 * gauss
    across, down = (
        ndimage.correlate1d(ndimage.correlate1d(grey, gauss, axis=1 - axis), slope, axis=axis) for axis in (1, 0)
    )
    return np.hypot(across, down)


def edge_blur(grey: DoubleArray, edges: BoolArray, scales: NDArray[np.intp]) -> DoubleArray:
    """Sigma in pixels at the edge pixels, in the order of `edges.nonzero()`: in [0, 5].

    A step edge blurred by s has gradients in the ratio R = √((s² + σ2²) / (s² + σ1²)) at the two scales, so
    s² = (R² σ1² - σ2²) / (1 - R²); 0 where that is no positive number.

    Args:
        grey: (H, W).
        edges: (H, W).
        scales: (P,) index into CANNY_SIGMAS per edge pixel: σ2 is half of that sigma, σ1 is 1.
    """
    rows, columns = edges.nonzero()
    blur = np.zeros(len(rows))
    first = 1.0
    for scale in np.unique(scales):
        second = 0.5 * CANNY_SIGMAS[scale]
        radius = 2 * math.ceil(2.0 * second) + 1
        chosen = scales == scale
        place = rows[chosen], columns[chosen]
        one = _gradient(grey, first, radius)[place] ** 2
        two = _gradient(grey, second, radius)[place] ** 2
        # Both terms of the fraction times |grad|_2²: no division where that is 0.
        numerator, denominator = one * first**2 - two * second**2, two - one
        square = np.divide(numerator, denominator, out=np.zeros_like(one), where=denominator != 0)
        blur[chosen] = np.sqrt(np.clip(square, 0.0, LARGEST**2))
    return blur


def smooth_along_edges(edges: BoolArray, blur: DoubleArray, confidence: NDArray[np.intp]) -> DoubleArray:
    """Average the estimates along every 8-connected component, near before far and certain before uncertain.

    Minimises sum_i (1 + c_i) (u_i - b_i)² + 2γ sum over pairs of neighbours (u_i - u_j)²; that is, solves
    (1 + c_i + 2γ n_i) u_i - 2γ sum_j u_j = (1 + c_i) b_i with n_i neighbours. Edge pixels of different components are
    no neighbours, so the matrix of all components at once is block-diagonal by itself.

    Args:
        edges: (H, W), P of them true.
        blur: (P,) estimates b.
        confidence: (P,) numbers of scales c.

    Returns:
        (P,) smoothed estimates u, within the range of b.
    """
    count = len(blur)
    number = np.full((edges.shape[0] + 1, edges.shape[1] + 2), -1, np.int64)
    number[:-1, 1:-1][edges] = np.arange(count)
    here = number[:-1, 1:-1]
    pairs = []
    for there in (number[:-1, 2:], number[1:, 1:-1], number[1:, 2:], number[1:, :-2]):
        both = (here >= 0) & (there >= 0)
        pairs.append(np.stack([here[both], there[both]]))
    one, two = np.concatenate(pairs, axis=1)
    links = sparse.coo_array((np.ones(2 * len(one)), (np.r_[one, two], np.r_[two, one])), (count, count)).tocsc()
    trust = 1.0 + confidence
    matrix = sparse.diags_array(trust + 2.0 * GAMMA * links.sum(axis=0)) - 2.0 * GAMMA * links
    # Edges are thin, so the graph is nearly a forest and minimum degree fills in next to nothing.
    factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(trust * blur)


def densify(image: FloatArray, edges: BoolArray, blur: DoubleArray) -> DoubleArray:
    """Spread the estimates at edge pixels over the image: (H, W), by normalised domain-transform filtering."""
    guide = recursive_filter(image, 7.0, 0.5, 5)
    known = np.zeros((*edges.shape, 2))
    known[edges] = np.stack([blur, np.ones_like(blur)], axis=1)
    weighted, weight = np.moveaxis(recursive_filter(known, min(edges.shape) / 8.0, 3.75, 5, guide), 2, 0)
    # Many strong edges, or thousands of pixels, away from all estimates the weight underflows.
    reached = weight >= np.finfo(np.float64).tiny
    return np.divide(weighted, weight, out=np.zeros_like(weight), where=reached)


class Ebdb(MapBased):
    """Edge-based defocus map, then deconvolution.

    Args:
        method, alpha, lam, iterations: see `deblur_with_map`; the defaults are how the field ran it on DPDD.
        magnify: how many times larger, by cubic interpolation, the picture is when the map is estimated. The finest
            scale is one pixel, and in small pictures that already spans neighbouring edges.

    Raises:
        DDNetError: magnify is not a whole number from 1 to 4.
    """

    def __init__(
        self,
        method: str = "hyper_laplacian",
        alpha: float = ALPHA,
        lam: float = LAMBDA,
        iterations: int = ITERATIONS,
        magnify: int = 1,
    ) -> None:
        super().__init__(method=method, alpha=alpha, lam=lam, iterations=iterations)
        if magnify not in MAGNIFICATIONS:
            raise DDNetError(f"EBDB: magnify is {magnify!r}; it must be a whole number from 1 to {MAGNIFICATIONS[-1]}")
        self.magnify = magnify

    def defocus_map(self, image: FloatArray) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] to (H, W) sigma of the Gaussian blur in pixels, in [0, 5]; 0 without any edge."""
        if self.magnify == 1:
            return self._estimate(image)
        import cv2

        height, width = image.shape[:2]
        size = (width * self.magnify, height * self.magnify)
        larger = np.clip(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), 0.0, 1.0).astype(np.float32)
        sigma = cv2.resize(self._estimate(larger), (width, height), interpolation=cv2.INTER_AREA) / self.magnify
        return sigma.astype(np.float32)

    @staticmethod
    def _estimate(image: FloatArray) -> FloatArray:
        grey = luma(image)
        edges, scales, confidence = select_scales(np.stack([canny(grey, sigma) for sigma in CANNY_SIGMAS]))
        if not edges.any():
            return np.zeros(edges.shape, np.float32)
        blur = smooth_along_edges(edges, edge_blur(grey, edges, scales), confidence)
        return np.clip(densify(image, edges, blur), 0.0, LARGEST).astype(np.float32)
