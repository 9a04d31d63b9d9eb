"""Report a training while it runs to the MLflow server that MLFLOW_TRACKING_URI names.

Run files stay the record, and the export their mirror: a server that is slow, full or gone costs a line in the log.
A thread reads the curves that training keeps beside its resume state, so that training knows nothing of MLflow.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddnet.report.mlflow_items import flatten

log = logging.getLogger(__name__)

VARIABLE = "MLFLOW_TRACKING_URI"
KEY, DIGEST = "ddnet.key", "ddnet.digest"
POLL_S, RETRY_S, PARTING_S = 2.0, 30.0, 15.0
MOST_PARAMS = 100  # that a server takes at once
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
NUMBERS = ("epoch", "lr", "loss", "loss_l1", "loss_perceptual", "val_psnr", "val_l1", "seconds")


@dataclass(frozen=True)
class Training:
    """What is reported of a training besides its curves.

    Attributes:
        curves: the CSV that it keeps while it runs; it may not be there yet.
        preset, name: of the experiment `ddnet-bench/<preset> (live)`, and of the run in it.
        digest: of its configuration: a resumed training goes on in the run of the same name and digest.
        tags: such as variant and seed.
        settings: flattened into parameters.
    """

    curves: Path
    preset: str
    name: str
    digest: str
    tags: Mapping[str, str]
    settings: Mapping[str, Any]


@contextmanager
def live(training: Training) -> Iterator[None]:
    """Report `training` while the block runs, where MLFLOW_TRACKING_URI is set; otherwise nothing happens."""
    uri = os.environ.get(VARIABLE)
    if not uri:
        yield
        return
    reporter = _Reporter(uri, training)
    reporter.thread.start()
    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        reporter.end(status)


def shown(uri: str) -> str:
    """An address without the user name and the password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", uri)


class _Reporter:
    """The thread, and what it has reported."""

    def __init__(self, uri: str, training: Training) -> None:
        self.uri, self.training = uri, training
        self.thread = threading.Thread(target=self._work, name="mlflow-live", daemon=True)
        self._ended, self._status, self._warned = threading.Event(), "", False
        self._client: Any = None
        self._run = ""
        self._step = -1.0

    def end(self, status: str) -> None:
        """Report the rest and the status; give up where the server takes longer than a moment."""
        self._status = status
        self._ended.set()
        self.thread.join(PARTING_S)

    def _work(self) -> None:
        # Read by MLflow on import: no host but the one that was named is asked for anything, and none for long.
        os.environ.update(QUIET)
        for name, value in LIMITS.items():
            os.environ.setdefault(name, value)
        again = 0.0
        while not self._ended.wait(POLL_S):
            if time.monotonic() >= again and not self._attempt(self._report):
                again = time.monotonic() + RETRY_S
        self._attempt(self._finish)

    def _attempt(self, action: Any) -> bool:
        try:
            action()
        except Exception as error:  # of many types; none of them is a reason to stop a training
            if not self._warned:
                reason = shown((str(error).strip() or type(error).__name__).splitlines()[0][:200])
                log.warning("MLflow at %s: %s; training goes on, and is exported at the end", shown(self.uri), reason)
            self._warned = True
            return False
        return True

    def _report(self) -> None:
        from mlflow.entities import Metric

        if not self._run:
            self._begin()
        now = int(1000 * time.time())
        for row in self._rows():
            step = row["step"]
            if step > self._step:
                found = [Metric(name, row[name], now, int(step)) for name in NUMBERS if math.isfinite(row[name])]
                self._client.log_batch(self._run, metrics=found)
                self._step = step

    def _finish(self) -> None:
        self._report()
        self._client.set_terminated(self._run, self._status)

    def _rows(self) -> list[dict[str, float]]:
        """The curves so far; the file is replaced as a whole, so a row is never half there."""
        import csv

        try:
            with self.training.curves.open(newline="", encoding="utf-8") as stream:
                return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(stream)]
        except FileNotFoundError:
            return []

    def _begin(self) -> None:
        """Find the run of this training, or make it."""
        import mlflow
        from mlflow.entities import Param

        training, client = self.training, mlflow.MlflowClient(self.uri)
        name = f"ddnet-bench/{training.preset} (live)"
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if known is None else known.experiment_id
        same = f"tags.`{KEY}` = '{training.name}' and tags.`{DIGEST}` = '{training.digest}'"
        found = client.search_runs([experiment], same, max_results=1)
        if found:
            run = found[0]
            client.update_run(run.info.run_id, status="RUNNING")
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_psnr")]
            self._step = max(steps, default=-1)
        else:
            tags = {**training.tags, "preset": training.preset, KEY: training.name, DIGEST: training.digest}
            run = client.create_run(experiment, tags=tags, run_name=training.name)
        if not run.data.params:  # the server may have gone between the two calls
            params = [Param(*pair) for pair in flatten(training.settings).items()]
            for start in range(0, len(params), MOST_PARAMS):
                client.log_batch(run.info.run_id, params=params[start : start + MOST_PARAMS])
        self._client, self._run = client, str(run.info.run_id)
        log.info("MLflow: reporting to %s, experiment %s", shown(self.uri), name)
