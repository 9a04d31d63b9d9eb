"""The GPUs of this machine, without importing torch, and one of them for each job."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ddnet.errors import DDNetError

VISIBLE = "CUDA_VISIBLE_DEVICES"
JOBS_VARIABLE = "DDNET_JOBS_PER_GPU"
DRIVER = Path("/proc/driver/nvidia/gpus")
POLL_S = 0.5

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
    said = os.environ.get(JOBS_VARIABLE) or "1"
    if not said.isdecimal() or int(said) < 1:
        raise DDNetError(f"{JOBS_VARIABLE} is '{said}'; allowed are whole numbers from 1 on")
    return int(said)


@contextmanager
def own_gpu(locks: Path | None = None) -> Iterator[str | None]:
    """Within the block, CUDA sees one GPU: one with a free place, for which the job waits. None where there is none.

    To be entered before CUDA is first used. Places are locked files, which the system frees when a process ends,
    however it ends.

    Args:
        locks: folder of the locked files; None: one per user in the folder for temporary files.
    """
    gpus, before = visible_gpus(), os.environ.get(VISIBLE)
    if not gpus:
        yield None
        return
    folder = locks or Path(tempfile.gettempdir(), f"ddnet-gpus-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    name, place = _free_place(folder, gpus)
    os.environ[VISIBLE] = name
    try:
        yield name
    finally:
        place.close()
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before


def _free_place(folder: Path, gpus: list[str]) -> tuple[str, IO[bytes]]:
    waited = False
    while True:
        for place in range(jobs_per_gpu()):  # first an empty GPU, then one with company
            for name in gpus:
                stream = (folder / f"{name}-{place}.lock").open("wb")
                with suppress(BlockingIOError):
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return name, stream
                stream.close()
        if not waited:
            log.info("waiting for a GPU: %s in use", ", ".join(gpus))
            waited = True
        time.sleep(POLL_S)
