"""How far a tiled restoration is from that of the whole image, on a rendered scene whose target is known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ddnet.benchmark.bench import Records, Row, rounded
from ddnet.data.embedded.render import develop, render
from ddnet.data.embedded.scenes import make_scene
from ddnet.evaluation.metrics.psnr import psnr_db
from ddnet.io.images import FloatArray
from ddnet.runtime.log import Progress

if TYPE_CHECKING:
    from ddnet.restoration.load import Loaded

KEY = ("system", "width", "height", "tile")
COLUMNS = (
    *KEY, "times_faster", "wall_s", "largest_deviation", "mean_deviation", "psnr", "psnr_gain", "source", "load_1min",
    "hardware", "processors", "commit", "dirty", "date",
)  # fmt: skip
POOL, LOCATION, SEED, SAMPLES = "test", "indoor", 7, 16
WHOLE = "whole"


def bench_scene(width: int, height: int) -> tuple[FloatArray, FloatArray]:
    """The middle of a rendered scene, always the same: defocused image and target, (H, W, 3) in [0, 1]."""
    side = max(width, height)
    pictures = develop(render(make_scene(POOL, LOCATION, SEED, side), SAMPLES), np.random.default_rng(SEED))
    top, left = (side - height) // 2, (side - width) // 2
    image, target = (pictures[name][top : top + height, left : left + width] for name in ("image", "target"))
    return image, target


def bench_tiles(
    loaded: Loaded, size: tuple[int, int], tiles: Iterable[int], records: Records, show: Callable[[Row], None]
) -> None:
    """A row for the whole image, and one for every side of tiles, with the differences of the restored images.

    Deviations are absolute differences in [0, 1] to what the whole image gives; `psnr_gain` is what tiles gain (or
    lose) in dB against the target. Depth is estimated once, from the whole image.

    Raises:
        DDNetError: depth cannot be estimated here, tiles are too small, or memory is.
    """
    image, target = bench_scene(*size)
    depth = loaded.depth.estimate(image) if loaded.depth else None
    known = {"system": loaded.name, "width": size[0], "height": size[1], "source": loaded.source}
    whole: FloatArray = image
    whole_s = 0.0
    sides = (None, *tiles)
    progress = Progress("bench tiles", len(sides), "ways")
    for tile in sides:
        load, began = os.getloadavg()[0], time.perf_counter()
        restored = loaded.restore(image, depth, tile)
        seconds = time.perf_counter() - began
        progress.advance()
        if tile is None:
            whole, whole_s = restored, seconds
        apart, psnr = np.abs(restored - whole), psnr_db(restored, target)
        row = known | {"tile": tile or WHOLE, "times_faster": whole_s / seconds, "wall_s": seconds, "load_1min": load}
        row |= {"largest_deviation": float(apart.max()), "mean_deviation": float(apart.mean())}
        row |= {"psnr": psnr, "psnr_gain": psnr - psnr_db(whole, target)}
        show(records.add({key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}))


HEADER = f"{'tile':<8}{'faster':>8}{'wall s':>9}{'largest':>10}{'mean':>10}{'PSNR':>8}{'gain dB':>9}"


def line(row: Row) -> str:
    """A row in brief, under HEADER."""
    return (
        f"{row['tile']!s:<8}{row['times_faster']:>6.2f} x{row['wall_s']:>9.3g}{row['largest_deviation']:>10.1e}"
        f"{row['mean_deviation']:>10.1e}{row['psnr']:>8.2f}{row['psnr_gain']:>+9.3f}"
    )
