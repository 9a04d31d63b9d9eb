"""Tables 1 to 4 of the paper; measured and printed numbers stand apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ddnet.errors import DDNetError
from ddnet.report import rows as standard
from ddnet.report.cells import add_printed_delta, correct, row_cells, table_frame
from ddnet.report.claims import table_s3
from ddnet.report.collect import LOCATIONS
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import SQUEEZE, footnotes, system_notes
from ddnet.report.layout import METHOD, Column, Table, compare, with_delta
from ddnet.report.rows import RowSpec
from ddnet.report.supplementary import table_s1, table_s4, table_s5, table_s6
from ddnet.report.wording import display_name


def table1(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 1: generalisation to the second test set.

    Raises:
        DDNetError: there is no second test set.
    """
    if evidence.ood_dataset is None:
        raise DDNetError(f"table1: preset {evidence.preset} has no second test set; name one (data.second)")
    rows = standard.TABLE1 if rows is None else rows
    metrics, both = ("psnr", "ssim"), ("psnr", "ssim", "params_m", "macs_g")
    sections = (("", (METHOD, *compare(both, both))),)
    dataset = evidence.ood_dataset
    frame = table_frame([row_cells(evidence, row, "table1", dataset, metrics) for row in rows], sections)
    title = f"Table 1. Generalisation ({display_name(dataset)})"
    caption = "Models trained on the main training set, tested on the second test set without any adaptation."
    notes = (*footnotes(evidence, "table1", dataset), *system_notes(evidence))
    return Table("table1", title, caption, frame, sections, notes)


def table2(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 2: comparison with other single-image methods, indoor, outdoor and all; other baselines are inserted."""
    rows = standard.comparison_rows(evidence.baselines) if rows is None else rows
    metrics = ("psnr", "ssim", "lpips_alex", "lpips_squeeze", "mae")
    strata, printed = metrics[:4], ("psnr", "ssim", "lpips_squeeze")
    sections = (
        ("Indoor", (METHOD, *compare(strata, printed, "indoor"))),
        ("Outdoor", (METHOD, *compare(strata, printed, "outdoor"))),
        ("Indoor and outdoor", (METHOD, *compare((*metrics, "params_m"), (*printed, "mae", "params_m")))),
    )
    dataset = evidence.dataset
    cells = [row_cells(evidence, row, "table2", dataset, metrics, ("params_m",), LOCATIONS) for row in rows]
    notes = footnotes(evidence, "table2", dataset)
    title = f"Table 2. Single-image defocus deblurring ({display_name(dataset)})"
    caption = "Comparison with other methods."
    notes = (*notes, *system_notes(evidence), SQUEEZE)
    return Table("table2", title, caption, table_frame(cells, sections), sections, notes)


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
    shown = compare(("psnr", "ssim", "mae", "params_m", "macs_g"), metrics)
    columns = (METHOD, *(Column(name, header) for name, header in ticks), *with_delta(shown, "to base"))
    cells = [row_cells(evidence, row, "table3", dataset, metrics, deltas={"delta_psnr": base}) for row in rows]
    correct(cells, "delta_psnr")
    add_printed_delta(evidence, "table3", "base", cells)
    sections = (("", columns),)
    title, caption = f"Table 3. Effects of each module ({display_name(dataset)})", "Ablation of the network's modules."
    notes = footnotes(evidence, "table3", dataset, "the base row")
    return Table("table3", title, caption, table_frame(cells, sections), sections, notes)


def table4(evidence: Evidence, rows: Sequence[RowSpec] | None = None) -> Table:
    """Table 4: how depth is fused, against the GRU row; variants of the study `fusion` are appended."""
    rows = standard.fusion_rows(evidence.variants) if rows is None else rows
    metrics, dataset = ("psnr", "ssim", "mae", "lpips_alex", "lpips_squeeze"), evidence.dataset
    shown = compare((*metrics, "params_m", "macs_g"), ("psnr", "ssim", "mae", "lpips_squeeze"))
    columns = (METHOD, *with_delta(shown, "to GRU"))
    cells = [row_cells(evidence, row, "table4", dataset, metrics, deltas={"delta_psnr": "ddnet_1b"}) for row in rows]
    correct(cells, "delta_psnr")
    add_printed_delta(evidence, "table4", "gru", cells)
    sections = (("", columns),)
    notes = footnotes(evidence, "table4", dataset, "the GRU fusion row")
    title = f"Table 4. Fusion methods ({display_name(dataset)})"
    caption = "Comparison of ways to fuse depth with image features."
    return Table("table4", title, caption, table_frame(cells, sections), sections, (*notes, SQUEEZE))


BUILDERS: dict[str, Callable[[Evidence], Table]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "tableS1_depth": table_s1,
    "tableS3_claims": table_s3,
    "tableS4_controls": table_s4,
    "tableS5_readings": table_s5,
    "tableS6_fusions": table_s6,
}
