"""Weights of convolutional networks in Keras's HDF5 files, by layer name; nothing of the file is executed.

A file of a whole model keeps its weights in `model_weights/<layer>/<layer>/kernel:0` and `.../bias:0`, a file of
weights alone in `<layer>/<layer>/...`. Keras numbers layers in the order in which they were made, from wherever its
session had come to: `conv2d`, `conv2d_1`, ... or `conv2d_25`, ...; groups in a file stand in another order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.common.network_system import FloatArray, Shapes
from baselines.common.npz_weights import checked
from ddnet.errors import DDNetError

SUFFIXES = (".hdf5", ".h5")
CONVOLUTION = re.compile(r"conv2d(?:_([1-9]\d{0,8}))?")
ARRAYS = ("kernel", "bias")
DEEPEST = 4  # groups within a layer; Keras makes one, or two in a name scope
LARGEST = 1 << 30  # bytes of all arrays; MDPNet's take 187 MB


class Convolution(NamedTuple):
    """A layer: its name in the file, its kernel (height, width, input, output) and its bias (output,)."""

    name: str
    kernel: NDArray[Any]
    bias: NDArray[Any]


def find_hdf5(folder: Path, title: str) -> Path:
    """The one HDF5 file in a folder, whatever it is called.

    Args:
        title: the system, for messages.

    Raises:
        DDNetError: there is none, or more than one.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DDNetError(f"{folder}: no {' or '.join(SUFFIXES)} file; put the published weights of {title} there")
    if len(found) > 1:
        raise DDNetError(
            f"{folder}: {found[0].name} and {found[1].name}; leave the weights of {title} there, and move the "
            "other elsewhere"
        )
    return found[0]


def read_convolutions(path: Path, title: str) -> list[Convolution]:
    """All convolutions of a file in the order in which they were made.

    Raises:
        DDNetError: no such file, not a readable HDF5 file, or one with other arrays than those of convolutions.
    """
    import h5py

    if not path.is_file():
        raise DDNetError(f"{path}: no such file; fetch the published weights of {title}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            found, left = {}, LARGEST
            for name, arrays in _layers(file, path):
                match = CONVOLUTION.fullmatch(name)
                for key, dataset in arrays.items():
                    if match is None or _leaf(key) not in ARRAYS:
                        raise DDNetError(f"{path}: unknown entry '{key}' {dataset.shape}; not weights of {title}")
                    left -= dataset.nbytes
                    if dataset.dtype.kind != "f" or left < 0:
                        what = f"{dataset.dtype} {dataset.shape}"
                        raise DDNetError(f"{path}: '{key}' is {what}; expected floating point, 1 GiB in all")
                if match is not None:
                    number = int(match[1] or 0)
                    found[number] = Convolution(name, *(_one(arrays, leaf, name, path) for leaf in ARRAYS))
    except DDNetError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise DDNetError(f"{path}: not a readable HDF5 file ({reason}); fetch the weights of {title} again") from None
    return [found[number] for number in sorted(found)]


def to_state(layers: Sequence[Convolution], expected: Shapes, path: Path, title: str) -> dict[str, FloatArray]:
    """Arrays under PyTorch's names, kernels turned to its (output, input, height, width).

    Args:
        layers: in the order of the network's convolutions.
        expected: names and shapes of the network's arrays: weight and bias of each convolution, in that order.
        path, title: the file and the system, for messages.

    Raises:
        DDNetError: another number of layers, or an array of another shape; names the first.
    """
    names = list(expected)
    if len(layers) != len(names) // 2:
        raise DDNetError(f"{path}: {_said(layers)}; {title} has {len(names) // 2}")
    state = {}
    for layer, weight, bias in zip(layers, names[::2], names[1::2], strict=True):
        outputs, inputs, height, width = expected[weight]
        kernel = checked(layer.kernel, f"{layer.name}/kernel", (height, width, inputs, outputs), path)
        state[weight] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state[bias] = checked(layer.bias, f"{layer.name}/bias", expected[bias], path)
    return state


def _said(layers: Sequence[Convolution]) -> str:
    """How many layers there are, and which is missing, if one is."""
    if not layers:
        return "no convolutions"
    numbers = [int(layer.name.partition("_")[2] or 0) for layer in layers]
    gap = next((number for number in range(numbers[0], numbers[-1]) if number not in numbers), None)
    missing = f", 'conv2d_{gap}' is missing" if gap else ""
    return f"{len(layers)} convolutions, '{layers[0].name}' to '{layers[-1].name}'{missing}"


def _layers(file: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every layer's name and its arrays by their whole names."""
    root = _member(file, "model_weights", path) if "model_weights" in file else file
    if not hasattr(root, "keys"):
        raise DDNetError(f"{path}: 'model_weights' is an array; expected a group of layers")
    for name in root:
        yield name, dict(_arrays(root, name, name, path, 0))


def _arrays(group: Any, name: str, key: str, path: Path, depth: int) -> Iterator[tuple[str, Any]]:
    member = _member(group, name, path)
    if not hasattr(member, "keys"):
        yield key, member
    elif depth > DEEPEST:
        raise DDNetError(f"{path}: '{key}' is a group; expected arrays by then; not Keras's weights")
    else:
        for inner in member:
            yield from _arrays(member, inner, f"{key}/{inner}", path, depth + 1)


def _member(group: Any, name: str, path: Path) -> Any:
    """A group or an array that lies in this file itself, not where a link or a reference to another file leads."""
    import h5py

    member = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if isinstance(member, h5py.Group):
        return member
    if not isinstance(member, h5py.Dataset) or member.external or member.is_virtual:
        raise DDNetError(f"{path}: '{name}' is a link or kept elsewhere; expected arrays in the file itself")
    return member


def _leaf(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(":0")


def _one(arrays: dict[str, Any], leaf: str, layer: str, path: Path) -> NDArray[Any]:
    """The one array of that name in a layer."""
    keys = [key for key in arrays if _leaf(key) == leaf]
    if len(keys) != 1:
        said = "lacks" if not keys else "has more than one"
        raise DDNetError(f"{path}: '{layer}' {said} {leaf}; a convolution has one kernel and one bias")
    return np.asarray(arrays[keys[0]][()])
