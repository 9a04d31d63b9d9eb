"""One table as CSV, Markdown, LaTeX and HTML; the last three come from one grid of rendered cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.io.files import atomic_path, write_text
from ddnet.report.layout import Column, Table
from ddnet.report.tex import render
from ddnet.report.wording import MISSING, format_number

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "md", "tex", "html")


@dataclass(frozen=True)
class Cell:
    """One rendered cell: `rank` 1 is the best of its column, 2 the second; `mark` names a note.

    `value` is the number behind the text, unrounded, by which rows are sorted; None for text and where it is missing.
    """

    text: str
    rank: int = 0
    mark: str = ""
    number: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Grid:
    """A section of a table, rendered: (heading, span) groups over headers over rows."""

    heading: str
    groups: tuple[tuple[str, int], ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def _cell_text(row: pd.Series[Any], column: Column) -> str:
    value = row[column.name]
    if column.decimals is None:
        if isinstance(value, bool | np.bool_):
            return "✓" if value else ""
        return MISSING if value is None or value != value or value == "" else str(value)
    text = format_number(value, column.decimals, column.signed)
    if text == MISSING:
        return text
    if abs(value) < column.floor:
        return f"<{column.floor:g}"
    if column.spread and not math.isnan(row.get(column.spread, math.nan)):
        text += f" ± {format_number(row[column.spread], column.decimals)}"
    if column.interval and not any(math.isnan(row[end]) for end in column.interval):
        low, high = (format_number(row[end], column.decimals, column.signed) for end in column.interval)
        text += f" [{low}, {high}]"
    return text


def _value(row: pd.Series[Any], column: Column) -> float | None:
    value = row[column.name]
    return None if column.decimals is None or value is None or math.isnan(value) else float(value)


def _ranks(frame: pd.DataFrame, column: Column) -> dict[int, int]:
    """Row position -> 1 or 2, by the shown digits so that equal-looking values rank equally."""
    if not column.best:
        return {}
    shown = frame[column.name].astype(float).round(column.decimals or 0)
    if "reference" in frame:  # what the rows are held against does not compete
        shown = shown.mask(frame["reference"].astype(bool))
    levels = sorted(shown.dropna().unique(), reverse=column.best == "max")
    if len(levels) < 2:
        return {}
    return {position: levels.index(value) + 1 for position, value in enumerate(shown) if value in levels[:2]}


def notes(table: Table) -> list[tuple[str, str]]:
    """(letter, note) of every different row note, in the order of the rows."""
    texts = list(dict.fromkeys(text for text in table.frame["note"] if text))
    return [(_letter(index), text) for index, text in enumerate(texts)]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def grids(table: Table) -> list[Grid]:
    """Render every section of a table."""
    letters = {text: letter for letter, text in notes(table)}
    result = []
    for heading, columns in table.sections:
        ranks = {column.name: _ranks(table.frame, column) for column in columns}
        rows = []
        for position, (_, row) in enumerate(table.frame.iterrows()):
            rows.append(
                tuple(
                    Cell(
                        _cell_text(row, column),
                        ranks[column.name].get(position, 0),
                        letters.get(row["note"], "") if column.name == "label" else "",
                        column.decimals is not None,
                        _value(row, column),
                    )
                    for column in columns
                )
            )
        groups: list[tuple[str, int]] = []
        for column in columns:
            if groups and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        result.append(Grid(heading, tuple(groups), tuple(column.header for column in columns), tuple(rows)))
    return result


# --- Markdown -----------------------------------------------------------------------------------------------


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    text = f"**{text}**" if cell.rank == 1 else f"<ins>{text}</ins>" if cell.rank == 2 else text
    return f"{text} [{cell.mark}]" if cell.mark else text


def _markdown_headers(grid: Grid) -> list[str]:
    groups = [name for name, span in grid.groups for _ in range(span)]
    headers = zip(grid.headers, groups, strict=True)
    return [f"{header} ({group})" if group not in ("", "measured") else header for header, group in headers]


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown; best in bold, second underlined."""
    import pandas as pd

    lines = [f"### {table.title}", "", table.caption, ""]
    for grid in grids(table):
        body = pd.DataFrame([[_markdown_cell(cell) for cell in row] for row in grid.rows])
        align = ["right" if cell.number else "left" for cell in grid.rows[0]] if grid.rows else None
        lines += [f"**{grid.heading}**", ""] if grid.heading else []
        lines += [
            body.to_markdown(index=False, headers=_markdown_headers(grid), colalign=align, disable_numparse=True),
            "",
        ]
    lines += [f"- [{letter}] {text}" for letter, text in notes(table)]
    lines += [f"- {text}" for text in table.footnotes]
    return "\n".join(lines) + "\n"


# --- LaTeX --------------------------------------------------------------------------------------------------


def to_tex(table: Table) -> str:
    """A `table*` environment; its first line names the packages that it needs."""
    return render(table, grids(table), notes(table))


# --- HTML ---------------------------------------------------------------------------------------------------

_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ table.title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto;
       padding: 0 1.5rem; max-width: 96rem; }
h1 { font-size: 1.25rem; margin: 0 0 .2rem; } h2 { font-size: 1rem; margin: 1.4rem 0 .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid #1a1a1a; border-bottom: 2px solid #1a1a1a;
        margin: .5rem 0; }
th, td { padding: .25rem .6rem; white-space: nowrap; text-align: left; }
th { font-weight: 600; } thead tr:last-child th { border-bottom: 1px solid #1a1a1a; }
th.group { text-align: center; font-weight: 400; color: #555; } th.named { border-bottom: 1px solid #bbb; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr:hover { background: #f3f6fa; } .start { border-left: 1px solid #ddd; }
.best { font-weight: 700; } .second { text-decoration: underline; text-underline-offset: 3px; }
.notes { font-size: .85rem; color: #444; max-width: 70rem; }
.notes p { margin: .2rem 0; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>{{ table.title }}</h1>
<p>{{ table.caption }}</p>
{% for grid in grids %}{% set starts = grid.starts %}
{% if grid.grid.heading %}<h2>{{ grid.grid.heading }}</h2>
{% endif %}<div class="scroll"><table>
<thead>
<tr>{% for name, span in grid.grid.groups %}
{#- #}<th class="group{{ ' named' if name }}" colspan="{{ span }}">{{ name }}</th>
{%- endfor %}</tr>
<tr>{% for header in grid.grid.headers %}<th class="{{ 'number' if grid.numbers[loop.index0] }}
{{- ' start' if loop.index0 in starts }}">{{ header }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for row in grid.grid.rows %}<tr>{% for cell in row %}<td class="{{ 'number' if cell.number }}
{{- ' start' if loop.index0 in starts }}{{ ['', ' best', ' second'][cell.rank] }}"
{%- if cell.value is not none %} data-value="{{ cell.value | string | replace('inf', 'Infinity') }}"{% endif %}>
{{- cell.text }}
{%- if cell.mark %}<sup>{{ cell.mark }}</sup>{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% endfor %}
<div class="notes">
{% for letter, text in notes %}<p><sup>{{ letter }}</sup> {{ text }}</p>
{% endfor %}{% for text in table.footnotes %}<p>{{ text }}</p>
{% endfor %}<p>Best value of a column in bold, second underlined; {{ missing }} is a missing measurement.</p>
</div>
</main>
</body>
</html>
"""


def _starts(grid: Grid) -> set[int]:
    """Positions where a group begins, for the rule on its left."""
    positions, position = set(), 0
    for _, span in grid.groups:
        positions.add(position)
        position += span
    return positions - {0}


def to_html(table: Table) -> str:
    """A self-contained page."""
    from jinja2 import Environment

    rendered: Sequence[dict[str, Any]] = [
        {
            "grid": grid,
            "starts": _starts(grid),
            "numbers": [cell.number for cell in grid.rows[0]] if grid.rows else [],
        }
        for grid in grids(table)
    ]
    template = Environment(autoescape=True).from_string(_HTML)
    return template.render(table=table, grids=rendered, notes=notes(table), missing=MISSING) + "\n"


# --- files --------------------------------------------------------------------------------------------------


def write_csv(table: Table, path: str | Path) -> None:
    """Full precision, missing values empty; read it back with `pandas.read_csv`."""
    with atomic_path(path) as temporary:
        table.frame.to_csv(temporary, index=False, lineterminator="\n")


def write_table(table: Table, folder: str | Path) -> dict[str, Path]:
    """Write `<name>.csv`, `.md`, `.tex` and `.html` into `folder`; returns format -> path."""
    paths = {ending: Path(folder) / f"{table.name}.{ending}" for ending in FORMATS}
    write_csv(table, paths["csv"])
    write_text(paths["md"], to_markdown(table))
    write_text(paths["tex"], to_tex(table))
    write_text(paths["html"], to_html(table))
    return paths
