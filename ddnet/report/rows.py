"""Which rows stand in which table; what a user adds to a study is appended to its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ddnet.config import Baseline
from ddnet.report.collect import VariantInfo

TRUE_DEPTH = ("rendered", "oracle")
ESTIMATED_DEPTH = ("", "monodepth2", "depth_anything")  # "" is the preset's own source


@dataclass(frozen=True)
class RowSpec:
    """One row of a table.

    Attributes:
        key: stable name in the CSV.
        label: what a reader sees.
        variant, baseline: whose runs are measured here; at most one of the two.
        paper_key: the row of the printed table, None where the paper has no such row.
        marks: extra identity columns, such as the ticks of Table 3.
        reason: why there is no measurement, for a row that a preset may leave out.
    """

    key: str
    label: str
    variant: str | None = None
    baseline: str | None = None
    paper_key: str | None = None
    marks: Mapping[str, bool | str] = field(default_factory=dict)
    reason: str = ""

    @property
    def method(self) -> str | None:
        """The name under which this row's runs stand in the collected frame."""
        return self.variant or self.baseline


def _compared(name: str, label: str, paper_key: str) -> RowSpec:
    reason = "not measured: this preset gives it no weights; choose some under `systems`"
    return RowSpec(name, label, baseline=name, paper_key=paper_key, reason=reason)


BLURRED = RowSpec("blurred", "Blurred input", baseline="blurred")
DEFOCUSGAN = _compared("defocusgan", "DefocusGAN", "DefocusGAN")

TABLE1 = (
    BLURRED,
    DEFOCUSGAN,
    RowSpec("ddnet_1b", "DDNet (1-branch)", "ddnet_1b", paper_key="DDNet (1-branch)"),
)

TABLE2 = (
    BLURRED,
    _compared("jnb", "JNB", "JNB"),
    _compared("ebdb", "EBDB", "EBDB"),
    _compared("dmenet", "DMENet", "DMENet"),
    _compared("dpdnet", "DPDNet (single)", "DPDNet (single)"),
    _compared("ifan", "IFAN", "IFAN"),
    _compared("kpac", "KPAC", "KPAC"),
    _compared("mdpnet", "MDPNet", "MDPNet"),
    DEFOCUSGAN,
    RowSpec("ddnet_1b", "DDNet (1-branch)", "ddnet_1b"),
    RowSpec("ddnet_2b", "DDNet (2-branch)", "ddnet_2b", paper_key="DDNet (2-branch)"),
)


def comparison_rows(baselines: Iterable[Baseline]) -> list[RowSpec]:
    """Rows of Table 2: the paper's, and after a system's own row the other lines of the baselines file that use it."""
    rows = list(TABLE2)
    standard = {row.key for row in rows}
    for baseline in baselines:
        if baseline.name in standard:
            continue
        place = max((i for i, row in enumerate(rows) if row.baseline == baseline.system), default=-1)
        place = place if place >= 0 else max(i for i, row in enumerate(rows) if row.baseline)
        rows.insert(place + 1, RowSpec(baseline.name, baseline.label, baseline=baseline.name))
    return rows


def _ticks(rcab: bool, gru: bool, branches: int) -> dict[str, bool | str]:
    return {"base": True, "rcab": rcab, "gru": gru, "branches_2": branches == 2, "branches_3": branches == 3}


TABLE3 = (
    RowSpec("base", "Base (U-Net)", "unet", paper_key="base", marks=_ticks(False, False, 1)),
    RowSpec("rcab", "+ RCAB", "unet_rcab", paper_key="rcab", marks=_ticks(True, False, 1)),
    RowSpec("gru", "+ GRU fusion", "ddnet_1b", paper_key="gru", marks=_ticks(True, True, 1)),
    RowSpec("gru-2branch", "+ 2 branches", "ddnet_2b", paper_key="gru-2branch", marks=_ticks(True, True, 2)),
    RowSpec("gru-3branch", "+ 3 branches", "ddnet_3b", paper_key="gru-3branch", marks=_ticks(True, True, 3)),
)

TABLE4 = (
    RowSpec("input", "Input fusion", "fusion_input", paper_key="input"),
    RowSpec("conv", "Convolution fusion", "fusion_conv", paper_key="conv"),
    RowSpec("gru", "GRU fusion", "ddnet_1b", paper_key="gru"),
)


def _added(standard: Iterable[RowSpec], variants: Iterable[VariantInfo], study: str) -> list[VariantInfo]:
    known = {row.variant for row in standard}
    return [variant for variant in variants if study in variant.studies and variant.name not in known]


def module_rows(variants: Iterable[VariantInfo]) -> list[RowSpec]:
    """Rows of Table 3: the paper's five, then every other variant of the study `modules`."""
    added = _added(TABLE3, variants, "modules")
    return [
        *TABLE3,
        *(
            RowSpec(v.name, v.label, v.name, marks=_ticks(v.arch != "unet", v.fusion == "gru", v.branches))
            for v in added
        ),
    ]


def fusion_rows(variants: Iterable[VariantInfo]) -> list[RowSpec]:
    """Rows of Table 4: the paper's three, then every other variant of the study `fusion`."""
    return [*TABLE4, *(RowSpec(v.name, v.label, v.name) for v in _added(TABLE4, variants, "fusion"))]


def depth_rows(variants: Iterable[VariantInfo]) -> list[RowSpec]:
    """Rows of Table S1: no depth, then per fusion the true depth, the estimated one, and the controls.

    The network of `unet_rcab` heads the table whether or not a study lists it: it is what every control is
    held against.
    """
    chosen = {
        v.name: v for v in variants if {"depth", "controls"} & {*v.studies} or v.name in ("unet_rcab", "ddnet_1b")
    }

    def order(variant: VariantInfo) -> tuple[bool, str, int]:
        kind = 0 if variant.depth_source in TRUE_DEPTH else 1 if variant.depth_source in ESTIMATED_DEPTH else 2
        return variant.uses_depth, variant.fusion, kind

    rows = []
    for variant in sorted(chosen.values(), key=order):
        source = (variant.depth_source or "preset default") if variant.uses_depth else "none"
        fusion = variant.fusion if variant.uses_depth else "none"
        rows.append(RowSpec(variant.name, variant.label, variant.name, marks={"fusion": fusion, "depth": source}))
    return rows


def reading_rows(variants: Iterable[VariantInfo]) -> list[RowSpec]:
    """Rows of Table S5: the default reading first, then every other variant of the study `readings`."""
    return _led_by_default(variants, "readings")


def more_fusion_rows(variants: Iterable[VariantInfo]) -> list[RowSpec]:
    """Rows of Table S6: GRU fusion first, then every other variant of the study `fusions`, no depth among them."""
    return _led_by_default(variants, "fusions")


def _led_by_default(variants: Iterable[VariantInfo], study: str) -> list[RowSpec]:
    chosen = [v for v in variants if study in v.studies or v.name == "ddnet_1b"]
    return [RowSpec(v.name, v.label, v.name) for v in sorted(chosen, key=lambda v: v.name != "ddnet_1b")]
