"""Every LaTeX table through a TeX engine: no errors, nothing that sticks out, and what it prints."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from programs import require_program
from report_runs import PAPER, VARIANTS, make_world

from ddnet.report.evidence import gather
from ddnet.report.formats import Cell, Grid, to_tex
from ddnet.report.layout import Table
from ddnet.report.tables import BUILDERS
from ddnet.report.tex import WIDEST, _parts, escape_tex

COMMITTED = sorted((PAPER.parent / "reference" / "embedded" / "tables").glob("*.tex"))
# The text block of the paper's own layout: 178 mm by 229 mm, two columns.
DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[textwidth=178mm,textheight=229mm]{geometry}
%s
\begin{document}
%s
\end{document}
"""
BAD = re.compile(r"^!.*|Overfull.*|LaTeX Warning: Float too large.*|Missing character.*|.*Undefined control.*", re.M)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    world = make_world(tmp_path_factory.mktemp("tex"))
    evidence = gather(
        world.runs, paper=PAPER, preset="embedded", dataset="embedded", ood_dataset="embedded_ood",
        complexity=world.complexity, variants=VARIANTS, draws=200,
    )  # fmt: skip
    return {name: build(evidence) for name, build in BUILDERS.items()}


def typeset(texts: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """Set tables in one document, with the packages that their first lines name: its words, and its complaints."""
    engine = require_program("pdflatex")
    packages = set()
    for name, text in texts.items():
        first = re.fullmatch(r"% needs \\usepackage\{([\w,]+)\}", text.splitlines()[0])
        assert first, f"{name} does not say which packages it needs"
        packages |= set(first[1].split(","))
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")
    needed = "\n".join(rf"\usepackage{{{name}}}" for name in sorted(packages))
    body = "\n\\clearpage\n".join(rf"\input{{{name}.tex}}" for name in texts)
    (folder / "all.tex").write_text(DOCUMENT % (needed, body), encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-no-shell-escape", "-file-line-error", "all.tex"]
    for _ in range(2):  # the second one knows the labels
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    log = (folder / "all.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    words = subprocess.run(
        [require_program("pdftotext"), "-layout", "all.pdf", "-"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return words, "\n".join(BAD.findall(log))


def test_every_table_compiles_and_fits_its_page(tables: dict[str, Table], tmp_path: Path) -> None:
    words, complaints = typeset({name: to_tex(table) for name, table in tables.items()}, tmp_path)
    assert complaints == ""
    for sign in ("±", "↑", "↓", "−", "∆", "[95 %]", "Notes to Table 2."):
        assert sign in words, sign
    for table in tables.values():
        for label in table.frame["label"]:
            assert label in words


def test_the_committed_tables_compile(tmp_path: Path) -> None:
    assert len(COMMITTED) > 5
    _, complaints = typeset({path.stem: path.read_text(encoding="utf-8") for path in COMMITTED}, tmp_path)
    assert [line for line in complaints.splitlines() if "Float too large" not in line] == []


def test_every_sign_that_a_note_may_have_is_set(tables: dict[str, Table], tmp_path: Path) -> None:
    strange = r"a_b%c&d#e{f}$g~h^i\j [k] <l> ↑↓Δ±×−—✓→σ≥≤·µ°é “quoted” ‘so’ a…b | \"x\""
    table = tables["table1"]
    odd = Table("odd", f"Table 9. {strange}", strange, table.frame, table.sections, (strange,))
    words, complaints = typeset({"odd": to_tex(odd)}, tmp_path)
    assert complaints == ""
    for sign in "%&#{}$\\<>≥≤|±×−→σ✓“":  # as the PDF has them; an underscore is a line there
        assert sign in words, sign


def test_a_sign_without_a_translation_is_not_left_to_break_the_document() -> None:
    assert escape_tex("模糊 α") == "?? α".replace("α", r"$\alpha$")


def wide(columns: int) -> Grid:
    groups = (("", 2), ("measured", columns), ("paper", columns), ("measured − paper", columns))
    row = tuple(Cell("+0.12 ± 0.03") for _ in range(2 + 3 * columns))
    return Grid("", groups, tuple(f"h{n}" for n in range(2 + 3 * columns)), (row,))


def test_a_grid_is_cut_between_groups_where_it_would_be_unreadable() -> None:
    assert _parts(wide(2)) == [list(range(8))]
    parts = _parts(wide(6))  # 20 columns of 14 characters
    assert parts == [[*range(8)], [0, *range(8, 14)], [0, *range(14, 20)]]
    assert 14 * 8 <= WIDEST < 14 * 13  # one group of measurements fits, two do not
