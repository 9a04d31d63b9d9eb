"""What measuring an image costs, beside scikit-image and lpips called image by image in one thread."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from ddnet.benchmark.bench import STAND_IN, Records, Row, measure, measure_ceiling, rounded
from ddnet.benchmark.measured_metrics import OURS, PLAIN
from ddnet.io.files import sha256, write_json
from ddnet.models.pretrained import read_manifest
from ddnet.runtime.log import Progress

MODULE = "ddnet.benchmark.measured_metrics"
ALL = "all together"
TRUNKS = {"lpips_alex": "alexnet", "lpips_squeeze": "squeezenet1_1"}


def with_stand_ins(weights: Path, folder: Path) -> set[str]:
    """Fill `folder` with the trunks of `weights`, and random ones of the same size where it has none.

    Returns:
        The names of the random ones: they take the same time, and give other numbers.
    """
    from torchvision import models

    manifest = {name: entry for name, entry in read_manifest(weights).items() if entry["status"] == "ok"}
    for entry in manifest.values():
        shutil.copy(weights / entry["file"], folder)
    for name in set(TRUNKS.values()) - manifest.keys():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = getattr(models, name)(weights=None).state_dict()
        path = folder / f"{name}.pt"
        torch.save({key: value for key, value in state.items() if key.startswith("features.")}, path)
        manifest[name] = {
            "status": "ok", "sha256": sha256(path), "source": STAND_IN, "reason": "", "file": path.name
        }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return {name for name, entry in manifest.items() if entry["source"] == STAND_IN}


def bench_metrics(
    size: tuple[int, int], weights: Path, rounds: int, records: Records, show: Callable[[Row], None]
) -> None:
    """Measure one image of `size` (width, height) by every metric of Table 2, plainly and as we do.

    Two rows per metric, and two of their sums; times are medians of `rounds`. `deviation` is the absolute difference of
    the metric's value to the plain one.

    Raises:
        DDNetError: a measurement failed; nothing is in the file.
    """
    known = {"width": size[0], "height": size[1], "load_1min": rounded(os.getloadavg()[0])} | measure_ceiling()
    with tempfile.TemporaryDirectory(prefix="ddnet-bench-") as folder:
        random = with_stand_ins(weights, Path(folder))
        task = ("--size", *map(str, size), "--weights", folder, "--rounds", str(rounds))
        found, progress = dict[str, Row](), Progress("bench metrics", 2, "ways")
        for way in (PLAIN, OURS):
            found[way] = measure(MODULE, way, *task)
            progress.advance()
    for way, of_metrics in found.items():
        values = list(of_metrics.values())
        together = {key: sum(facts[key] for facts in values) for key in ("wall_s", "cpu_s")}
        of_metrics[ALL] = together | {"threads": values[0]["threads"]}
        plain = found[PLAIN]
        for name, facts in of_metrics.items():
            row = known | {"system": name, "part": way, **{key: facts[key] for key in ("wall_s", "cpu_s", "threads")}}
            row = {key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}
            if name in TRUNKS:
                row["weights"] = STAND_IN if TRUNKS[name] in random else "official"
            if name != ALL:
                row |= {"deviation": rounded(abs(facts["value"] - plain[name]["value"]))}
            if way != PLAIN:
                row |= {"times_faster": rounded(plain[name]["wall_s"] / facts["wall_s"]), "than": PLAIN}
            show(records.add(row))
