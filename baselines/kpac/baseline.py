"""KPAC: one kernel at five dilations, for blur of five sizes.

Son et al., ICCV 2021; see `kpac_network`. It learnt from 8-bit pictures, and takes and gives RGB in [-1, 1]. Its
authors ran it at 1680 x 1120 only, and wrote 8-bit files; here any size is padded by reflection, and the result is not
rounded.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from baselines.common.network_system import NetworkSystem, save_weights, shapes_of
from baselines.common.npz_weights import checked
from baselines.kpac.network import LEVELS, WIDTH, WIDTHS, Network
from ddnet.errors import DDNetError

# The published files, in the order to look for them, and the levels of each; the tables' row is of the first.
PUBLISHED = {"single_3level.npz": 3, "single_2level.npz": 2}
DEVIATION = 0.04  # of the initial weights
LARGEST = 1 << 27  # bytes of a published file's list, unpacked; that of 3 levels takes 8 MB


class Kpac(NetworkSystem):
    """KPAC with 3 levels, or with 2 where the weights are of those."""

    needs = frozenset({"weights", "official", "patches"})
    title = "KPAC"
    multiple = 8
    width, widths = WIDTH, WIDTHS
    sizes = {"levels": LEVELS}
    signed = True
    bits = 8
    has_residual = True

    def use(self, network: nn.Module) -> None:
        """Take the network, and its levels for the multiple of the sides."""
        super().use(network)
        if isinstance(network, Network):
            self.multiple = 2**network.levels

    @staticmethod
    def initialise(network: nn.Module) -> None:
        """As published: a normal distribution of deviation 0.04, no bias."""
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The network; `levels` is 3 by default."""
        return Network(width, **sizes)

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        """Make our file of `single_3level.npz` in `folder`, or else of `single_2level.npz`.

        The file holds a list of arrays without names, in the order of the layers. Kernels are turned from TensorFlow's
        (height, width, input, output), or (height, width, output, input) where transposed, to PyTorch's order.

        Raises:
            DDNetError: no such file, or not such a list: a wrong number of arrays, or one of another shape.
        """
        path = next((folder / name for name in PUBLISHED if (folder / name).is_file()), folder / next(iter(PUBLISHED)))
        levels = PUBLISHED[path.name]
        arrays = read_list(path)
        with torch.device("meta"):
            expected = shapes_of(Network(WIDTH, levels))
        if len(arrays) != len(expected):
            raise DDNetError(f"{path}: {len(arrays)} arrays; KPAC of {levels} levels has {len(expected)}")
        state = {}
        for place, (array, (name, shape)) in enumerate(zip(arrays, expected.items(), strict=True)):
            turned = (shape[2], shape[3], shape[1], shape[0]) if len(shape) == 4 else shape
            state[name] = checked(array, f"params[{place}] ({name})", turned, path)
            if len(shape) == 4:
                state[name] = state[name].transpose(3, 2, 0, 1)
        save_weights(out, state, WIDTH, levels=levels)


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy's arrays and plain containers; any other name is refused before its import."""

    ALLOWED = ("numpy.dtype", "numpy.ndarray", "numpy._core.multiarray._reconstruct")

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # what NumPy 1 called it
        if f"{module}.{name}" not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only NumPy's arrays are allowed")
        return super().find_class(module, name)


def read_list(path: Path) -> list[Any]:
    """The list `params` of an .npz that Python 2 wrote: one array of objects, which is a pickle.

    Nothing is executed: the pickle may ask for NumPy's arrays only.

    Raises:
        DDNetError: no such file, or it cannot be read so.
    """
    if not path.is_file():
        raise DDNetError(f"{path}: no such file; fetch the published weights of KPAC")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("params.npy").file_size > LARGEST:
                raise ValueError(f"'params' is larger than {LARGEST} bytes")
            stream = io.BytesIO(archive.read("params.npy"))
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f".npy version {version}")
        shape, _, dtype = read_header(stream)
        if not dtype.hasobject or len(shape) != 1:
            raise ValueError(f"'params' is {dtype} {shape}, not a list of arrays")
        content = _ArraysOnly(stream, encoding="latin1").load()  # Python 2's strings are bytes
        if not isinstance(content, np.ndarray) or content.shape != shape or content.dtype != object:
            raise ValueError("'params' is not a list of arrays")
        return list(content)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise DDNetError(f"{path}: not KPAC's published list of arrays ({reason}); fetch it again") from None
