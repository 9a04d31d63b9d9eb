"""A table as LaTeX: a `table*` for two-column papers that any recent TeX sets without errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnet.report.layout import Table

if TYPE_CHECKING:
    from ddnet.report.formats import Cell, Grid

PACKAGES = ("booktabs", "graphicx", "amssymb")
WIDEST = 170  # characters that still can be read when they are shrunk to the width of a page; more is set in two parts
# Shrunk where it is too wide, never enlarged.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "{": r"\{", "}": r"\}", "|": r"\textbar{}", '"': "''",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}", "<": r"\textless{}",
    ">": r"\textgreater{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "±": r"$\pm$",
    "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$", "∞": r"$\infty$",
    "°": r"$^\circ$", "−": "$-$", "–": "--", "—": "---", "…": r"\ldots{}", "✓": r"$\checkmark$",
    "“": "``", "”": "''", "‘": "`", "’": "'", "µ": r"$\mu$", "\u00a0": "~",
    "Δ": r"$\Delta$", "σ": r"$\sigma$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$",
}  # fmt: skip


def escape_tex(text: str) -> str:
    """Text that LaTeX prints as it stands; accented Latin letters pass, of other signs without a command stays "?"."""
    return "".join(_TEX.get(sign) or (sign if sign < "\u0180" else "?") for sign in text)


def _tex_cell(cell: Cell) -> str:
    text = escape_tex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text
    return rf"{text}\textsuperscript{{{cell.mark}}}" if cell.mark else text


def _parts(grid: Grid) -> list[list[int]]:
    """Columns of each part: a grid that is too wide is cut between its groups, and every part has the row's names."""
    longest = [
        max([len(header), *(len(row[column].text) for row in grid.rows)]) + 2
        for column, header in enumerate(grid.headers)
    ]
    groups, start = [], 0
    for _, span in grid.groups:
        groups.append(list(range(start, start + span)))
        start += span
    if sum(longest) <= WIDEST or len(groups) < 3 or grid.groups[0][0]:
        return [list(range(start))]
    names, label = groups[0], groups[0][:1]
    parts = [[*names]]
    for group in groups[1:]:
        width = sum(longest[column] for column in (*parts[-1], *group))
        if width > WIDEST and len(parts[-1]) > len(names):
            parts.append([*label])
        parts[-1] += group
    return parts


def _tabular(grid: Grid, columns: Sequence[int]) -> list[str]:
    """One part of a grid, as wide as it is or as the page."""
    group_of = [name for name, span in grid.groups for _ in range(span)]
    groups: list[tuple[str, int]] = []
    for place, column in enumerate(columns):
        if place and groups[-1][0] == group_of[column]:
            groups[-1] = (group_of[column], groups[-1][1] + 1)
        else:
            groups.append((group_of[column], 1))
    headings, rules, start = [], [], 1
    for name, span in groups:
        headings.append(rf"\multicolumn{{{span}}}{{c}}{{{escape_tex(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    first = grid.rows[0] if grid.rows else None
    align = "".join("r" if first is not None and first[column].number else "l" for column in columns)
    return [
        _FITTED,
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(headings) + r" \\",
        "".join(rules),
        " & ".join(escape_tex(grid.headers[column]) for column in columns) + r" \\",
        r"\midrule",
        *(" & ".join(_tex_cell(row[column]) for column in columns) + r" \\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}}",
    ]


def render(table: Table, grids: Sequence[Grid], notes: Sequence[tuple[str, str]]) -> str:
    """A `table*` environment with its notes below the rules; those of a table of several sections follow it as text.

    Args:
        grids: the table's sections, rendered.
        notes: (letter, note) of its rows.
    """
    lines = [
        f"% needs \\usepackage{{{','.join(PACKAGES)}}}",
        r"\begin{table*}[tp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape_tex(table.title.split('. ', 1)[-1])}. {escape_tex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
    ]
    blocks = [(grid.heading if not place else "", _tabular(grid, columns))
              for grid in grids for place, columns in enumerate(_parts(grid))]  # fmt: skip
    for place, (heading, block) in enumerate(blocks):
        lines += [r"\par\medskip"] if place else [r"\par\smallskip"]
        lines += [rf"\textbf{{{escape_tex(heading)}}}\par\smallskip"] if heading else []
        lines += block
    said = [rf"\textsuperscript{{{letter}}} {escape_tex(text)}\par" for letter, text in notes]
    said += [rf"{escape_tex(text)}\par" for text in table.footnotes]
    if len(grids) > 1:  # all of it together is longer than a page
        about = rf"\noindent\textbf{{Notes to Table~\ref{{tab:{table.name}}}.}}\par"
        return "\n".join([*lines, r"\end{table*}", r"{\scriptsize\raggedright", about, *said, "}", ""])
    return "\n".join([*lines, r"\par\smallskip\raggedright\scriptsize", *said, r"\end{table*}", ""])
