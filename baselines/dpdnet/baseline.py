"""DPDNet for a single picture: the U-Net of dual-pixel deblurring, whose authors trained it on combined views too.

Abuolaim and Brown, ECCV 2020; see `dpdnet_network`. It takes and gives blue, green, red in [0, 1] and learnt from
16-bit pictures. Its authors ran it at 1680 x 1120 only: they turned what is higher than wide by 90 degrees
counter-clockwise and back, as here, and resized what has another size, where here it is padded by reflection.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from baselines.common.keras_weights import find_hdf5, read_convolutions, to_state
from baselines.common.network_system import NetworkSystem, save_weights, shapes_of
from baselines.dpdnet.network import WIDTH, WIDTHS, Network
from ddnet.errors import DDNetError


class Dpdnet(NetworkSystem):
    """DPDNet in its form for a single picture."""

    needs = frozenset({"weights", "official", "patches"})
    title = "DPDNet"
    multiple = 16
    width, widths = WIDTH, WIDTHS
    bgr = True
    landscape = True

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The network for a picture of 3 channels."""
        return Network(width, **sizes)

    @classmethod
    def convert(cls, folder: Path, out: Path) -> None:
        """Make our file of the only HDF5 file in `folder`: the published model for a single picture.

        Raises:
            DDNetError: no such file, one of the form for two views, or one that does not fit.
        """
        path = find_hdf5(Path(folder), cls.title)
        layers = read_convolutions(path, cls.title)
        with torch.device("meta"):
            expected, of_views = (shapes_of(Network(cls.width, channels)) for channels in (3, 6))
        outputs, inputs, height, width = next(iter(of_views.values()))
        if layers and layers[0].kernel.shape == (height, width, inputs, outputs):
            raise DDNetError(
                f"{path}: '{layers[0].name}/kernel' has {inputs} input channels, expected 3: these weights are for a "
                "left and a right view; fetch those for a single picture"
            )
        save_weights(Path(out), to_state(layers, expected, path, cls.title), cls.width)
