"""Table S3: a verdict on each of the paper's claims about its ablation, with the interval it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.report.collect import LOCATIONS, UNDEFINED, read_frame
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import footnotes, provenance_line
from ddnet.report.layout import Column, Table
from ddnet.report.statistics import (
    Array,
    Difference,
    Precision,
    holm,
    lacking,
    pair,
    paired_difference,
    pooled_seeds,
    precision,
)
from ddnet.report.wording import MISSING, NOT_FINITE, display_name

SUPPORTED, CONTRADICTED, UNRESOLVED, UNMEASURED = "supported", "contradicted", "not resolved", "not measured"
SIGNIFICANT = 0.05
NAME = "tableS3_claims"
REMAKE = "make the tables again: snakemake --cores 8 tables --forcerun make_table make_defocus_table"
NO_SPREAD = 1e-9  # dB: what is left of differences that are all the same, by rounding
_MEANINGS = {
    "one image": "one image: how far others would fall is not known, so nothing is resolved and there is no interval",
    "one seed": "one seed: how far another training falls is not known, so nothing is resolved",
    "no variance": "no variance: the difference is the same on every image, so no smallest resolvable one is known",
}


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
    if difference.n_seeds > 1 and p < SIGNIFICANT and math.isfinite(spread.margin):
        if min(difference.low, low) > 0 and difference.improved > 0.5:
            return SUPPORTED
        if max(difference.high, high) < 0 and difference.improved < 0.5:
            return CONTRADICTED
    return UNRESOLVED


def _contrast(evidence: Evidence, claim: Claim, location: str | None = None) -> tuple[Difference, Array | None, str]:
    """The difference of a claim's two rows, the (seeds, images) array behind it, and why there is none."""
    values = [evidence.values(name, "psnr", evidence.dataset, location) for name in (claim.better, claim.worse)]
    try:
        difference = paired_difference(values[0], values[1], "psnr", evidence.draws)
    except DDNetError as error:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 0), None, str(error)
    if math.isnan(difference.mean):
        return difference, None, NOT_FINITE if difference.n_images else ""
    return difference, pair(values[0], values[1]), ""


def unresolvable(n_images: int, n_seeds: int, margin: float) -> str:
    """Why there is no smallest resolvable difference, in two words or a few; empty where there is one."""
    return lacking(n_images, n_seeds) or ("" if margin > NO_SPREAD else "no variance")


def _notes(evidence: Evidence, claim: Claim, difference: Difference, why: str) -> list[str]:
    """What is undefined in a claim's row, and why."""
    notes = [_MEANINGS[reason] for reason in why.split(" and ") if reason]
    for location in LOCATIONS:
        part, _, _ = _contrast(evidence, claim, location)
        if part.n_images == 1 < difference.n_images:
            notes.append(f"one {location} image: no interval")
    return notes


def _cells(evidence: Evidence, claim: Claim, difference: Difference, array: Array | None) -> dict[str, Any]:
    agreeing = 0 if array is None else int((array.mean(axis=1) > 0).sum())
    rows = [evidence.printed_row(claim.table, key)["psnr"] for key in claim.printed]
    cells: dict[str, Any] = {
        "key": claim.key, "label": claim.label, "better": claim.better, "worse": claim.worse,
        "dataset": evidence.dataset, "verdict": UNMEASURED,
        "delta_psnr": difference.mean, "delta_psnr_low": difference.low, "delta_psnr_high": difference.high,
        "delta_psnr_p": difference.p, "delta_psnr_improved": difference.improved,
        "seeds_in_favour": "" if array is None else f"{agreeing}/{difference.n_seeds}",
        "n_seeds": difference.n_seeds, "n_images": difference.n_images,
    }  # fmt: skip
    for location in LOCATIONS:
        part, _, _ = _contrast(evidence, claim, location)
        cells |= {f"{location}_delta": part.mean, f"{location}_low": part.low, f"{location}_high": part.high}
    cells["paper_delta_psnr"] = rows[0] - rows[1]
    absent = [name for name in (claim.better, claim.worse) if evidence.values(name, "psnr", evidence.dataset).empty]
    note = f"no run of {' or of '.join(absent)}: no chosen study trains it" if absent else ""
    return cells | {"source": "paper" if absent else "measured", "note": note}


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
    """Table S3: supported, not resolved or contradicted, for each of `CLAIMS`; printed differences stand apart."""
    import pandas as pd

    contrasts = [_contrast(evidence, claim) for claim in CLAIMS]
    spread = pooled_seeds([array for _, array, _ in contrasts if array is not None])
    corrected = holm([difference.p for difference, _, _ in contrasts])
    rows = []
    for claim, (difference, array, problem), p in zip(CLAIMS, contrasts, corrected, strict=True):
        known = Precision(np.nan, np.nan) if array is None else precision(array, spread)
        why = "" if array is None else unresolvable(difference.n_images, difference.n_seeds, known.margin)
        cells = _cells(evidence, claim, difference, array)
        cells |= {"delta_psnr_p_holm": p, "margin": known.margin, "resolvable": np.nan if why else known.resolvable}
        cells["verdict"] = verdict(difference, known, p)
        cells["note"] = "; ".join(filter(None, [cells["note"] or problem, *_notes(evidence, claim, difference, why)]))
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
    frame = read_frame(table, REMAKE, dtype=str, keep_default_na=False)
    rows = frame.to_dict("records")
    try:
        images = max(int(row["n_images"]) for row in rows)
        where = f"measured on {images} image{'s' if images != 1 else ''} of {rows[0]['dataset']}"
        lines = [f"The paper's claims, {where} (Δ PSNR, dB [95 %]; {table.with_suffix('.md')}):"]
        return "\n".join([*lines, *map(_line, rows)])
    except (KeyError, ValueError, OverflowError) as error:
        raise DDNetError(f"{table}: not the table of claims ({str(error)[:100]}); {REMAKE}") from None


def _line(row: Mapping[str, str]) -> str:
    printed = f"printed {_shown(row['paper_delta_psnr'])}"
    if row["verdict"] == UNMEASURED:
        return f"  {row['label']:<25} {row['verdict']:<13} {row['note']}; {printed}"
    low, mean, high = (_shown(row[name]) for name in ("delta_psnr_low", "delta_psnr", "delta_psnr_high"))
    least = _shown(row["resolvable"], signed=False)
    if least == MISSING:  # of a table that was written before, the margin says whether anything varied
        margin = row.get("margin", "")
        why = unresolvable(int(row["n_images"]), int(row["n_seeds"]), 0.0 if margin in UNDEFINED else float(margin))
        least += f" ({why})"
    between = f" [{low}, {high}]" if MISSING not in (low, high) else ""
    return (
        f"  {row['label']:<25} {row['verdict']:<13} {mean}{between}, "
        f"seeds in favour {row['seeds_in_favour']}, resolvable {least}; {printed}"
    )


def _shown(text: str, signed: bool = True) -> str:
    """A number of the CSV with two decimals, `—` where there is none."""
    value = math.nan if text in UNDEFINED else float(text)
    return MISSING if math.isnan(value) else f"{value:+.2f}" if signed else f"{value:.2f}"
