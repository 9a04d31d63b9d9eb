"""MLflow tells nobody: which hosts its processes ask for, outside of any CI that would silence it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from mlflow_server import mlflow_ui
from test_report_mlflow import Setup, start_export

HERE = {"127.0.0.1", "::1", "localhost", "None"}
KEPT = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS"}  # nothing that MLflow takes for a CI or for a refusal
WATCH = """
import os, sys

def note(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    with open(os.environ["WATCHED"], "a") as hosts:
        hosts.write(host + "\\n")
    if host not in {"127.0.0.1", "::1", "localhost", "None"}:
        raise OSError("no way out")  # what a test sees is not sent either

sys.addaudithook(note)
"""
UNGUARDED = """
import sys, time
from pathlib import Path
import mlflow
mlflow.MlflowClient("sqlite:///" + sys.argv[1]).create_experiment("any")
until = time.monotonic() + 60
while not Path(sys.argv[2]).exists() and time.monotonic() < until:
    time.sleep(0.1)
"""
LIVE = """
import sys
from pathlib import Path
from ddnet.report.mlflow_live import Training, live
folder = Path(sys.argv[1])
with live(Training(folder / "history.csv", "toy", "unet-seed0", "abc", {"variant": "unet"}, {"steps": 30})):
    pass
"""


@dataclass(frozen=True)
class Watch:
    """The hosts that processes asked for, and the home that they have."""

    hosts: Path
    home: Path

    def seen(self) -> set[str]:
        return set(self.hosts.read_text().split()) if self.hosts.exists() else set()

    def left_at_home(self) -> list[Path]:
        return [
            path for path in self.home.rglob("*") if path.is_file() and "mlflow" in str(path.relative_to(self.home))
        ]


def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """All processes started from here on are watched, and take this for a user's own terminal.

    No fixture: pytest names the test in the environment after the fixtures, and MLflow is silent where it finds that.
    """
    done = Watch(tmp_path / "hosts.txt", tmp_path / "home")
    done.home.mkdir()
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    for name in set(os.environ) - KEPT:
        monkeypatch.delenv(name)
    for name, value in {"PYTHONPATH": tmp_path / "hook", "WATCHED": done.hosts, "HOME": done.home}.items():
        monkeypatch.setenv(name, str(value))
    return done


def test_mlflow_without_a_word_from_us_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(tmp_path, monkeypatch)
    database = tmp_path / "unguarded.db"
    subprocess.run([sys.executable, "-c", UNGUARDED, str(database), str(watch.hosts)], check=True, timeout=120)
    assert any("telemetry" in host for host in watch.seen())
    assert [path.name for path in watch.left_at_home()] == ["telemetry.json"]


def test_export_server_and_live_reporting_ask_no_host_but_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watched(tmp_path, monkeypatch)
    setup = Setup(tmp_path)
    assert start_export(setup, tmp_path / "export.pickle").wait(120) == 0 and setup.db.is_file()
    assert watch.seen() == set()
    with mlflow_ui(setup.db, tmp_path) as address:
        told = requests.get(f"{address}/ajax-api/3.0/mlflow/ui-telemetry", timeout=60).json()
        assert told["disable_ui_telemetry"] is True  # the page in the browser is told so
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        done = subprocess.run([sys.executable, "-c", LIVE, str(tmp_path)], check=True, timeout=120, capture_output=True)
        assert done.stdout == b""
        search = {"filter": "name = 'ddnet-bench/toy (live)'", "max_results": 1}
        found = requests.get(f"{address}/api/2.0/mlflow/experiments/search", search, timeout=60).json()
        assert len(found["experiments"]) == 1  # it has reported
    assert "127.0.0.1" in watch.seen() <= HERE
    assert watch.left_at_home() == []
