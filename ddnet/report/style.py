"""One look for all figures: a colour-blind safe palette, and the widths, sizes and resolution of a printed page.

Every figure is a PNG for screens and a PDF for print, whose text is text in embedded TrueType fonts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnet.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is unreadable on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")
GREY = "#6b6b6b"
COLUMN_WIDTH, TEXT_WIDTH = 3.39, 7.0  # inches: one column and both, 86 and 178 mm, of the paper's own layout
DPI = 300
MAX_BYTES, PICTURE_BYTES = 1_000_000, 5_000_000  # photographs in 256 colours would show edges that are not there
_RC: Any = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7.5, "axes.titleweight": "bold",
    "axes.labelsize": 7, "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "legend.fontsize": 6.5,
    "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#444444", "axes.grid": True, "axes.axisbelow": True, "axes.linewidth": 0.7,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6,
    "figure.dpi": DPI, "savefig.dpi": DPI, "figure.facecolor": "white",
    "pdf.fonttype": 42, "pdf.compression": 9,
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
    """Write a PNG and a PDF beside it, atomically; a PNG of more than `limit` bytes gets 256 colours.

    The same figure gives the same bytes: neither file says when or by which version it was made.

    Returns:
        The PNG.
    """
    path = Path(path).with_suffix(".png")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
        if temporary.stat().st_size > limit:
            _reduce_colours(temporary)
    figure.set_layout_engine("none")  # everything is in its place; finding it anew takes longer than drawing
    with atomic_path(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return path


def _reduce_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        resolution = image.info.get("dpi", (DPI, DPI))
        colours = image.convert("RGB")
        palette = colours.quantize(256)  # Pillow dithers towards a given palette only
        reduced = colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    reduced.save(path, format="PNG", optimize=True, dpi=resolution)
