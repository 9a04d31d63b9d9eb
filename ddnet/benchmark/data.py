"""What loading a training crop costs, beside crops that lie as PNG files, and beside the training step."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ddnet.benchmark.bench import Records, Row, best_of, measure_ceiling, rounded
from ddnet.benchmark.measured_metrics import picture_pair
from ddnet.benchmark.networks import OURS, PLAIN, training_turn
from ddnet.config import Patches, Variant
from ddnet.data.index import describe_pair
from ddnet.data.patch_set import PatchSet, training_set_place
from ddnet.data.patches import extract_patches
from ddnet.io.images import FloatArray, read_image, write_image
from ddnet.io.tensors import best_device, to_tensor
from ddnet.runtime.resources import cpu_count

SYSTEM = "a crop"
KEY = ("system", "part", "width", "height", "channels", "batch")
COLUMNS = (
    *KEY, "times_faster", "wall_s", "of_copy", "step_s", "waiting_share", "network", "place", "copy_gb_s", "load_1min",
    "hardware", "processors", "commit", "dirty", "date",
)  # fmt: skip
CROP_BYTES = 7 * (2 + 4)  # per pixel: image, target and depth, read at 16 bits and written at 32
FIRST_TOUCH = "first touch, per image pair"
IMAGES, IMAGE = 4, (1680, 1120)  # pairs, and their width and height: DPDD's
DROP = 0.3


def bench_data(
    variant: Variant, channels: int, crop: int, batch: int, records: Records, show: Callable[[Row], None]
) -> None:
    """Rows of loading: crops from PNG files, crops from the memory-mapped images, and making those from image files.

    `wall_s` is that of one crop, `of_copy` its share of the rate at which all processors copy memory. `waiting_share`
    is the loading's share of loading and step together, if nothing goes on beside it; the step is that of `variant`:
    the faster the network, the larger. Files are in the system's cache, as they are after the first epoch where memory
    holds the set.

    Raises:
        DDNetError: a step cannot be measured, or the temporary folder's disk is too small.
    """
    device = best_device()
    turn = training_turn(variant, channels, crop, batch, rounds=5, way=OURS)
    step_s = float(np.median([wall for wall, _ in turn["seconds"]]))
    known: Row = {"system": SYSTEM, "width": crop, "height": crop, "channels": channels, "batch": batch}
    known |= {"load_1min": rounded(os.getloadavg()[0]), "copy_gb_s": measure_ceiling()["copy_gb_s"]}
    with tempfile.TemporaryDirectory(prefix="ddnet-bench-") as folder:
        first_s = _first_touch(Path(folder), crop)
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        place = training_set_place(PatchSet.stored_bytes(Path(folder, "patches")), free)
        ours, plain = _ours(Path(folder), batch, place, device), _plain(Path(folder), batch, device)
        seconds = {PLAIN: best_of(plain), OURS: best_of(ours)}
    for part, found in seconds.items():
        row = known | {"part": part, "wall_s": found / batch, "network": variant.name, "step_s": step_s}
        row |= {"waiting_share": found / (found + step_s), "place": place if part == OURS else "disk"}
        row |= {"of_copy": 1e-9 * CROP_BYTES * crop**2 * batch / found / known["copy_gb_s"]}
        row |= {"times_faster": seconds[PLAIN] / found} if part == OURS else {}
        show(records.add({key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}))
    show(records.add(known | {"part": FIRST_TOUCH, "wall_s": rounded(first_s)}))


def _first_touch(folder: Path, crop: int) -> float:
    """Write image pairs as 16-bit PNG, then the training set of them; seconds per pair of the latter."""
    scenes = []
    for number in range(IMAGES):
        image, target = (folder / f"{name}-{number}.png" for name in ("image", "target"))
        for file, pixels in zip((image, target), picture_pair(*IMAGE), strict=True):
            write_image(file, pixels)
        scenes.append(describe_pair("bench", "train", f"s{number}", "", image, target, None))
    began = time.perf_counter()
    extract_patches(scenes, folder / "patches", Patches(size=crop, stride=0.4, drop=DROP), threads=cpu_count())
    return (time.perf_counter() - began) / IMAGES


def _ours(folder: Path, batch: int, place: str, device: torch.device) -> Callable[[], object]:
    width, height = IMAGE
    depths = [np.full((height, width), 1000 * number, np.uint16) for number in range(IMAGES)]
    patches = PatchSet(folder / "patches", depths, place, device)  # type: ignore[arg-type]
    steps = iter(range(10**9))

    def load() -> None:
        step = next(steps)
        patches.batch(patches.order(0, step, batch), np.random.default_rng([0, step]).integers(0, 8, batch))
        if device.type == "cuda":
            torch.cuda.synchronize()

    return load


def _plain(folder: Path, batch: int, device: torch.device) -> Callable[[], object]:
    """Crops cut beforehand, three PNG files each, read one after another as the released code does."""
    patches = PatchSet(folder / "patches")
    generator, files = np.random.default_rng(0), []
    for number in range(4 * batch):
        image, target, _ = patches.batch(np.array([number % len(patches)]))
        names = [folder / f"crop-{number}-{kind}.png" for kind in ("image", "target", "depth")]
        pixels = [tensor[0].permute(1, 2, 0).numpy() for tensor in (image, target)]
        for name, value in zip(names, [*pixels, pixels[0]], strict=True):
            write_image(name, value)
        files.append(names)

    def load() -> None:
        read = []
        for number in generator.integers(0, len(files), batch):
            turn, flip = generator.integers(0, 4), generator.integers(0, 2)
            crops: list[FloatArray] = [np.rot90(read_image(name), int(turn)) for name in files[number]]
            crops[2] = crops[2][..., :1]
            read.append([to_tensor(np.ascontiguousarray(crop[:, ::-1] if flip else crop)) for crop in crops])
        for kind in zip(*read, strict=True):
            torch.cat(kind).to(device)

    return load


HEADER = f"{'loading':<30}{'faster':>8}{'ms a crop':>11}{'of copying':>12}{'ms a step':>11}{'waiting':>9}"


def line(row: Row) -> str:
    """A row in brief, under HEADER."""

    def cell(name: str, form: str, scale: float = 1) -> str:
        return format(scale * row[name], form) if row[name] != "" else ""

    faster = f"{row['times_faster']:.3g} x" if row["times_faster"] else ""
    return (
        f"{row['part']:<30}{faster:>8}{cell('wall_s', '.3g', 1e3):>11}{cell('of_copy', '.2g'):>12}"
        f"{cell('step_s', '.4g', 1e3):>11}{cell('waiting_share', '.2%'):>9}"
    )
