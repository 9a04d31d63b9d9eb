"""The metrics of Table 2 on one image pair, in a process of their own: `ddnet bench metrics` starts it.

`python -m ddnet.benchmark.measured_metrics WAY --size W H --weights FOLDER --rounds N` prints one line of
JSON. `plain` calls scikit-image and lpips image by image in one thread, `ours` are the registered metrics with all
processors, and LPIPS on the GPU if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from ddnet.errors import DDNetError
from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import FloatArray, Metric
from ddnet.evaluation.metrics._lpips import Lpips
from ddnet.io.tensors import best_device
from ddnet.runtime.malloc import freed_memory_kept
from ddnet.runtime.resources import cpu_count

PLAIN, OURS = "plain", "ours"
COLUMNS = ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze")
SEED = 0

Measure = Callable[[FloatArray, FloatArray], float]


def picture_pair(width: int, height: int) -> tuple[FloatArray, FloatArray]:
    """A smooth random picture and a noisy copy of it: restored and target, (H, W, 3) float32 in [0, 1]."""
    import cv2

    generator = np.random.default_rng(SEED)
    target = cv2.GaussianBlur(generator.random((height, width, 3)), (0, 0), 2)
    target = (target - target.min()) / (target.max() - target.min())
    restored = np.clip(target + generator.normal(0, 0.02, target.shape), 0, 1)
    return restored.astype(np.float32), target.astype(np.float32)


def plain_measure(metric: Metric) -> Measure:
    """What `metric` computes, by one call of scikit-image, numpy or lpips, in float64 (LPIPS: float32).

    Raises:
        DDNetError: a metric that none of them has.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    def wide(image: FloatArray) -> FloatArray:
        return image.astype(np.float64)

    def in_8_bits(image: FloatArray) -> FloatArray:
        return np.rint(wide(image) * 255) / 255

    def psnr(restored: FloatArray, target: FloatArray) -> float:
        return float(peak_signal_noise_ratio(wide(target), wide(restored), data_range=1.0))

    if isinstance(metric, Lpips):
        network = metric.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

        def lpips(restored: FloatArray, target: FloatArray) -> float:
            planes = (np.ascontiguousarray(np.moveaxis(image, -1, 0))[None] for image in (restored, target))
            with torch.inference_mode():
                return float(network(*(torch.from_numpy(image).float() * 2 - 1 for image in planes)))

        return lpips
    known: dict[str, Measure] = {
        "psnr": psnr,
        "psnr_8bit": lambda restored, target: psnr(in_8_bits(restored), in_8_bits(target)),
        "ssim": lambda restored, target: float(
            structural_similarity(wide(target), wide(restored), channel_axis=2, data_range=1.0)
        ),
        "mae": lambda restored, target: float(np.mean(np.abs(wide(restored) - wide(target)))),
    }
    if metric.name not in known:
        raise DDNetError(f"{metric.name}: no other package's implementation is known here; known: {', '.join(known)}")
    return known[metric.name]


def run(way: str, width: int, height: int, weights: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Value, and median wall and processor seconds, of every metric that has its weights in `weights`."""
    torch.set_num_threads(1 if way == PLAIN else cpu_count())
    pair, found = picture_pair(width, height), {}
    metrics, _ = build_metrics(COLUMNS, weights, "cpu" if way == PLAIN else str(best_device()))
    torch.backends.cudnn.allow_tf32 = False  # as evaluated
    for name, metric in metrics.items():
        measure: Measure = plain_measure(metric) if way == PLAIN else metric
        value, seconds = measure(*pair), []
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            with nullcontext() if way == PLAIN else freed_memory_kept():
                measure(*pair)
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall_s, cpu_s = np.median(seconds, axis=0).tolist()
        found[name] = {"value": value, "wall_s": wall_s, "cpu_s": cpu_s, "threads": torch.get_num_threads()}
    return found


def main(argv: list[str]) -> int:
    """One way; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=(PLAIN, OURS))
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    given = parser.parse_args(argv)
    try:
        width, height = given.size
        found = run(given.way, width, height, given.weights, given.rounds)
    except DDNetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
