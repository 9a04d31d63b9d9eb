from __future__ import annotations

import html
import html.parser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import PAPER, VARIANTS, make_world

from ddnet.report.evidence import gather
from ddnet.report.formats import grids, to_html, to_markdown, to_tex, write_table
from ddnet.report.tables import BUILDERS, Column, Table
from ddnet.report.tex import escape_tex
from ddnet.report.wording import format_number


def small(**changes: object) -> Table:
    frame = pd.DataFrame(
        {
            "label": ["A_1", "B & C", "D"],
            "psnr": [25.126, 26.0, np.nan],
            "psnr_sd": [0.04, np.nan, np.nan],
            "mae": [0.04, 0.05, 0.03],
            "delta": [0.0, -0.126, np.nan],
            "low": [np.nan, -0.2, np.nan],
            "high": [np.nan, 0.05, np.nan],
            "tick": [True, False, True],
            "note": ["", "because | of <this>", ""],
        }
    )
    columns = (
        Column("label", "Method"),
        Column("tick", "On"),
        Column("psnr", "PSNR ↑", "measured", 2, "max", spread="psnr_sd"),
        Column("mae", "MAE ↓", "measured", 4, "min"),
        Column("delta", "PSNR [95 %]", "Δ", 2, signed=True, interval=("low", "high")),
    )
    values = {
        "name": "small", "title": "Table 9. A_b & <c>", "caption": "50 % of it.", "frame": frame,
        "sections": (("", columns),), "footnotes": ("Made at 10_000 draws.",), **changes,
    }  # fmt: skip
    return Table(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    world = make_world(tmp_path_factory.mktemp("formats"))
    evidence = gather(
        world.runs, paper=PAPER, preset="embedded", dataset="embedded", ood_dataset="embedded_ood",
        complexity=world.complexity, variants=VARIANTS, draws=200,
    )  # fmt: skip
    return {name: build(evidence) for name, build in BUILDERS.items()}


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "text"),
    [
        (25.126, 2, False, "25.13"),
        (0.5, 2, True, "+0.50"),
        (-0.126, 2, True, "−0.13"),
        (-0.001, 2, True, "0.00"),
        (np.nan, 2, False, "—"),
    ],
)
def test_numbers(value: float, decimals: int, signed: bool, text: str) -> None:
    assert format_number(value, decimals, signed) == text


def test_grid_has_spread_interval_ranks_and_marks() -> None:
    [grid] = grids(small())
    assert grid.groups == (("", 2), ("measured", 2), ("Δ", 1))
    texts = [[cell.text for cell in row] for row in grid.rows]
    assert texts[0] == ["A_1", "✓", "25.13 ± 0.04", "0.0400", "0.00"]
    assert texts[1] == ["B & C", "", "26.00", "0.0500", "−0.13 [−0.20, +0.05]"]
    assert texts[2][2] == "—"
    assert [row[2].rank for row in grid.rows] == [2, 1, 0]
    assert [row[3].rank for row in grid.rows] == [2, 0, 1]
    assert [row[0].mark for row in grid.rows] == ["", "a", ""]


def test_values_that_look_equal_rank_equally() -> None:
    table = small()
    table.frame["psnr"] = [26.001, 26.0, 25.0]
    assert [row[2].rank for row in grids(table)[0].rows] == [1, 1, 2]


def test_a_single_value_is_not_marked_as_best() -> None:
    table = small()
    table.frame["psnr"] = [26.0, np.nan, np.nan]
    assert [row[2].rank for row in grids(table)[0].rows] == [0, 0, 0]


def test_markdown() -> None:
    text = to_markdown(small())
    assert " **26.00** |" in text and "<ins>25.13 ± 0.04</ins>" in text
    assert "B & C [a]" in text and "- [a] because | of <this>" in text
    assert "PSNR [95 %] (Δ)" in text and "- Made at 10_000 draws." in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 5 and {line.count("|") for line in lines} == {6}


def test_tex_is_escaped_and_balanced() -> None:
    text = to_tex(small())
    assert r"A\_1" in text and r"B \& C\textsuperscript{a}" in text and r"50 \% of it." in text
    assert r"\textbf{26.00}" in text and r"\underline{25.13 $\pm$ 0.04}" in text
    assert r"\cmidrule(lr){3-4}\cmidrule(lr){5-5}" in text
    assert r"$-$0.13 {[}$-$0.20, +0.05{]}" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    body = [line for line in text.splitlines() if line.startswith(("A", "B", "D"))]
    assert [line.replace(r"\&", "").count("&") for line in body] == [4, 4, 4]


def test_tex_leaves_no_special_character() -> None:
    escaped = escape_tex("a_b%c&d#e{f}$g~h^i\\j [k] ↑↓Δ±×−—✓")
    assert escaped.isascii()
    for character in "_%&#":
        assert escaped.count(character) == escaped.count("\\" + character)


class Parser(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.cells[-1] += data


def test_html_is_well_formed_escaped_and_self_contained() -> None:
    text, parser = to_html(small()), Parser()
    parser.feed(text)
    assert parser.open == []
    assert parser.cells[:5] == ["A_1", "✓", "25.13 ± 0.04", "0.0400", "0.00"]
    assert "because | of &lt;this&gt;" in text and "<c>" not in text
    assert "http" not in text and not [attrs for tag, attrs in parser.tags if "src" in attrs or "href" in attrs]
    best = [attrs["class"] for tag, attrs in parser.tags if tag == "td"]
    assert sum("best" in (name or "") for name in best) == 2
    spans = [int(attrs["colspan"] or 0) for tag, attrs in parser.tags if "colspan" in attrs]
    assert spans == [2, 2, 1]


def test_written_files_hold_full_precision_and_all_rows(tables: dict[str, Table], tmp_path: Path) -> None:
    for name, table in tables.items():
        paths = write_table(table, tmp_path)
        assert sorted(paths) == ["csv", "html", "md", "tex"]
        back = pd.read_csv(paths["csv"])
        assert list(back.columns) == list(table.frame.columns)
        value = "psnr" if "psnr" in back else "delta_psnr"
        np.testing.assert_array_equal(back[value], table.frame[value])  # bit for bit
        assert "—" not in paths["csv"].read_text(encoding="utf-8")
        for ending in ("md", "html"):
            text = paths[ending].read_text(encoding="utf-8")
            assert all(label in html.unescape(text) for label in table.frame["label"])
        assert paths["html"].name == f"{name}.html"


def test_table2_shows_its_strata_one_below_the_other(tables: dict[str, Table]) -> None:
    assert [grid.heading for grid in grids(tables["table2"])] == ["Indoor", "Outdoor", "Indoor and outdoor"]
    text = to_tex(tables["table2"])
    assert [text.count(rf"\textbf{{{heading}}}\par") for heading in ("Indoor", "Outdoor", "Indoor and outdoor")] == [
        1
    ] * 3
    for group in ("measured", "paper", "measured $-$ paper"):
        assert f"{{{group}}}" in text
