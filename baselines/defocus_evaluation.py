"""A defocus map against the embedded benchmark's true blur, and what deconvolution by that map gains.

Both deconvolutions run with their defaults, none of which was fitted to this benchmark.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.common.deconvolution import ALPHA, ITERATIONS, LAMBDA, METHODS, deblur_with_map
from ddnet.data.embedded.true_blur import WINDOW, textured, true_sigma
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.evaluation.metrics.psnr import Psnr
from ddnet.io.arrays import write_npy
from ddnet.io.files import atomic_path
from ddnet.io.images import read_image

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
Row = dict[str, Any]
# (scene, its image (H, W, 3) RGB in [0, 1]) -> (H, W) sigma in pixels
Source = Callable[[Scene, FloatArray], FloatArray]

COLUMNS = (
    "dataset", "scene", "location", "mae_px", "bias_px", "spearman", "psnr_input",
    *(f"psnr_{method}" for method in METHODS),
)  # fmt: skip
FEWEST = WINDOW**2  # textured pixels: of fewer than one window's, a rank correlation says nothing


def source_of(name: str, system: Any | None, training: Sequence[Scene]) -> Source:
    """What estimates the maps.

    Args:
        name: "true", the true sigma itself: what these deconvolutions gain at best; "constant", the median true sigma
            of the `training` scenes everywhere: what a map has to beat; or a name for `system`.
        system: an object with `defocus_map(image)`; None for the two references.

    Raises:
        DDNetError: neither a system nor a reference, or nothing to take the constant from.
    """
    if system is not None:
        return lambda scene, image: system.defocus_map(image)
    if name == "true":
        return lambda scene, image: true_sigma(scene)
    if name != "constant":
        raise DDNetError(f"defocus map '{name}': no such system; the references are true and constant")
    if not training:
        raise DDNetError("defocus map 'constant': there is no training scene to take the median blur of")
    value = np.median(np.concatenate([true_sigma(scene).ravel() for scene in training]))
    return lambda scene, image: np.full(image.shape[:2], value, np.float32)


def spearman(estimate: FloatArray, truth: FloatArray) -> float:
    """Rank correlation of two lists of values; NaN where one of them is constant or both are too short."""
    from scipy.stats import spearmanr

    if estimate.size < FEWEST or np.ptp(estimate) == 0 or np.ptp(truth) == 0:
        return math.nan
    return float(spearmanr(estimate, truth).statistic)


def evaluate_map(
    source: Source,
    scenes: Sequence[Scene],
    out: Path,
    panels: Iterable[str] = (),
    threads: int | None = None,
) -> dict[str, Any]:
    """Estimate and measure the map of every scene.

    Writes `out/per_image.csv` (COLUMNS; a correlation that is not defined is an empty cell) and, of the panel scenes,
    float32 `out/maps/<dataset>/<scene>.npy`. Bias is estimate less truth; the correlation is over textured pixels, the
    errors are over all; PSNR is of the image clipped to [0, 1].

    Args:
        scenes: of the test set, with a true blur.
        panels: `Scene.key` of the scenes shown in figures.
        threads: of the deconvolution; None: one per processor.

    Returns:
        Numbers over all pixels of all scenes, for scores.json; a correlation that is not defined is None.

    Raises:
        DDNetError: no scene, one without a true blur, or a map that is no (H, W) of finite numbers, 0 or more.
    """
    if not scenes:
        raise DDNetError("defocus maps: there is no scene to evaluate; check the dataset's name against index.csv")
    shown, rows = set(panels), []
    errors, lengths, pooled = np.zeros(3), [], []
    for number, scene in enumerate(scenes, 1):
        try:
            image, target, truth = read_image(scene.image), read_image(scene.target), true_sigma(scene)
            sigma = _checked(source(scene, image), truth.shape)
            row = _measure(scene, image, target, sigma, truth, threads)
        except DDNetError as error:
            raise DDNetError(f"{scene.key}: {str(error).removeprefix(f'{scene.key}: ')}") from error
        mask = textured(target)
        pooled.append((sigma[mask], truth[mask]))
        row["spearman"] = spearman(*pooled[-1])
        difference = sigma.astype(np.float64) - truth
        errors += [np.abs(difference).sum(), difference.sum(), truth.sum(dtype=np.float64)]
        lengths.append(truth.size)
        if scene.key in shown:
            write_npy(out / "maps" / scene.dataset / f"{scene.scene}.npy", sigma)
        rows.append(row)
        log.info("%d/%d %s: mean absolute error %.3f px", number, len(scenes), scene.key, row["mae_px"])
    _write_per_image(out / "per_image.csv", rows)
    mae, bias, true_mean = (float(total) / sum(lengths) for total in errors)
    correlation = spearman(*(np.concatenate(part) for part in zip(*pooled, strict=True)))
    return {
        "images": len(rows),
        "pixels": sum(lengths),
        "textured_pixels": sum(estimate.size for estimate, _ in pooled),
        "mae_px": mae,
        "bias_px": bias,
        "mean_px": true_mean + bias,
        "true_mean_px": true_mean,
        "spearman": None if math.isnan(correlation) else correlation,
        "settings": {"alpha": ALPHA, "lam": LAMBDA, "iterations": ITERATIONS},
    }


def _checked(sigma: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    sigma = np.asarray(sigma, np.float32)
    if sigma.shape != shape or not np.isfinite(sigma).all() or sigma.min() < 0:
        raise DDNetError(f"the defocus map is {sigma.shape}; it must be {shape}, finite and 0 or more everywhere (px)")
    return sigma


def _measure(
    scene: Scene, image: FloatArray, target: FloatArray, sigma: FloatArray, truth: FloatArray, threads: int | None
) -> Row:
    """The scene's row but for the correlation."""
    psnr, difference = Psnr(), sigma.astype(np.float64) - truth
    row: Row = {name: getattr(scene, name) for name in COLUMNS[:3]}
    row |= {"mae_px": float(np.abs(difference).mean()), "bias_px": float(difference.mean())}
    row["psnr_input"] = psnr(image, target)
    for method in METHODS:
        row[f"psnr_{method}"] = psnr(deblur_with_map(image, sigma, method, threads=threads), target)
    return row


def _cell(value: Any) -> Any:
    return value if isinstance(value, str) else "" if math.isnan(value) else f"{value:.8g}"


def _write_per_image(path: Path, rows: Sequence[Row]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(row[name]) for name in COLUMNS} for row in rows)
