"""One look for all figures: a colour-blind safe palette, readable sizes, files of a megabyte, five with pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnet.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is unreadable on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
GREY = "#6b6b6b"
DPI, SMALLER_DPI = 140, (125, 110)
MAX_BYTES, PICTURE_BYTES = 1_000_000, 5_000_000  # photographs in 256 colours would show edges that are not there
_RC: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5,
    "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#444444", "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.7,
    "figure.dpi": DPI, "savefig.dpi": DPI, "figure.facecolor": "white",
}  # fmt: skip


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of all figures, for the length of a block."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float, layout: str = "constrained") -> Figure:
    """A figure of its own canvas, in inches; no pyplot, hence no global state and no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def line_look(position: int) -> dict[str, str]:
    """Colour and dash of the n-th variant; dashes change when the colours are used up."""
    return {
        "color": PALETTE[position % len(PALETTE)],
        "linestyle": DASHES[position // len(PALETTE) % len(DASHES)],
    }


def wrapped(labels: Sequence[str], width: int = 12) -> list[str]:
    """Labels broken into lines of at most about `width` characters."""
    return [textwrap.fill(label, width, break_long_words=False) for label in labels]


def save(figure: Figure, path: str | Path, limit: int = MAX_BYTES) -> Path:
    """Write a PNG atomically; one that exceeds `limit` bytes gets fewer dots per inch, then 256 colours."""
    path = Path(path)
    with atomic_path(path) as temporary:
        for dpi in (DPI, *SMALLER_DPI):
            figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
            if temporary.stat().st_size <= limit:
                return path
        _reduce_colours(temporary)
    return path


def _reduce_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        resolution = image.info.get("dpi", (DPI, DPI))
        colours = image.convert("RGB")
        palette = colours.quantize(256)  # Pillow dithers towards a given palette only
        reduced = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    reduced.save(path, format="PNG", optimize=True, dpi=resolution)
