"""What the page takes from tables that are written already: their HTML as it stands, and the verdicts of Table S3."""

from __future__ import annotations

import html.parser
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.report.claims import REMAKE, UNMEASURED
from ddnet.report.collect import UNDEFINED, read_frame
from ddnet.report.wording import MISSING, format_number

FIX = REMAKE
_MAIN, _END = "<main>\n", "</main>"
_TAGS = frozenset(("h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "sup"))
_ATTRIBUTES = frozenset(("class", "colspan", "data-value"))


@dataclass(frozen=True)
class ShownTable:
    """A table for the page.

    Attributes:
        name: such as `table3`; files of that name are linked.
        title: its heading, as text.
        body: the rest as HTML, of `formats.to_html`'s few elements and no others.
    """

    name: str
    title: str
    body: str


class _Checked(html.parser.HTMLParser):
    """Refuses what `to_html` does not write: the page embeds its tables as they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.title = ""
        self.wrong = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS or {name for name, _ in attrs} - _ATTRIBUTES:
            self.wrong = self.wrong or f"has an element that no table has, <{tag}>"
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong = self.wrong or f"<{tag}> is closed where it was not opened"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h1":
            self.title += data

    def handle_comment(self, data: str) -> None:
        self.wrong = self.wrong or "has a comment"

    def handle_decl(self, decl: str) -> None:
        self.wrong = self.wrong or "has a declaration inside"

    def handle_pi(self, data: str) -> None:
        self.wrong = self.wrong or "has an instruction inside"


def read_table(path: str | Path) -> ShownTable:
    """A table's HTML file, as `formats.write_table` wrote it.

    Raises:
        DDNetError: the file is missing, is no such table, or has anything in it that could act in a browser.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DDNetError(f"{path}: no such file; {FIX}") from None
    except UnicodeDecodeError:
        raise DDNetError(f"{path}: not text; {FIX}") from None
    _, began, rest = text.partition(_MAIN)
    markup, ended, _ = rest.partition(_END)
    checked = _Checked()
    if began and ended:
        checked.feed(markup)
        checked.close()
    if not (began and ended) or checked.wrong or checked.open or not checked.title:
        what = checked.wrong or (f"<{checked.open[-1]}> is not closed" if checked.open else "not a table of this suite")
        raise DDNetError(f"{path}: {what}; {FIX}")
    return ShownTable(path.stem, checked.title, markup.partition("</h1>")[2].strip())


@dataclass(frozen=True)
class ShownClaim:
    """A claim and its verdict, with places in percent of the axis that all claims share; None where not measured.

    Attributes:
        measured: Δ PSNR and its interval in words.
        printed: the paper's Δ PSNR in words.
        detail: p and seeds, or why there is no measurement.
    """

    label: str
    verdict: str
    measured: str
    printed: str
    detail: str
    low: float | None
    mean: float | None
    high: float | None
    paper: float | None


@dataclass(frozen=True)
class Claims:
    """Table S3 for the top of the page; `zero` is the place of no difference on the axis, in percent."""

    rows: tuple[ShownClaim, ...]
    zero: float
    images: int
    seeds: int

    def count(self, verdict: str) -> int:
        """How many claims have this verdict."""
        return sum(row.verdict == verdict for row in self.rows)


_NUMBERS = ("delta_psnr", "delta_psnr_low", "delta_psnr_high", "delta_psnr_p_holm", "paper_delta_psnr", "n_images")
_WORDS = ("label", "verdict", "seeds_in_favour", "note")


def read_claims(path: str | Path) -> Claims:
    """The CSV of Table S3.

    Raises:
        DDNetError: the file is no such table.
    """
    path = Path(path)
    words = dict.fromkeys(_WORDS, str)
    empty = {name: list(UNDEFINED) for name in _NUMBERS}
    frame = read_frame(path, FIX, _NUMBERS, dtype=words, keep_default_na=False, na_values=empty)
    lacking = [name for name in (*_NUMBERS, *_WORDS) if name not in frame.columns]
    if lacking or frame.empty:
        raise DDNetError(f"{path}: {f'lacks {lacking[0]}' if lacking else 'has no claim'}; {FIX}")
    rows: Sequence[Mapping[str, Any]] = frame.to_dict("records")
    ends = [float(row[name]) for row in rows for name in (*_NUMBERS[:3], "paper_delta_psnr")]
    known = [0.0, *(value for value in ends if math.isfinite(value))]
    low, high = min(known), max(known)
    span = 1.16 * (high - low) or 1.0
    start = (low + high - span) / 2

    def place(value: float) -> float | None:
        return round(100 * (value - start) / span, 2) if math.isfinite(value) else None

    shown = [_claim(row, {name: place(float(row[name])) for name in _NUMBERS[:3] + _NUMBERS[4:5]}) for row in rows]
    counts = [row["n_images"] for row in rows if math.isfinite(row["n_images"])]
    zero = place(0.0) or 0.0
    seeds = [str(row["seeds_in_favour"]).rpartition("/")[2] for row in rows]
    return Claims(
        tuple(shown), zero, int(max(counts, default=0)), max((int(s) for s in seeds if s.isdigit()), default=0)
    )


def _claim(row: Mapping[str, Any], places: Mapping[str, float | None]) -> ShownClaim:
    low, mean, high = (
        format_number(float(row[name]), 2, signed=True) for name in ("delta_psnr_low", "delta_psnr", "delta_psnr_high")
    )
    measured = row["verdict"] != UNMEASURED
    between = f" [{low}, {high}]" if MISSING not in (low, high) else ""
    p = float(row["delta_psnr_p_holm"])
    said = ["" if math.isnan(p) else f"p {p:.3f}" if p >= 0.001 else "p < 0.001", row["note"]]
    detail = ", ".join(filter(None, [f"seeds in favour {row['seeds_in_favour']}", *said]))
    return ShownClaim(
        label=row["label"],
        verdict=row["verdict"],
        measured=f"{mean}{between} dB" if measured else "",
        printed=f"{format_number(float(row['paper_delta_psnr']), 2, signed=True)} dB",
        detail=detail if measured else row["note"],
        low=places["delta_psnr_low"],
        mean=places["delta_psnr"],
        high=places["delta_psnr_high"],
        paper=places["paper_delta_psnr"],
    )
