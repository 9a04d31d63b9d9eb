"""MDPNet: a network that learnt to predict the two views of a dual-pixel sensor along with the sharp picture.

Abuolaim, Afifi and Brown, WACV 2022; see `mdpnet_network`. It takes and gives blue, green, red in [0, 1] and learnt
from 16-bit pictures. As its authors do, zeros at the top and the left pad the sides to multiples of 16.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from baselines.common.keras_weights import find_hdf5, read_convolutions, to_state
from baselines.common.network_system import NetworkSystem, save_weights, shapes_of
from baselines.mdpnet.network import WIDTH, WIDTHS, Network
from baselines.mdpnet.training import MdpnetObjective
from ddnet.models import count_parameters


class Mdpnet(NetworkSystem):
    """MDPNet without what only its views need: the sharp picture is the same."""

    needs = frozenset({"weights", "official", "patches"})
    title = "MDPNet"
    multiple = 16
    pad, padding = "start", "zeros"
    width, widths = WIDTH, WIDTHS
    bgr = True
    objective = MdpnetObjective

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The network for the sharp picture alone."""
        return Network(width, views=False)

    @classmethod
    def training_network(cls, width: int, **sizes: int) -> nn.Module:
        """The network with its views."""
        return Network(width)

    @classmethod
    def parameters(cls) -> int:
        """Parameters of the published network with its views, as its authors count them."""
        with torch.device("meta"):
            return count_parameters(Network(cls.width))

    @classmethod
    def convert(cls, folder: Path, out: Path) -> None:
        """Make our file of the only HDF5 file in `folder`: the published weights of the second phase.

        All of the file must fit; what only the views need is left out.

        Raises:
            DDNetError: no such file, or one that does not fit.
        """
        path = find_hdf5(Path(folder), cls.title)
        with torch.device("meta"):
            expected, kept = shapes_of(Network(cls.width)), shapes_of(cls.network(cls.width))
        state = to_state(read_convolutions(path, cls.title), expected, path, cls.title)
        save_weights(Path(out), {name: state[name] for name in kept}, cls.width)
