"""The figure of the depth controls: what each gains over no depth, by fusion and by where its depth comes from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddnet.errors import DDNetError
from ddnet.report.collect import VariantInfo
from ddnet.report.rows import depth_rows
from ddnet.report.statistics import Array, interval, matrix, pair
from ddnet.report.style import GREY, PALETTE, TEXT_WIDTH, house_style, new_figure, save
from ddnet.report.wording import MISSING, display_name, format_number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

REFERENCE = "unet_rcab"


def _paired(values: pd.DataFrame, reference: pd.DataFrame) -> Array:
    """Differences within the common seeds, NaN where there is none."""
    try:
        return pair(values, reference)
    except DDNetError:
        return np.full((1, 1), np.nan)


def _beside(axes: Axes, text: str, position: int) -> None:
    axes.annotate(
        text, (1, position), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", annotation_clip=False,
    )  # fmt: skip


def draw_controls(
    variants: Iterable[VariantInfo], images: pd.DataFrame, dataset: str, path: str | Path, trial: bool = False
) -> Path:
    """One row per control, a colour per fusion: mean Δ PSNR to no depth, its 95 % interval, and every seed as a dot.

    Args:
        variants: those of the study `controls`.
        images: the long frame of `collect`.
        trial: whether only a few scenes were used, which the figure then says.

    Raises:
        DDNetError: the network without depth was not measured, or no control.
    """
    reference = matrix(images, REFERENCE, "psnr", dataset)
    rows = [row for row in depth_rows(variants) if row.variant != REFERENCE]
    measured = [(row, matrix(images, row.variant or "", "psnr", dataset)) for row in rows]
    measured = [(row, values) for row, values in measured if not values.empty]
    if reference.empty or not measured:
        raise DDNetError(
            f"depth controls: {REFERENCE} or its controls have no run on {display_name(dataset)}; evaluate them first"
        )
    fusions = list(dict.fromkeys(str(row.marks["fusion"]) for row, _ in measured))
    with house_style():
        figure = new_figure(TEXT_WIDTH, 0.21 * len(measured) + 0.8)
        axes = figure.add_subplot()
        for position, (row, values) in enumerate(measured):
            differences = _paired(values, reference)
            if not np.isfinite(differences).all():
                _beside(axes, f"{MISSING} (undefined)", position)
                continue
            mean = differences.mean()
            colour = PALETTE[fusions.index(str(row.marks["fusion"])) % len(PALETTE)]
            if differences.shape[1] > 1:
                axes.plot(interval(differences), [position, position], color=colour, lw=1.6, alpha=0.45, zorder=2)
            seeds = differences.mean(axis=1)
            spread = np.linspace(-0.16, 0.16, seeds.size) if seeds.size > 1 else np.zeros(1)
            axes.scatter(seeds, position + spread, 6, color=colour, alpha=0.6, linewidth=0, zorder=3)
            axes.scatter([mean], [position], 24, color=colour, edgecolor="white", linewidth=0.5, zorder=4)
            _beside(axes, format_number(mean, 2, signed=True), position)
        axes.axvline(0, color=GREY, ls="--", lw=0.9, zorder=1)
        axes.set_yticks(range(len(measured)), [row.label for row, _ in measured])
        axes.set_ylim(len(measured) - 0.4, -0.6)
        axes.grid(False, axis="y")
        line = "line: 95 % interval" if reference.shape[1] > 1 else "one image: no interval"
        axes.set_xlabel(f"Δ PSNR to no depth (dB); {line}, small dots: seeds")
        title = f"Depth controls on {display_name(dataset)}"
        axes.set_title(f"Trial, not results. {title}" if trial else title, loc="left")
        return save(figure, path)
