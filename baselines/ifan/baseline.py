"""IFAN: filters predicted for every pixel, applied to its features one after the other.

Lee et al., CVPR 2021; see `ifan_network`. It learnt from 8-bit pictures, and takes and gives RGB in [0, 1]. Its authors
cut pictures to multiples of 8; here they are padded by reflection, so that nothing is lost.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from baselines.common.network_system import NetworkSystem, fitted, read_torch, save_weights, shapes_of
from baselines.ifan.network import FILTER_COUNTS, TAPS, WIDTH, WIDTHS, Network
from baselines.ifan.training import IfanObjective
from ddnet.errors import DDNetError
from ddnet.io.state_dicts import FoundState, find_state

# The published files, in the order to look for them; the tables' row is of the first, which has 17 filters.
PUBLISHED = ("IFAN.pytorch", "IFAN_8.pytorch", "IFAN_26.pytorch", "IFAN_35.pytorch", "IFAN_44.pytorch")
FILTERS_GAIN = 1.5  # of the initial weights
NETWORK, TRAINING_ONLY = "Network.", "reblurNet."  # in the published file after `module.`


class Ifan(NetworkSystem):
    """IFAN with as many filters as its weights have."""

    needs = frozenset({"weights", "official", "patches"})
    title = "IFAN"
    multiple = 8
    width, widths = WIDTH, WIDTHS
    sizes = {"filters": FILTER_COUNTS, "both_kernels": (0, 1)}
    bits = 8
    has_residual = True
    objective = IfanObjective

    @staticmethod
    def initialise(network: nn.Module) -> None:
        """As published: Glorot and Bengio (2010), with a gain of 1.5 where the filters are predicted; no bias."""
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight, gain=FILTERS_GAIN if name.split(".")[0] == "F" else 1.0)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The network; by default 17 filters, each of whose first kernel is used twice."""
        return Network(width, **sizes)

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        """Make our file of `IFAN.pytorch` in `folder`, or else of another number of filters.

        What the file has besides the network, the reblurring that only training uses, is not read. The names may begin
        with `module.Network.`, `Network.` or neither; see `ddnet.io.state_dicts` for what else may stand before them.

        Raises:
            DDNetError: no such file, or an entry that is unknown, missing or of another shape.
        """
        path = next((folder / name for name in PUBLISHED if (folder / name).is_file()), folder / PUBLISHED[0])
        found = _network_state(path)
        filters = _filters(found, path)
        with torch.device("meta"):
            expected = shapes_of(Network(WIDTH, filters))
        state = fitted(found.entries, {found.prefix + name: shape for name, shape in expected.items()}, path, "IFAN")
        plain = {name.removeprefix(found.prefix): array for name, array in state.items()}
        save_weights(out, plain, WIDTH, filters=filters, both_kernels=0)
        found.tell("IFAN")


def _network_state(path: Path) -> FoundState:
    """The network in a file, whose prefix ends in `Network.` where its names do so in the file."""
    with torch.device("meta"):
        names = set(shapes_of(Network(WIDTH)))
    found = find_state(
        read_torch(path, "IFAN"),
        lambda name: name.removeprefix(NETWORK) in names,
        str(path),
        "IFAN",
        lambda name: name.startswith(TRAINING_ONLY),
    )
    whole = any(name.startswith(found.prefix + NETWORK) for name in found.entries)
    return replace(found, prefix=found.prefix + NETWORK) if whole else found


def _filters(found: FoundState, path: Path) -> int:
    """How many filters the last layer predicts: of 4 width channels, each two kernels and what is added."""
    entries, name, each = found.entries, f"{found.prefix}F.3.bias", 4 * WIDTH * (2 * TAPS + 1)
    if name not in entries:
        raise DDNetError(f"{path}: lacks '{name}'; not weights of IFAN")
    shape = tuple(getattr(entries[name], "shape", ()))
    if len(shape) != 1 or shape[0] % each or shape[0] // each not in FILTER_COUNTS:
        raise DDNetError(f"{path}: '{name}' is {shape}; expected {each} values for each filter, such as ({17 * each},)")
    return shape[0] // each
