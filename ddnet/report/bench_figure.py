"""The picture of a benchmark of our networks: time and memory of every way, as shares of the plain run's."""

from __future__ import annotations

import csv
from pathlib import Path

from ddnet.report.style import GREY, PALETTE, house_style, new_figure, save

PLAIN = "plain"
PANELS = (("wall_s", "time", "{:.3g} s"), ("peak_memory_mib", "peak memory", "{:,.0f} MiB"))


def draw_bench(table: Path, title: str, path: Path) -> Path:
    """A bar per network and way: its share of the plain run's seconds, and of its peak memory where that was measured.

    Args:
        table: CSV of `ddnet bench inference` or `step`; of rows of several sizes, those like the newest are drawn.
    """
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    alike = ("width", "height", "channels", "batch")
    newest = max(rows, key=lambda row: row["date"])
    rows = [row for row in rows if all(row[name] == newest[name] for name in alike)]
    plain = {row["system"]: row for row in rows if row["part"] == PLAIN}
    rows = [row for row in rows if row["system"] in plain]
    ways = list(dict.fromkeys(row["part"] for row in rows))
    panels = [panel for panel in PANELS if all(row[panel[0]] for row in rows)]
    with house_style():
        figure = new_figure(1.6 + 3.2 * len(panels), 0.3 * len(rows) + 1.3)
        figure.suptitle(f"{title} ({newest['hardware']}, {newest['processors']} processors)", fontweight="bold")
        for place, (name, label, form) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            for position, row in enumerate(rows):
                share = float(row[name]) / float(plain[row["system"]][name])
                colour = GREY if row["part"] == PLAIN else PALETTE[ways.index(row["part"]) - 1]
                axes.barh(position, share, 0.72, color=colour)
                axes.annotate(
                    form.format(float(row[name])), (share, position), xytext=(3, 0), textcoords="offset points",
                    va="center", fontsize=8, bbox={"color": "white", "pad": 1},
                )  # fmt: skip
            axes.axvline(1, color=GREY, lw=0.8, ls="--")
            axes.set(xlabel=f"{label}, share of the plain run's", xlim=(0, 1.35))
            axes.set_yticks(range(len(rows)), [f"{row['system']}, {row['part']}" if not place else "" for row in rows])
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        return save(figure, path)
