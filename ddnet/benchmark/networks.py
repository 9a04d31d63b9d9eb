"""Our networks beside a plain run of the same layers: training steps and whole images, one process per measurement."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ddnet.benchmark.bench import Records, Row, measure, measure_ceiling, rounded
from ddnet.config import Variant
from ddnet.errors import DDNetError
from ddnet.runtime.log import Progress
from ddnet.runtime.resources import cpu_count

MODULE = "ddnet.benchmark.measured_network"
PLAIN, OURS = "plain", "ours"


def bench_inference(
    variants: Iterable[Variant],
    size: tuple[int, int],
    channels: int,
    batch: int,
    rounds: int,
    ways: Sequence[str],
    records: Records,
    show: Callable[[Row], None],
) -> None:
    """Restore images of `size` (width, height) by several ways, in turns; a row per way, of the fastest of `rounds`.

    `deviation` is the largest absolute difference of the output, in [0, 1], to that of the plain run.

    Raises:
        DDNetError: a measurement failed; earlier rows are in the file.
    """
    variants = list(variants)
    progress = Progress("bench inference", len(variants) * rounds * len(ways), "images")
    for variant in variants:
        own = [way for way in ways if way != "bands" or variant.arch != "unet"]
        given = (*_given(variant, channels), "--batch", str(batch))
        known, best = _known(variant, size, channels, batch), dict[str, Row]()
        known |= measure_ceiling()
        with tempfile.TemporaryDirectory(prefix="ddnet-bench-") as folder:
            outputs = {way: Path(folder, f"{way}.npy") for way in own}
            for _ in range(rounds):
                progress.advance(len(ways) - len(own))
                for way in own:
                    task = ("--way", way, "--out", str(outputs[way]), "--size", *map(str, size))
                    found = _measured(f"{variant.name}, {way}", "inference", *given, *task)
                    if way not in best or found["wall_s"] < best[way]["wall_s"]:
                        best[way] = found
                    progress.advance()
            plain = np.load(outputs[PLAIN])
            for way in own:
                found = best[way]
                found["deviation"] = float(np.abs(np.load(outputs[way]) - plain).max())
                found["memory_share"] = found["peak_memory_mib"] / best[PLAIN]["peak_memory_mib"]
                show(_add(records, known, way, found, best[PLAIN]))


def bench_step(
    variants: Iterable[Variant],
    crop: int,
    batch: int,
    channels: int,
    rounds: int,
    turns: int,
    ways: Sequence[str],
    records: Records,
    show: Callable[[Row], None],
) -> None:
    """Training steps of `batch` crops by several ways, in processes of their own that take turns.

    A row per way, with the median of `rounds` steps in each of `turns` processes, and the largest ceiling seen in
    its precision. `deviation` is the relative difference of the first step's loss to that of the plain run.

    Raises:
        DDNetError: a measurement failed; earlier rows are in the file.
    """
    variants = list(variants)
    progress = Progress("bench step", len(variants) * turns * len(ways), "processes")
    for variant in variants:
        seen: dict[str, list[Row]] = {way: [] for way in ways}
        ceiling = measure_ceiling()
        for _ in range(turns):
            for way, found in seen.items():
                found.append(training_turn(variant, channels, crop, batch, rounds, way))
                progress.advance()
        rows = {way: _step_facts(found, seen[PLAIN], ceiling) for way, found in seen.items()}
        for way, facts in rows.items():
            show(_add(records, _known(variant, (crop, crop), channels, batch), way, facts, rows[PLAIN]))


def training_turn(variant: Variant, channels: int, crop: int, batch: int, rounds: int, way: str) -> Row:
    """What one process found that trained for `rounds` steps: see `measured_network.training_steps`.

    Raises:
        DDNetError: it failed.
    """
    task = ("--crop", str(crop), "--batch", str(batch), "--rounds", str(rounds), "--way", way)
    return _measured(f"{variant.name}, {way}", "step", *_given(variant, channels), *task)


def _step_facts(turns: Sequence[Row], plain: Sequence[Row], ceiling: Row) -> Row:
    """What the processes of one way found together."""
    wall, cpu = np.median([seconds for turn in turns for seconds in turn["seconds"]], axis=0).tolist()
    flop, peak = turns[0]["gflop"], max(turn["peak_memory_mib"] for turn in turns)
    rate = flop / wall
    names = ("sgemm_gflops", "copy_gb_s", "convolution_gflops")  # of a GPU measured by the turns, in their precision
    rates = {name: max(float((ceiling | turn)[name]) for turn in turns) for name in names}
    return rates | {
        "wall_s": wall, "cpu_s": cpu, "gflop": flop, "gflop_s": rate,
        "of_sgemm": rate / rates["sgemm_gflops"], "of_convolution": rate / rates["convolution_gflops"],
        "peak_memory_mib": peak, "memory_share": peak / max(turn["peak_memory_mib"] for turn in plain),
        "convolution_share": turns[0].get("convolution_share", ""),
        "deviation": abs(turns[0]["first_loss"] / plain[0]["first_loss"] - 1),
    }  # fmt: skip


def _given(variant: Variant, channels: int) -> tuple[str, ...]:
    return "--variant", variant.model_dump_json(), "--channels", str(channels)


def _known(variant: Variant, size: tuple[int, int], channels: int, batch: int) -> Row:
    facts = {"system": variant.name, "width": size[0], "height": size[1], "channels": channels, "batch": batch}
    return facts | {"weights": "random", "threads": cpu_count(), "load_1min": rounded(os.getloadavg()[0])}


def _measured(what: str, action: str, *arguments: str) -> Row:
    try:
        return measure(MODULE, action, *arguments)
    except DDNetError as error:
        raise DDNetError(f"bench: {what}: {error}") from None


def _add(records: Records, known: Row, way: str, found: Row, plain: Row) -> Row:
    ratio = {} if way == PLAIN else {"times_faster": plain["wall_s"] / found["wall_s"], "than": PLAIN}
    row = known | {"part": way} | ratio | found
    row = {key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}
    return records.add(row)


HEADER = f"{'variant':<16}{'way':<8}{'faster':>8}{'wall s':>9}{'MiB':>7}{'of plain':>9}{'of sgemm':>9}{'deviation':>11}"


def line(row: Row) -> str:
    """A row in brief, under HEADER."""

    def cell(name: str, form: str) -> str:
        return format(row[name], form) if row[name] != "" else ""

    faster = f"{row['times_faster']:.3g} x" if row["times_faster"] else ""
    return (
        f"{row['system']:<16}{row['part']:<8}{faster:>8}{row['wall_s']:>9.3g}{cell('peak_memory_mib', '.0f'):>7}"
        f"{cell('memory_share', '.2f'):>9}{cell('of_sgemm', '.2f'):>9}{cell('deviation', '.1e'):>11}"
    )
