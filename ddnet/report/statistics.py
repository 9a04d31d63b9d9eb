"""Means over images and seeds, and paired differences: interval, rank test, and how small a one could be resolved.

Protocol: a hierarchical paired bootstrap (seeds, then images), Wilcoxon's signed-rank test with Holm's correction over
the contrasts of a table, and the share of images that improved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 10_000
LEVEL = 0.95
POWER = 0.8
HIGHER_IS_BETTER = frozenset({"psnr", "psnr_8bit", "ssim"})
NO_SEED = -1  # a baseline is one deterministic row, not a draw over seeds
FEWEST_RANKED = 6  # images: of fewer, even all on one side leave the rank test's p above 0.05

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
    """Row minus reference: mean, the ends of its 95 % interval, the share of images that got better.

    `p` is that of Wilcoxon's signed-rank test over images, two-sided, not yet corrected for several contrasts. A single
    image has neither interval nor p (NaN).
    """

    mean: float
    low: float
    high: float
    improved: float
    n_seeds: int
    n_images: int
    p: float = np.nan


@dataclass(frozen=True)
class Precision:
    """How well a design measures a mean difference.

    Attributes:
        error: standard error of the mean, from the spread over seeds and over images.
        df: its effective degrees of freedom, infinite where it is zero.
    """

    error: float
    df: float

    @property
    def margin(self) -> float:
        """Half-width of the 95 % t interval."""
        from scipy.stats import t

        return float(t.ppf((1 + LEVEL) / 2, self.df) * self.error) if self.error else 0.0

    @property
    def resolvable(self) -> float:
        """Smallest true difference that this design would show at the 5 % level in four cases of five."""
        from scipy.stats import t

        return self.margin + float(t.ppf(POWER, self.df) * self.error) if self.error else 0.0


def lacking(n_images: int, n_seeds: int = 2) -> str:
    """What is too few of to tell a spread: "one image", "one seed", both; empty where there are several."""
    found = [word for word, count in (("one image", n_images), ("one seed", n_seeds)) if count == 1]
    return " and ".join(found)


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
    comparable. An infinite value (PSNR of a perfect image) makes the mean infinite, and then there is no s.d.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        return Summary(np.nan, np.nan, 0, 0)
    per_seed = array.mean(axis=1)
    sd = float(per_seed.std(ddof=1)) if len(per_seed) > 1 and np.isfinite(per_seed).all() else np.nan
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
    if [NO_SEED] in (list(reference.index), list(values.index)):
        return _less(values, reference)
    common = values.index.intersection(reference.index)
    if common.empty:
        raise DDNetError(
            f"no seed in common (row: {list(values.index)}, reference: {list(reference.index)}); train both with one"
        )
    return _less(values.loc[common], reference.loc[common])


def _less(values: pd.DataFrame, reference: pd.DataFrame) -> Array:
    with np.errstate(invalid="ignore"):  # of two infinite values the difference is NaN
        difference: Array = values.to_numpy(float) - reference.to_numpy(float)
    return difference


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


@dataclass(frozen=True)
class SeedSpread:
    """Variance of a difference over seeds, and the degrees of freedom that it is known with."""

    variance: float
    df: float


def pooled_seeds(contrasts: Sequence[Array]) -> SeedSpread | None:
    """One variance over seeds for several contrasts of similar networks, from their (seeds, images) arrays.

    Two seeds that happen to agree say little of one contrast; all of them together say more. Half of the degrees of
    freedom are counted, because neighbouring contrasts share a row. None where no contrast has two seeds.
    """
    several = [array.mean(axis=1) for array in contrasts if len(array) > 1]
    if not several:
        return None
    freedom = [len(means) - 1 for means in several]
    squares = sum(n * float(means.var(ddof=1)) for n, means in zip(freedom, several, strict=True))
    return SeedSpread(squares / sum(freedom), max(1.0, sum(freedom) / 2))


def precision(differences: Array, spread: SeedSpread | None = None) -> Precision:
    """Standard error of the mean of a crossed (seeds, images) array: both are samples of what else might be drawn.

    The variance of the mean is that of the seeds' means over their number, plus that of the images' means over theirs,
    less the residual that both hold; Satterthwaite's approximation gives its degrees of freedom. Unlike a bootstrap it
    does not make little of two seeds: the sample variances are unbiased, and few degrees of freedom count as few. With
    a single seed the spread over seeds is unknown and left out.

    Args:
        spread: the variance over seeds, where more is known of it than these seeds show (`pooled_seeds`).
    """
    n_seeds, n_images = differences.shape
    if n_images < 2:
        return Precision(np.nan, np.nan)
    images = float(differences.mean(axis=0).var(ddof=1)) / n_images
    if n_seeds == 1:
        return Precision(float(np.sqrt(images)), float(n_images - 1))
    spread = spread or SeedSpread(float(differences.mean(axis=1).var(ddof=1)), n_seeds - 1)
    seeds = spread.variance / n_seeds
    centred = differences - differences.mean(axis=0) - differences.mean(axis=1, keepdims=True) + differences.mean()
    freedom = (n_seeds - 1) * (n_images - 1)
    rest = float((centred**2).sum()) / freedom / (n_seeds * n_images)
    variance = max(seeds + images - rest, images, seeds)  # never less than either part by itself
    parts = seeds**2 / spread.df + images**2 / (n_images - 1)
    return Precision(float(np.sqrt(variance)), variance**2 / parts if parts else np.inf)


def signed_rank(differences: Array) -> float:
    """p of Wilcoxon's signed-rank test, two-sided, on the seed-averaged differences of the images of (seeds, images).

    1 where nothing differs. It speaks of these runs: that other seeds would agree, it does not test.
    """
    from scipy.stats import wilcoxon

    per_image = differences.mean(axis=0)
    return float(wilcoxon(per_image).pvalue) if per_image.any() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of several p-values, which keeps their family's error rate; NaN is no contrast."""
    adjusted = np.full(len(p_values), np.nan)
    order = [i for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return [float(value) for value in adjusted]


def share_improved(differences: Array, higher_is_better: bool = True) -> float:
    """Share of images whose seed-averaged difference is an improvement; ties are none."""
    per_image = differences.mean(axis=0)
    return float(np.mean(per_image > 0 if higher_is_better else per_image < 0))


def paired_difference(
    values: pd.DataFrame, reference: pd.DataFrame, metric: str = "psnr", draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Difference of a row to its table's reference row, from two `matrix` frames.

    NaN throughout where either was not measured, or a value is infinite.

    Raises:
        DDNetError: the two cannot be paired.
    """
    if values.empty or reference.empty:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 0)
    differences = pair(values, reference)
    n_seeds, n_images = differences.shape
    if not np.isfinite(differences).all():
        return Difference(np.nan, np.nan, np.nan, np.nan, n_seeds, n_images)
    mean, improved = float(differences.mean()), share_improved(differences, metric in HIGHER_IS_BETTER)
    if n_images < 2:  # resampled, it gives an interval of no width, as if it were known exactly
        return Difference(mean, np.nan, np.nan, improved, n_seeds, n_images)
    low, high = interval(differences, draws, seed)
    return Difference(mean, low, high, improved, n_seeds, n_images, signed_rank(differences))
