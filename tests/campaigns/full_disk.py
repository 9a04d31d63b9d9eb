"""Let the disk run full, or forbid writing, at random moments of a run; then give room and run the same command again.

    python tests/campaigns/full_disk.py --times 12 --out results/reference/reliability

The project lies on a disk of its own (tmpfs, so it needs root) that is made too small, or read-only, at random. After
each failure every results file must be whole, and the last run must give what an undisturbed run gives. Half an hour on
two cores, and more where many runs have room enough.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "workflow"), str(Path(__file__).resolve().parent)]
from interruptions import SMOKE, Victim, digests, whole
from projects import copy_project

from ddnet.io.files import write_json
from ddnet.runtime.provenance import Stopwatch


class SmallDisk:
    """A tmpfs for one project, whose size can be changed while it is in use."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=4g", "tmpfs", str(place))

    @staticmethod
    def _mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)

    def resize(self, megabytes: float) -> None:
        """Give it another size; what is there stays."""
        self._mount("-o", f"remount,rw,size={round(megabytes * 1024)}k", str(self.place))

    def forbid(self) -> None:
        """Nothing can be written any more; refused while a file is open for writing."""
        self._mount("-o", "remount,ro", str(self.place))

    def used(self) -> float:
        """Megabytes that are in use."""
        return shutil.disk_usage(self.place).used / 2**20

    def remove(self) -> None:
        """Unmount it, and with it what it holds."""
        subprocess.run(["umount", "-l", str(self.place)], check=True)


def said_badly(log: str) -> list[str]:
    """Tracebacks of ours that a user saw; Snakemake's own bookkeeping is not ours."""
    blocks = log.split("Traceback (most recent call last):")[1:]
    return [block[-600:] for block in blocks if "/workflow/scripts/" in block or "/ddnet/" in block]


def forget_results(project: Path) -> None:
    """So that the next run trains, measures and reports again; its data stay, as after a run that had room enough."""
    for made in ("runs", "systems", "defocus_maps", "complexity", "tables", "figures", "report", "mlflow"):
        shutil.rmtree(project / "results" / made, ignore_errors=True)


def disturbed(
    disk: SmallDisk, wanted: dict[str, str], times: int, seed: int, say: Callable[[str], None],
    arguments: Sequence[str] = SMOKE,
) -> dict[str, Any]:  # fmt: skip
    """Run the project on `disk` with too little room until it fails, again and again; then with enough.

    Args:
        wanted: `digests` of an undisturbed run of the same `arguments`.
    """
    draw, project = random.Random(seed), disk.place / "project"
    ends: Counter[str] = Counter()
    problems: list[str] = []
    for number in range(1, times + 1):
        before = digests(project)
        forbidden = draw.random() < 0.25
        if not forbidden:
            disk.resize(disk.used() + draw.choice((0.02, 0.2, 1.0, 3.0, 8.0, 77.0, 80.0, 90.0)))
        victim = Victim(project, arguments)
        if forbidden:
            time.sleep(draw.uniform(3.0, 15.0))
            try:
                disk.forbid()
            except subprocess.CalledProcessError:  # a file is open for writing just now: no room instead
                disk.resize(disk.used())
        status = victim.process.wait()
        disk.resize(4096)
        ends[f"{'forbidden' if forbidden else 'full'}, {'failed' if status else 'had room enough'}"] += 1
        problems += said_badly(victim.said())
        after = digests(project)
        # What a failed job was about to replace may be gone; what is there must be whole.
        problems += [f"damaged: {name}" for name, found in after.items() if wanted.get(name) != found]
        lost = len(before.keys() - after.keys())
        if not status:
            forget_results(project)
        say(f"{number}: {'forbidden' if forbidden else 'full'}, status {status}, {len(after)} files, {lost} taken back")
    end = Victim(project, arguments)
    if end.process.wait():
        problems.append(end.said()[-9000:])
    got = digests(project)
    differing = [name for name in {**wanted, **got} if wanted.get(name) != got.get(name)]
    return {
        "times": times, "ends": dict(ends), "files_compared": len(wanted),
        "files_differing": differing, "problems": problems,
    }  # fmt: skip


def main() -> int:
    """The campaign; the exit status says whether anything was lost or said badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for full_disk.json")
    given = parser.parse_args()
    watch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="ddnet-campaign-") as folder:
        copy_project(Path(folder, "whole"))
        disk = SmallDisk(Path(folder, "disk"))
        try:
            copy_project(disk.place / "project")
            wanted = whole(Path(folder, "whole"), SMOKE)
            result = disturbed(disk, wanted, given.times, given.seed, lambda line: print(line, flush=True))
        finally:
            disk.remove()
    print(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out / "full_disk.json", result | {"provenance": watch.manifest(seed=given.seed)})
    return int(bool(result["files_differing"] or result["problems"]))


if __name__ == "__main__":
    sys.exit(main())
