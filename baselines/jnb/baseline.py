"""JNB: just noticeable defocus blur from sparse coding, then non-blind deconvolution.

Shi, Xu and Jia, "Just Noticeable Defocus Blur Detection and Estimation", CVPR 2015: a dictionary of slightly blurred
patches explains a sharp patch with many atoms and a blurred one with few, so their number, mapped by a logistic curve
and spread by edge-aware filters, is a measure of the blur. Written from a description of the method.

Dictionary and curve are ours. The published dictionary is no longer to be had, nor the curve's coefficients:
`Jnb.train` learns the one from the training photographs and fits the other to their synthetic blur. Where the method
was compared before, sigma was 4 times the map scaled to [0, 1]; here it is what the fitted curve says, in pixels.

Ours are further: the number of atoms is what is spread, and the curve is applied last, to what it was fitted on; the
bilateral filter's range of 0.1 counts in units of the 64 atoms that there can be, its spatial Gaussian reaches 1.5
sigma; where no place has enough atoms, as in an image that is blurred all over, all that have any are spread; an image
without atoms is taken for sharp, and so is a place that nothing is spread to.
"""

from __future__ import annotations

import logging
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import spearmanr

from baselines.common.deconvolution import ALPHA, ITERATIONS, LAMBDA
from baselines.common.domain_transform import recursive_filter
from baselines.common.map_based import MapBased
from baselines.jnb.sparse_coding import count_atoms, learn_dictionary
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.images import read_image

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ATOMS, SIDE = 128, 8
MOST, GOAL = 64, SIDE * 2.0 * 1.15  # atoms; residual's norm: noise of sigma 2 of 255 over a patch, and 15 % more
FEWEST = 3  # atoms; with no more a patch says nothing of the blur
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601

PATCHES, PHOTOGRAPHS = 10_000, 128  # for the dictionary: patches in all, photographs to take them from at most
SLIGHT_BLUR = 2.0  # pixels
SIGMAS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)  # pixels of the curve's synthetic blur; beyond, nothing changes
CROPS, CROP, MARGIN = 24, 64, 12  # for the curve: crops, their side, and what surrounds them when they are blurred
LEVELS = 3  # of SIGMAS at least that leave texture to fit the curve to
SAMPLES = 4000  # pixels per sigma that the curve is fitted to
TEXTURED, WINDOW = 0.02 * 255, 7  # standard deviation of the sharp grey values, and the window's side

UNREADABLE = (  # what a damaged file raises, wherever the damage is
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, TypeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def grey_levels(image: FloatArray) -> DoubleArray:
    """(H, W, 3) RGB in [0, 1] to (H, W) luma in 0..255."""
    return 255.0 * (image @ GREY).astype(np.float64)


def propagate(counts: NDArray[np.integer], grey: DoubleArray) -> tuple[DoubleArray, BoolArray]:
    """Spread the numbers of atoms (H, W) from where they say something, keeping to the edges of `grey` (H, W).

    Returns:
        (H, W) atoms, and (H, W) whether anything reached the pixel; 0 where nothing did.
    """
    import cv2

    guide = ndimage.gaussian_filter(grey / 255.0, 1.0, radius=2, mode="nearest")
    known = counts > FEWEST
    if known.all():
        return recursive_filter(counts.astype(np.float64), 10.0, 0.2, 3, guide), known
    y, x = np.ogrid[-2:3, -2:3]
    known = ndimage.binary_erosion(known, x**2 + y**2 <= 4, border_value=1)
    if not known.any():
        known = counts > 0
    spread = recursive_filter(np.stack([counts * known, known], axis=2), 15.0, 0.15, 3, guide)
    weighted, weight = np.moveaxis(spread, 2, 0)
    reached = weight >= np.finfo(np.float64).tiny  # far from all texture the weight underflows
    atoms = np.divide(weighted, weight, out=np.zeros_like(weight), where=reached)
    smooth = cv2.bilateralFilter((atoms / MOST).astype(np.float32), -1, 0.1, 5.0)
    return np.where(reached, MOST * smooth.astype(np.float64), 0.0), reached


def curve_sigma(curve: DoubleArray, atoms: DoubleArray) -> DoubleArray:
    """The logistic a / (1 + exp(b n + c)) + d of numbers of atoms n, any shape; sigma in pixels."""
    a, b, c, d = curve
    return a * expit(-(b * atoms + c)) + d


def fit_curve(atoms: DoubleArray, sigma: DoubleArray) -> DoubleArray:
    """(a, b, c, d) of `curve_sigma`, by least squares over pairs (N,): falling, and nowhere negative."""
    largest = float(sigma.max())
    start = (largest, 0.1, -1.0, 0.1 * largest)
    low, high = (0.1 * largest, 1e-3, -20.0, 0.0), (10.0 * largest, 5.0, 20.0, largest)
    fit = least_squares(lambda curve: curve_sigma(curve, atoms) - sigma, start, bounds=(low, high))
    return np.asarray(fit.x, np.float64)


class Jnb(MapBased):
    """Defocus map by the number of atoms, then deconvolution.

    Args:
        weights: the file that `train` wrote.
        method, alpha, lam, iterations: see `MapBased`.

    Raises:
        DDNetError: the file is missing, damaged, or another one.
    """

    needs = frozenset({"weights"})

    def __init__(
        self,
        weights: str | Path,
        method: str = "hyper_laplacian",
        alpha: float = ALPHA,
        lam: float = LAMBDA,
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(method, alpha, lam, iterations)
        self.dictionary, self.curve = _load(Path(weights))

    def defocus_map(self, image: FloatArray) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] to (H, W) sigma of the Gaussian blur in pixels; 0 where no texture tells it."""
        atoms, reached = _atoms(grey_levels(image), self.dictionary)
        return np.where(reached, curve_sigma(self.curve, atoms), 0.0).astype(np.float32)

    @staticmethod
    def train(
        scenes_train: Sequence[Scene],
        scenes_val: Sequence[Scene],
        out: Path,
        *,
        seed: int = 0,
        patches: int = PATCHES,
        crops: int = CROPS,
    ) -> dict[str, Any]:
        """Learn the dictionary from all-in-focus targets, slightly blurred, fit the curve to known blur; write `out`.

        Targets are read one at a time, 128 at most, and blurred in grey values of 8 bits.

        Args:
            scenes_train: whose targets dictionary and curve come from.
            scenes_val: whose targets the curve is only tried on; may be empty.
            out: the weights file, `dictionary` (128, 64) float32 and `curve` (4,) float64.
            seed: of every draw; the same scenes and seed give the same file.
            patches: that the dictionary is learned from.
            crops: of as many targets at most that the curve is fitted to.

        Returns:
            `patches`, `curve`, `sigmas` and the median number of `atoms` at each; `spearman` of (minus) atoms and
            `abs_error` of the curve in pixels, over synthetic blur of the training targets, and with `val_` of the
            validation targets where there are any; `seconds`.

        Raises:
            DDNetError: no scenes, or too little texture in them.
        """
        start = time.monotonic()
        if not scenes_train:
            raise DDNetError("jnb: no training scenes; its dictionary is learned from their targets")
        rng = np.random.default_rng(seed)
        drawn = _sample_patches(scenes_train, patches, rng)
        dictionary = learn_dictionary(drawn, ATOMS, seed)
        atoms, sigma = _known_blur(scenes_train, crops, dictionary, rng)
        levels = np.unique(sigma)
        if len(levels) < LEVELS:
            raise DDNetError(
                f"jnb: {len(levels)} of {len(SIGMAS)} blurs leave the {len(scenes_train)} training targets any "
                f"texture; the curve needs {LEVELS}"
            )
        curve = fit_curve(atoms, sigma)
        scores: dict[str, Any] = {
            "patches": len(drawn),
            "curve": curve.tolist(),
            "sigmas": levels.tolist(),
            "atoms": [float(np.median(atoms[sigma == value])) for value in levels],
            **_score(curve, atoms, sigma),
        }
        atoms, sigma = _known_blur(scenes_val, crops, dictionary, rng)
        if len(np.unique(sigma)) > 1:
            scores |= {f"val_{name}": value for name, value in _score(curve, atoms, sigma).items()}
        with atomic_path(out) as temporary, temporary.open("wb") as stream:
            np.savez(stream, dictionary=dictionary, curve=curve)
        scores["seconds"] = time.monotonic() - start
        log.info(
            "jnb: %d patches, spearman %.3f, abs error %.3f px", len(drawn), scores["spearman"], scores["abs_error"]
        )
        return scores


def _atoms(grey: DoubleArray, dictionary: FloatArray) -> tuple[DoubleArray, BoolArray]:
    """What the curve is applied to, as `propagate` returns it."""
    return propagate(count_atoms(grey, dictionary, GOAL, MOST), grey)


def _blur(grey: DoubleArray, sigma: float) -> DoubleArray:
    """Gaussian blur, in whole grey levels like the photographs of a camera."""
    return np.rint(ndimage.gaussian_filter(grey, sigma))


def _some(scenes: Sequence[Scene], count: int, rng: np.random.Generator) -> Iterator[DoubleArray]:
    """Grey targets of at most `count` scenes drawn by chance, one at a time."""
    for place in rng.permutation(len(scenes))[:count]:
        yield grey_levels(read_image(scenes[place].target))


def _sample_patches(scenes: Sequence[Scene], count: int, rng: np.random.Generator) -> DoubleArray:
    """(N, 64) patches without their means of slightly blurred targets, all of which take at least one atom."""
    share = -(-count // min(len(scenes), PHOTOGRAPHS))
    found = [np.empty((0, SIDE**2))]
    for grey in _some(scenes, PHOTOGRAPHS, rng):
        if min(grey.shape) < SIDE:
            continue
        windows = sliding_window_view(_blur(grey, SLIGHT_BLUR), (SIDE, SIDE))
        drawn = windows[tuple(rng.integers(0, windows.shape[:2], (4 * share, 2)).T)].reshape(-1, SIDE**2)
        drawn = drawn - drawn.mean(axis=1, keepdims=True)
        found.append(drawn[np.linalg.norm(drawn, axis=1) > GOAL][:share])
    return np.concatenate(found)


def _known_blur(
    scenes: Sequence[Scene], crops: int, dictionary: FloatArray, rng: np.random.Generator
) -> tuple[DoubleArray, DoubleArray]:
    """Atoms as the curve sees them, and the true sigma, (N,) each: textured pixels of crops blurred by all SIGMAS.

    A sigma that leaves no texture anywhere, as in small soft pictures, is not among them.
    """
    atoms: dict[float, list[DoubleArray]] = {sigma: [] for sigma in SIGMAS}
    for grey in _some(scenes, crops, rng):
        around = CROP + 2 * MARGIN
        top, left = (int(rng.integers(0, max(1, side - around + 1))) for side in grey.shape)
        sharp = grey[top : top + around, left : left + around]
        inner = tuple(slice(MARGIN, side - MARGIN) if side > 2 * MARGIN else slice(None) for side in sharp.shape)
        variance = ndimage.uniform_filter(sharp**2, WINDOW) - ndimage.uniform_filter(sharp, WINDOW) ** 2
        textured = (variance > TEXTURED**2)[inner]
        for sigma in SIGMAS:
            spread, reached = _atoms(_blur(sharp, sigma)[inner], dictionary)
            atoms[sigma].append(spread[textured & reached])
    pairs = []
    for sigma, parts in atoms.items():
        there = np.concatenate([np.empty(0), *parts])
        chosen = there[rng.integers(0, len(there), SAMPLES)] if len(there) else there
        pairs.append(np.stack([chosen, np.full(len(chosen), sigma)]))
    found = np.concatenate(pairs, axis=1)
    return found[0], found[1]


def _score(curve: DoubleArray, atoms: DoubleArray, sigma: DoubleArray) -> dict[str, float]:
    return {
        "spearman": float(spearmanr(-atoms, sigma).statistic),
        "abs_error": float(np.abs(curve_sigma(curve, atoms) - sigma).mean()),
    }


def _load(path: Path) -> tuple[FloatArray, DoubleArray]:
    """Dictionary (128, 64) and curve (4,) of a weights file."""
    shapes = {"dictionary": (ATOMS, SIDE**2), "curve": (4,)}
    again = "train jnb again"
    if not path.is_file():
        raise DDNetError(f"{path}: no such weights; {again}")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DDNetError(f"{path}: not a readable weights file ({reason}); {again}") from None
    for name, shape in shapes.items():
        value = found.get(name)
        if value is None:
            raise DDNetError(f"{path}: lacks '{name}' {shape}; not the weights of jnb; {again}")
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind != "f":
            what = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DDNetError(f"{path}: '{name}' is {what}, expected float {shape}; {again}")
        if not np.isfinite(value).all():
            raise DDNetError(f"{path}: '{name}' has values that are not finite; {again}")
    if unknown := sorted(found.keys() - shapes.keys()):
        raise DDNetError(f"{path}: unknown '{unknown[0]}'; not the weights of jnb; {again}")
    dictionary, curve = found["dictionary"], found["curve"].astype(np.float64)
    off_norm, off_mean = np.linalg.norm(dictionary.clip(-2.0, 2.0), axis=1) - 1.0, dictionary.mean(axis=1)
    if max(np.abs(off_norm).max(), np.abs(off_mean).max()) > 1e-3:
        raise DDNetError(f"{path}: 'dictionary' has atoms whose norm is not 1 or whose mean is not 0; {again}")
    if not (curve[:2].min() > 0 and curve[3] >= 0 and np.abs(curve).max() < 1e3):
        raise DDNetError(f"{path}: 'curve' is no falling logistic of positive sigma; {again}")
    return dictionary.astype(np.float32), curve
