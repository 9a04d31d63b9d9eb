"""The pictures of benchmarks: time and memory of every way as shares of the plain run's, and of a run's rules."""

from __future__ import annotations

import csv
from pathlib import Path

from ddnet.report.style import GREY, PALETTE, TEXT_WIDTH, house_style, new_figure, save

PLAIN = "plain"
PANELS = (("wall_s", "time", "{:.3g} s"), ("peak_memory_mib", "peak memory", "{:,.0f} MiB"))


def draw_bench(table: Path, title: str, path: Path) -> Path:
    """A bar per network and way: its share of the plain run's seconds, and of its peak memory where that was measured.

    Args:
        table: CSV of `ddnet bench inference`, `step`, `data` or `metrics`; sizes are named where there are several.
    """
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))

    def same(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in ("system", "width", "height", "channels", "batch"))

    rows = [row for row in rows if row["part"] == PLAIN or row["times_faster"]]
    plain = {same(row): row for row in rows if row["part"] == PLAIN}
    measured = list(plain)
    rows = sorted((row for row in rows if same(row) in plain), key=lambda row: measured.index(same(row)))
    newest, several = max(rows, key=lambda row: row["date"]), len({same(row)[1:] for row in rows}) > 1
    names = [
        f"{row['system']}, {row['part']}" + (f" ({row['batch'] or 1} x {row['width']} px)" if several else "")
        for row in rows
    ]
    ways = list(dict.fromkeys(row["part"] for row in rows))
    panels = [panel for panel in PANELS if all(row.get(panel[0]) for row in rows)]
    separator = " " if panels[1:] else "\n"
    with house_style():
        figure = new_figure(TEXT_WIDTH, 0.19 * len(rows) + 0.9)
        figure.suptitle(
            f"{title}{separator}({newest['hardware']}, {newest['processors']} processors)", fontweight="bold"
        )
        for place, (name, label, form) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            values = [float(row[name]) / float(plain[same(row)][name]) for row in rows]
            for position, row in enumerate(rows):
                share = values[position]
                colour = GREY if row["part"] == PLAIN else PALETTE[ways.index(row["part"]) - 1]
                axes.barh(position, share, 0.72, color=colour)
                axes.annotate(
                    form.format(float(row[name])), (share, position), xytext=(3, 0), textcoords="offset points",
                    va="center", fontsize=6, bbox={"color": "white", "pad": 1},
                )  # fmt: skip
            axes.axvline(1, color=GREY, lw=0.8, ls="--")
            axes.set(xlabel=f"{label}, share of the plain run's", xlim=(0, max(1, *values) + 0.35))
            axes.set_yticks(range(len(rows)), ["" if place else label for label in names])
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        return save(figure, path)


def draw_pipeline(table: Path, preset: str, path: Path) -> Path:
    """A bar per rule of a run: processor seconds of work and of start-up; and one of what nobody used.

    Args:
        table: CSV of `ddnet bench pipeline`.
        preset: whose run.
    """
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["preset"] == preset and int(row["jobs"])]
    rules, whole = [row for row in rows if row["rule"] != "all"], next(row for row in rows if row["rule"] == "all")
    waiting = float(whole["waiting_s"])
    with house_style():
        figure = new_figure(TEXT_WIDTH, 0.19 * len(rows) + 0.9)
        axes = figure.add_subplot()
        for position, row in enumerate(rules):
            work, startup = float(row["work_s"]), float(row["startup_s"])
            axes.barh(position, work, 0.72, color=PALETTE[0], label="" if position else "work")
            axes.barh(position, startup, 0.72, left=work, color=PALETTE[1], label="" if position else "start-up")
            label = f"{float(row['work_share']) + float(row['startup_share']):.1%}"
            axes.annotate(label, (work + startup, position), xytext=(3, 0), textcoords="offset points", va="center")
        axes.barh(len(rules), waiting, 0.72, color=GREY, label="waiting")
        label = f"{float(whole['waiting_share']):.1%}"
        axes.annotate(label, (waiting, len(rules)), xytext=(3, 0), textcoords="offset points", va="center")
        names = [f"{row['rule']} ({row['jobs']})" for row in rules]
        axes.set_yticks(range(len(rows)), [*names, "no job"])
        axes.set(xlabel="processor seconds", title=f"Run of '{preset}', {float(whole['wall_s']) / 60:.0f} min "
                 f"({whole['hardware']}, {whole['processors']} processors)")  # fmt: skip
        axes.legend(loc="lower right")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.1)
        return save(figure, path)
