"""DMENet's weights on disk: our file, and the published one that becomes it.

Our file is an .npz of plain arrays: those of the network without its auxiliary heads under their PyTorch names,
`width`, and `map`, which says what blur a value of the map means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.common.npz_weights import brief, checked, opened
from baselines.dmenet.network import WIDTH, WIDTHS, Network
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path

Array = NDArray[Any]

PUBLISHED_FILE = "DMENet_BDCS.npz"
# Map m in [0, 1] -> sigma in pixels = max(0, slope m + offset). The published network learnt (circle of confusion)/15,
# with sigma = (circle - 1)/2.
MAPS = {"published": (7.5, -0.5), "trained": (7.0, 0.0)}
LEAVES = {"weight": "kernel"}  # others are called the same in TensorFlow
TITLE = "DMENet"
NOT_THE_NETWORK = {"binary_net", "discriminator"}  # what only the published training uses


def _skeleton(width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays at a width."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Network(width, auxiliary=False).state_dict().items()}


def save_weights(path: Path, arrays: dict[str, Array], width: int, meaning: str) -> None:
    """Write our file: the same arrays give the same bytes.

    Args:
        arrays: by the names of `Network(width, auxiliary=False).state_dict()`; others are left out.
        meaning: a key of MAPS.
    """
    content: dict[str, Array] = {name: np.ascontiguousarray(arrays[name], np.float32) for name in _skeleton(width)}
    content["width"], content["map"] = np.array(width), np.array(meaning)
    with atomic_path(path) as temporary:
        np.savez(temporary, **content)  # type: ignore[arg-type]  # its first keyword is a flag


def load_weights(path: Path) -> tuple[Network, str]:
    """The network of our file, in evaluation mode, and what its map means: a key of MAPS.

    Raises:
        DDNetError: no such file, or one that does not hold just these arrays, of these shapes, all finite.
    """
    with opened(path, TITLE) as arrays:
        width, meaning = (_scalar(arrays, name, path) for name in ("width", "map"))
        if width.dtype.kind not in "iu" or int(width) not in WIDTHS:
            raise DDNetError(f"{path}: 'width' is {brief(width)}; expected an even number from 2 to {WIDTHS[-1]}")
        if str(meaning) not in MAPS:
            raise DDNetError(f"{path}: 'map' is {brief(meaning)}; expected one of {', '.join(MAPS)}")
        expected = _skeleton(int(width))
        for name in sorted(set(arrays.files) - expected.keys() - {"width", "map"}):
            raise DDNetError(f"{path}: unknown entry '{name}'; not weights of DMENet at width {width}")
        for name in sorted(expected.keys() - set(arrays.files)):
            raise DDNetError(f"{path}: lacks '{name}' {expected[name]}; not weights of DMENet at width {width}")
        state = {name: torch.from_numpy(_array(arrays, name, shape, path)) for name, shape in expected.items()}
    with torch.device("meta"):
        network = Network(int(width), auxiliary=False)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False), str(meaning)


def convert_published(folder: Path, out: Path) -> None:
    """Make our file of the published one, `DMENet_BDCS.npz` in `folder`: a dictionary of TensorFlow's variables.

    An array is found by the end of its name, whatever scope it stands in, and must have the published shape. Kernels
    are turned from (height, width, input, output) to PyTorch's order. Scales of normalisations (gamma), which the
    published network does not have, go into the convolutions before them. What else is in the file is not read: the
    auxiliary heads, `binary_net` and `discriminator`, which only training uses.

    Raises:
        DDNetError: no such file, not an .npz of plain arrays, or an array that is missing, there twice, of another
            shape or not finite.
    """
    path = folder / PUBLISHED_FILE
    state: dict[str, NDArray[np.float32]] = {}
    scales: dict[str, NDArray[np.float32]] = {}
    with opened(path, TITLE) as arrays:
        entries = [(tuple(name.removesuffix(":0").split("/")), name) for name in arrays.files]
        entries = [(parts, name) for parts, name in entries if not NOT_THE_NETWORK & set(parts)]
        for ours, shape in _skeleton(WIDTH).items():
            wanted = _published_parts(ours)
            name = _find(entries, wanted, path)
            if name is None:
                raise DDNetError(
                    f"{path}: no entry's name ends in '{'/'.join(wanted)}', which must be {_turned(shape)}; "
                    "not the published weights of DMENet"
                )
            array = _array(arrays, name, _turned(shape), path)
            state[ours] = array.transpose(3, 2, 0, 1) if len(shape) == 4 else array
            if wanted[-1] == "beta" and (gamma := _find(entries, (*wanted[:-1], "gamma"), path)):
                scales[ours] = _array(arrays, gamma, shape, path)
    for beta, scale in scales.items():
        convolution = beta.replace(".b", ".c", 1).removesuffix(".beta")
        state[f"{convolution}.weight"] = state[f"{convolution}.weight"] * scale[:, None, None, None]
        for name in (f"{convolution}.bias", beta.removesuffix("beta") + "moving_mean"):
            state[name] = state[name] * scale
    save_weights(out, state, WIDTH, "published")


def _published_parts(ours: str) -> tuple[str, ...]:
    """The end of a published name: `encoder.conv1_1.weight` -> conv1_1, kernel; `u3.b1.beta` -> u3, b1, beta."""
    *scope, leaf = ours.removeprefix("encoder.").split(".")
    return (*scope, LEAVES.get(leaf, leaf))


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of a convolution in TensorFlow's order; others as they are."""
    return (shape[2], shape[3], shape[1], shape[0]) if len(shape) == 4 else shape


def _find(entries: list[tuple[tuple[str, ...], str]], wanted: tuple[str, ...], path: Path) -> str | None:
    """The one entry whose name ends so; None where there is none."""
    found = [name for parts, name in entries if parts[-len(wanted) :] == wanted]
    if len(found) > 1:
        raise DDNetError(f"{path}: {' and '.join(sorted(found)[:2])} both end in '{'/'.join(wanted)}'; which is meant?")
    return found[0] if found else None


def _scalar(arrays: Any, name: str, path: Path) -> Array:
    if name not in arrays.files:
        raise DDNetError(f"{path}: lacks '{name}'; not weights of DMENet as this suite writes them")
    value = arrays[name]
    if not isinstance(value, np.ndarray) or value.shape != ():
        raise DDNetError(f"{path}: '{name}' is {brief(value)}; expected a single value")
    return value


def _array(arrays: Any, name: str, shape: tuple[int, ...], path: Path) -> NDArray[np.float32]:
    """One array as float32 of its own, of this shape and finite; a variance is 0 or more."""
    array = checked(arrays[name], name, shape, path)
    if "variance" in name and array.min() < 0:
        raise DDNetError(f"{path}: '{name}' has a negative variance; the file is damaged")
    return array
