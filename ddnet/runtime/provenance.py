"""The manifest beside every output: what made it, from what, on what."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ddnet.runtime.paths import CARRIED, ROOT

CODE = (".", ":(exclude)results")  # a record that a run has just written does not change what the next one runs
PACKAGES = ("ddnet-bench", "torch", "lightning-fabric", "numpy", "scikit-image", "lpips", "ptflops")


def stable_hash(value: Any) -> str:
    """Twelve hex digits of a JSON-serialisable value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def git_state() -> tuple[str, bool]:
    """Commit of the source tree, or that a wheel was built from, and whether code in it was not committed.

    ("unknown", False) where nobody knows.
    """
    if (CARRIED / "commit").is_file():  # not the repository of somebody's own that this is installed into
        commit = (CARRIED / "commit").read_text(encoding="ascii").strip()
        return commit.removesuffix("-dirty") or "unknown", commit.endswith("-dirty")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", "-C", str(ROOT), *arguments), capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", *CODE))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def device_name() -> str:
    """The GPU in use, or the processor."""
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mib() -> float:
    """Peak resident memory of this process in MiB.

    Of Linux's two figures the high-water mark in /proc: `ru_maxrss` is handed down to a process by the one that started
    it, so a small job of a large Snakemake would show Snakemake's.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def startup_s() -> float | None:
    """Seconds since this process began, taken by the interpreter and its imports; None elsewhere than on Linux."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 2)
    except (OSError, AttributeError):
        return None


class Stopwatch:
    """Start it before the work and ask for `manifest` after it.

    `peak_memory_mib` is the most that this process itself held in memory at any one time; worker processes that it
    started are not in it.
    """

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()
        self._source = git_state()  # of the code that is loaded; after hours of work the repository may be elsewhere

    def manifest(self, **facts: Any) -> dict[str, Any]:
        """What the work was made from (`facts`) and with: commit, versions, device, times in s, memory in MiB."""
        commit, dirty = self._source
        return {
            "commit": commit,
            "dirty": dirty,
            "versions": _versions(),
            "device": device_name(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "wall_s": round(time.perf_counter() - self._wall, 2),
            "cpu_s": round(time.process_time() - self._cpu, 2),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            **facts,
        }
