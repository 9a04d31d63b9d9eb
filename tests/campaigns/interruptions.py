"""Kill runs at random moments, run the same command again, and compare every result with an uninterrupted run's.

    python tests/campaigns/interruptions.py --kills 100 --out results/reference/reliability

Kills with SIGKILL, in turn: the main process with all its jobs, the main process alone, one job alone. Nothing is
repaired in between: no --unlock, no file deleted. Half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "workflow")]
from projects import copy_project

from ddnet.io.files import sha256, write_json
from ddnet.runtime.provenance import Stopwatch

SMOKE = ("all", "--cores", "8", "--configfile", "workflow/config/smoke.yaml")
WAYS = ("all", "main", "job")
ORPHANS_S = 60.0  # within which jobs of a killed main process must be gone

# What has to be the same bytes, whatever happened on the way. Times, and what quotes them, are not.
SAME = (
    "data/*/scenes/**/*.png", "data/*/scenes/**/*.npy", "data/*/index.csv", "data/*/patches/*", "data/*/depth/**/*",
    "data/*/depth_model/*.pt", "data/weights/*.pt", "data/dpdd/**/*.png", "data/realdof/**/*.png",
    "results/runs/**/model.pt", "results/runs/**/per_image.csv", "results/runs/**/restored/**/*.png",
    "results/runs/**/gates/**/*.npz", "results/systems/**/weights.npz", "results/defocus_maps/**/per_image.csv",
    "results/tables/*/*", "results/figures/**/*.png",
)  # fmt: skip


def digests(project: Path) -> dict[str, str]:
    """SHA-256 of every file that must not depend on interruptions, manifests aside."""
    files = {file for pattern in SAME for file in project.glob(pattern) if file.is_file()}
    return {
        file.relative_to(project).as_posix(): sha256(file)
        for file in sorted(files)
        if not file.name.endswith("manifest.json")
    }


def leftovers(project: Path) -> list[str]:
    """Temporary files that nobody will ever finish, and resume states of trainings that are finished."""
    found = [*project.glob("data/**/.*.tmp-*"), *project.glob("results/**/.*.tmp-*"), *project.glob("results/**/state")]
    return sorted(file.relative_to(project).as_posix() for file in found)


def exported(project: Path) -> Counter[tuple[str, str]]:
    """Active MLflow runs by name and status."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'results' / 'mlflow.db'}")
    experiments = [item.experiment_id for item in client.search_experiments() if item.name.startswith("ddnet-bench/")]
    return Counter((run.info.run_name, run.info.status) for run in client.search_runs(experiments, max_results=1000))


@dataclass
class Killed:
    """What a campaign did: kills by way and by the rules at work at that moment, and runs that came to an end."""

    ways: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    differing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Victim:
    """One `snakemake` of a project, in a session of its own."""

    def __init__(self, project: Path, arguments: Sequence[str]) -> None:
        self.project = project
        self.output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # as long as the process
        environment = os.environ | {"PYTHONPATH": str(project), "GOMP_SPINCOUNT": "10000"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as a user has it: what Python stores can be torn, too
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=project, env=environment, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def said(self) -> str:
        """What it has printed so far."""
        self.output.seek(0)
        return self.output.read()

    def members(self) -> list[psutil.Process]:
        """Every process of its session, the main one included."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def jobs(self) -> dict[int, str]:
        """Process -> rule of the jobs at work."""
        found = {}
        for process in self.members():
            try:
                rule = re.search(r"\.snakemake/scripts/tmp[^.]*\.(\w+)\.py", " ".join(process.cmdline()))
            except psutil.Error:
                continue
            if rule and process.pid != self.process.pid:
                found[process.pid] = rule[1]
        return found

    def kill(self, way: str, choice: random.Random) -> list[str]:
        """SIGKILL as `way` says; returns the rules that were at work."""
        jobs = self.jobs()
        if way == "job" and jobs:
            _kill(choice.choice(sorted(jobs)))
        elif way == "main":
            _kill(self.process.pid)
        else:
            for process in self.members():
                _kill(process.pid)
        return sorted(set(jobs.values()))


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it may just have ended by itself
        os.kill(pid, signal.SIGKILL)


def killing(
    project: Path, arguments: Sequence[str], kills: int, wanted: dict[str, str], seed: int,
    between: tuple[float, float], restart: Callable[[Path], None], say: Callable[[str], None] = lambda _: None,
) -> Killed:  # fmt: skip
    """Run, kill and run again until there were `kills` kills and the last run has come to its end.

    Args:
        wanted: `digests` of an uninterrupted run.
        between: seconds between start and kill, drawn evenly.
        restart: brings a project whose run came to its end back to its beginning, for more kills.
    """
    choice, found = random.Random(seed), Killed()
    while True:
        victim, way = Victim(project, arguments), choice.choice(WAYS)
        enough = sum(found.ways.values()) >= kills
        try:
            status = victim.process.wait(None if enough else choice.uniform(*between))
        except subprocess.TimeoutExpired:
            at_work = victim.kill(way, choice)
            found.ways[way] += 1
            found.rules.update(at_work or ["between jobs"])
            if way == "job":  # the run goes on with what does not need that job, and says that it failed
                if _still(victim, choice.uniform(*between)):
                    victim.kill("all", choice)
            else:
                victim.process.wait()
            _await_orphans(victim, found)
            say(f"kill {sum(found.ways.values())} ({way}): {', '.join(at_work) or 'between jobs'}")
            continue
        if status:
            found.problems.append(f"status {status}: {victim.said()[-2000:]}")
            return found
        found.finished += 1
        got = digests(project)
        found.differing += [name for name in {**wanted, **got} if wanted.get(name) != got.get(name)]
        found.problems += [f"left over: {name}" for name in leftovers(project)]
        say(f"run {found.finished} came to its end: {len(found.differing)} of {len(wanted)} files differ")
        if enough or found.problems:
            return found
        restart(project)


def _still(victim: Victim, seconds: float) -> bool:
    try:
        victim.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _await_orphans(victim: Victim, found: Killed) -> None:
    until = time.monotonic() + ORPHANS_S
    while members := victim.members():
        if time.monotonic() > until:
            found.problems.append(
                f"still at work after {ORPHANS_S:.0f} s: {[process.cmdline() for process in members]}"
            )
            for process in members:
                _kill(process.pid)
            return
        time.sleep(0.1)


def whole(project: Path, arguments: Sequence[str]) -> dict[str, str]:
    """Run to the end without interruption; what came out."""
    victim = Victim(project, arguments)
    if victim.process.wait():
        raise RuntimeError(victim.said()[-4000:])
    return digests(project)


def begin_again(project: Path) -> None:
    """Forget what was made, but for the MLflow database, which is exported to again."""
    for made in ("data", "results/runs", "results/systems", "results/defocus_maps", "results/complexity", "logs"):
        shutil.rmtree(project / made, ignore_errors=True)
    for made in ("results/tables", "results/figures", "results/mlflow"):
        shutil.rmtree(project / made, ignore_errors=True)


def smoke_campaign(kills: int, seed: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole graph of the embedded benchmark, at the `smoke` preset's size."""
    project = copy_project(folder / "killed")
    wanted = whole(copy_project(folder / "whole"), SMOKE)
    say(f"uninterrupted: {len(wanted)} files")
    found = killing(project, SMOKE, kills, wanted, seed, (3.0, 22.0), begin_again, say)
    if exported(project) != exported(folder / "whole"):
        found.problems.append(f"MLflow: {exported(project) - exported(folder / 'whole')}")
    return summary(found, wanted) | {"mlflow_runs": sum(exported(project).values())}


@contextmanager
def slow_remote(folder: Path) -> Iterator[Path]:
    """A project whose DPDD, RealDOF and depth weights come slowly from a server on this machine."""
    import yaml
    from miniature import make_dpdd, make_realdof, zip_folder
    from monodepth2_zip import write_monodepth2_zip
    from remote import Remote, slow
    from test_paper_graph import SIZE, TRIAL, miniature_settings

    from ddnet.cli.main import CONFIG

    make_dpdd(folder / "remote" / "dpdd", "hub", SIZE, TRIAL, views=True)
    zip_folder(make_realdof(folder / "unpacked", size=(80, 112)), folder / "remote" / "RealDOF.zip", "RealDOF")
    write_monodepth2_zip(folder / "remote" / "weights.zip", 64, 96)
    with Remote(folder / "remote") as server:
        sources = yaml.safe_load((CONFIG / "sources.yaml").read_text())
        sources["dpdd"]["sources"] = [{"files": f"{server.url}/dpdd"}]
        sources["realdof"]["sources"] = [{"archive": f"{server.url}/RealDOF.zip"}]
        sources["monodepth2"]["sources"] = [{"archive": f"{server.url}/weights.zip"}]
        for name in list(server.files):
            size = len(server.files[name])
            server.misbehave(name, slow(0.1, max(1, size // 60)), times=None)  # six seconds for each file
        project = copy_project(folder / "template")
        (project / "miniature.yaml").write_text(yaml.safe_dump(miniature_settings()))
        (project / "sources.yaml").write_text(yaml.safe_dump(sources))
        yield project


def fetch_campaign(kills: int, seed: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Fetching of files, archives and weights, and the index of what came."""
    targets = ("data/miniature/index.csv", "data/miniature/fetched/monodepth2.json")
    arguments = (*targets, "--cores", "8", "--configfile", "miniature.yaml", "--config", "sources_file=sources.yaml")
    with slow_remote(folder) as template:
        shutil.copytree(template, folder / "killed")
        wanted = whole(template, arguments)
        say(f"uninterrupted: {len(wanted)} files")
        found = killing(folder / "killed", arguments, kills, wanted, seed, (2.0, 9.0), begin_again, say)
    return summary(found, wanted)


def summary(found: Killed, wanted: dict[str, str]) -> dict[str, Any]:
    """The campaign in figures."""
    return {
        "kills": sum(found.ways.values()), "by_way": dict(found.ways), "by_rule_at_work": dict(found.rules),
        "runs_to_their_end": found.finished, "files_compared": len(wanted), "files_differing": sorted(found.differing),
        "problems": found.problems,
    }  # fmt: skip


def _say(name: str, line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}: {line}", flush=True)


def main() -> int:
    """Both campaigns; the exit status says whether anything differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of the benchmark's graph; a quarter more of fetching")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for interruptions.json")
    given = parser.parse_args()
    watch, results = Stopwatch(), {}
    with tempfile.TemporaryDirectory(prefix="ddnet-campaign-") as folder:
        for name, campaign, kills in (
            ("fetch", fetch_campaign, -(-given.kills // 4)), ("graph", smoke_campaign, given.kills),
        ):  # fmt: skip
            place = Path(folder, name)
            place.mkdir()
            say = partial(_say, name)
            results[name] = campaign(kills, given.seed, place, say)
            say(json.dumps({key: value for key, value in results[name].items() if key != "by_rule_at_work"}))
    if given.out:
        write_json(given.out / "interruptions.json", results | {"provenance": watch.manifest(seed=given.seed)})
    return int(any(result["files_differing"] or result["problems"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
