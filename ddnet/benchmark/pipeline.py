"""What a finished run spent beside its work: interpreters, imports, Snakemake, processors without a job.

All of it is in the manifests that every job leaves; nothing is run again but Snakemake's own start.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ddnet.benchmark.bench import Records, Row, rounded
from ddnet.errors import DDNetError
from ddnet.runtime.paths import CONFIG, PROJECT
from ddnet.runtime.resources import cpu_count

KEY = ("preset", "rule")
COLUMNS = (
    *KEY, "jobs", "work_s", "startup_s", "waiting_s", "work_share", "startup_share", "waiting_share", "wall_s",
    "hardware", "processors", "commit", "dirty", "date",
)  # fmt: skip
ALL, SNAKEMAKE = "all", "snakemake, nothing to do"
COPIES = {"reference", "mlartifacts"}  # folders of results that hold manifests a second time
LONGEST_PAUSE = 60.0  # s without any job; beyond it, the run did not go on in one piece


class Job(NamedTuple):
    """One job of a run: seconds since the epoch, and processors used."""

    rule: str
    began: float
    startup: float
    ended: float
    processors: int


def finished_jobs(folder: Path, preset: str) -> list[Job]:
    """The jobs of a preset in a working directory, by their manifests, in the order of their beginnings.

    Raises:
        DDNetError: there are none, or they did not run in one piece.
    """
    files = [file for place in ("data", "results") for file in (folder / place).rglob("*manifest.json")]
    files = [file for file in files if not COPIES & set(file.relative_to(folder).parts)]
    manifests = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    jobs = sorted(
        (_job(manifest) for manifest in manifests if manifest.get("preset") == preset and manifest.get("startup_s")),
        key=lambda job: job.began,
    )
    if not jobs:
        raise DDNetError(f"{folder}: no finished jobs of the preset '{preset}'; run it here first")
    latest = jobs[0].ended
    for job in jobs:
        if job.began - latest > LONGEST_PAUSE:
            raise DDNetError(
                f"{folder}: nothing ran for {job.began - latest:.0f} s before {job.rule}: no run in one piece; "
                "measure one that began with nothing (make clean)"
            )
        latest = max(latest, job.ended)
    return jobs


def _job(manifest: dict[str, Any]) -> Job:
    ended = datetime.datetime.fromisoformat(manifest["date"]).timestamp()
    startup = float(manifest["startup_s"])
    return Job(manifest["rule"], ended - manifest["wall_s"] - startup, startup, ended, int(manifest["processors"]))


def shares(jobs: Iterable[Job], span: float) -> Row:
    """Processor seconds of work and of start-up, and their shares of `span` seconds of all processors."""
    jobs = list(jobs)
    startup = sum(job.startup * job.processors for job in jobs)
    work = sum((job.ended - job.began - job.startup) * job.processors for job in jobs)
    whole = span * cpu_count()
    return {
        "jobs": len(jobs), "work_s": work, "startup_s": startup,
        "work_share": work / whole, "startup_share": startup / whole,
    }  # fmt: skip


def bench_pipeline(folder: Path, preset: str, records: Records, show: Callable[[Row], None]) -> None:
    """A row per rule, one of the whole run, one of a Snakemake that finds nothing to do.

    Work that loads a package while it runs counts as work; what is left of the processors' time, waiting, is Snakemake
    between jobs and processors that no job was ready for.

    Raises:
        DDNetError: see `finished_jobs`; or Snakemake fails.
    """
    jobs = finished_jobs(folder, preset)
    span = max(job.ended for job in jobs) - jobs[0].began
    together = shares(jobs, span) | {"wall_s": span}
    together["waiting_share"] = 1 - together["work_share"] - together["startup_share"]
    together["waiting_s"] = together["waiting_share"] * span * cpu_count()
    by_rule = {rule: shares([job for job in jobs if job.rule == rule], span) for rule in {job.rule for job in jobs}}
    rows = dict(sorted(by_rule.items(), key=lambda entry: -entry[1]["work_s"])) | {ALL: together}
    rows[SNAKEMAKE] = {"jobs": 0, "wall_s": _snakemake_start(folder, preset)}
    for rule, facts in rows.items():
        row = {"preset": preset, "rule": rule} | facts
        show(records.add({key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}))


def _snakemake_start(folder: Path, preset: str) -> float:
    config = CONFIG / f"{preset}.yaml"
    if not config.is_file():
        allowed = ", ".join(sorted(file.stem for file in config.parent.glob("*.yaml")))
        raise DDNetError(f"no preset '{preset}'; {config.parent.name} has {allowed}")
    command = ("-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "-n", "-q", "--nolock", "--cores", str(cpu_count()))
    began = time.perf_counter()
    done = subprocess.run(
        (sys.executable, *command, "--configfile", str(config)), cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise DDNetError(f"snakemake -n: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return time.perf_counter() - began


HEADER = (
    f"{'rule':<26}{'jobs':>6}{'work s':>10}{'start-up s':>12}{'work':>8}{'start-up':>10}{'waiting':>9}{'wall s':>9}"
)


def line(row: Row) -> str:
    """A row in brief, under HEADER; seconds are of one processor, shares of all of them."""

    def cell(name: str, width: int, form: str) -> str:
        return f"{format(row[name], form) if row[name] != '' else '':>{width}}"

    return (
        f"{row['rule']:<26}{row['jobs']:>6}{cell('work_s', 10, '.1f')}{cell('startup_s', 12, '.1f')}"
        f"{cell('work_share', 8, '.1%')}{cell('startup_share', 10, '.1%')}{cell('waiting_share', 9, '.1%')}"
        f"{cell('wall_s', 9, '.1f')}"
    )
