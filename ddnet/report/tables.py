"""Tables 1 to 4 of the paper and the depth controls (S1); measured and printed numbers stand apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.report import rows as standard
from ddnet.report.collect import LOCATIONS
from ddnet.report.evidence import METRIC_NAMES, Evidence
from ddnet.report.footnotes import SQUEEZE, footnotes, learned_systems, provenance_line, size_notes, unavailable_note
from ddnet.report.rows import RowSpec
from ddnet.report.statistics import Difference, paired_difference
from ddnet.report.wording import NO_TRUE_DEPTH, display_name, is_rendered

if TYPE_CHECKING:
    import pandas as pd

MEASURED, PAPER, DIFFERENCE = "measured", "paper", "measured − paper"
_ARROWS = {
    "psnr": "↑",
    "ssim": "↑",
    "mae": "↓",
    "lpips_alex": "↓",
    "lpips_squeeze": "↓",
    "params_m": "",
    "macs_g": "",
}
_DECIMALS = {"psnr": 2, "ssim": 3, "mae": 4, "lpips_alex": 3, "lpips_squeeze": 3, "params_m": 2, "macs_g": 1}


@dataclass(frozen=True)
class Column:
    """How one column of the frame is shown.

    Attributes:
        group: heading over neighbouring columns; "" for the row's identity.
        decimals: None for text and ticks.
        best: "max" or "min" where the best and the second value are marked.
        spread: column with the s.d. that follows as ±.
        interval: columns with the ends of an interval that follows in brackets.
    """

    name: str
    header: str
    group: str = ""
    decimals: int | None = None
    best: str = ""
    signed: bool = False
    spread: str = ""
    interval: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """One table: `frame` is the machine-readable form, the rest says how readers see it.

    Attributes:
        sections: (heading, columns) blocks that are shown below each other.
        footnotes: provenance and reading aids, one sentence or two each.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    sections: tuple[tuple[str, tuple[Column, ...]], ...]
    footnotes: tuple[str, ...]


# --- columns ------------------------------------------------------------------------------------------------


def _measured(metric: str, location: str = "", spread: bool = True) -> Column:
    name = f"{location}_{metric}" if location else metric
    best = {"↑": "max", "↓": "min"}.get(_ARROWS[metric], "")
    header = f"{METRIC_NAMES[metric]} {_ARROWS[metric]}".strip()
    has_sd = spread and metric not in ("params_m", "macs_g")
    return Column(name, header, MEASURED, _DECIMALS[metric], best, spread=f"{name}_sd" if has_sd else "")


def _printed(metric: str, location: str = "") -> tuple[Column, Column]:
    shown = _measured(metric, location, spread=False)
    decimals = 3 if metric == "mae" else shown.decimals  # the paper prints three; a fourth would be invented
    return (
        Column(f"paper_{shown.name}", shown.header, PAPER, decimals, shown.best),
        Column(f"diff_{shown.name}", shown.header, DIFFERENCE, shown.decimals, signed=True),
    )


def _compare(metrics: Sequence[str], printed: Sequence[str], location: str = "") -> list[Column]:
    both = [_printed(metric, location) for metric in printed]
    return [
        *(_measured(metric, location) for metric in metrics),
        *(paper for paper, _ in both),
        *(difference for _, difference in both),
    ]


def _delta(name: str, group: str) -> list[Column]:
    ends = (f"{name}_low", f"{name}_high")
    return [
        Column(name, "PSNR [95 %]", group, 2, signed=True, interval=ends),
        Column(f"{name}_improved", "images better", group, 2),
    ]


_METHOD = Column("label", "Method")
_SEEDS = Column("n_seeds", "seeds", MEASURED, 0)


def _with_delta(shown: Sequence[Column], words: str) -> list[Column]:
    """Comparison columns, with Δ PSNR to a reference row at the end of every group."""
    groups = {name: [column for column in shown if column.group == name] for name in (MEASURED, PAPER, DIFFERENCE)}
    header = f"Δ PSNR {words}"
    return [
        *groups[MEASURED],
        _SEEDS,
        *_delta("delta_psnr", f"Δ {words}"),
        *groups[PAPER],
        Column("paper_delta_psnr", header, PAPER, 2, signed=True),
        *groups[DIFFERENCE],
        Column("diff_delta_psnr", header, DIFFERENCE, 2, signed=True),
    ]


def _print_delta(evidence: Evidence, table: str, reference: str, cells: Sequence[dict[str, Any]]) -> None:
    """Add the printed Δ PSNR to the printed reference row."""
    base = evidence.printed_row(table, reference)["psnr"]
    for row in cells:
        row["paper_delta_psnr"] = row.get("paper_psnr", np.nan) - base


# --- rows ---------------------------------------------------------------------------------------------------


def _difference(evidence: Evidence, row: RowSpec, reference: str | None, dataset: str) -> tuple[Difference, str]:
    """Δ PSNR to a reference row, zero for that row itself; the second value says why there is none."""
    values = evidence.values(row.method, "psnr", dataset)
    base = evidence.values(reference, "psnr", dataset)
    if row.method == reference and not values.empty:
        return Difference(0.0, np.nan, np.nan, np.nan, *values.shape), ""
    try:
        return paired_difference(values, base, "psnr", evidence.draws), ""
    except DDNetError as error:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, 0), f"no difference to {reference}: {error}"


def _delta_cells(name: str, difference: Difference) -> dict[str, float]:
    return {
        name: difference.mean,
        f"{name}_low": difference.low,
        f"{name}_high": difference.high,
        f"{name}_improved": difference.improved,
    }


def _missing_notes(evidence: Evidence, row: RowSpec, dataset: str, metrics: Sequence[str], cells: Any) -> list[str]:
    if evidence.values(row.method, "psnr", dataset).empty:
        return [row.reason or f"not measured: no run of {row.method} on {display_name(dataset)} among the inputs"]
    notes = [unavailable_note(evidence, metric) for metric in metrics if np.isnan(cells[metric])]
    if row.variant and np.isnan(cells["params_m"]):
        notes.append(f"size not counted: no complexity file of {row.variant} among the inputs")
    return notes


def _row(
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
        notes += [problem] if problem else []
    printed = evidence.printed_row(table, row.paper_key) if table in ("table1", "table2", "table3", "table4") else {}
    cells |= {f"paper_{name}": value for name, value in printed.items() if name in cells and not np.isnan(value)}
    measured = n_images > 0
    cells["source"] = "measured" if measured else "paper" if printed else ""
    cells["note"] = "; ".join(notes)
    cells["provenance"] = provenance_line(evidence) if measured else ""
    return cells


def _frame(rows: Sequence[dict[str, Any]], sections: Sequence[tuple[str, Sequence[Column]]]) -> pd.DataFrame:
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


# --- the tables ---------------------------------------------------------------------------------------------


def table1(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 1: generalisation to the second test set.

    Raises:
        DDNetError: there is no second test set.
    """
    if evidence.ood_dataset is None:
        raise DDNetError(f"table1: preset {evidence.preset} has no second test set; name one (data.second)")
    rows = standard.TABLE1 if rows is None else rows
    metrics, both = ("psnr", "ssim"), ("psnr", "ssim", "params_m", "macs_g")
    sections = (("", (_METHOD, *_compare(both, both))),)
    dataset = evidence.ood_dataset
    frame = _frame([_row(evidence, row, "table1", dataset, metrics) for row in rows], sections)
    title = f"Table 1. Generalisation ({display_name(dataset)})"
    caption = "Models trained on the main training set, tested on the second test set without any adaptation."
    notes = (*footnotes(evidence, "table1", dataset), *learned_systems(evidence), *size_notes(evidence))
    return Table("table1", title, caption, frame, sections, notes)


def table2(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 2: comparison with other single-image methods, indoor, outdoor and all; other baselines are inserted."""
    rows = standard.comparison_rows(evidence.baselines) if rows is None else rows
    metrics = ("psnr", "ssim", "lpips_alex", "lpips_squeeze", "mae")
    strata, printed = metrics[:4], ("psnr", "ssim", "lpips_squeeze")
    sections = (
        ("Indoor", (_METHOD, *_compare(strata, printed, "indoor"))),
        ("Outdoor", (_METHOD, *_compare(strata, printed, "outdoor"))),
        ("Indoor and outdoor", (_METHOD, *_compare((*metrics, "params_m"), (*printed, "mae", "params_m")))),
    )
    dataset = evidence.dataset
    cells = [_row(evidence, row, "table2", dataset, metrics, ("params_m",), LOCATIONS) for row in rows]
    notes = footnotes(evidence, "table2", dataset)
    title = f"Table 2. Single-image defocus deblurring ({display_name(dataset)})"
    caption = "Comparison with other methods."
    notes = (*notes, *learned_systems(evidence), *size_notes(evidence), SQUEEZE)
    return Table("table2", title, caption, _frame(cells, sections), sections, notes)


def table3(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 3: what each module adds, against the U-Net base; other variants of `modules` are appended."""
    rows = standard.module_rows(evidence.variants) if rows is None else rows
    metrics, dataset, base = ("psnr", "ssim", "mae"), evidence.dataset, "unet"
    ticks = (
        ("base", "Base"),
        ("rcab", "RCAB"),
        ("gru", "GRU"),
        ("branches_2", "2-branch"),
        ("branches_3", "3-branch"),
    )
    shown = _compare(("psnr", "ssim", "mae", "params_m", "macs_g"), metrics)
    columns = (_METHOD, *(Column(name, header) for name, header in ticks), *_with_delta(shown, "to base"))
    cells = [_row(evidence, row, "table3", dataset, metrics, deltas={"delta_psnr": base}) for row in rows]
    _print_delta(evidence, "table3", "base", cells)
    sections = (("", columns),)
    title, caption = f"Table 3. Effects of each module ({display_name(dataset)})", "Ablation of the network's modules."
    notes = footnotes(evidence, "table3", dataset, "the base row")
    return Table("table3", title, caption, _frame(cells, sections), sections, notes)


def table4(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 4: how depth is fused, against the GRU row; variants of the study `fusion` are appended."""
    rows = standard.fusion_rows(evidence.variants) if rows is None else rows
    metrics, dataset = ("psnr", "ssim", "mae", "lpips_alex", "lpips_squeeze"), evidence.dataset
    shown = _compare((*metrics, "params_m", "macs_g"), ("psnr", "ssim", "mae", "lpips_squeeze"))
    columns = (_METHOD, *_with_delta(shown, "to GRU"))
    cells = [_row(evidence, row, "table4", dataset, metrics, deltas={"delta_psnr": "ddnet_1b"}) for row in rows]
    _print_delta(evidence, "table4", "gru", cells)
    sections = (("", columns),)
    notes = footnotes(evidence, "table4", dataset, "the GRU fusion row")
    title = f"Table 4. Fusion methods ({display_name(dataset)})"
    caption = "Comparison of ways to fuse depth with image features."
    return Table("table4", title, caption, _frame(cells, sections), sections, (*notes, SQUEEZE))


def table_s1(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table S1: does the depth help, or do its parameters? Controls against no depth, and true depth where known."""
    rows = standard.depth_rows(evidence.variants) if rows is None else rows
    metrics, dataset = ("psnr", "ssim", "mae"), evidence.dataset
    true = {row.marks["fusion"]: row.method for row in rows if row.marks.get("depth") in standard.TRUE_DEPTH}
    columns = (
        _METHOD,
        Column("fusion", "Fusion"),
        Column("depth", "Depth"),
        *(_measured(metric) for metric in (*metrics, "params_m", "macs_g")),
        _SEEDS,
        *_delta("delta_none", "Δ to no depth"),
        *(_delta("delta_true", "Δ to true depth") if true else ()),
    )
    sections = (("", columns),)
    cells = []
    for row in rows:
        deltas = {"delta_none": "unet_rcab", "delta_true": true.get(row.marks["fusion"])}
        cells.append(_row(evidence, row, "tableS1", dataset, metrics, deltas=deltas))
    title = f"Table S1. Depth controls ({display_name(dataset)})"
    kinds = "true, estimated" if true else "estimated"
    caption = f"The same network with {kinds} and deliberately wrong depth; not in the paper."
    reference = "unet_rcab and to the same fusion with true depth" if true else "unet_rcab"
    notes = footnotes(evidence, "tableS1", dataset, reference)
    if not true and not is_rendered(dataset):
        notes = (*notes, NO_TRUE_DEPTH)
    return Table("tableS1_depth", title, caption, _frame(cells, sections), sections, notes)


BUILDERS: dict[str, Callable[[Evidence], Table]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "tableS1_depth": table_s1,
}
