"""What the table builders measure from: collected values, sizes, printed numbers, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.config import Baseline
from ddnet.errors import DDNetError
from ddnet.registry import did_you_mean
from ddnet.report.collect import (
    RunRef,
    VariantInfo,
    collect,
    merge_provenance,
    provenance_records,
    read_frame,
    read_json,
)
from ddnet.report.statistics import DRAWS, NO_SEED, Summary, matrix, summarise

if TYPE_CHECKING:
    import pandas as pd

METRIC_NAMES = {
    "psnr": "PSNR", "ssim": "SSIM", "mae": "MAE", "lpips_alex": "LPIPS-alex",
    "lpips_squeeze": "LPIPS-squeeze", "params_m": "Params (M)", "macs_g": "MACs (G)",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """Everything that tables are made of.

    Attributes:
        images: the long frame of `collect.collect`.
        complexity: method -> {"params_m", "macs_g", ...}, at the paper's width.
        paper: folder that holds the printed tables, `table1.csv` to `table4.csv`.
        dataset: the main test set (Tables 2 to 4 and S1).
        ood_dataset: the second one, of Table 1; None where there is none.
        systems: compared system -> the preset's `systems` entry, for those that need weights.
        trial: whether only a few scenes were used, so that the numbers mean nothing.
        width: base width that was trained; sizes are always those of the paper's 64.
        unavailable: metric -> reason, as the evaluations reported it.
        provenance: keys of `collect.PROVENANCE_KEYS`.
        draws: bootstrap draws per interval.
    """

    images: pd.DataFrame
    paper: Path
    preset: str
    dataset: str
    ood_dataset: str | None = None
    complexity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variants: Sequence[VariantInfo] = ()
    baselines: Sequence[Baseline] = ()
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    width: int = 64
    depth_source: str = ""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    draws: int = DRAWS
    trial: bool = False

    def values(self, method: str | None, metric: str, dataset: str, location: str | None = None) -> pd.DataFrame:
        """Values of one row as (seeds, scenes); empty where the row has no runs."""
        return matrix(self.images, method or "", metric, dataset, location)

    def summary(self, method: str | None, metric: str, dataset: str, location: str | None = None) -> Summary:
        """Mean and s.d. over seeds of one metric of one row."""
        return summarise(self.values(method, metric, dataset, location))

    def seeds(self, method: str | None, dataset: str) -> list[int]:
        """Seeds that were measured for one row; none for a baseline."""
        return [int(seed) for seed in self.values(method, "psnr", dataset).index if seed != NO_SEED]

    def size(self, method: str | None, name: str) -> float:
        """`params_m` or `macs_g` of a method, NaN where it was not counted."""
        value = self.complexity.get(method or "", {}).get(name)
        return np.nan if value is None else float(value)

    def printed(self, table: str) -> pd.DataFrame:
        """The printed numbers of one table, indexed by row key.

        Raises:
            DDNetError: the file is missing.
        """
        path = self.paper / f"{table}.csv"
        frame = read_frame(path, "the printed table is in version control; restore it")
        key = next(name for name in ("method", "variant", "fusion") if name in frame.columns)
        return frame.set_index(key)

    def printed_row(self, table: str, key: str | None) -> dict[str, float]:
        """Printed numbers of one row, the paper's `lpips` as the `lpips_squeeze` that its code computes.

        Empty for a row that the paper does not have.

        Raises:
            DDNetError: the printed table has no such row.
        """
        if key is None:
            return {}
        import pandas as pd

        frame = self.printed(table)
        if key not in frame.index:
            raise DDNetError(f"results/paper/{table}.csv has no row '{key}'{did_you_mean(key, frame.index)}")
        numbers = pd.to_numeric(frame.loc[key], errors="coerce")
        return {str(name).replace("lpips", "lpips_squeeze"): float(value) for name, value in numbers.items()}


def gather(
    runs: Sequence[RunRef],
    *,
    paper: Path,
    preset: str,
    dataset: str,
    ood_dataset: str | None = None,
    complexity: Sequence[Path] = (),
    variants: Sequence[VariantInfo] = (),
    baselines: Sequence[Baseline] = (),
    systems: Mapping[str, Mapping[str, Any]] | None = None,
    width: int = 64,
    depth_source: str = "",
    provenance: Mapping[str, Any] | None = None,
    draws: int = DRAWS,
    trial: bool = False,
) -> Evidence:
    """Read run folders and complexity files into an `Evidence`.

    Args:
        runs: every run that any row of the tables measures, baselines included.
        complexity: the JSON files of `results/complexity/<preset>/`; the file name is the method.
        provenance: overrides what the runs' own manifests say, key by key.

    Raises:
        DDNetError: a run folder is broken, or runs were measured on different scenes.
    """
    unavailable: dict[str, str] = {}
    sizes = {Path(path).stem: read_json(Path(path)) for path in complexity}
    for ref in runs:
        evaluation = read_json(ref.folder / "evaluation.json")
        unavailable.update(evaluation.get("unavailable", {}))
        if "params" in evaluation:  # a compared system's, known when it was evaluated
            sizes.setdefault(ref.variant, {"params_m": evaluation["params"] / 1e6})
    merged = merge_provenance(record for ref in runs for record in provenance_records(ref.folder))
    return Evidence(
        images=collect(runs),
        paper=Path(paper),
        preset=preset,
        dataset=dataset,
        ood_dataset=ood_dataset,
        complexity=sizes,
        variants=tuple(variants),
        baselines=tuple(baselines),
        systems=systems or {},
        width=width,
        depth_source=depth_source,
        unavailable=unavailable,
        provenance={**merged, **(provenance or {})},
        draws=draws,
        trial=trial,
    )
