"""Means over images and seeds, and paired differences with a hierarchical bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 10_000
LEVEL = 0.95
HIGHER_IS_BETTER = frozenset({"psnr", "psnr_8bit", "ssim"})
NO_SEED = -1  # a baseline is one deterministic row, not a draw over seeds

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean over images, then over seeds; `sd` is the sample s.d. of the seeds' means, NaN for one seed."""

    mean: float
    sd: float
    n_seeds: int
    n_images: int


@dataclass(frozen=True)
class Difference:
    """Row minus reference: mean, the ends of its 95 % interval, the share of images that got better."""

    mean: float
    low: float
    high: float
    improved: float
    n_seeds: int
    n_images: int


def matrix(images: pd.DataFrame, variant: str, metric: str, dataset: str, location: str | None = None) -> pd.DataFrame:
    """Values of one variant as a (seeds, scenes) frame, both sorted; empty where nothing was measured.

    Args:
        images: the long frame of `collect`.
        location: `indoor` or `outdoor` for one stratum, None for all images.
    """
    chosen = (images["variant"] == variant) & (images["metric"] == metric) & (images["dataset"] == dataset)
    if location is not None:
        chosen &= images["location"] == location
    part = images[chosen]
    seeds = part["seed"].fillna(NO_SEED).astype(int)
    return part.assign(seed=seeds).set_index(["seed", "scene"])["value"].unstack().sort_index(axis=1)


def summarise(values: pd.DataFrame | Array) -> Summary:
    """Mean over images per seed, then mean and sample s.d. over seeds.

    Any NaN makes the mean NaN: an average over other images than the neighbouring row's would not be
    comparable.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        return Summary(np.nan, np.nan, 0, 0)
    per_seed = array.mean(axis=1)
    sd = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else np.nan
    return Summary(float(per_seed.mean()), sd, array.shape[0], array.shape[1])


def pair(values: pd.DataFrame, reference: pd.DataFrame) -> Array:
    """Row minus reference, seed by seed and image by image: (common seeds, images).

    Variants of one seed share the data order and the initial weights of shared shapes, so their difference
    is taken within the seed. A baseline has no seed and is subtracted from every one.

    Raises:
        DDNetError: other images, or no seed in common.
    """
    if list(values.columns) != list(reference.columns):
        raise DDNetError("rows were measured on different images; evaluate both on the same index")
    if list(reference.index) == [NO_SEED]:
        return values.to_numpy(float) - reference.to_numpy(float)
    if list(values.index) == [NO_SEED]:
        return values.to_numpy(float) - reference.to_numpy(float)
    common = values.index.intersection(reference.index)
    if common.empty:
        raise DDNetError(
            f"no seed in common (row: {list(values.index)}, reference: {list(reference.index)}); train both with one"
        )
    return values.loc[common].to_numpy(float) - reference.loc[common].to_numpy(float)


def bootstrap_means(differences: Array, draws: int = DRAWS, seed: int = 0) -> Array:
    """Bootstrap distribution of the mean of a (seeds, images) array: (draws,).

    Each draw resamples the seeds, then the images, with replacement. The two are crossed (every seed
    restores the same images), so one resample of images serves all seeds of a draw; the mean is then a
    bilinear form of two multinomial count vectors, which is what makes 10,000 draws a matrix product.
    """
    n_seeds, n_images = differences.shape
    generator = np.random.default_rng(seed)
    seed_weights = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws) / n_seeds
    image_weights = generator.multinomial(n_images, np.full(n_images, 1 / n_images), size=draws) / n_images
    means: Array = ((seed_weights @ differences) * image_weights).sum(axis=1)
    return means


def interval(differences: Array, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of the mean of a (seeds, images) array by the hierarchical bootstrap."""
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(differences, draws, seed), [tail, 1 - tail])
    return float(low), float(high)


def share_improved(differences: Array, higher_is_better: bool = True) -> float:
    """Share of images whose seed-averaged difference is an improvement; ties are none."""
    per_image = differences.mean(axis=0)
    return float(np.mean(per_image > 0 if higher_is_better else per_image < 0))


def paired_difference(
    values: pd.DataFrame, reference: pd.DataFrame, metric: str = "psnr", draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Difference of a row to its table's reference row, from two `matrix` frames.

    NaN throughout where either was not measured.

    Raises:
        DDNetError: the two cannot be paired.
    """
    if values.empty or reference.empty:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 0)
    differences = pair(values, reference)
    n_seeds, n_images = differences.shape
    if np.isnan(differences).any():
        return Difference(np.nan, np.nan, np.nan, np.nan, n_seeds, n_images)
    low, high = interval(differences, draws, seed)
    improved = share_improved(differences, metric in HIGHER_IS_BETTER)
    return Difference(float(differences.mean()), low, high, improved, n_seeds, n_images)
