"""How a table is laid out: its columns, their headings, and which numbers stand together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddnet.report.evidence import METRIC_NAMES

if TYPE_CHECKING:
    import pandas as pd

MEASURED, PAPER, DIFFERENCE = "measured", "paper", "measured − paper"
_ARROWS = {
    "psnr": "↑",
    "ssim": "↑",
    "mae": "↓",
    "lpips_alex": "↓",
    "lpips_squeeze": "↓",
    "params_m": "",
    "macs_g": "",
}
_DECIMALS = {"psnr": 2, "ssim": 3, "mae": 4, "lpips_alex": 3, "lpips_squeeze": 3, "params_m": 2, "macs_g": 1}


@dataclass(frozen=True)
class Column:
    """How one column of the frame is shown.

    Attributes:
        group: heading over neighbouring columns; "" for the row's identity.
        decimals: None for text and ticks.
        best: "max" or "min" where the best and the second value are marked.
        spread: column with the s.d. that follows as ±.
        interval: columns with the ends of an interval that follows in brackets.
        floor: a value below it is shown as "<" and this number.
    """

    name: str
    header: str
    group: str = ""
    decimals: int | None = None
    best: str = ""
    signed: bool = False
    spread: str = ""
    interval: tuple[str, str] | None = None
    floor: float = 0.0


@dataclass(frozen=True)
class Table:
    """One table: `frame` is the machine-readable form, the rest says how readers see it.

    Attributes:
        sections: (heading, columns) blocks that are shown below each other.
        footnotes: provenance and reading aids, one sentence or two each.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    sections: tuple[tuple[str, tuple[Column, ...]], ...]
    footnotes: tuple[str, ...]


def measured(metric: str, location: str = "", spread: bool = True) -> Column:
    """A measured metric, with its s.d. over seeds; of one stratum where a location is given."""
    name = f"{location}_{metric}" if location else metric
    best = {"↑": "max", "↓": "min"}.get(_ARROWS[metric], "")
    header = f"{METRIC_NAMES[metric]} {_ARROWS[metric]}".strip()
    has_sd = spread and metric not in ("params_m", "macs_g")
    return Column(name, header, MEASURED, _DECIMALS[metric], best, spread=f"{name}_sd" if has_sd else "")


def beside_printed(metric: str, location: str = "") -> tuple[Column, Column]:
    """The printed value of a metric, and what was measured less that."""
    shown = measured(metric, location, spread=False)
    decimals = 3 if metric == "mae" else shown.decimals  # the paper prints three; a fourth would be invented
    return (
        Column(f"paper_{shown.name}", shown.header, PAPER, decimals, shown.best),
        Column(f"diff_{shown.name}", shown.header, DIFFERENCE, shown.decimals, signed=True),
    )


def compare(metrics: Sequence[str], printed: Sequence[str], location: str = "") -> list[Column]:
    """Measured columns, then the printed ones among them, then the differences of the two."""
    both = [beside_printed(metric, location) for metric in printed]
    return [
        *(measured(metric, location) for metric in metrics),
        *(paper for paper, _ in both),
        *(difference for _, difference in both),
    ]


def delta(name: str, group: str) -> list[Column]:
    """A difference to a reference row: interval, corrected p, share of images improved."""
    ends = (f"{name}_low", f"{name}_high")
    return [
        Column(name, "PSNR [95 %]", group, 2, signed=True, interval=ends),
        Column(f"{name}_p_holm", "p", group, 3, floor=0.001),
        Column(f"{name}_improved", "images better", group, 2),
    ]


METHOD = Column("label", "Method")
SEEDS = Column("n_seeds", "seeds", MEASURED, 0)


def with_delta(shown: Sequence[Column], words: str) -> list[Column]:
    """Comparison columns, with Δ PSNR to a reference row at the end of every group."""
    groups = {name: [column for column in shown if column.group == name] for name in (MEASURED, PAPER, DIFFERENCE)}
    header = f"Δ PSNR {words}"
    return [
        *groups[MEASURED],
        SEEDS,
        *delta("delta_psnr", f"Δ {words}"),
        *groups[PAPER],
        Column("paper_delta_psnr", header, PAPER, 2, signed=True),
        *groups[DIFFERENCE],
        Column("diff_delta_psnr", header, DIFFERENCE, 2, signed=True),
    ]
