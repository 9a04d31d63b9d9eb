"""The cells of a table: measured, printed, the difference of the two, and differences to a reference row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import provenance_line, unavailable_note
from ddnet.report.layout import Column
from ddnet.report.rows import RowSpec
from ddnet.report.statistics import Difference, holm, lacking, paired_difference
from ddnet.report.wording import NOT_FINITE, display_name

if TYPE_CHECKING:
    import pandas as pd


def add_printed_delta(evidence: Evidence, table: str, reference: str, cells: Sequence[dict[str, Any]]) -> None:
    """Add the printed Δ PSNR to the printed reference row."""
    base = evidence.printed_row(table, reference)["psnr"]
    for row in cells:
        row["paper_delta_psnr"] = row.get("paper_psnr", np.nan) - base


def _difference(evidence: Evidence, row: RowSpec, reference: str | None, dataset: str) -> tuple[Difference, str]:
    """Δ PSNR to a reference row, zero for that row itself; the second value says why there is none."""
    values = evidence.values(row.method, "psnr", dataset)
    base = evidence.values(reference, "psnr", dataset)
    if row.method == reference and not values.empty:
        return Difference(0.0, np.nan, np.nan, np.nan, *values.shape), ""
    try:
        difference = paired_difference(values, base, "psnr", evidence.draws)
    except DDNetError as error:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 0), f"no difference to {reference}: {error}"
    if np.isnan(difference.mean) and difference.n_images:
        return difference, f"no difference to {reference}: {NOT_FINITE}"
    return difference, f"Δ of {lacking(difference.n_images)}: no interval and no p" if difference.n_images == 1 else ""


def _delta_cells(name: str, difference: Difference) -> dict[str, float]:
    return {
        name: difference.mean,
        f"{name}_low": difference.low,
        f"{name}_high": difference.high,
        f"{name}_improved": difference.improved,
        f"{name}_p": difference.p,
    }


def correct(cells: Sequence[dict[str, Any]], *names: str) -> None:
    """Add Holm's correction over all contrasts of a table: `<name>_p_holm` beside every `<name>_p`."""
    contrasts = [(row, name) for row in cells for name in names]
    for (row, name), p in zip(contrasts, holm([row[f"{name}_p"] for row, name in contrasts]), strict=True):
        row[f"{name}_p_holm"] = p


def _missing_notes(evidence: Evidence, row: RowSpec, dataset: str, metrics: Sequence[str], cells: Any) -> list[str]:
    if evidence.values(row.method, "psnr", dataset).empty:
        return [row.reason or f"not measured: no run of {row.method} on {display_name(dataset)} among the inputs"]
    notes = [unavailable_note(evidence, metric) for metric in metrics if np.isnan(cells[metric])]
    if row.variant and np.isnan(cells["params_m"]):
        notes.append(f"size not counted: no complexity file of {row.variant} among the inputs")
    return notes


def row_cells(
    evidence: Evidence,
    row: RowSpec,
    table: str,
    dataset: str,
    metrics: Sequence[str],
    sizes: Sequence[str] = ("params_m", "macs_g"),
    locations: Sequence[str] = (),
    deltas: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """All cells of one row, in the order of the CSV.

    Args:
        deltas: column name -> method of the reference row.
    """
    cells: dict[str, Any] = {
        "key": row.key,
        "label": row.label,
        "method": row.method,
        **row.marks,
        "dataset": dataset,
    }
    for location in (*locations, None):
        prefix = f"{location}_" if location else ""
        for metric in metrics:
            summary = evidence.summary(row.method, metric, dataset, location)
            cells[prefix + metric], cells[f"{prefix}{metric}_sd"] = summary.mean, summary.sd
    seeds = evidence.seeds(row.method, dataset)
    n_images = evidence.summary(row.method, "psnr", dataset).n_images
    cells |= {"n_images": n_images, "n_seeds": len(seeds), "seeds": " ".join(map(str, seeds))}
    cells |= {name: evidence.size(row.method, name) for name in sizes}
    notes = _missing_notes(evidence, row, dataset, metrics, cells)
    for name, reference in (deltas or {}).items():
        difference, problem = _difference(evidence, row, reference, dataset)
        cells |= _delta_cells(name, difference)
        notes += [problem] if problem and problem not in notes else []
    printed = evidence.printed_row(table, row.paper_key) if table in ("table1", "table2", "table3", "table4") else {}
    cells |= {f"paper_{name}": value for name, value in printed.items() if name in cells and not np.isnan(value)}
    measured = n_images > 0
    cells["source"] = "measured" if measured else "paper" if printed else ""
    cells["note"] = "; ".join(notes)
    cells["provenance"] = provenance_line(evidence) if measured else ""
    return cells


def table_frame(rows: Sequence[dict[str, Any]], sections: Sequence[tuple[str, Sequence[Column]]]) -> pd.DataFrame:
    """Rows as a frame that has every shown column, differences to the paper, and the notes last."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    last = ["source", "note", "provenance"]
    shown = [column.name for _, columns in sections for column in columns if column.decimals is not None]
    for name in shown:
        if name not in frame.columns and not name.startswith("diff_"):
            frame[name] = np.nan
    for name in shown:
        if name.startswith("diff_"):
            metric = name.removeprefix("diff_")
            frame[name] = frame[metric].astype(float) - frame[f"paper_{metric}"].astype(float)
    comparisons = [name for name in shown if name.startswith("paper_")] + [n for n in shown if n.startswith("diff_")]
    first = [name for name in frame.columns if name not in (*comparisons, *last)]
    return frame[[*first, *comparisons, *last]]
