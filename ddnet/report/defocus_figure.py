"""Pictures of defocus maps: input, true blur and every system's map on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.io.images import read_image
from ddnet.report.defocus import TRUE, MapSource, read_map
from ddnet.report.panels import PanelScene, _show, reduced
from ddnet.report.style import TEXT_WIDTH, house_style, new_figure, save, wrapped
from ddnet.report.wording import format_number

if TYPE_CHECKING:
    import pandas as pd

BRIGHTEST = 0.995  # quantile of the true maps that ends the scale: what lies above it is shown as bright
FloatArray = NDArray[np.float32]


def _map_of(source: MapSource, scene: PanelScene) -> FloatArray:
    path = source.folder / "maps" / scene.dataset / f"{scene.scene}.npy"
    if not path.is_file():
        raise DDNetError(f"{path}: no such file; evaluate this defocus map again, with these panel scenes")
    sigma: FloatArray = np.load(path, allow_pickle=False)
    return sigma


def _mae(images: pd.DataFrame, scene: PanelScene) -> float:
    row = images[(images["dataset"] == scene.dataset) & (images["scene"] == scene.scene)]
    return float(row["mae_px"].iloc[0]) if len(row) else float("nan")


def draw_defocus_maps(
    sources: Sequence[MapSource], scenes: Sequence[PanelScene], path: str | Path, trial: bool = False
) -> Path:
    """Per scene: input, true sigma, and the map of every system with its mean absolute error in the corner.

    All maps share one colour scale in pixels, from 0 to the BRIGHTEST quantile of the true ones.

    Args:
        sources: with "true" among them; the constant is not drawn.

    Raises:
        DDNetError: no scene, no source of true maps, or a map that is missing.
    """
    true = next((source for source in sources if source.name == TRUE), None)
    if true is None or not scenes:
        what = "the evaluation of 'true' is missing among the maps" if scenes else "no scene was chosen"
        raise DDNetError(f"defocus_maps: {what}; draw at least one scene, with the true map")
    systems = [source for source in sources if not source.is_reference]
    headings = ["Input", "True σ", *(source.label for source in systems)]
    truths, read = [_map_of(true, scene) for scene in scenes], [read_map(source)[0] for source in systems]
    limit = float(np.quantile(np.concatenate([truth.ravel() for truth in truths]), BRIGHTEST)) or 1.0
    options: dict[str, Any] = {"cmap": "magma", "vmin": 0.0, "vmax": limit}
    with house_style():
        width = (TEXT_WIDTH - 0.9) / len(headings)
        heights = [width * truth.shape[0] / truth.shape[1] for truth in truths]
        figure = new_figure(TEXT_WIDTH, 0.98 * sum(heights) + 0.55)
        figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(scenes), len(headings), squeeze=False, height_ratios=heights)
        for row, scene, truth in zip(grid, scenes, truths, strict=True):
            _show(row[0], reduced(read_image(scene.image)), size=truth.shape)
            row[0].set_ylabel(scene.caption, fontsize=6, parse_math=False)
            shown = _show(row[1], reduced(truth), size=truth.shape, **options)
            for axes, source, images in zip(row[2:], systems, read, strict=True):
                sigma, corner = _map_of(source, scene), f"MAE {format_number(_mae(images, scene), 2)} px"
                _show(axes, reduced(sigma), corner, sigma.shape, **options)
        for axes, heading in zip(grid[0], wrapped(headings, 18), strict=True):
            axes.set_title(heading, fontsize=6.5, fontweight="normal")
        bar = figure.colorbar(shown, ax=grid[:, 1:], shrink=0.9, aspect=24, pad=0.015, extend="max")
        bar.set_label("σ of the blur (px)", fontsize=6.5)
        heading = "Trial, not results. Defocus maps" if trial else "Defocus maps"
        figure.suptitle(f"{heading}: test scenes", x=0.01, ha="left", fontweight="bold", fontsize=7.5)
        return save(figure, path)
