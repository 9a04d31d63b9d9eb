"""What the MLflow export stores of each run and study; nothing here imports MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.report.collect import METRICS, RunRef, VariantInfo, read_run

EXPORT_VERSION = 1  # raise it when the exported form changes, so that every run is written anew
MODEL_LIMIT = 20 * 2**20
RUN_FILES = ("per_image.csv", "evaluation.json", "manifest.json", "history.csv", "model_card.md")
MAX_PARAM = 6000  # MLflow's own limit on a parameter's text


@dataclass(frozen=True)
class Item:
    """One MLflow run to be: everything but its parent goes into its digest."""

    key: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Sequence[tuple[str, float, int, int]]  # name, value, milliseconds since the start, step
    files: Sequence[tuple[Path, str]]  # path, folder among the artifacts
    end_ms: int
    length_ms: int

    @property
    def digest(self) -> str:
        """Hex digest of what would be stored."""
        files = [(folder, path.name, sha256(path)) for path, folder in self.files]
        content = [
            EXPORT_VERSION,
            dict(self.params),
            dict(self.tags),
            dict(self.metrics),
            list(self.curves),
            files,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as `section.name` -> text; lists stay one JSON value."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{key}"] = text[:MAX_PARAM]
    return flat


def mean_metrics(ref: RunRef, dataset: str, ood_dataset: str | None) -> dict[str, float]:
    """Mean per metric of the main test set, and with `ood_` before the name those of the second one, if any."""
    images = read_run(ref.folder).images
    metrics = {}
    for prefix, name in (("", dataset), ("ood_", ood_dataset)):
        part = images[images["dataset"] == name]
        for metric in METRICS:
            # A column with gaps has no mean that could be compared; MLflow stores neither NaN nor infinity.
            if len(part) and np.isfinite(part[metric]).all():
                metrics[prefix + metric] = float(part[metric].mean())
    return metrics


def _curves(ref: RunRef) -> list[tuple[str, float, int, int]]:
    history = read_run(ref.folder).history
    if history.empty:
        return []
    numbers = history.select_dtypes("number")
    seconds = numbers.get("seconds", numbers["step"] * 0)
    return [
        (str(name), float(value), int(1000 * after), int(step))
        for name in numbers.columns
        if name not in ("step", "seconds")
        for value, after, step in zip(numbers[name], seconds, numbers["step"], strict=True)
        if np.isfinite(value)
    ]


def _run_files(ref: RunRef, scenes: Sequence[tuple[str, str]]) -> list[tuple[Path, str]]:
    files = [(ref.folder / name, "") for name in RUN_FILES]
    files += [(ref.folder / "restored" / d / f"{scene}.png", f"panels/{d}") for d, scene in scenes]
    model = ref.folder / "model.pt"
    if model.is_file() and model.stat().st_size < MODEL_LIMIT:
        files.append((model, "model"))
    return [(path, folder) for path, folder in files if path.is_file()]


def run_item(
    ref: RunRef,
    variant: VariantInfo | None,
    size: Mapping[str, Any],
    settings: Mapping[str, Any],
    scenes: Sequence[tuple[str, str]],
    datasets: tuple[str, str | None],
    marks: Mapping[str, str],
) -> Item:
    """What is stored of one trained run or compared system.

    Args:
        variant: of a run of ours; None for a compared system.
        size: {"params_m", "macs_g"}, as far as they are known.
        settings: the resolved configuration, flattened into the parameters.
        scenes: (dataset, scene) pairs whose restored images are copied.
        datasets: the main test set, and the second one if there is one.
        marks: further tags.
    """
    result = read_run(ref.folder)
    kind = "baseline" if ref.seed is None else "run"
    tags = {"kind": kind, "variant": ref.variant, "label": ref.label, **marks}
    params: dict[str, str] = {"variant": ref.variant}
    if ref.seed is not None:
        params |= flatten(settings) | {"seed": str(ref.seed)}
        tags["seed"] = str(ref.seed)
    if variant is not None:
        params |= flatten(variant.config, "model.")
        tags |= {
            "fusion": variant.fusion,
            "branches": str(variant.branches),
            "studies": " ".join(variant.studies),
        }
        tags["depth_source"] = (variant.depth_source or "preset") if variant.uses_depth else "none"
    source = {**result.evaluation, **result.evaluation.get("provenance", {}), **result.manifest}
    for name in ("device", "commit", "dirty", "config_hash", "date"):
        if source.get(name) not in (None, ""):
            tags[name] = str(source[name])
    card = ref.folder / "model_card.md"
    if card.is_file():
        tags["mlflow.note.content"] = card.read_text(encoding="utf-8")[:8000]
    metrics = mean_metrics(ref, *datasets)
    metrics |= {name: float(size[name]) for name in ("params_m", "macs_g") if size.get(name) is not None}
    curves = _curves(ref)
    end = int(1000 * (ref.folder / "per_image.csv").stat().st_mtime)
    length = max((after for _, _, after, _ in curves), default=0)
    return Item(f"run:{ref.name}", ref.name, params, tags, metrics, curves, _run_files(ref, scenes), end, length)


def study_item(
    study: str, preset: str, tables: Sequence[Path], figures: Sequence[Path], marks: Mapping[str, str]
) -> Item:
    """What is stored of a study: the parent of its runs, with its tables and figures.

    Raises:
        DDNetError: a table or figure is missing.
    """
    files = [(Path(path), "tables") for path in tables] + [(Path(path), "figures") for path in figures]
    for path, _ in files:
        if not path.is_file():
            raise DDNetError(f"{path}: no such file; make the tables and figures of study {study} before the export")
    end = max((int(1000 * path.stat().st_mtime) for path, _ in files), default=0)
    tags = {"kind": "study", "study": study, "preset": preset, **marks}
    return Item(f"study:{study}", f"study-{study}", {}, tags, {}, [], files, end, 0)
