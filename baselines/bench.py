"""One measurement of a compared system, in a process of its own: `ddnet bench systems` starts it.

`python -m baselines.bench ACTION --folder F ...` prints one line of JSON; an error is one line and status 1. In the
folder are the image that all systems get (`image.npy`), its true blur (`true.npy`) and, once it is measured, a system's
own map.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import build, system_class
from baselines.common.deconvolution import deblur_with_map, gaussian_kernel, quantise_sigma
from ddnet.config import Baseline
from ddnet.errors import DDNetError
from ddnet.io.arrays import write_npy
from ddnet.planning.baselines import baseline_module
from ddnet.runtime.provenance import peak_memory_mib
from ddnet.runtime.resources import cpu_count

FloatArray = NDArray[np.float32]
Facts = dict[str, Any]

POOL, LOCATION, SEED, SAMPLES = "val", "indoor", 7, 16  # the scene: blurred by sigma of 0 to 0.5 % of its width
WARM_UP = 64  # pixels of a side: what is imported or tabulated once is not measured
PLAIN_LEVELS = 3  # of all levels, evenly spaced, that the plain deconvolution is measured at


def measure(work: Callable[[], object]) -> Facts:
    """Wall and CPU seconds of `work`, and the largest memory of this process so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_memory_mib": peak_memory_mib(), "threads": cpu_count()}


def write_scene(folder: Path, width: int, height: int) -> None:
    """Render the image that is measured, always the same, and its true blur: image.npy, true.npy."""
    from ddnet.data.embedded.optics import circle_of_confusion_px
    from ddnet.data.embedded.render import develop, render
    from ddnet.data.embedded.scenes import make_scene

    side = max(width, height)
    spec = make_scene(POOL, LOCATION, SEED, side)
    rendered = render(spec, SAMPLES)
    image = develop(rendered, np.random.default_rng(SEED))["image"]
    sigma = np.abs(circle_of_confusion_px(rendered.depth_m, spec.lens, side)) / 4  # of equal second moment
    top, left = (side - height) // 2, (side - width) // 2
    middle = (slice(top, top + height), slice(left, left + width))
    write_npy(folder / "image.npy", np.asarray(image[middle], np.float32))
    write_npy(folder / "true.npy", np.asarray(sigma[middle], np.float32))


def write_stand_in(system: str, file: Path) -> None:
    """Weights that take as much time as real ones: random, or learnt from next to nothing.

    By the module's own `random_weights(path)` where it has one, by the class's `network` where it is one; otherwise by
    the class's `train`, on two small scenes.

    Raises:
        DDNetError: there is no such way.
    """
    module, kind = import_module(baseline_module(system)), system_class(system)
    if make := getattr(module, "random_weights", None) or STAND_INS.get(system):
        make(file)
    elif hasattr(kind, "network"):
        _random_network(kind, file)
    elif hasattr(kind, "train"):
        _train_briefly(kind, file)
    else:
        raise DDNetError(f"{system} has no stand-in for weights; make results/systems/embedded/{system}/weights.npz")


def _random_dmenet(file: Path) -> None:
    import torch

    from baselines.dmenet.network import WIDTH, Network
    from baselines.dmenet.weights import save_weights

    torch.manual_seed(SEED)
    state = Network(WIDTH, auxiliary=False).state_dict()
    save_weights(file, {name: value.numpy() for name, value in state.items()}, WIDTH, "trained")


STAND_INS: dict[str, Callable[[Path], None]] = {"dmenet": _random_dmenet}


def _random_network(kind: Any, file: Path) -> None:
    """Of the published width; further sizes as the network has them by default."""
    import torch

    from baselines.common.network_system import save_weights

    torch.manual_seed(SEED)
    network = kind.network(kind.width)
    sizes = {name: getattr(network, name) for name in kind.sizes}
    save_weights(file, network.state_dict(), kind.width, **sizes)


def _train_briefly(kind: Any, file: Path) -> None:
    from ddnet.data.embedded.dataset import index_benchmark, render_benchmark

    root = file.with_name(f"{file.stem}-scenes")
    render_benchmark(root, {"train": 2, "val": 1}, 192, SAMPLES)
    scenes = index_benchmark(root)
    train, val = ([scene for scene in scenes if scene.split == split] for split in ("train", "val"))
    kind.train(train, val, file)


def plain_deconvolution(system: Any, image: FloatArray, sigma: FloatArray) -> Facts:
    """Scikit-image's Richardson-Lucy on the whole image, level after level and channel after channel, in one thread.

    Few levels are measured, and the times multiplied. It assumes zeros beyond the border, where ours extends the image.
    """
    from skimage.restoration import richardson_lucy

    values, index = quantise_sigma(sigma)
    kernels = [kernel for level in np.unique(index) if (kernel := gaussian_kernel(values[level])) is not None]
    if not kernels:
        raise DDNetError("the map is sharp everywhere; there is nothing to deconvolve")
    few = np.unique(np.linspace(0, len(kernels) - 1, PLAIN_LEVELS).round().astype(int))

    def work() -> None:
        for place in few:
            for channel in range(image.shape[2]):
                richardson_lucy(np.ascontiguousarray(image[..., channel]), kernels[place], system.iterations)

    facts, scale = measure(work), len(kernels) / len(few)
    note = f"scikit-image's richardson_lucy at {len(few)} of {len(kernels)} levels; times multiplied by {scale:.4g}"
    return facts | {"wall_s": facts["wall_s"] * scale, "cpu_s": facts["cpu_s"] * scale, "threads": 1, "note": note}


def measure_part(part: str, baseline: Baseline, folder: Path, weights: Path | None, true_map: bool) -> Facts:
    """Measure `whole` (restore), `map`, `deconvolution` or `plain` of a system; a map is kept for the latter two."""
    image = np.load(folder / "image.npy")
    corner = image[:WARM_UP, :WARM_UP]
    system, own = build(baseline, weights), folder / f"{baseline.name}.npy"
    if part == "whole":
        system.restore(corner)
        return measure(lambda: system.restore(image))
    if part == "map":
        system.defocus_map(corner)
        found: list[FloatArray] = []
        facts = measure(lambda: found.append(system.defocus_map(image)))
        write_npy(own, np.asarray(found[0], np.float32))
        return facts
    sigma = np.load(folder / "true.npy" if true_map else own)
    if part == "plain":
        return plain_deconvolution(system, image, sigma)
    _deconvolve(system, corner, sigma[:WARM_UP, :WARM_UP])
    note = f"sigma {sigma.min():.2f} to {sigma.max():.2f} px, the {'true' if true_map else 'own'} map"
    return measure(lambda: _deconvolve(system, image, sigma)) | {"note": note}


def _deconvolve(system: Any, image: FloatArray, sigma: FloatArray) -> FloatArray:
    """What `restore` of a map-based system does after its map."""
    return deblur_with_map(image, sigma, system.method, system.alpha, system.lam, iterations=system.iterations)


def main(argv: list[str] | None = None) -> int:
    """Run one action and print its facts; an error is one line on standard error and status 1."""
    parser = argparse.ArgumentParser(prog="python -m baselines.bench", description=__doc__)
    parser.add_argument("action", choices=("scene", "weights", "whole", "map", "deconvolution", "plain"))
    parser.add_argument("--folder", type=Path, required=True, help="where the scene and the maps are")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="pixels of the scene")
    parser.add_argument("--baseline", type=Baseline.model_validate_json, help="a line of baselines.yaml, as JSON")
    parser.add_argument("--weights", type=Path, help="the system's weights; action weights: where to write them")
    parser.add_argument("--true-map", action="store_true", help="deconvolve by the scene's true blur")
    given = parser.parse_args(argv)
    facts: Facts = {}
    try:
        if given.action == "scene":
            write_scene(given.folder, *given.size)
        elif given.action == "weights":
            write_stand_in(given.baseline.system, given.weights)
        else:
            facts = measure_part(given.action, given.baseline, given.folder, given.weights, given.true_map)
    except (DDNetError, MemoryError) as error:
        sys.stderr.write(f"{error or 'out of memory'}\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
