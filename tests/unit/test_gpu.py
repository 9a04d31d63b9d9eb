"""Which GPUs jobs may use, and that each job has its own; the driver's folder is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddnet.errors import DDNetError
from ddnet.runtime import gpu
from ddnet.runtime.gpu import devices_per_training, jobs_per_gpu, own_gpus, visible_gpus

HOLD = """
import sys, pathlib
from ddnet.runtime import gpu
gpu.DRIVER = pathlib.Path(sys.argv[1])
gpu.POLL_S = 0.02
with gpu.own_gpus(int(sys.argv[3]), pathlib.Path(sys.argv[2])) as names:
    print(*names, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    driver = tmp_path / "driver"
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (driver / name).mkdir(parents=True)
    monkeypatch.setattr(gpu, "DRIVER", driver)
    monkeypatch.setattr(gpu, "POLL_S", 0.02)
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    monkeypatch.delenv(gpu.JOBS_VARIABLE, raising=False)
    return driver


def holder(driver: Path, locks: Path, count: int = 1) -> subprocess.Popen[str]:
    command = (sys.executable, "-c", HOLD, str(driver), str(locks), str(count))
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("named", "expected"), [(None, ["0", "1"]), ("", []), ("1", ["1"]), ("1,0", ["1", "0"]), ("-1", [])]
)
def test_the_visible_ones_are_those_that_cuda_may_see(
    named: str | None, expected: list[str], two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is not None:
        monkeypatch.setenv(gpu.VISIBLE, named)
    assert visible_gpus() == expected


def test_without_a_driver_there_are_none_and_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    monkeypatch.setenv(gpu.VISIBLE, "0,1")
    assert visible_gpus() == []
    with own_gpus(1, tmp_path / "locks") as names:
        assert names == [] and os.environ[gpu.VISIBLE] == "0,1"
    assert not (tmp_path / "locks").exists()


def test_each_process_has_its_own_and_a_killed_one_leaves_it_free(two_gpus: Path, tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    first, second = holder(two_gpus, locks), None
    try:
        assert said(first) == "0"
        second = holder(two_gpus, locks)
        assert said(second) == "1"
        third = holder(two_gpus, locks)  # waits: both are taken
        first.kill()
        first.wait()
        assert said(third) == "0"
        third.communicate("")
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()


def test_within_the_block_cuda_sees_one_and_after_it_what_it_saw(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.VISIBLE, "1,0")
    with own_gpus(1, tmp_path) as names:
        assert names == ["1"] and os.environ[gpu.VISIBLE] == "1"
    assert os.environ[gpu.VISIBLE] == "1,0"
    monkeypatch.delenv(gpu.VISIBLE)
    with own_gpus(2, tmp_path):
        assert os.environ[gpu.VISIBLE] == "0,1"
    assert gpu.VISIBLE not in os.environ


def test_several_jobs_may_share_one_the_empty_ones_first(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.JOBS_VARIABLE, "2")
    jobs = [holder(two_gpus, tmp_path) for _ in range(4)]
    try:
        assert sorted(said(job) for job in jobs) == ["0", "0", "1", "1"]
    finally:
        for job in jobs:
            job.communicate("")
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv(gpu.JOBS_VARIABLE, wrong)
        with pytest.raises(DDNetError, match=f"DDNET_JOBS_PER_GPU is '{wrong}'; allowed are whole numbers from 1 on"):
            jobs_per_gpu()


def test_a_training_on_two_waits_for_both_and_holds_none_meanwhile(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = holder(two_gpus, tmp_path)
    assert said(one) == "0"
    both = holder(two_gpus, tmp_path, 2)
    time.sleep(0.3)  # it tries meanwhile
    other = holder(two_gpus, tmp_path)
    try:
        assert said(other) == "1"
        for job in (other, one):
            job.communicate("")
        assert said(both) == "0 1"
    finally:
        for job in (one, other, both):
            job.kill()
            job.communicate()
    monkeypatch.setenv(gpu.DEVICES_VARIABLE, "2")
    assert devices_per_training() == 2
    monkeypatch.setenv(gpu.DEVICES_VARIABLE, "3")
    with pytest.raises(DDNetError, match="DDNET_DEVICES is 3; there are 2 GPUs"):
        devices_per_training()


def test_jobs_of_slurm_that_each_call_their_gpu_0_do_not_wait_for_each_other(
    two_gpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(gpu.VISIBLE, "0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with own_gpus() as first:
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with own_gpus() as second:
            assert first == second == ["0"]
    assert len(list(tmp_path.glob("ddnet-gpus-*-slurm-[78]"))) == 2
