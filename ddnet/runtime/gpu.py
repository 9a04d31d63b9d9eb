"""The GPUs of this machine, without importing torch, and one of them for each job."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ddnet.errors import DDNetError

VISIBLE = "CUDA_VISIBLE_DEVICES"
JOBS_VARIABLE, DEVICES_VARIABLE = "DDNET_JOBS_PER_GPU", "DDNET_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")
POLL_S = 2.0

log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """NVIDIA GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them; where it is unset, all that there are."""
    present = len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0
    named = os.environ.get(VISIBLE)
    if named is None or not present:
        return [str(number) for number in range(present)]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def jobs_per_gpu() -> int:
    """How many jobs share a GPU: the environment variable DDNET_JOBS_PER_GPU, 1 where it is unset.

    Raises:
        DDNetError: it is no number from 1 on.
    """
    return _number(JOBS_VARIABLE)


def devices_per_training() -> int:
    """Processes that train a network together, each on a GPU of its own where there are any: DDNET_DEVICES, or 1.

    Raises:
        DDNetError: it is no number from 1 on, or larger than the number of GPUs.
    """
    count, gpus = _number(DEVICES_VARIABLE), visible_gpus()
    if gpus and count > len(gpus):
        raise DDNetError(f"{DEVICES_VARIABLE} is {count}; there are {len(gpus)} GPUs ({VISIBLE}: {', '.join(gpus)})")
    return count


def _number(variable: str) -> int:
    said = os.environ.get(variable) or "1"
    if not said.isdecimal() or int(said) < 1:
        raise DDNetError(f"{variable} is '{said}'; allowed are whole numbers from 1 on")
    return int(said)


@contextmanager
def own_gpus(count: int = 1, locks: Path | None = None) -> Iterator[list[str]]:
    """Within the block, CUDA sees `count` GPUs: each with a free place, awaited if need be. None if there are none.

    To be entered before CUDA is first used. Places are locked files, which the system frees when a process ends,
    however it ends.

    Args:
        count: different GPUs.
        locks: folder of the locked files; None: one per user, and per Slurm job, in the folder for temporary files.
    """
    gpus, before = visible_gpus(), os.environ.get(VISIBLE)
    if not gpus:
        yield []
        return
    # Slurm may number the GPUs of every job from 0 on: another job's 0 is another GPU.
    scheduled = f"-slurm-{os.environ['SLURM_JOB_ID']}" if os.environ.get("SLURM_JOB_ID") else ""
    folder = locks or Path(tempfile.gettempdir(), f"ddnet-gpus-{os.getuid()}{scheduled}")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as places:
        said = False
        while len(own := _free_places(folder, gpus, count, places)) < count:
            places.close()  # all or none: two jobs that hold a part each would wait for ever
            if not said:
                log.info("waiting for %d of these GPUs: %s", count, ", ".join(gpus))
                said = True
            time.sleep(POLL_S)
        os.environ[VISIBLE] = ",".join(own)
        try:
            yield own
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _free_places(folder: Path, gpus: list[str], count: int, places: ExitStack) -> list[str]:
    """Up to `count` GPUs, each with a place locked; the locks end with `places`."""
    own: list[str] = []
    for place in range(jobs_per_gpu()):  # first an empty GPU, then one with company
        for name in gpus:
            if len(own) == count or name in own:
                continue
            stream = (folder / f"{name}-{place}.lock").open("wb")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                continue
            places.enter_context(stream)
            own.append(name)
    return own
