"""DefocusGAN: a generator of branches for different amounts of blur.

Zhai et al., AAAI 2023; see `defocusgan_network`. It takes and gives BGR in [0, 1] at 16 bits. Sides that are no
multiples of 16 are padded by reflection; its authors had none such.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from baselines.common.network_system import NetworkSystem, fitted, read_torch, save_weights, shapes_of
from baselines.defocusgan.network import RCABS, SCALES, WIDTH, WIDTHS, Network
from baselines.defocusgan.training import DefocusganObjective
from ddnet.io.state_dicts import find_state

PUBLISHED_FILE = "90_models.pth"
UNUSED = {f"{module}.{leaf}" for module in ("connect", "connect2") for leaf in ("weight", "bias")}
# What a name of ours begins with -> what the published one does.
MODULES = {
    "head.": "head.0.",
    "tail.": "tail_hard.0.",
    "down4.": "unetdown4.maxpool_conv.1.",
    "down2.": "unetdown2.maxpool_conv.1.",
    "up2.": "unetup2.conv.",
    "up4_first.": "unetup4.up.0.",
    "up4.": "unetup4.up.1.",
    "up4_last.": "unetup4.up.2.",
}
LAYERS = {"conv1.": "double_conv.0.", "conv2.": "double_conv.2."}
IN_RCAB = {"conv1": "0", "conv2": "2", "attention.squeeze": "3.conv_du.0", "attention.excite": "3.conv_du.2"}


class Defocusgan(NetworkSystem):
    """DefocusGAN's generator."""

    needs = frozenset({"weights", "official", "patches"})
    title = "DefocusGAN"
    multiple = 16
    width, widths = WIDTH, WIDTHS
    bgr = True
    objective = DefocusganObjective

    @staticmethod
    def initialise(network: nn.Module) -> None:
        """As published: PyTorch's own initial weights, which the network was made with."""

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The generator."""
        return Network(width, **sizes)

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        """Make our file of `90_models.pth` in `folder`: a dictionary with the generator's `state_dict`.

        What else it has is not read: the discriminator, the optimisers, and the generator's two unused layers. The
        generator may be wrapped otherwise, too, or be alone; see `ddnet.io.state_dicts`.

        Raises:
            DDNetError: no such file, or an entry that is unknown, missing or of another shape.
        """
        path = folder / PUBLISHED_FILE
        with torch.device("meta"):
            expected = shapes_of(Network())
        names = {published_name(ours): ours for ours in expected}
        content = read_torch(path, "DefocusGAN")
        found = find_state(content, names.__contains__, str(path), "DefocusGAN", UNUSED.__contains__)
        shapes = {found.prefix + published: expected[ours] for published, ours in names.items()}
        state = fitted(found.entries, shapes, path, "DefocusGAN")
        save_weights(out, {ours: state[found.prefix + published] for published, ours in names.items()}, WIDTH)
        found.tell("DefocusGAN")


def published_name(ours: str) -> str:
    """What an array of ours is called in the published file.

    `branches.2.decoder.0.blocks.1.conv2.weight` is `layer5.2.0.body.1.body.2.weight` there.
    """
    if match := re.fullmatch(r"branches\.(\d)\.(encoder|decoder)\.(\d)\.(.*)", ours):
        stage = int(match[3]) + (1 if match[2] == "encoder" else 1 + SCALES)
        return f"layer{stage}.{match[1]}.0.{_inside_group(match[4], RCABS[int(match[1])])}"
    begin, published = next(item for item in MODULES.items() if ours.startswith(item[0]))
    rest = ours.removeprefix(begin)
    inner = next((name for name in LAYERS if rest.startswith(name)), "")
    return published + LAYERS.get(inner, "") + rest.removeprefix(inner)


def _inside_group(name: str, rcabs: int) -> str:
    if match := re.fullmatch(r"blocks\.(\d)\.(.*)\.(weight|bias)", name):
        return f"body.{match[1]}.body.{IN_RCAB[match[2]]}.{match[3]}"
    return name.replace("conv.", f"body.{rcabs}.")  # the group's own convolution, or the 1x1 one, which has no name
