"""A contact sheet of depth maps: the quickest way to see that an estimate is an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddnet.io.files import atomic_path
from ddnet.io.images import FloatArray


class PreviewRow(NamedTuple):
    """One scene: its defocused image, estimated depth, and true depth where it is known."""

    name: str
    image: FloatArray
    depth: FloatArray
    true_depth: FloatArray | None


def write_preview(path: str | Path, rows: Sequence[PreviewRow], source: str) -> None:
    """Write a picture with one line per scene: image and depth; beside them true depth and absolute error, where known.

    Within a line all maps share one scale, because far scenes fill little of [0, 1]. The error's mean is
    written above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 4 if any(row.true_depth is not None for row in rows) else 2
    figure = Figure(figsize=(2.4 * columns, 2.5 * len(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        maps = [row.depth] if row.true_depth is None else [row.depth, row.true_depth]
        top = max(1e-3, *(float(depth.max()) for depth in maps))
        line[0].imshow(np.clip(row.image, 0, 1))
        line[0].set_title(row.name, fontsize=8)
        shown = line[1].imshow(row.depth, cmap="magma", vmin=0, vmax=top)
        line[1].set_title(f"depth: {source}", fontsize=8)
        figure.colorbar(shown, ax=line[1], fraction=0.046)
        if row.true_depth is not None:
            error = np.abs(row.depth - row.true_depth)
            line[2].imshow(row.true_depth, cmap="magma", vmin=0, vmax=top)
            line[2].set_title("true depth", fontsize=8)
            line[3].imshow(error, cmap="viridis", vmin=0, vmax=top)
            line[3].set_title(f"absolute error, mean {error.mean():.3f}", fontsize=8)
        elif columns > 2:
            line[2].text(0.5, 0.5, "true depth unknown", ha="center", va="center", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
