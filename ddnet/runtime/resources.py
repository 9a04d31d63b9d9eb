"""What this machine, or the part of it that a job was given, has: processors and main memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> int:
    """Main memory of this machine, or of the control group (container, cluster job) that this process is in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            memory = min(memory, int(Path(file).read_text(encoding="ascii")))
    return memory // 10**6


def job_threads(cores: int) -> int:
    """Threads of a job that was given `cores` of Snakemake's cores, of which several may share a processor."""
    return max(1, cores // int(os.environ.get("DDNET_CORES_PER_CPU", "1")))
