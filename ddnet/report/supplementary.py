"""Supplementary tables that hold variants against each other: depth controls (S1, S4), readings (S5), fusions (S6)."""

from __future__ import annotations

from collections.abc import Sequence

from ddnet.report import rows as standard
from ddnet.report.cells import correct, row_cells, table_frame
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import footnotes
from ddnet.report.layout import METHOD, SEEDS, Column, Table, delta, measured
from ddnet.report.rows import RowSpec
from ddnet.report.wording import NO_TRUE_DEPTH, display_name, is_rendered


def _controls(evidence: Evidence, name: str, title: str, rows: Sequence[RowSpec] | None) -> Table:
    """Controls against no depth and, of the same fusion, against true and against constant depth where there are."""
    rows = standard.depth_rows(evidence.variants) if rows is None else rows
    metrics, dataset = ("psnr", "ssim", "mae"), evidence.dataset
    true = {row.marks["fusion"]: row.method for row in rows if row.marks.get("depth") in standard.TRUE_DEPTH}
    constant = {row.marks["fusion"]: row.method for row in rows if row.marks.get("depth") == "constant"}
    contrasts = ["delta_none", *(["delta_true"] if true else []), *(["delta_constant"] if constant else [])]
    words = {"delta_none": "no depth", "delta_true": "true depth", "delta_constant": "constant depth"}
    columns = (
        METHOD,
        Column("fusion", "Fusion"),
        Column("depth", "Depth"),
        *(measured(metric) for metric in (*metrics, "params_m", "macs_g")),
        SEEDS,
        *(column for contrast in contrasts for column in delta(contrast, f"Δ to {words[contrast]}")),
    )
    cells = []
    for row in rows:
        fusion = row.marks["fusion"]
        references = {
            "delta_none": "unet_rcab", "delta_true": true.get(fusion), "delta_constant": constant.get(fusion),
        }  # fmt: skip
        cells.append(row_cells(evidence, row, name, dataset, metrics, deltas=references))
    correct(cells, *words)
    kinds = "true, estimated" if true else "estimated"
    caption = f"The same network with {kinds} and deliberately wrong depth; not in the paper."
    same = [words[contrast] for contrast in contrasts[1:]]
    reference = "unet_rcab" + (f" and, within a fusion, to {' and to '.join(same)}" if same else "")
    notes = footnotes(evidence, name, dataset, reference)
    if not true and not is_rendered(dataset):
        notes = (*notes, NO_TRUE_DEPTH)
    sections = (("", columns),)
    title = f"{title} ({display_name(dataset)})"
    return Table(name, title, caption, table_frame(cells, sections), sections, notes)


def table_s1(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table S1: does the depth help, or do its parameters? The controls of the default run."""
    return _controls(evidence, "tableS1_depth", "Table S1. Depth controls", rows)


def table_s4(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table S4: every control, for GRU and input fusion, and networks of the GRU's size without depth or gates."""
    return _controls(evidence, "tableS4_controls", "Table S4. All depth controls", rows)


def _against_default(
    evidence: Evidence, name: str, rows: Sequence[RowSpec], reference: str, title: str, caption: str
) -> Table:
    """Variants against the 1-branch DDNet, which heads the table; `reference` is what the table calls it."""
    metrics, dataset = ("psnr", "ssim", "mae"), evidence.dataset
    shown = (measured(metric) for metric in (*metrics, "params_m", "macs_g"))
    sections = (("", (METHOD, *shown, SEEDS, *delta("delta_psnr", f"Δ to {reference}"))),)
    cells = [row_cells(evidence, row, name, dataset, metrics, deltas={"delta_psnr": "ddnet_1b"}) for row in rows]
    correct(cells, "delta_psnr")
    notes = footnotes(evidence, name, dataset, "ddnet_1b")
    return Table(name, f"{title} ({display_name(dataset)})", caption, table_frame(cells, sections), sections, notes)


def table_s5(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table S5: which reading? Where the paper's text, its counts and its authors' code say different things."""
    rows = standard.reading_rows(evidence.variants) if rows is None else rows
    caption = "The default reading of the paper, whose sizes are the printed ones, and the others; not in the paper."
    title = "Table S5. Which reading?"
    return _against_default(evidence, "tableS5_readings", rows, "the default reading", title, caption)


def table_s6(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table S6: more ways to fuse depth, and none of it, against GRU fusion."""
    rows = standard.more_fusion_rows(evidence.variants) if rows is None else rows
    caption = "The same network with other ways to fuse depth with image features; not in the paper."
    return _against_default(evidence, "tableS6_fusions", rows, "GRU", "Table S6. More fusions", caption)
