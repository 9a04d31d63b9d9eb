from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow_server import mlflow_ui
from report_runs import MANIFEST, VARIANTS, make_world

from ddnet.errors import DDNetError
from ddnet.io.images import bit_depth, read_image, read_raw_rgb, write_image
from ddnet.report.collect import read_json
from ddnet.report.mlflow_export import PICTURE_LIMIT, Exported, export
from ddnet.report.mlflow_items import flatten
from ddnet.report.mlflow_move import relocate
from ddnet.runtime import log

VARIANTS_USED = ("unet", "ddnet_1b")
SETTINGS = {"preset": "embedded", "training": {"steps": 600, "lr": 2e-4}, "seeds": [0, 1]}


class Setup:
    """A results folder and its export, cut down to two variants."""

    def __init__(self, root: Path, datasets: Sequence[str] = ("embedded", "embedded_ood")) -> None:
        world = make_world(root, pictures=True, datasets=datasets)
        self.root = root
        self.db = root / "mlflow.db"
        self.runs = [ref for ref in world.runs if ref.variant in (*VARIANTS_USED, "blurred")]
        self.complexity = {path.stem: read_json(path) for path in world.complexity}
        self.tables = [root / "tables" / "table3.md"]
        self.figures = [root / "figures" / "ablation.png"]
        for path in (*self.tables, *self.figures):
            path.parent.mkdir()
            path.write_text(path.name)
        (self.runs[1].folder / "model.pt").write_bytes(b"weights")
        (self.runs[1].folder / "model_card.md").write_text("# Card\n")

    def export(self, **changes: Any) -> Exported:
        options: dict[str, Any] = {
            "tables": {"modules": self.tables}, "figures": {"modules": self.figures}, "settings": SETTINGS,
            "dataset": "embedded", "ood_dataset": "embedded_ood", "variants": VARIANTS,
            "complexity": self.complexity, "scenes": [("embedded", "s00")], **changes,
        }  # fmt: skip
        return export(self.db, self.root / "mlartifacts", "embedded", self.runs, **options)

    def stored(self) -> dict[str, Any]:
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{self.db}")
        experiment = client.get_experiment_by_name("ddnet-bench/embedded")
        assert experiment is not None
        return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}

    def artifacts(self, run: Any) -> list[str]:
        folder = self.root / "mlartifacts" / "embedded" / run.info.run_id / "artifacts"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    done = Setup(tmp_path_factory.mktemp("mlflow"))
    first = done.export()
    assert first.created[0] == "study:modules" and len(first.created) == 6
    assert not first.replaced and not first.unchanged
    return done


def test_telemetry_is_off_and_no_run_is_left_running(setup: Setup) -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    runs = setup.stored()
    assert sorted(runs) == [
        "blurred",
        "ddnet_1b-seed0",
        "ddnet_1b-seed1",
        "study-modules",
        "unet-seed0",
        "unet-seed1",
    ]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_metrics_equal_the_means_of_the_csv(setup: Setup) -> None:
    runs = setup.stored()
    for ref in setup.runs:
        metrics = runs[ref.name].data.metrics
        means = (
            pd.read_csv(ref.folder / "per_image.csv").groupby("dataset")[["psnr", "ssim", "mae", "lpips_alex"]].mean()
        )
        for metric in means.columns:
            assert metrics[metric] == pytest.approx(means.loc["embedded", metric], rel=1e-12)
            assert metrics[f"ood_{metric}"] == pytest.approx(means.loc["embedded_ood", metric], rel=1e-12)
        assert "lpips_squeeze" not in metrics
    assert runs["ddnet_1b-seed0"].data.metrics["params_m"] == 2.646308
    assert "macs_g" not in runs["blurred"].data.metrics


def test_params_tags_parents_and_artifacts(setup: Setup) -> None:
    runs = setup.stored()
    run, parent = runs["ddnet_1b-seed1"], runs["study-modules"]
    assert run.data.params["training.steps"] == "600" and run.data.params["model.rcabs"] == "[3]"
    wanted = {
        "variant": "ddnet_1b", "seed": "1", "studies": "modules fusion depth", "fusion": "gru", "branches": "1",
        "depth_source": "monodepth2", "device": MANIFEST["device"], "commit": "abc1234",
        "mlflow.parentRunId": parent.info.run_id,
    }  # fmt: skip
    assert wanted.items() <= run.data.tags.items()
    assert "mlflow.parentRunId" not in runs["blurred"].data.tags
    assert setup.artifacts(parent) == ["figures/ablation.png", "tables/table3.md"]
    assert setup.artifacts(run) == [
        "evaluation.json", "history.csv", "manifest.json", "panels/embedded/s00.png", "per_image.csv",
    ]  # fmt: skip
    first = next(ref for ref in setup.runs if ref.seed == 0)
    assert {"model/model.pt", "model_card.md"} <= set(setup.artifacts(runs[first.name]))


def test_curves_are_stored_by_step(setup: Setup) -> None:
    import mlflow

    run = setup.stored()["unet-seed0"]
    history = mlflow.MlflowClient(f"sqlite:///{setup.db}").get_metric_history(run.info.run_id, "val_psnr")
    expected = pd.read_csv(setup.runs[1].folder / "history.csv")
    assert [point.step for point in history] == expected["step"].to_list()
    assert [point.value for point in history] == pytest.approx(expected["val_psnr"].to_list())
    assert "val_l1" not in run.data.metrics  # all NaN


def test_how_far_an_export_is_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(log, "NEXT_LINE_S", 0.0)
    caplog.set_level(logging.INFO, "ddnet")
    Setup(tmp_path).export()
    said = [line for line in caplog.messages if " runs, " in line]
    assert [line[: len("MLflow: 1 of 5 runs")] for line in said] == [f"MLflow: {n} of 5 runs" for n in range(1, 6)]


def test_second_export_changes_nothing_then_only_what_changed_is_replaced(setup: Setup) -> None:
    before = {name: run.info.run_id for name, run in setup.stored().items()}
    again = setup.export()
    assert (again.created, again.replaced, len(again.unchanged)) == ([], [], 6)
    assert {name: run.info.run_id for name, run in setup.stored().items()} == before

    changed = setup.runs[2].folder / "per_image.csv"
    frame = pd.read_csv(changed)
    frame["psnr"] += 1.0
    frame.to_csv(changed, index=False)
    setup.tables[0].write_text("another table")
    third = setup.export()
    assert third.replaced == ["study:modules", f"run:{setup.runs[2].name}"] and not third.created
    runs = setup.stored()
    assert len(runs) == 6
    assert runs["unet-seed1"].data.metrics["psnr"] == pytest.approx(
        frame[frame["dataset"] == "embedded"]["psnr"].mean()
    )
    parents = {run.data.tags.get("mlflow.parentRunId") for name, run in runs.items() if "seed" in name}
    assert parents == {runs["study-modules"].info.run_id}


def test_an_interrupted_export_is_repaired(setup: Setup) -> None:
    run_id = setup.stored()["blurred"].info.run_id
    with sqlite3.connect(setup.db) as connection:  # what a killed process leaves
        connection.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", (run_id,))
    connection.close()
    assert setup.export().replaced == ["run:blurred"]
    runs = setup.stored()
    assert runs["blurred"].info.status == "FINISHED" and runs["blurred"].info.run_id != run_id


def test_a_failed_export_leaves_no_running_run(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    setup.figures[0].write_text("another figure")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_artifact", full_disk)
        with pytest.raises(OSError, match="no space left"):
            setup.export()
    assert setup.stored()["study-modules"].info.status == "FAILED"
    assert setup.export().replaced == ["study:modules"]
    assert {run.info.status for run in setup.stored().values()} == {"FINISHED"}


def test_bad_inputs_are_refused_before_anything_is_written(setup: Setup, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="no such file; make the tables and figures of study modules"):
        setup.export(tables={"modules": [tmp_path / "table3.md"]})


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
def test_artifacts_are_found_after_a_move_and_the_next_export_has_nothing_to_do(
    tmp_path: Path, way: Callable[[str, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    here, there = tmp_path / "here", tmp_path / "there is 100% ünusual"
    before = Setup(here)
    before.export()
    client = mlflow.MlflowClient(f"sqlite:///{before.db}")
    other = client.create_experiment("ddnet-bench", str(tmp_path / "own"))  # of the user's own
    way(str(here), str(there))
    monkeypatch.chdir(there)
    relocate(Path("mlflow.db"), Path("mlartifacts"))
    client = mlflow.MlflowClient(f"sqlite:///{there / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ddnet-bench/embedded")
    assert experiment.artifact_location == (there / "mlartifacts" / "embedded").as_uri()
    runs = client.search_runs([experiment.experiment_id])
    for run in runs:
        assert run.info.artifact_uri.startswith(f"{experiment.artifact_location}/")
        assert client.list_artifacts(run.info.run_id), run.info.run_name
    assert client.get_experiment(other).artifact_location == str(tmp_path / "own")
    after = copy.copy(before)
    after.root, after.db = there, there / "mlflow.db"
    for name in ("tables", "figures"):
        setattr(after, name, [there / path.relative_to(here) for path in getattr(before, name)])
    after.runs = [replace(ref, folder=there / ref.folder.relative_to(here)) for ref in before.runs]
    assert len(after.export().unchanged) == len(runs)


def test_a_database_that_is_none_stays_as_it_is(tmp_path: Path) -> None:
    relocate(tmp_path / "mlflow.db", tmp_path)
    assert not (tmp_path / "mlflow.db").exists()
    sqlite3.connect(tmp_path / "empty.db").close()
    relocate(tmp_path / "empty.db", tmp_path)


OWN: dict[str, Any] = {"dataset": "photos", "ood_dataset": None, "scenes": [("photos", "s00")], "trial": True}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A trial on one test set of a user's photographs, one restored image of which is large."""
    done = Setup(tmp_path_factory.mktemp("own"), ["photos"])
    done.runs = [ref for ref in done.runs if ref.name in ("blurred", "ddnet_1b-seed0")]
    noise = np.random.default_rng(0).random((560, 1680, 3), dtype=np.float32)
    write_image(done.runs[0].folder / "restored" / "photos" / "s00.png", noise)
    assert len(done.export(**OWN).created) == 3
    return done


def test_without_a_second_test_set_there_is_no_ood_metric(own: Setup) -> None:
    metrics = own.stored()["ddnet_1b-seed0"].data.metrics
    assert "psnr" in metrics and not [name for name in metrics if name.startswith("ood_")]


def test_a_trial_is_tagged_and_a_real_run_is_not(own: Setup, setup: Setup) -> None:
    assert {run.data.tags["trial"] for run in own.stored().values()} == {"true"}
    assert not [run for run in setup.stored().values() if "trial" in run.data.tags]


def test_a_photograph_is_stored_reduced_and_compared_in_full(own: Setup) -> None:
    large = own.runs[0].folder / "restored" / "photos" / "s00.png"
    before = large.read_bytes()
    assert len(before) > PICTURE_LIMIT
    run = own.stored()["blurred"]
    folder = own.root / "mlartifacts" / "embedded" / run.info.run_id / "artifacts" / "panels" / "photos"
    assert [path.name for path in folder.iterdir()] == ["s00.png"]
    picture = read_raw_rgb(folder / "s00.png")
    assert picture.shape == (280, 840, 3) and bit_depth(picture) == 8
    assert len(own.export(**OWN).unchanged) == 3 and large.read_bytes() == before
    write_image(large, 1 - read_image(large))
    assert own.export(**OWN).replaced == ["run:blurred"]


def test_flatten() -> None:
    assert flatten({"a": {"b": [1, 2], "c": "x"}, "d": None}) == {
        "a.b": json.dumps([1, 2]),
        "a.c": "x",
        "d": "null",
    }


EXPORT = """
import pickle, sys
from pathlib import Path
from ddnet.report.mlflow_export import export
arguments, options = pickle.loads(Path(sys.argv[1]).read_bytes())
export(*arguments, **options)
"""


def start_export(setup: Setup, place: Path) -> subprocess.Popen[str]:
    """The same export by a process of its own."""
    options: dict[str, Any] = {
        "tables": {"modules": setup.tables}, "figures": {"modules": setup.figures}, "settings": SETTINGS,
        "dataset": "embedded", "ood_dataset": "embedded_ood", "variants": VARIANTS,
        "complexity": setup.complexity, "scenes": [("embedded", "s00")],
    }  # fmt: skip
    arguments = (setup.db, setup.root / "mlartifacts", "embedded", setup.runs)
    place.write_bytes(pickle.dumps((arguments, options)))
    return subprocess.Popen([sys.executable, "-c", EXPORT, str(place)], stderr=subprocess.PIPE, text=True)


def test_exports_that_run_at_once_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    together = [start_export(setup, tmp_path / f"{number}.pickle") for number in range(3)]
    assert [process.wait(120) for process in together] == [0, 0, 0], [p.stderr and p.stderr.read() for p in together]
    runs = setup.stored()
    assert len(runs) == 1 + len(setup.runs) and {run.info.status for run in runs.values()} == {"FINISHED"}
    assert setup.export().created == []


def test_an_open_ui_and_an_export_do_not_disturb_each_other(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.export()
    with mlflow_ui(setup.db, tmp_path) as address:
        url = f"{address}/api/2.0/mlflow/"
        experiments = requests.get(f"{url}experiments/search?max_results=10", timeout=30).json()["experiments"]
        [ident] = [item["experiment_id"] for item in experiments if item["name"] == "ddnet-bench/embedded"]
        seen: list[int] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                body = {"experiment_ids": [ident], "max_results": 100}
                answer = requests.post(f"{url}runs/search", json=body, timeout=30)
                assert answer.status_code == 200, answer.text
                seen.append(len(answer.json().get("runs", [])))

        watcher = threading.Thread(target=watch)
        watcher.start()
        exports, until = 0, time.monotonic() + 90
        while exports < 2 or (len(seen) < 4 and time.monotonic() < until):
            exports += 1
            changed = setup.export(settings={**SETTINGS, "training": {"lr": 1e-3 * exports}})
            assert len(changed.replaced) == 4  # the trained runs
        stop.set()
        watcher.join()
        assert len(seen) >= 4
        final = requests.post(f"{url}runs/search", json={"experiment_ids": [ident]}, timeout=30).json()["runs"]
        assert len(final) == 1 + len(setup.runs) == len(setup.stored())


def test_a_damaged_database_is_one_line_and_a_deleted_one_is_made_anew(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.db.write_bytes(b"no database, but long enough to look like one" * 100)
    with pytest.raises(DDNetError, match=r"mlflow\.db: MLflow cannot use it \(.*; free some space, or move it aside"):
        setup.export()
    setup.db.unlink()
    assert start_export(setup, tmp_path / "again.pickle").wait(120) == 0  # MLflow keeps what it opened in a process
