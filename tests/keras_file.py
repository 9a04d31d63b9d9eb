"""Keras's HDF5 files and Keras's layers, for tests: plain NumPy on (H, W, C), from the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layer = tuple[Array, Array]
Shape = tuple[int, int, int, int]


def random_layers(shapes: Sequence[Shape], seed: int = 0) -> list[Layer]:
    """A kernel (h, w, in, out) and a bias each, float32; sizes of signals are kept from layer to layer."""
    draw = np.random.default_rng(seed)
    layers = []
    for shape in shapes:
        scale = np.sqrt(2.0 / np.prod(shape[:3]))
        kernel, bias = draw.normal(0.0, scale, shape), draw.uniform(-0.05, 0.15, shape[3])
        layers.append((kernel.astype(np.float32), bias.astype(np.float32)))
    return layers


def layer_name(number: int) -> str:
    return f"conv2d_{number}" if number else "conv2d"


def write_keras(path: Path, layers: Sequence[Layer], first: int = 0, whole: bool = False) -> Path:
    """Write the layers as Keras does, numbered from `first`; in a `whole` model among other things.

    Groups do not stand in the order of their making: HDF5 sorts them by name, so conv2d_10 precedes conv2d_2.
    """
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        root.attrs["layer_names"] = [b"input_1", b"max_pooling2d", b"concatenate"]
        for name in ("input_1", "max_pooling2d", "concatenate"):
            root.create_group(name)
        for number, (kernel, bias) in enumerate(layers, first):
            name = layer_name(number)
            root[f"{name}/{name}/kernel:0"], root[f"{name}/{name}/bias:0"] = kernel, bias
        if whole:
            file.attrs["model_config"] = '{"class_name": "Model"}'
            file["optimizer_weights/Adam/conv2d/kernel/m:0"] = np.zeros(3)
    return path


def same(x: Array, layer: Layer) -> Array:
    """Convolution with "same" padding: of the k - 1 zeros, the smaller half comes first."""
    kernel, bias = (np.asarray(array, np.float64) for array in layer)
    height, width = x.shape[:2]
    side = kernel.shape[0]
    before = (side - 1) // 2
    after = side - 1 - before
    padded = np.pad(x, ((before, after), (before, after), (0, 0)))
    out = np.zeros((height, width, kernel.shape[3])) + bias
    for down in range(side):
        for across in range(side):
            out += padded[down : down + height, across : across + width] @ kernel[down, across]
    return out


def relu(x: Array, layer: Layer) -> Array:
    return np.maximum(same(x, layer), 0.0)


def sigmoid(x: Array, layer: Layer) -> Array:
    return 1.0 / (1.0 + np.exp(-same(x, layer)))


def pool(x: Array) -> Array:
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))


def double(x: Array) -> Array:
    return x.repeat(2, axis=0).repeat(2, axis=1)
