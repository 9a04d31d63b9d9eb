"""Trainings reported while they run: to a real server, to one that is gone, and not at all."""

from __future__ import annotations

import logging
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import mlflow_ui
from test_train import toy_inputs

from ddnet.io.files import write_text
from ddnet.report import mlflow_live
from ddnet.report.mlflow_live import NUMBERS, VARIABLE, Training, live, shown
from ddnet.training.train import CURVES, train

# More than a server takes at once.
SETTINGS = {"model": {"width": 16}, "many": {f"of{number}": number for number in range(240)}}
PARAMS = {"model.width": "16"} | {f"many.of{number}": str(number) for number in range(240)}
HEADER = ",".join(("step", *NUMBERS))


def rows(*steps: int) -> str:
    return "\n".join([HEADER, *(",".join([str(step), *["0.5"] * 6, "0.1", "nan"]) for step in steps)]) + "\n"


def training(folder: Path, digest: str = "abc") -> Training:
    tags = {"variant": "unet", "seed": "0"}
    return Training(folder / "history.csv", "toy", "unet-seed0", digest, tags, SETTINGS)


def stored(address: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("ddnet-bench/toy (live)")
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def steps_of(address: str, run: Any, name: str = "val_psnr") -> list[int]:
    import mlflow

    return [point.step for point in mlflow.MlflowClient(address).get_metric_history(run.info.run_id, name)]


def until(true: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_training_is_seen_while_it_runs_and_goes_on_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_live, "POLL_S", 0.1)
    with mlflow_ui(tmp_path / "server.db", tmp_path) as address:
        monkeypatch.setenv(VARIABLE, address)
        with pytest.raises(KeyboardInterrupt), live(training(tmp_path)):
            write_text(tmp_path / "history.csv", rows(10))
            until(lambda: stored(address) and steps_of(address, stored(address)[0]) == [10])
            assert stored(address)[0].info.status == "RUNNING"
            raise KeyboardInterrupt
        [run] = stored(address)
        assert run.info.status == "KILLED" and run.info.run_name == "unet-seed0"
        assert run.data.params == PARAMS
        assert {"variant": "unet", "seed": "0", "preset": "toy"}.items() <= run.data.tags.items()
        with live(training(tmp_path)):  # resumed: what was reported is not reported again
            write_text(tmp_path / "history.csv", rows(10, 20, 30))
        [run] = stored(address)
        assert run.info.status == "FINISHED" and steps_of(address, run) == [10, 20, 30]
        assert steps_of(address, run, "seconds") == []  # not a number: MLflow gets none
        with pytest.raises(ValueError), live(training(tmp_path, "another configuration")):
            raise ValueError
        assert sorted(run.info.status for run in stored(address)) == ["FAILED", "FINISHED"]


def test_a_run_whose_settings_did_not_arrive_gets_them_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    address = f"sqlite:///{tmp_path / 'server.db'}"
    client = mlflow.MlflowClient(address)
    experiment = client.create_experiment("ddnet-bench/toy (live)")
    client.create_run(experiment, tags={"ddnet.key": "unet-seed0", "ddnet.digest": "abc"}, run_name="unet-seed0")
    monkeypatch.setenv(VARIABLE, address)
    write_text(tmp_path / "history.csv", rows(10))
    with live(training(tmp_path)):
        pass
    [run] = stored(address)
    assert run.data.params == PARAMS
    assert run.info.status == "FINISHED" and steps_of(address, run) == [10]


def test_a_server_that_is_gone_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(mlflow_live, "POLL_S", 0.05)
    monkeypatch.setattr(mlflow_live, "RETRY_S", 0.05)
    monkeypatch.setenv(VARIABLE, f"http://me:secret@127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING, logger=mlflow_live.__name__), live(training(tmp_path)):
        until(lambda: caplog.records)
        time.sleep(0.5)
    [record] = caplog.records
    said = record.getMessage()
    assert "training goes on" in said and "secret" not in said.split(": ")[0] and "\n" not in said


def test_without_a_server_nothing_is_imported_or_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import would fail
    with live(training(tmp_path)):
        write_text(tmp_path / "history.csv", rows(10))


def test_training_keeps_its_curves_where_they_are_read(tmp_path: Path) -> None:
    train(toy_inputs(tmp_path), tmp_path / "run")
    assert (tmp_path / "run" / "state" / CURVES).read_bytes() == (tmp_path / "run" / "history.csv").read_bytes()


def test_addresses_are_shown_without_what_is_secret() -> None:
    assert shown("https://me:secret@host:5000/path") == "https://host:5000/path"
    assert shown("sqlite:////folder/mlflow.db") == "sqlite:////folder/mlflow.db"
