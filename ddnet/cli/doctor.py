"""`ddnet doctor` and `ddnet data`: what this installation is made of, what is here, and what would be downloaded."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ddnet.config import DpddData, load_sources, source_of
from ddnet.errors import DDNetError
from ddnet.io.files import expanded
from ddnet.planning.plan import Plan
from ddnet.runtime.gpu import visible_gpus
from ddnet.runtime.log import format_bytes, say
from ddnet.runtime.paths import CONFIG, PROJECT, install_command
from ddnet.runtime.resources import memory_mb

PACKAGES = ("torchvision", "lightning-fabric", "lpips", "ptflops", "scikit-image", "snakemake", "mlflow")
SOURCES = CONFIG / "sources.yaml"
LEAST_FREE = 3e9  # bytes; what the default preset takes, with room to spare

MakePlan = Callable[[argparse.Namespace], Plan]


def _say(name: str, text: str, width: int = 16) -> None:
    say(f"{name + ':' if name else '':<{width}}{text}")


def doctor(arguments: argparse.Namespace) -> None:
    """Environment, weights and data, free space and downloads; for a look before a run, and for a bug report.

    Raises:
        DDNetError: something is wrong; the lines above it say what.
    """
    import torch

    from ddnet.runtime.provenance import device_name, git_state

    plan = arguments.plan(arguments)
    commit, dirty = git_state()
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _say("commit", f"{commit}{' + uncommitted changes' if dirty else ''}", 24)
    _say("python", sys.version.split()[0], 24)
    memory = format_bytes(memory_mb() * 1e6)
    _say("device", f"{device_name()}, {cpus} processors, {memory} of memory, {len(visible_gpus())} GPUs", 24)
    _say("torch", f"{torch.__version__}, CUDA {'usable' if torch.cuda.is_available() else 'not usable'}", 24)
    for package in PACKAGES:
        _say(package, _version(package) or "missing", 24)
    _data(plan, SOURCES)
    say(_finished(plan))
    if other := _other_versions():
        _say(
            "note",
            f"other versions than constraints.txt: {', '.join(other)}; numbers may differ, run `{install_command()}`",
        )
    problems = list(_problems())
    for problem in problems:
        _say("problem", problem)
    if problems:
        raise DDNetError(f"not all is as it should be (problems: {len(problems)}); the lines above say the way out")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _problems() -> Iterator[str]:
    """What would make a run fail."""
    missing = [package for package in ("torch", *PACKAGES) if not _version(package)]
    if missing:
        yield f"not installed: {', '.join(missing)}; run `{install_command()}`"
    place = _data_folder()
    if (free := shutil.disk_usage(place).free) < LEAST_FREE:
        yield f"{format_bytes(free)} free in {place.resolve()}; free some, or make data/ a link to a larger disk"
    for folder in (place, Path("results") if Path("results").is_dir() else Path()):
        if not os.access(folder, os.W_OK):
            yield f"{folder.resolve()}: may not be written; work in a folder of your own"


def _other_versions() -> list[str]:
    """Packages of which not the version is installed that the lock file pins for this Python and platform."""
    from packaging.requirements import Requirement

    pins = PROJECT / "constraints.txt"
    lines = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
    pinned = [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]
    here = [pin for pin in pinned if pin.marker is None or pin.marker.evaluate()]
    return [
        f"{pin.name} {installed} (pinned: {str(pin.specifier).removeprefix('==')})"
        for pin in here
        if (installed := _version(pin.name)) and not pin.specifier.contains(installed, prereleases=True)
    ]


def _data_folder() -> Path:
    return Path("data") if Path("data").is_dir() else Path()  # data/ may be a link to a larger disk


def _finished(plan: Plan) -> str:
    """How many trainings of the preset are finished, and whether a run is at work."""
    runs = Path("results", "runs", plan.settings.preset)
    planned = plan.runs(plan.selected)
    done = sum((runs / run.name / "model.pt").is_file() for run in planned)
    return f"{'finished:':<16}{done} of {len(planned)} trainings of preset {plan.settings.preset}"


def data_status(arguments: argparse.Namespace) -> None:
    """What a preset has, and what it would download, without asking the network."""
    _data(arguments.plan(arguments), arguments.sources or SOURCES)


def _data(plan: Plan, sources_file: Path) -> None:
    from ddnet.data.fetch_data import folder_of, wanted_files
    from ddnet.fetch import status_item
    from ddnet.models.pretrained import read_manifest

    sources = load_sources(sources_file)
    data = plan.settings.data if isinstance(plan.settings.data, DpddData) else None
    for name in plan.items:
        item, local = source_of(name, sources), plan.local_copy(name)
        wanted, folder = wanted_files(name, data), folder_of(name)
        found = status_item(name, item, wanted, folder, expanded(local) if local else None)
        begun = f", {format_bytes(found.begun)} of downloads begun" if found.begun else ""
        size = f"{format_bytes(found.bytes)}{begun} in {local or folder}"
        _say(name, f"{found.have:,} of {found.needed:,} files, {size}")
        _say("", f"{item.about}; licence: {item.licence}")
        if local and not found.complete:
            _say("", f"{found.source}; correct data.{name}, or leave it out to fetch")
        elif not found.complete and found.have >= found.needed:
            _say("", "too many files; move those that do not belong there elsewhere")
        elif not found.complete:
            share = (found.needed - found.have) / wanted_files(name).needed  # a trial takes but a part of all
            first = item.sources[0].url if item.sources else item.by_hand
            _say("", f"to be fetched: about {format_bytes(share * item.gigabytes * 1e9)}, first from {first}")
    if not plan.items:
        say(f"preset {plan.settings.preset} fetches no dataset")
    trunks = read_manifest(Path("data") / "weights")
    for name in (*plan.required_trunks, *plan.optional_trunks):
        optional = "optional, " if name in plan.optional_trunks else ""
        absent = {"status": f"{optional}to be fetched by the rule fetch_weights", "source": "", "reason": ""}
        entry = trunks.get(name, absent)
        _say(name, ": ".join(filter(None, [entry["status"], entry["source"] or entry["reason"]])))
    _say("free space", format_bytes(shutil.disk_usage(_data_folder()).free))


def data_verify(arguments: argparse.Namespace) -> None:
    """Hash every fetched file again and compare with what was recorded when it was first seen."""
    from ddnet.data.fetch_data import folder_of, wanted_files
    from ddnet.fetch import verify_item

    plan = arguments.plan(arguments)
    data = plan.settings.data if isinstance(plan.settings.data, DpddData) else None
    problems = []
    for name in plan.items:
        count, found = verify_item(name, wanted_files(name, data), folder_of(name))
        _say(name, f"{count:,} files verified{f', problems: {len(found)}' if found else ''}")
        problems += found
    for problem in problems:
        say(problem)
    if problems:
        raise DDNetError(
            f"not all is as recorded (problems: {len(problems)}); put the original files back, or move those that "
            "were fetched aside and fetch again: snakemake with --forcerun fetch_item"
        )


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser], plan: MakePlan) -> None:
    """Add `data` and `doctor` to the commands; `plan` makes the plan of the preset that was asked for."""
    data = commands.add_parser("data", help="datasets of a preset: what is here, is it intact")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("status", data_status, "what is here, what would be downloaded and from where; asks no network"),
        ("verify", data_verify, "hash every file again and compare with the recorded SHA-256"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--preset", default="paper", help="a preset's name or file (default: paper)")
        action.set_defaults(run=run, plan=plan)
        if run is data_status:
            action.add_argument("--sources", type=Path, help="another table than workflow/config/sources.yaml")
    about = "environment, weights and data, free space, what would be downloaded; asks no network"
    check = commands.add_parser("doctor", help="is all here and in order; what would be downloaded", description=about)
    check.add_argument("--preset", default="embedded", help="a preset's name or file (default: embedded)")
    check.set_defaults(run=doctor, plan=plan)
