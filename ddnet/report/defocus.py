"""Table S2: defocus maps against the embedded benchmark's true blur, and what deconvolution by them gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.data.embedded.true_blur import FLATTEST, WINDOW
from ddnet.errors import DDNetError
from ddnet.report.collect import KEYS, LOCATIONS, UNDEFINED, merge_provenance, read_frame, read_json
from ddnet.report.evidence import Evidence
from ddnet.report.footnotes import provenance_line
from ddnet.report.layout import Column, Table
from ddnet.report.statistics import DRAWS, interval
from ddnet.report.wording import NOT_FINITE, TRIAL_NOTE, display_name

if TYPE_CHECKING:
    import pandas as pd

TRUE, CONSTANT = "true", "constant"
REFERENCES = {TRUE: "True map", CONSTANT: "Constant (training median)"}
METHODS = {"hyper_laplacian": "hyper-Laplacian", "richardson_lucy": "Richardson-Lucy"}
MEASURED = ("mae_px", "bias_px", "spearman", "psnr_input", *(f"psnr_{method}" for method in METHODS))
POOLED = ("mae_px", "bias_px", "mean_px", "pixels", "textured_pixels", "settings")  # of scores.json, and spearman

_MAP, _RANKS, _GAIN = "σ, px", "Spearman", "Δ PSNR, dB"


@dataclass(frozen=True)
class MapSource:
    """One row: where the evaluation of a map lies, and what a reader has to know about it.

    Attributes:
        name: a compared system, or "true" or "constant".
        label: what stands in the table and over the figure's column.
        folder: holds `per_image.csv`, `scores.json` and the panel scenes' `maps/<dataset>/<scene>.npy`.
        note: such as what of it was learned here, without a full stop; "" for none.
    """

    name: str
    label: str
    folder: Path
    note: str = ""

    @property
    def is_reference(self) -> bool:
        """Whether it is no system but what systems are held against."""
        return self.name in REFERENCES


def map_sources(
    files: Sequence[str | Path], labels: Mapping[str, str], notes: Mapping[str, str] | None = None
) -> list[MapSource]:
    """Rows in the order of `files`, each in a folder of the map's name; the two references have labels of their own."""
    known, folders = {**REFERENCES, **labels}, [Path(file).parent for file in files]
    return [
        MapSource(folder.name, known.get(folder.name, folder.name), folder, (notes or {}).get(folder.name, ""))
        for folder in folders
    ]


def read_map(source: MapSource) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A source's values per image, NaN where a correlation is not defined, and its pooled scores.

    Raises:
        DDNetError: a file is missing or lacks an entry.
    """

    path = source.folder / "per_image.csv"
    missing_values = {name: list(UNDEFINED) for name in MEASURED}
    fix, keys = "evaluate this defocus map again", dict.fromkeys(KEYS, str)
    frame = read_frame(path, fix, MEASURED, dtype=keys, keep_default_na=False, na_values=missing_values)
    scores = read_json(source.folder / "scores.json")
    lacking = [name for name in (*KEYS, *MEASURED) if name not in frame.columns]
    lacking += [f"{name} (scores.json)" for name in POOLED if name not in scores]
    if lacking or frame.empty:
        what = f"lacks {lacking[0]}" if lacking else "has no scene"
        raise DDNetError(f"{path}: {what}; evaluate this defocus map again")
    return frame.sort_values(["dataset", "scene"], ignore_index=True), scores


def _check_same_scenes(frames: Mapping[str, pd.DataFrame]) -> None:
    first, *others = frames
    for name in others:
        same = frames[name][["dataset", "scene"]].equals(frames[first][["dataset", "scene"]])
        if not same or not np.allclose(frames[name]["psnr_input"], frames[first]["psnr_input"], atol=1e-5):
            raise DDNetError(
                f"the maps {first} and {name} were evaluated on different images; evaluate both on one index"
            )


def _with_interval(name: str, values: np.ndarray[Any, Any], draws: int) -> dict[str, float]:
    several = len(values) > 1 and np.isfinite(values).all()
    low, high = interval(values[None, :], draws) if several else (np.nan, np.nan)
    mean = float(values.mean()) if np.isfinite(values).all() else np.nan
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _row(source: MapSource, frame: pd.DataFrame, scores: Mapping[str, Any], draws: int) -> dict[str, Any]:
    cells: dict[str, Any] = {"key": source.name, "label": source.label, "reference": source.is_reference}
    cells |= {"dataset": frame["dataset"].iloc[0], "n_images": len(frame)}
    cells |= _with_interval("mae_px", frame["mae_px"].to_numpy(float), draws)
    cells |= {"bias_px": frame["bias_px"].mean(), "psnr_input": frame["psnr_input"].mean()}
    cells["pooled_mae_px"], cells["pooled_bias_px"] = scores["mae_px"], scores["bias_px"]
    pooled = scores.get("spearman")
    cells["pooled_spearman"] = np.nan if pooled is None else float(pooled)
    defined = frame["spearman"].dropna()
    cells["spearman"] = defined.mean() if len(defined) else np.nan
    for method in METHODS:
        with np.errstate(invalid="ignore"):
            gain = frame[f"psnr_{method}"].to_numpy(float) - frame["psnr_input"].to_numpy(float)
        cells |= _with_interval(f"gain_{method}", gain, draws)
    note = [source.note] if source.note else []
    if len(defined) < len(frame) and source.name != CONSTANT:  # of the constant a footnote says so
        count = len(frame) - len(defined)
        left_out = ", which its mean leaves out" if len(defined) else ""
        note.append(f"rank correlation not defined in {count} of {len(frame)} images{left_out}")
    if any(np.isnan(cells[f"gain_{method}"]) for method in METHODS):
        note.append(f"no Δ PSNR: {NOT_FINITE}")
    return cells | {"source": "measured", "note": "; ".join(note)}


def _columns() -> tuple[Column, ...]:
    def ends(name: str) -> tuple[str, str]:
        return f"{name}_low", f"{name}_high"

    gains = [
        Column(f"gain_{method}", f"{label} ↑ [95 %]", _GAIN, 2, "max", signed=True, interval=ends(f"gain_{method}"))
        for method, label in METHODS.items()
    ]
    return (
        Column("label", "Map"),
        Column("mae_px", "MAE ↓ [95 %]", _MAP, 3, "min", interval=ends("mae_px")),
        Column("bias_px", "bias", _MAP, 3, signed=True),
        Column("pooled_spearman", "pooled ↑", _RANKS, 2, "max"),
        Column("spearman", "per image ↑", _RANKS, 2, "max"),
        *gains,
        Column("n_images", "images", "", 0),
    )


def _footnotes(
    frame: pd.DataFrame, scores: Mapping[str, Mapping[str, Any]], evidence: Evidence, draws: int
) -> tuple[str, ...]:
    counts = {name: int((frame["location"] == name).sum()) for name in LOCATIONS}
    strata = f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if any(counts.values()) else ""
    one = next(iter(scores.values()))
    settings, share = one["settings"], 100.0 * one["textured_pixels"] / one["pixels"]
    notes = [TRIAL_NOTE] if evidence.trial else []
    notes += [
        f"Measured on {display_name(evidence.dataset)}: {len(frame)} test "
        f"image{'s' if len(frame) != 1 else ''}{strata}, preset {evidence.preset}.",
        "True σ: c/4, where c is the diameter in pixels of the circle of confusion, from each pixel's true depth and "
        "the lens; a Gaussian of this σ has the second moment of that disc.",
        "MAE and bias (estimate less truth) over all pixels of an image, then mean over images.",
        "Spearman's rank correlation over textured pixels, around which the sharp target's luma has a standard "
        f"deviation above {FLATTEST:g} of [0, 1] in {WINDOW}×{WINDOW} pixels ({share:.0f} % of all): pooled over the "
        "test set, or per image and then averaged.",
        "Δ PSNR: of the image deconvolved by the map, less that of the blurred input. Hyper-Laplacian prior: alpha "
        f"{settings['alpha']:g}, lambda {settings['lam']:g}, the field's for DPDD; Richardson-Lucy: "
        f"{settings['iterations']} iterations. These settings were not fitted to this benchmark.",
        f"Intervals: 95 %, by a bootstrap over images ({draws:,} draws)."
        if len(frame) > 1
        else "One image: how far others would fall is not known, so there is no interval.",
    ]
    if TRUE in scores:
        notes.append(f"{REFERENCES[TRUE]}: what these deconvolutions gain where the blur is known; not a system.")
    if CONSTANT in scores:
        value = scores[CONSTANT]["mean_px"]
        notes.append(
            f"{REFERENCES[CONSTANT]}: the median true σ of the training scenes, {value:.3f} px, everywhere: what a map "
            "has to beat; it ranks nothing, so it has no rank correlation."
        )
    if line := provenance_line(evidence):
        notes.append(f"Provenance: {line}.")
    return tuple(notes)


def table_s2(sources: Sequence[MapSource], preset: str, trial: bool = False, draws: int = DRAWS) -> Table:
    """Table S2, a row per source in their order; best values are marked among the systems.

    Args:
        draws: bootstrap draws per interval.

    Raises:
        DDNetError: no source, one whose files are missing or broken, or sources evaluated on different images.
    """
    import pandas as pd

    if not sources:
        raise DDNetError("tableS2: there is no defocus map to compare; evaluate one first")
    read = {source.name: read_map(source) for source in sources}
    frames, scores = ({name: both[part] for name, both in read.items()} for part in (0, 1))
    _check_same_scenes(frames)
    images = frames[sources[0].name]
    provenance = merge_provenance(found.get("provenance", {}) for found in scores.values())
    dataset = str(images["dataset"].iloc[0])
    evidence = Evidence(images, Path(), preset, dataset, provenance=provenance, trial=trial)
    rows = [_row(source, frames[source.name], scores[source.name], draws) for source in sources]
    frame = pd.DataFrame(rows).assign(provenance=provenance_line(evidence))
    title = f"Table S2. Defocus maps ({display_name(dataset)})"
    caption = "Estimated σ against the true one, and what non-blind deconvolution by each map gains; not in the paper."
    notes = _footnotes(images, scores, evidence, draws)
    return Table("tableS2_defocus", title, caption, frame, (("", _columns()),), notes)
