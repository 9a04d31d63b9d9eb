"""Export finished run folders into MLflow: one writer, repeatable, never the record itself.

The run files are the record. The database can be deleted at any time and is rebuilt by the next export.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddnet.errors import DDNetError
from ddnet.io.files import alone
from ddnet.io.images import read_image, write_image
from ddnet.report.collect import RunRef, VariantInfo
from ddnet.report.mlflow_items import Item, run_item, study_item
from ddnet.report.mlflow_move import PREFIX, location, relocate
from ddnet.runtime.log import Progress

_T = TypeVar("_T")
log = logging.getLogger(__name__)

KEY, DIGEST, PARENT = "ddnet.key", "ddnet.digest", "mlflow.parentRunId"
PICTURE_LIMIT, PICTURE_SIDE = 2 * 2**20, 840  # bytes above which a restored image is stored reduced, and its pixels
_BATCH = 100


@dataclass
class Exported:
    """What an export did, as run keys (`run:<name>` or `study:<name>`)."""

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def _batches(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of at most `size` values, as MLflow limits what one call may carry."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


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


@contextmanager
def _database(path: Path) -> Iterator[None]:
    """Say in one line that the database is full, damaged or not to be written; what it holds is a copy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise DDNetError(
            f"{path}: MLflow cannot use it ({reason}); free some space, or move it aside, and export again: it is "
            "a copy"
        ) from None


class _Store:
    """One MLflow experiment with the few operations that the export needs."""

    def __init__(self, db_path: Path, artifact_root: Path, preset: str) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        import mlflow

        db_path.parent.mkdir(parents=True, exist_ok=True)
        self.client = mlflow.MlflowClient(f"sqlite:///{db_path.resolve()}")
        name = f"{PREFIX}{preset}"
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            self.experiment = self.client.create_experiment(name, location(artifact_root, preset))
        else:
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

    def write(self, item: Item, parent: str | None) -> str:
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


def _write_once(store: _Store, item: Item, found: Sequence[Any], parent: str | None, report: Exported) -> str:
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
        DDNetError: a run folder is broken, a table or figure is missing, or the store cannot be used.
    """
    known = {variant.name: variant for variant in variants}
    marks = {"trial": "true"} if trial else {}
    home = {ref.name: known[ref.variant].studies[:1] for ref in runs if ref.variant in known}
    studies = [
        study_item(name, preset, tables.get(name, ()), figures.get(name, ()), marks)
        for name in _study_names(tables, figures, [study for names in home.values() for study in names])
    ]
    sizes, datasets = complexity or {}, (dataset, ood_dataset)
    items = [
        run_item(ref, known.get(ref.variant), sizes.get(ref.variant, {}), settings, scenes, datasets, marks)
        for ref in runs
    ]
    report, database = Exported(), Path(db_path)
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = database.with_name(f".{database.name}.lock")
    # Read by MLflow on import: without it every process looks up a telemetry host.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with alone(lock, f"{database}: another export is writing; waiting for it to end"), _database(database):
        relocate(database, Path(artifact_root))
        store = _Store(database, Path(artifact_root), preset)
        existing = store.existing()
        parents = {
            item.tags["study"]: _write_once(store, item, existing.get(item.key, []), None, report) for item in studies
        }
        progress = Progress("MLflow", len(items), "runs")
        for ref, item in zip(runs, items, strict=True):
            parent = next((parents[study] for study in home.get(ref.name, ())), None)
            _write_once(store, item, existing.get(item.key, []), parent, report)
            progress.advance()
    log.info(
        "MLflow: %d created, %d replaced, %d unchanged",
        len(report.created), len(report.replaced), len(report.unchanged),
    )  # fmt: skip
    return report
