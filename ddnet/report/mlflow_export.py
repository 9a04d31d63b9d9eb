"""Export finished run folders into MLflow: one writer, repeatable, never the record itself.

The run files are the record. The database can be deleted at any time and is rebuilt by the next export,
which is also the way to move it: MLflow stores absolute artifact paths.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddnet.errors import DDNetError
from ddnet.files import alone, sha256
from ddnet.images import read_image, write_image
from ddnet.report.collect import METRICS, RunRef, VariantInfo, read_run

_T = TypeVar("_T")
log = logging.getLogger(__name__)

EXPORT_VERSION = 1  # raise it when the exported form changes, so that every run is written anew
KEY, DIGEST, PARENT = "ddnet.key", "ddnet.digest", "mlflow.parentRunId"
MODEL_LIMIT = 20 * 2**20
PICTURE_LIMIT, PICTURE_SIDE = 2 * 2**20, 840  # bytes above which a restored image is stored reduced, and its pixels
RUN_FILES = ("per_image.csv", "evaluation.json", "manifest.json", "history.csv", "model_card.md")
_MAX_PARAM = 6000  # MLflow's own limit on a parameter's text
_BATCH = 100


@dataclass
class Exported:
    """What an export did, as run keys (`run:<name>` or `study:<name>`)."""

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Item:
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


def _batches(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of at most `size` values, as MLflow limits what one call may carry."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as `section.name` -> text; lists stay one JSON value."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{key}"] = text[:_MAX_PARAM]
    return flat


def mean_metrics(ref: RunRef, dataset: str, ood_dataset: str | None) -> dict[str, float]:
    """Mean per metric of the main test set, and with `ood_` before the name those of the second one, if any."""
    images = read_run(ref.folder).images
    metrics = {}
    for prefix, name in (("", dataset), ("ood_", ood_dataset)):
        part = images[images["dataset"] == name]
        for metric in METRICS:
            # A column with gaps has no mean that could be compared; MLflow stores no NaN.
            if len(part) and part[metric].notna().all():
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


def _run_item(
    ref: RunRef,
    variant: VariantInfo | None,
    size: Mapping[str, Any],
    settings: Mapping[str, Any],
    scenes: Sequence[tuple[str, str]],
    datasets: tuple[str, str | None],
    marks: Mapping[str, str],
) -> _Item:
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
    return _Item(f"run:{ref.name}", ref.name, params, tags, metrics, curves, _run_files(ref, scenes), end, length)


def _study_item(
    study: str, preset: str, tables: Sequence[Path], figures: Sequence[Path], marks: Mapping[str, str]
) -> _Item:
    files = [(Path(path), "tables") for path in tables] + [(Path(path), "figures") for path in figures]
    for path, _ in files:
        if not path.is_file():
            raise DDNetError(f"{path}: no such file; make the tables and figures of study {study} before the export")
    end = max((int(1000 * path.stat().st_mtime) for path, _ in files), default=0)
    tags = {"kind": "study", "study": study, "preset": preset, **marks}
    return _Item(f"study:{study}", f"study-{study}", {}, tags, {}, [], files, end, 0)


@contextmanager
def _small(path: Path) -> Iterator[Path]:
    """The file itself, or for a photograph of many megabytes a smaller one of its name, in 8 bits, for the moment."""
    if path.suffix != ".png" or path.parent.parent.name != "restored" or path.stat().st_size <= PICTURE_LIMIT:
        yield path
        return
    import cv2

    picture = read_image(path)
    scale = min(1.0, PICTURE_SIDE / max(picture.shape[:2]))
    size = (max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0])))
    with tempfile.TemporaryDirectory() as folder:
        reduced = Path(folder, path.name)
        write_image(reduced, np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)), bits=8)
        yield reduced


class _Store:
    """One MLflow experiment with the few operations that the export needs."""

    def __init__(self, db_path: Path, artifact_root: Path, preset: str) -> None:
        # Read by MLflow on import: without it every process looks up a telemetry host.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import mlflow

        db_path.parent.mkdir(parents=True, exist_ok=True)
        self.client = mlflow.MlflowClient(f"sqlite:///{db_path.resolve()}")
        name, location = f"ddnet-bench/{preset}", (artifact_root / preset).resolve().as_uri()
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            self.experiment = self.client.create_experiment(name, location)
        else:
            if experiment.artifact_location != location:
                raise DDNetError(
                    f"{db_path}: experiment {name} keeps its artifacts in "
                    f"{experiment.artifact_location}, not in {location}; delete the database and export again"
                )
            if experiment.lifecycle_stage != "active":
                self.client.restore_experiment(experiment.experiment_id)
            self.experiment = experiment.experiment_id

    def existing(self) -> dict[str, list[Any]]:
        """Active runs by key; more than one for a key only after an export was killed."""
        runs: dict[str, list[Any]] = {}
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                runs.setdefault(run.data.tags.get(KEY, ""), []).append(run)
            token = page.token
            if not token:
                return runs

    def write(self, item: _Item, parent: str | None) -> str:
        """Write one run; it ends FINISHED, or FAILED where the export is interrupted by an error."""
        from mlflow.entities import Metric, Param, RunTag

        start = item.end_ms - item.length_ms
        tags = {**item.tags, KEY: item.key, DIGEST: item.digest} | ({PARENT: parent} if parent else {})
        run_id = str(self.client.create_run(self.experiment, start, {KEY: item.key}, run_name=item.name).info.run_id)
        try:
            for params in _batches(item.params.items(), _BATCH):
                self.client.log_batch(run_id, params=[Param(*pair) for pair in params])
            ends = ((name, value, item.length_ms, 0) for name, value in item.metrics.items())
            points = (Metric(name, value, start + after, step) for name, value, after, step in chain(ends, item.curves))
            for metrics in _batches(points, 10 * _BATCH):
                self.client.log_batch(run_id, metrics=metrics)
            for path, folder in item.files:
                with _small(path) as stored:
                    self.client.log_artifact(run_id, str(stored), folder or None)
            # The digest goes in last: a run without it is never taken for a finished one.
            self.client.log_batch(run_id, tags=[RunTag(*pair) for pair in tags.items()])
        except BaseException:
            self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.set_terminated(run_id, "FINISHED", item.end_ms)
        return run_id


def _write_once(store: _Store, item: _Item, found: Sequence[Any], parent: str | None, report: Exported) -> str:
    """Leave an identical finished run alone, replace anything else under its key; returns the run's id."""
    digest = item.digest
    same = [run for run in found if run.data.tags.get(DIGEST) == digest and run.info.status == "FINISHED"]
    for run in found:
        if run not in same[:1]:
            store.client.delete_run(run.info.run_id)
    if same:
        report.unchanged.append(item.key)
        if parent and same[0].data.tags.get(PARENT) != parent:  # the study was replaced, its runs were not
            store.client.set_tag(same[0].info.run_id, PARENT, parent)
        return str(same[0].info.run_id)
    (report.replaced if found else report.created).append(item.key)
    return store.write(item, parent)


def _study_names(*groups: Mapping[str, Any] | Sequence[str]) -> Iterator[str]:
    return iter(dict.fromkeys(chain.from_iterable(groups)))


def export(
    db_path: str | Path,
    artifact_root: str | Path,
    preset: str,
    runs: Sequence[RunRef],
    tables: Mapping[str, Sequence[Path]],
    figures: Mapping[str, Sequence[Path]],
    settings: Mapping[str, Any],
    *,
    dataset: str,
    ood_dataset: str | None = None,
    variants: Sequence[VariantInfo] = (),
    complexity: Mapping[str, Mapping[str, Any]] | None = None,
    scenes: Sequence[tuple[str, str]] = (),
    trial: bool = False,
) -> Exported:
    """Mirror finished runs into the experiment `ddnet-bench/<preset>` of an SQLite store.

    One MLflow run per variant and seed (and per baseline), under one parent run per study, which carries
    that study's tables and figures. What is already stored with the same content is left alone, what changed
    is replaced; runs that are not among `runs` are not touched. One process exports at a time, others wait.

    Args:
        db_path, artifact_root: the SQLite file, and the folder below which artifacts are copied.
        tables, figures: study -> files. A key that is no study of any variant makes a parent without
            children.
        settings: the resolved configuration, flattened into the parameters of every trained run.
        dataset, ood_dataset: test sets of the metrics `psnr`, ... and `ood_psnr`, ...; the second may be absent.
        variants: who belongs to which study; the first study of a variant is its parent.
        complexity: method -> {"params_m", "macs_g"}.
        scenes: (dataset, scene) pairs whose restored images are copied, photographs reduced.
        trial: whether only a few scenes were used; every run is then tagged `trial`.

    Raises:
        DDNetError: a run folder is broken, a table or figure is missing, or the store belongs to another
            folder.
    """
    known = {variant.name: variant for variant in variants}
    marks = {"trial": "true"} if trial else {}
    home = {ref.name: known[ref.variant].studies[:1] for ref in runs if ref.variant in known}
    studies = [
        _study_item(name, preset, tables.get(name, ()), figures.get(name, ()), marks)
        for name in _study_names(tables, figures, [study for names in home.values() for study in names])
    ]
    sizes, datasets = complexity or {}, (dataset, ood_dataset)
    items = [
        _run_item(ref, known.get(ref.variant), sizes.get(ref.variant, {}), settings, scenes, datasets, marks)
        for ref in runs
    ]
    report, database = Exported(), Path(db_path)
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = database.with_name(f".{database.name}.lock")
    with alone(lock, f"{database}: another export is writing; waiting for it to end"):
        store = _Store(database, Path(artifact_root), preset)
        existing = store.existing()
        parents = {
            item.tags["study"]: _write_once(store, item, existing.get(item.key, []), None, report) for item in studies
        }
        for ref, item in zip(runs, items, strict=True):
            parent = next((parents[study] for study in home.get(ref.name, ())), None)
            _write_once(store, item, existing.get(item.key, []), parent, report)
    log.info(
        "MLflow: %d created, %d replaced, %d unchanged",
        len(report.created), len(report.replaced), len(report.unchanged),
    )  # fmt: skip
    return report
