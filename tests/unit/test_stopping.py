"""Signals: jobs leave in order, with what they have saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddnet.io.files import atomic_path
from ddnet.runtime import signals as stopping
from ddnet.runtime.log import job_log
from ddnet.runtime.signals import SIGNALS, Stopped, held_back, stoppable

WAITING = """
import time
from ddnet.cli import main as cli
cli._schema = lambda _: (print("at work", flush=True), time.sleep(30))
raise SystemExit(cli.main(["schema"]))
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_stops_a_job_with_one_line_and_its_own_status(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with (
        pytest.raises(SystemExit) as ended,
        job_log(tmp_path / "job.log"),
        atomic_path(tmp_path / "a.csv") as temporary,
    ):
        temporary.write_text("half")
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert ended.value.code == 128 + number
    said = capfd.readouterr().err
    assert f"stopped by {number.name}; what is finished is kept" in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]
    assert signal.getsignal(number) is before


def test_a_signal_can_be_held_back_until_the_work_is_saved() -> None:
    with stoppable(), held_back() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)  # terminal, scheduler and main process all pass the same wish on
        time.sleep(0.05)
        assert asked() == signal.SIGUSR1


def test_one_who_asks_again_later_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "IMPATIENT_S", 0.1)
    with pytest.raises(Stopped, match="stopped by SIGINT"), held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)


def test_the_command_line_says_who_stopped_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said == "ddnet: stopped by SIGINT\n"
