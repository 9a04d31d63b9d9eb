"""Training of one variant by several processes: one for each GPU of a job, or, without GPUs, on the processor.

Each process takes its part of every batch, and gradients are averaged: the numbers are those of one process but for
the order of sums. `torch.distributed.run` starts `python -m ddnet.training.processes INPUTS OUT` once for each.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from pydantic import TypeAdapter

from ddnet.errors import DDNetError
from ddnet.runtime.log import log_to
from ddnet.runtime.run_lock import VARIABLE, OnlyRun, leave_with_main
from ddnet.runtime.signals import Stopped, stoppable
from ddnet.training.train import Inputs, train

log = logging.getLogger(__name__)

MODULE = "ddnet.training.processes"
SAID = "error.txt"


def train_in_processes(inputs: Inputs, out: Path, processes: int) -> None:
    """`train` by `processes` processes; this one logs what the first of them does.

    Raises:
        DDNetError: as `train`; or the processes ended without a reason of ours.
    """
    if processes == 1:
        train(inputs, out)
        return
    threads = max(1, torch.get_num_threads() // processes)
    with tempfile.TemporaryDirectory(prefix="ddnet-train-") as folder:
        given, said = Path(folder, "inputs.json"), Path(folder, SAID)
        given.write_bytes(TypeAdapter(Inputs).dump_json(inputs))
        launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
        with Path(folder, "stderr").open("w+", encoding="utf-8", errors="replace") as noise:
            lock = OnlyRun(Path(folder, "lock"))
            lock.take(tied=False)
            group = subprocess.Popen(
                (sys.executable, "-m", *launcher, "-m", MODULE, str(given), str(out)),
                env=os.environ | {"OMP_NUM_THREADS": str(threads), VARIABLE: str(lock.path)},
                stdout=subprocess.PIPE, stderr=noise, text=True,
            )  # fmt: skip
            try:
                for line in group.stdout or ():
                    log.info("%s", line.rstrip())
                status = group.wait()
            except BaseException:  # an interrupted parent leaves nobody behind; by its lock not even a killed one does
                group.terminate()
                for line in group.stdout or ():
                    log.info("%s", line.rstrip())
                group.wait()
                raise
            if said.is_file():
                raise DDNetError(said.read_text(encoding="utf-8"))
            if status:
                noise.seek(0)
                for line in noise.read().splitlines():
                    log.info("%s", line)
                who = f"{inputs.variant.name} seed {inputs.seed}"
                raise DDNetError(f"{who}: the {processes} processes ended with status {status}; see the log for why")


def main(argv: list[str]) -> int:
    """One of the processes; a DDNetError is left for the one that started them."""
    given, out = map(Path, argv)
    level = logging.INFO if os.environ["RANK"] == "0" else logging.CRITICAL
    log_to(logging.StreamHandler(sys.stdout), level=level)
    leave_with_main()
    try:
        with stoppable():
            train(TypeAdapter(Inputs).validate_json(given.read_bytes()), out)
    except DDNetError as error:
        given.with_name(SAID).write_text(str(error), encoding="utf-8")
        return 1
    except Stopped as stop:
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
