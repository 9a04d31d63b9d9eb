"""One run at a time, without a lock that outlives its holder, and no job that outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddnet.errors import DDNetError
from ddnet.runtime.run_lock import VARIABLE, OnlyRun

HOLDER = """
    import sys, time
    from pathlib import Path
    from ddnet.runtime.run_lock import OnlyRun
    lock = OnlyRun(Path(sys.argv[1]))
    lock.take()
    print("held", flush=True)
    time.sleep(60)
"""
JOB = """
    import signal, sys, time
    from ddnet.runtime.run_lock import leave_with_main
    from ddnet.runtime.signals import Stopped, stoppable
    leave_with_main()
    try:
        with stoppable():
            print("at work", flush=True)
            time.sleep(60)
    except Stopped:
        time.sleep(float(sys.argv[1]))
        print("state saved", flush=True)
"""


class Started:
    def __init__(self, code: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdout=subprocess.PIPE, text=True, env=os.environ | environment,
        )  # fmt: skip
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture(autouse=True)
def no_lock_of_another(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, "")  # and whatever `take` sets is undone
    yield


def test_a_second_run_is_refused_and_a_killed_one_leaves_nothing_to_unlock(tmp_path: Path) -> None:
    lock = tmp_path / ".snakemake" / "preset.lock"
    first = Started(HOLDER, str(lock))
    with pytest.raises(DDNetError, match=r"preset\.lock: another run of this preset is at work in this folder"):
        OnlyRun(lock).take()
    first.process.kill()
    first.process.wait()
    OnlyRun(lock).take()
    assert os.environ[VARIABLE] == str(lock)


def test_what_there_is_to_do_must_not_be_older_than_another_run(tmp_path: Path) -> None:
    """Made its plan, then another run came and went: the plan is no longer true."""
    lock = tmp_path / "preset.lock"
    late = OnlyRun(lock)
    other = OnlyRun(lock)
    other.take()
    del other
    with pytest.raises(DDNetError, match="or has just ended"):
        late.take()


def test_jobs_of_a_killed_run_save_their_state_and_are_awaited(tmp_path: Path) -> None:
    lock = tmp_path / "preset.lock"
    main = Started(HOLDER, str(lock))
    job = Started(JOB, "0.5", **{VARIABLE: str(lock)})
    main.process.kill()
    main.process.wait()
    OnlyRun(lock).take()
    assert job.process.wait(5) == 0 and job.line() == "state saved"  # it held its share until it had


def test_a_job_of_a_living_run_stays(tmp_path: Path) -> None:
    lock = tmp_path / "preset.lock"
    main = Started(HOLDER, str(lock))
    job = Started(JOB, "0", **{VARIABLE: str(lock)})
    time.sleep(0.5)
    assert job.process.poll() is None
    job.process.send_signal(signal.SIGTERM)
    assert job.line() == "state saved"
    main.process.kill()
    main.process.wait()


def test_a_job_of_no_run_is_left_alone(tmp_path: Path) -> None:
    job = Started(JOB, "0", **{VARIABLE: str(tmp_path / "no such lock")})
    time.sleep(0.5)
    assert job.process.poll() is None
    job.process.kill()
    job.process.wait()
