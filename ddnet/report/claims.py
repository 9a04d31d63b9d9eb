"""Table S3: a verdict on each of the paper's claims about its ablation, with the interval it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.report.collect import LOCATIONS, read_frame
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import footnotes, provenance_line
from ddnet.report.layout import Column, Table
from ddnet.report.statistics import (
    Array,
    Difference,
    Precision,
    holm,
    pair,
    paired_difference,
    pooled_seeds,
    precision,
)
from ddnet.report.wording import display_name

SUPPORTED, CONTRADICTED, UNRESOLVED, UNMEASURED = "supported", "contradicted", "not resolved", "not measured"
SIGNIFICANT = 0.05
NAME = "tableS3_claims"


@dataclass(frozen=True)
class Claim:
    """`better` restores with a higher PSNR than `worse`, as rows of a printed table have it."""

    key: str
    label: str
    better: str
    worse: str
    table: str
    printed: tuple[str, str]


CLAIMS = (
    Claim("rcab", "RCAB > base", "unet_rcab", "unet", "table3", ("rcab", "base")),
    Claim("gru", "GRU fusion > no depth", "ddnet_1b", "unet_rcab", "table3", ("gru", "rcab")),
    Claim("gru-conv", "GRU > convolution fusion", "ddnet_1b", "fusion_conv", "table4", ("gru", "conv")),
    Claim("gru-input", "GRU > input fusion", "ddnet_1b", "fusion_input", "table4", ("gru", "input")),
    Claim("branches-2", "2 > 1 branch", "ddnet_2b", "ddnet_1b", "table3", ("gru-2branch", "gru")),
    Claim("branches-3", "3 > 2 branches", "ddnet_3b", "ddnet_2b", "table3", ("gru-3branch", "gru-2branch")),
)


def verdict(difference: Difference, spread: Precision, p: float) -> str:
    """What a measured difference says of the claim that it is above zero.

    "supported" (or "contradicted") needs all three: the bootstrap interval lies on that side of zero, so does the t
    interval, which a small number of seeds widens, and the corrected rank test is significant with most images on that
    side. With a single seed nothing is resolved: how far another training would fall is not known.
    """
    if math.isnan(difference.mean):
        return UNMEASURED
    low, high = difference.mean - spread.margin, difference.mean + spread.margin
    if difference.n_seeds > 1 and p < SIGNIFICANT:
        if min(difference.low, low) > 0 and difference.improved > 0.5:
            return SUPPORTED
        if max(difference.high, high) < 0 and difference.improved < 0.5:
            return CONTRADICTED
    return UNRESOLVED


def _contrast(evidence: Evidence, claim: Claim, location: str | None = None) -> tuple[Difference, Array | None]:
    """The difference of a claim's two rows, and the (seeds, images) array behind it, None where there is none."""
    values = [evidence.values(name, "psnr", evidence.dataset, location) for name in (claim.better, claim.worse)]
    difference = paired_difference(values[0], values[1], "psnr", evidence.draws)
    return difference, None if math.isnan(difference.mean) else pair(values[0], values[1])


def _cells(evidence: Evidence, claim: Claim, difference: Difference, array: Array | None) -> dict[str, Any]:
    agreeing = 0 if array is None else int((array.mean(axis=1) > 0).sum())
    rows = [evidence.printed_row(claim.table, key)["psnr"] for key in claim.printed]
    cells: dict[str, Any] = {
        "key": claim.key, "label": claim.label, "better": claim.better, "worse": claim.worse,
        "dataset": evidence.dataset, "verdict": UNMEASURED,
        "delta_psnr": difference.mean, "delta_psnr_low": difference.low, "delta_psnr_high": difference.high,
        "delta_psnr_p": difference.p, "delta_psnr_improved": difference.improved,
        "seeds_in_favour": f"{agreeing}/{difference.n_seeds}" if difference.n_seeds else "",
        "n_seeds": difference.n_seeds, "n_images": difference.n_images,
    }  # fmt: skip
    for location in LOCATIONS:
        part, _ = _contrast(evidence, claim, location)
        cells |= {f"{location}_delta": part.mean, f"{location}_low": part.low, f"{location}_high": part.high}
    cells["paper_delta_psnr"] = rows[0] - rows[1]
    absent = [name for name in (claim.better, claim.worse) if evidence.values(name, "psnr", evidence.dataset).empty]
    note = f"no run of {' or of '.join(absent)}: no chosen study trains it" if absent else ""
    single = "one seed: how far another training falls is not known, so nothing is resolved"
    cells |= {"source": "paper" if absent else "measured", "note": note or (single if difference.n_seeds == 1 else "")}
    return cells


_COLUMNS = (
    Column("label", "Claim of the paper"),
    Column("verdict", "Verdict"),
    Column(
        "delta_psnr", "Δ PSNR, dB [95 %]", "measured", 2, signed=True, interval=("delta_psnr_low", "delta_psnr_high")
    ),
    Column("delta_psnr_p_holm", "p", "measured", 3, floor=0.001),
    Column("delta_psnr_improved", "images better", "measured", 2),
    Column("seeds_in_favour", "seeds in favour", "measured"),
    Column("resolvable", "smallest resolvable Δ", "measured", 2),
    Column("indoor_delta", "indoor", "Δ PSNR", 2, signed=True, interval=("indoor_low", "indoor_high")),
    Column("outdoor_delta", "outdoor", "Δ PSNR", 2, signed=True, interval=("outdoor_low", "outdoor_high")),
    Column("paper_delta_psnr", "Δ PSNR, dB", "paper", 2, signed=True),
)
_HOW = (
    '"supported" or "contradicted" needs three things: the bootstrap interval of Δ excludes zero; so does the t '
    "interval of its standard error over seeds and images, with the variance over seeds pooled over the claims (a "
    "bootstrap alone makes too little of few seeds); and p, of Wilcoxon's signed-rank test with Holm's correction over "
    f"the six claims, is below {SIGNIFICANT:g} with most images on that side. "
    '"not resolved" is not "no difference".'
)
_RESOLVABLE = (
    "Smallest resolvable Δ: a true difference that these seeds and images would have shown at the 5 % level in four "
    "cases of five (80 % power)."
)


def table_s3(evidence: Evidence) -> Table:
    """Table S3: supported, not resolved or contradicted, for each of `CLAIMS`; printed differences stand apart.

    Raises:
        DDNetError: two rows of a claim that cannot be paired.
    """
    import pandas as pd

    contrasts = [_contrast(evidence, claim) for claim in CLAIMS]
    spread = pooled_seeds([array for _, array in contrasts if array is not None])
    corrected = holm([difference.p for difference, _ in contrasts])
    rows = []
    for claim, (difference, array), p in zip(CLAIMS, contrasts, corrected, strict=True):
        known = Precision(np.nan, np.nan) if array is None else precision(array, spread)
        cells = _cells(evidence, claim, difference, array)
        cells |= {"delta_psnr_p_holm": p, "margin": known.margin, "resolvable": known.resolvable}
        cells["verdict"] = verdict(difference, known, p)
        cells["provenance"] = provenance_line(evidence) if cells["source"] == "measured" else ""
        rows.append(cells)
    notes = (*footnotes(evidence, NAME, evidence.dataset, "the row that the claim puts below"), _HOW, _RESOLVABLE)
    title = f"Table S3. The paper's claims ({display_name(evidence.dataset)})"
    caption = "What these runs say of each claim of the paper's ablation; the verdicts are ours."
    frame = pd.DataFrame(rows)
    last = ["source", "note", "provenance"]
    frame = frame[[*frame.columns.drop(last), *last]]
    return Table(NAME, title, caption, frame, (("", _COLUMNS),), notes)


def claims_text(table: Path) -> str:
    """The CSV of Table S3 in lines for a terminal.

    Raises:
        DDNetError: the file is no such table.
    """
    fix = "move it aside and run the workflow again"
    frame = read_frame(table, fix, dtype=str, keep_default_na=False)
    rows = frame.to_dict("records")
    try:
        images = max(int(row["n_images"]) for row in rows)
        where = f"measured on {images} images of {rows[0]['dataset']}"
        lines = [f"The paper's claims, {where} (Δ PSNR, dB [95 %]; {table.with_suffix('.md')}):"]
        return "\n".join([*lines, *map(_line, rows)])
    except (KeyError, ValueError, OverflowError) as error:
        raise DDNetError(f"{table}: not the table of claims ({str(error)[:100]}); {fix}") from None


def _line(row: Mapping[str, str]) -> str:
    printed = f"printed {float(row['paper_delta_psnr']):+.2f}"
    if row["verdict"] == UNMEASURED:
        return f"  {row['label']:<25} {row['verdict']:<13} {row['note']}; {printed}"
    low, mean, high, least = (
        float(row[name]) for name in ("delta_psnr_low", "delta_psnr", "delta_psnr_high", "resolvable")
    )
    return (
        f"  {row['label']:<25} {row['verdict']:<13} {mean:+.2f} [{low:+.2f}, {high:+.2f}], "
        f"seeds in favour {row['seeds_in_favour']}, resolvable {least:.2f}; {printed}"
    )
