"""MLflow's comparison page over an export of ours, as a user goes through it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_pages import METRICS, Pages
from mlflow_server import documented, mlflow_ui
from selenium import webdriver
from test_report_mlflow import Setup

from ddnet.runtime.paths import ROOT

FIRST, SECOND = "ddnet_1b-seed0", "unet-seed0"


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    done = Setup(tmp_path_factory.mktemp("mlflow-ui"))
    done.export()
    return done


@pytest.fixture(scope="module")
def pages(setup: Setup, browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    import mlflow

    experiment = mlflow.MlflowClient(f"sqlite:///{setup.db}").get_experiment_by_name("ddnet-bench/embedded")
    with mlflow_ui(setup.db, tmp_path_factory.mktemp("server")) as address:
        yield Pages(browser, address, experiment.experiment_id)


def test_the_documented_command_is_for_this_machine_alone_and_tells_nobody() -> None:
    environment, words = documented()
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_runs_are_listed_by_study_with_their_metrics_and_two_are_compared(pages: Pages, setup: Setup) -> None:
    pages.runs()
    assert pages.says("study-modules", "blurred", *METRICS)
    assert FIRST not in pages.text  # folded up below its study
    pages.unfold("study-modules")
    pages.says(FIRST, SECOND)
    stored = setup.stored()[FIRST].data.metrics
    assert set(METRICS) - {"macs_g"} <= set(stored)
    for name in METRICS:
        if name in stored:
            assert f"{stored[name]:.10g}"[:8] in pages.values(FIRST), name
    pages.tick(FIRST)
    pages.tick(SECOND)
    pages.press("Compare")
    assert pages.says("Comparing 2 Runs", "Run details", FIRST, SECOND)


def test_the_runs_of_any_study_are_found_by_its_name(pages: Pages) -> None:
    [words] = re.findall(r"`(tags\.studies .+?)`", (ROOT / "docs" / "mlflow.md").read_text())
    pages.runs()
    pages.search(words)
    pages.until(lambda _: "3 matching runs" in pages.text and "blurred" not in pages.text)  # with their study
    pages.unfold("study-modules")
    assert pages.says(FIRST) and SECOND not in pages.text


def test_a_run_shows_its_restored_pictures_and_its_tables(pages: Pages, setup: Setup) -> None:
    runs = {name: run.info.run_id for name, run in setup.stored().items()}
    pages.files(runs[FIRST], "panels/embedded/s00.png")
    assert int(pages.picture().get_attribute("naturalWidth") or 0) > 8
    pages.files(runs["study-modules"], "tables/table3.md")
    assert pages.says("table3.md")


def test_the_export_writes_to_its_own_database_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/nobody")
    setup = Setup(tmp_path)
    assert len(setup.export().created) == 6 == len(setup.stored())
