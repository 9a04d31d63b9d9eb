"""Read run folders into one long table of per-image values; every table, figure and export starts from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.io import files

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze", "seconds")
KEYS = ("dataset", "scene", "location")
LONG_COLUMNS = ("variant", "seed", "label", *KEYS, "metric", "value")
LOCATIONS = ("indoor", "outdoor")
UNDEFINED = ("", "—", "nan", "NaN", "NA")  # what a table's cell without a value may hold
PROVENANCE_KEYS = (
    "commit", "dirty", "config_hash", "code_digest", "data_digest", "device", "versions", "date",
)  # fmt: skip


@dataclass(frozen=True)
class VariantInfo:
    """What a report has to know about a variant; made from `ddnet.config.Variant` by the caller.

    Attributes:
        studies: the studies that show it; the first one is its home in MLflow.
        fusion: registry name of the fusion, or "none" for a network that sees no depth.
        depth_source: where its depth comes from (`monodepth2`, `rendered`, ...); ignored without fusion.
        config: everything that was configured for it, shown in model cards and MLflow.
    """

    name: str
    label: str
    studies: tuple[str, ...] = ()
    arch: str = "ddnet"
    fusion: str = "none"
    branches: int = 1
    depth_source: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uses_depth(self) -> bool:
        """Whether depth enters the network at all."""
        return self.fusion not in ("", "none")


@dataclass(frozen=True)
class RunRef:
    """Where one run lies: a variant trained with one seed, or a baseline (`seed` None)."""

    variant: str
    seed: int | None
    label: str
    folder: Path

    @property
    def name(self) -> str:
        """`<variant>-seed<k>`, or the baseline's name."""
        return self.variant if self.seed is None else f"{self.variant}-seed{self.seed}"


@dataclass(frozen=True)
class RunResult:
    """The files of one run folder.

    Attributes:
        images: one row per dataset and scene, columns `KEYS` and `METRICS`; NaN where a metric was
            unavailable.
        evaluation, manifest: the JSON files, empty where there is none (a baseline has no training manifest).
        history: one row per validation, empty for a baseline.
    """

    folder: Path
    images: pd.DataFrame
    evaluation: Mapping[str, Any]
    manifest: Mapping[str, Any]
    history: pd.DataFrame

    @property
    def unavailable(self) -> dict[str, str]:
        """Metric -> reason, for the metrics that could not be computed."""
        return dict(self.evaluation.get("unavailable", {}))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file does not exist.

    Raises:
        DDNetError: the file is not JSON.
    """
    if not path.is_file():
        return {}
    return files.read_json(path, "move it aside and run the workflow again")


def read_frame(path: Path, fix: str, numbers: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """A CSV by pandas, with columns that must be numbers or empty.

    Args:
        fix: what to do about a damaged file; ends the message.
        numbers: columns; those that the file lacks are not asked for.
        options: of `pandas.read_csv`.

    Raises:
        DDNetError: no such file, or it cannot be read so.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, **options)
        for name in numbers:
            if name in frame.columns:
                frame[name] = pd.to_numeric(frame[name]).astype(float)
    except FileNotFoundError:
        raise DDNetError(f"{path}: no such file; {fix}") from None
    except (ValueError, TypeError, OverflowError) as error:  # pandas' own are ValueErrors
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DDNetError(f"{path}: not a readable table ({reason}); {fix}") from None
    return frame


def read_images(path: Path) -> pd.DataFrame:
    """Read a per-image CSV; absent metric columns become NaN, `seconds` come from `timing.csv` where that lies beside.

    Raises:
        DDNetError: no file, no key column, a scene that occurs twice, or a PSNR that is not a number; +inf is one.
    """
    fix = "evaluate the run again"
    # An own photograph may be called "NA" or "None": only a metric can be missing.
    missing_values = {name: ["", "nan", "NaN"] for name in METRICS}
    keys = dict.fromkeys(KEYS, str)
    frame = read_frame(path, fix, METRICS, dtype=keys, keep_default_na=False, na_values=missing_values)
    if missing := [name for name in (*KEYS, "psnr") if name not in frame.columns]:
        raise DDNetError(f"{path}: column {missing[0]} is missing; needed are {', '.join((*KEYS, 'psnr'))}")
    timing = path.with_name("timing.csv")
    if timing.is_file() and "seconds" not in frame.columns:
        times = read_frame(timing, fix, ["seconds"], dtype=keys, keep_default_na=False, na_values={"seconds": [""]})
        if not {*KEYS, "seconds"} <= {*times.columns} or times.duplicated(list(KEYS)).any():
            raise DDNetError(f"{timing}: not one time for each scene; {fix}")
        frame = frame.merge(times[[*KEYS, "seconds"]], "left", list(KEYS), validate="many_to_one")
    frame = frame.reindex(columns=[*KEYS, *METRICS])
    frame[list(METRICS)] = frame[list(METRICS)].astype(float)
    if (twice := frame[frame.duplicated(["dataset", "scene"])]).shape[0]:
        first = twice.iloc[0]
        raise DDNetError(f"{path}: scene {first.dataset}/{first.scene} occurs twice; evaluate the run again")
    if (bad := frame[~(frame["psnr"] > -np.inf)]).shape[0]:  # infinite is that of a picture that equals its target
        first = bad.iloc[0]
        raise DDNetError(
            f"{path}: psnr of {first.dataset}/{first.scene} is {first.psnr}, not a finite number; look at the restored "
            "image and at that run's training curve"
        )
    return frame


def read_history(path: Path) -> pd.DataFrame:
    """A training history (one row per validation), or an empty frame where the run was not trained."""
    import pandas as pd

    if not path.is_file():
        return pd.DataFrame(columns=["step", "val_psnr"])
    frame = read_frame(path, fix := "move it aside and train the run again")
    if lacking := [name for name in ("step", "val_psnr") if name not in frame.select_dtypes("number").columns]:
        raise DDNetError(f"{path}: lacks numbers in column {lacking[0]}; {fix}")
    return frame


def read_run(folder: str | Path) -> RunResult:
    """Read everything that a report needs from one run folder."""
    folder = Path(folder)
    return RunResult(
        folder=folder,
        images=read_images(folder / "per_image.csv"),
        evaluation=read_json(folder / "evaluation.json"),
        manifest=read_json(folder / "manifest.json"),
        history=read_history(folder / "history.csv"),
    )


def _check_same_scenes(frames: Mapping[str, pd.DataFrame]) -> None:
    """Paired statistics need the same scenes everywhere; a run may lack a whole dataset, never a part."""
    known: dict[str, dict[str, str]] = {}
    for name, frame in frames.items():
        for dataset, scene in zip(frame["dataset"], frame["scene"], strict=True):
            known.setdefault(dataset, {}).setdefault(scene, name)
    for name, frame in frames.items():
        for dataset, part in frame.groupby("dataset"):
            lacking = sorted(set(known[str(dataset)]) - set(part["scene"]))
            if lacking:
                raise DDNetError(
                    f"run {name}: {len(lacking)} scene(s) of {dataset} are missing, first {lacking[0]}, "
                    f"which run {known[str(dataset)][lacking[0]]} has; evaluate both on the same index"
                )


def collect(runs: Sequence[RunRef]) -> pd.DataFrame:
    """All per-image values of all runs, long: one row per run, scene and metric.

    Returns:
        Columns `LONG_COLUMNS`; `seed` is a nullable integer (missing for a baseline), `value` NaN where
        unavailable.

    Raises:
        DDNetError: a run that occurs twice, a broken per-image CSV, or runs that were not evaluated on the
            same scenes.
    """
    import pandas as pd

    frames: dict[str, pd.DataFrame] = {}
    for ref in runs:
        if ref.name in frames:
            raise DDNetError(f"run {ref.name} is listed twice; list every run folder once")
        frames[ref.name] = read_images(ref.folder / "per_image.csv").assign(
            variant=ref.variant, seed=ref.seed, label=ref.label
        )
    _check_same_scenes(frames)
    if not frames:
        return pd.DataFrame(columns=list(LONG_COLUMNS)).astype({"seed": "Int64", "value": float})
    parts = [
        frame.melt(["variant", "seed", "label", *KEYS], list(METRICS), var_name="metric").astype({"seed": "Int64"})
        for frame in frames.values()
    ]
    return pd.concat(parts, ignore_index=True)[list(LONG_COLUMNS)]


def provenance_records(folder: Path) -> list[dict[str, Any]]:
    """What made the model of a run, and what measured it: one record each, where there is one."""
    evaluation = read_json(folder / "evaluation.json")
    return [record for record in (read_json(folder / "manifest.json"), evaluation.get("provenance", {})) if record]


def merge_provenance(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One provenance record for a table made from several runs.

    Each of `PROVENANCE_KEYS` holds the value that all manifests agree on, or a sorted list of the different
    ones.
    """
    seen: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        for key in PROVENANCE_KEYS:
            if manifest.get(key) not in (None, ""):
                seen.setdefault(key, {})[json.dumps(manifest[key], sort_keys=True, default=str)] = manifest[key]
    return {
        key: next(iter(values.values())) if len(values) == 1 else [values[text] for text in sorted(values)]
        for key, values in seen.items()
    }
