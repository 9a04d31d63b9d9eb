"""A file like DMENet's published weights, and a zip with it: for tests that fetch, convert and load it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
NET = "main_net/defocus_net"


def published_shapes(w: int = 64) -> dict[str, tuple[int, ...]]:
    """The variables of the published file with their shapes, kernels as (height, width, input, output)."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inputs: int, outputs: int, side: int = 3) -> None:
        shapes[f"{name}/kernel:0"] = (side, side, inputs, outputs)
        shapes[f"{name}/bias:0"] = (outputs,)

    def shift(name: str, channels: int) -> None:
        shapes.update({f"{name}/{leaf}:0": (channels,) for leaf in ("beta", "moving_mean", "moving_variance")})

    inputs = 3
    for stage, (count, outputs) in enumerate([(2, w), (2, 2 * w), (4, 4 * w), (4, 8 * w), (4, 8 * w)], 1):
        for place in range(1, count + 1):
            conv(f"{NET}/encoder/conv{stage}_{place}", inputs, outputs)
            inputs = outputs
    for stage_name, inputs, outputs in (("u3", 16 * w, 4 * w), ("u2", 8 * w, 2 * w), ("u1", 4 * w, w)):
        for place in (1, 2, 3):
            conv(f"{NET}/decoder/{stage_name}/c{place}", inputs if place == 1 else outputs, outputs)
            shift(f"{NET}/decoder/{stage_name}/b{place}", outputs)
    conv(f"{NET}/decoder/u0/c_init", 2 * w, w)
    shift(f"{NET}/decoder/u0/b_init", w)
    for unit in range(7):
        conv(f"{NET}/decoder/u0/c_res{unit}", w, w, 1)
        shift(f"{NET}/decoder/u0/b_res{unit}", w)
        for place in (1, 2):
            conv(f"{NET}/decoder/u0/c{unit}_{place}", w, w)
            shift(f"{NET}/decoder/u0/b{unit}_{place}", w)
    for place, (inputs, outputs) in enumerate([(w, w), (w, w // 2), (w // 2, 1)], 1):
        conv(f"{NET}/decoder/uf/c{place}", inputs, outputs)
        if place < 3:
            shift(f"{NET}/decoder/uf/b{place}", outputs)
    for head, inputs in (("u4_aux", 8 * w), ("u3_aux", 4 * w), ("u2_aux", 2 * w), ("u1_aux", w), ("u0_aux", w)):
        for place, (a, b) in enumerate([(inputs, inputs // 2), (inputs // 2, 1)], 1):
            conv(f"{NET}/decoder/{head}/c{place}", a, b)
            shift(f"{NET}/decoder/{head}/b{place}", b)
    conv("main_net/binary_net/c1", 1, 64, 1)
    shapes["discriminator/h0/kernel:0"] = (4, 4, 1, 64)
    return shapes


def published(width: int, seed: int = 0) -> Arrays:
    """Such a file's arrays: noise, with variances above 0."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in published_shapes(width).items()}
    return {name: np.abs(value) + 0.5 if "variance" in name else value for name, value in arrays.items()}


def write_dmenet_zip(path: Path) -> Path:
    """A zip with such a file of the published size, which says half of the range everywhere: zeros compress well."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in published_shapes().items()}
    arrays |= {name: np.ones_like(value) for name, value in arrays.items() if "variance" in name}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("DMENet_BDCS/DMENet_BDCS.npz", content.getvalue())
    return path
