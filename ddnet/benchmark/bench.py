"""What things cost on this machine: each measured in a process of its own, with the machine's own ceiling beside it.

A measurement is a module that prints one line of JSON. Rows are kept in a CSV per hardware, written after each of them;
a row that is measured again replaces the old one.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ddnet.config import Baseline
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.planning.baselines import baseline_file, system_needs
from ddnet.planning.code_digest import has_base
from ddnet.planning.plan import slug
from ddnet.runtime.log import Progress
from ddnet.runtime.paths import ROOT
from ddnet.runtime.provenance import git_state
from ddnet.runtime.resources import cpu_count

Row = dict[str, Any]

KEY = ("system", "part", "width", "height", "channels", "batch")
COLUMNS = (
    *KEY, "times_faster", "than", "wall_s", "cpu_s", "peak_memory_mib", "memory_share", "work_memory_mib", "deviation",
    "gflop", "gflop_s", "of_sgemm", "of_convolution", "convolution_share", "threads", "sgemm_gflops",
    "convolution_gflops", "copy_gb_s", "load_1min", "hardware", "processors", "commit", "dirty", "date", "weights",
    "note",
)  # fmt: skip
STAND_IN = "stand-in"
SMALLEST, LARGEST = 32, 16384  # pixels of a side

MATRIX, COPIED = 2048, 1 << 28  # rows; bytes
CEILING_S = 0.5


def measure_ceiling() -> Row:
    """What all processors reach now: float32 matrix product in GFLOP/s, copying in GB/s (read and written)."""
    one, two = np.ones((2, MATRIX, MATRIX), np.float32)
    product, source = np.empty_like(one), np.ones(COPIED, np.uint8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, cpu_count()), np.array_split(source, cpu_count()), strict=True))
    with ThreadPoolExecutor(len(parts)) as threads:
        copy_s = best_of(lambda: list(threads.map(lambda pair: np.copyto(*pair), parts)))
    product_s = best_of(lambda: np.matmul(one, two, out=product))
    return {"sgemm_gflops": rounded(2e-9 * MATRIX**3 / product_s), "copy_gb_s": rounded(2e-9 * COPIED / copy_s)}


def best_of(work: Callable[[], object]) -> float:
    """Seconds of the fastest call of those that half a second has room for."""
    work()
    fastest, end = float("inf"), time.perf_counter() + CEILING_S
    while (begun := time.perf_counter()) < end:
        work()
        fastest = min(fastest, time.perf_counter() - begun)
    return fastest


def measure(module: str, *arguments: str) -> Row:
    """Run `python -m module arguments` and return what its last line of output says.

    Raises:
        DDNetError: it failed; the last line that it wrote about it.
    """
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}  # see ddnet.cli.main: steps on shared cores
    done = subprocess.run(
        (sys.executable, "-m", module, *arguments), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode < 0:
        raise DDNetError(f"ended by signal {-done.returncode}{' (out of memory?)' if done.returncode == -9 else ''}")
    if done.returncode:
        raise DDNetError((done.stderr.strip() or f"ended with status {done.returncode}").splitlines()[-1])
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


class Records:
    """The CSV of one kind of measurements on this hardware: `<folder>/<kind>-<hardware>-<processors>cpu.csv`.

    Args:
        device: what did the work: a processor's or a GPU's name.
        columns, key: of the CSV, and those of them that tell its rows apart.

    Raises:
        DDNetError: it exists and has other columns, or there can be no such folder.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        device: str,
        columns: tuple[str, ...] = COLUMNS,
        key: tuple[str, ...] = KEY,
    ) -> None:
        commit, dirty = git_state()
        self.columns, self.key = columns, key
        self.facts = {"hardware": device, "processors": cpu_count(), "commit": commit, "dirty": dirty}
        self.file = folder / f"{kind}-{slug(device)}-{cpu_count()}cpu.csv"
        self.rows: dict[tuple[str, ...], Row] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DDNetError(f"{folder}: cannot be made ({error.strerror}); name another folder") from None
        if self.file.is_file():
            with self.file.open(newline="", encoding="utf-8") as stream:
                reader = csv.DictReader(stream)
                rows = list(reader)
            if tuple(reader.fieldnames or ()) != columns:
                raise DDNetError(f"{self.file}: its columns are not those of this version; move it away")
            self.rows = {self._key(row): row for row in rows}

    def _key(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row.get(name, "")) for name in self.key)

    def add(self, row: Row) -> Row:
        """Complete a row and write the file with it."""
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = dict.fromkeys(self.columns, "") | self.facts | {"date": date} | row
        self.rows[self._key(row)] = row
        with atomic_path(self.file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
        return row


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `1680x1120`.

    Raises:
        DDNetError: not of that form, or too small or large.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise DDNetError(f"size is '{text}'; write width x height in pixels, such as 1680x1120")
    width, height = map(int, sides)
    if min(width, height) < SMALLEST or max(width, height) > LARGEST:
        raise DDNetError(f"size is '{text}'; a side has {SMALLEST} to {LARGEST} pixels")
    return width, height


def bench_systems(
    baselines: Iterable[Baseline], size: tuple[int, int], records: Records, show: Callable[[Row], None]
) -> None:
    """Measure compared systems on one image of `size` (width, height), and the parts of those that deconvolve by a map.

    `whole` is `restore`; `map` and `deconvolution`, by the system's own map, are its parts. Where weights are needed
    and not in results/systems/embedded, stand-ins of the same size take the same time for their map; it does not mean
    much, so the deconvolution is by the scene's true blur, and there is no `whole`. Richardson-Lucy is compared with
    scikit-image's run level by level, `plain`: the ratio is of wall times.

    Args:
        show: called with every row once it is in the file.

    Raises:
        DDNetError: at the end, where measurements failed, or when interrupted; the rows of the others are in the file.
    """
    failed: list[str] = []
    count, baselines = 0, list(baselines)
    progress = Progress("bench systems", len(baselines), "systems")
    try:
        with tempfile.TemporaryDirectory(prefix="ddnet-bench-") as folder:
            measure("baselines.bench", "scene", "--folder", folder, "--size", *map(str, size))
            for baseline in baselines:
                try:
                    for row in _system(baseline, Path(folder)):
                        row = records.add(row | {"width": size[0], "height": size[1]})
                        count += 1
                        show(row)
                except DDNetError as error:
                    failed.append(f"{baseline.name}, {error}")
                progress.advance()
    except KeyboardInterrupt:
        failed.append("interrupted")
    if failed:
        kept = f"rows measured: {count}, in {records.file}" if count else "nothing was measured"
        raise DDNetError(f"bench: {'; '.join(failed)}; {kept}")


def _system(baseline: Baseline, folder: Path) -> Iterator[Row]:
    """Rows of one system as they are measured, without what is the same for all."""
    known = {"system": baseline.name, **measure_ceiling()}
    given = ["--folder", str(folder), "--baseline", baseline.model_dump_json()]

    def part(name: str) -> Row:
        load = rounded(os.getloadavg()[0])
        try:
            found = measure("baselines.bench", name, *given)
        except DDNetError as error:
            raise DDNetError(f"{name}: {error}") from None
        values = {key: rounded(value) if isinstance(value, float) else value for key, value in found.items()}
        return known | {"part": name, "load_1min": load} | values

    if "weights" in system_needs(baseline.system):
        trained = Path("results", "systems", "embedded", baseline.system, "weights.npz")
        file = trained.absolute() if trained.is_file() else folder / f"{baseline.system}.npz"
        known["weights"] = trained.as_posix() if trained.is_file() else STAND_IN
        given += ["--weights", str(file)]
        if not file.is_file():
            part("weights")
    if not has_base(baseline_file(baseline.system), "MapBased"):
        yield part("whole")
        return
    yield part("map")
    if known.get("weights") == STAND_IN:
        given.append("--true-map")
    else:
        yield part("whole")
    plain = None
    if baseline.options.get("method") == "richardson_lucy":
        yield (plain := part("plain"))
    row = part("deconvolution")
    yield row | ({"times_faster": rounded(plain["wall_s"] / row["wall_s"]), "than": "plain"} if plain else {})


def rounded(value: float) -> float:
    """To four digits: noise has more."""
    return float(f"{value:.4g}")


HEADER = f"{'system':<20}{'part':<15}{'faster':>8}{'wall s':>9}{'CPU s':>9}{'MiB':>7}{'threads':>9}{'load':>6}"


def line(row: Row) -> str:
    """A row in brief, under HEADER."""
    faster = f"{row['times_faster']:.3g} x" if row["times_faster"] else ""
    return (
        f"{row['system']:<20}{row['part']:<15}{faster:>8}{row['wall_s']:>9.3g}{row['cpu_s']:>9.3g}"
        f"{row['peak_memory_mib']:>7.0f}{row['threads']:>9}{row['load_1min']:>6.2g}"
        + ("  stand-in weights" if row["weights"] == STAND_IN else "")
    )
