"""A Slurm of one node on this machine, for as long as a test takes: slurmctld, slurmd and munged of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CPUS, MEMORY_MB = 2, 8000
STARTED_S = 60.0

CONFIGURATION = """
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MinJobAge=7200
KillWait=30
GresTypes=gpu
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldTimeout=300
SlurmdTimeout=300
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
# A GPU that is none: it is counted and handed out, which is all that these tests need.
GRES = "NodeName=localhost Name=gpu File=/dev/null\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class LocalSlurm:
    """A running one-node Slurm.

    Attributes:
        environment: what its commands need, for `subprocess`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Snakemake takes SLURM_CONF from the environment of `srun`, which otherwise reads it from /etc/slurm.
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, by `scontrol`, as names and values."""
        blocks = self.command("scontrol", "--oneliner", "show", "job").splitlines()
        fields = [[word.partition("=") for word in block.split(" ") if "=" in word] for block in blocks]
        return [{name: value for name, _, value in words} for words in fields if words]

    def start(self) -> None:
        """Start the daemons and wait until the node is idle."""
        for name in ("spool", "state", "bin"):
            (self.folder / name).mkdir()
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        controller, daemon = _free_ports(2)
        values = {"controller": controller, "daemon": daemon, "cpus": CPUS, "memory": MEMORY_MB}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, **values))
        (self.folder / "gres.conf").write_text(GRES)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        named = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log",
                 "seed-file": "munge.seed"}  # fmt: skip
        # --force: it would rather not have its files below a temporary folder.
        self._daemon("munged", "--foreground", "--force", *(f"--{k}={self.folder / v}" for k, v in named.items()))
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        self._daemon("slurmd", "-D", "-N", "localhost", "-f", str(self.folder / "slurm.conf"))
        self._until(self._idle, "the node")

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            self._daemons.append(subprocess.Popen(words, env=self.environment, stdout=out, stderr=out))

    def _idle(self) -> bool:
        done = subprocess.run(
            ("sinfo", "--noheader", "--format=%T"), env=self.environment, capture_output=True, text=True
        )
        return done.stdout.strip() == "idle"

    def _until(self, true: object, what: str) -> None:
        until = time.monotonic() + STARTED_S
        while not true():  # type: ignore[operator]
            logs = "".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.out")))
            assert time.monotonic() < until, f"{what} did not come up\n{logs}"
            assert all(daemon.poll() is None for daemon in self._daemons), logs
            time.sleep(0.2)

    def stop(self) -> None:
        """End the jobs, wait until they are gone, then end the daemons that were started here."""
        subprocess.run(("scancel", "--me", "--full"), env=self.environment, capture_output=True, timeout=60)
        self._wait_for_jobs()
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def _wait_for_jobs(self) -> None:
        """A daemon that ends before its jobs leaves their processes to nobody."""
        until = time.monotonic() + STARTED_S
        while time.monotonic() < until:
            asked = subprocess.run(("squeue", "--noheader"), env=self.environment, capture_output=True, text=True)
            if asked.returncode or not asked.stdout.strip():
                return
            time.sleep(0.5)


@contextmanager
def local_slurm(folder: Path) -> Iterator[LocalSlurm]:
    """A Slurm whose files lie in `folder`, which should have a short path; it needs root."""
    slurm = LocalSlurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


PROGRAMS: Sequence[str] = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
