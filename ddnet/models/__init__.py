"""The network family, built from one variant specification."""

from __future__ import annotations

import hashlib
import math
from importlib import import_module
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ddnet.config import Variant


def build_model(variant: Variant, width: int, output: str = "sigmoid") -> nn.Module:
    """Network of a variant: `forward(image (B, 3, H, W), depth (B, 1, H, W) | None) -> (B, 3, H, W)`.

    Args:
        width: C1; 64 in the paper.
        output: the preset's output form, used where the variant names none of its own.
    """
    chosen = variant.output or output
    # By name: an import statement would make every network's file concern every variant (`ddnet.planning.code_digest`).
    if variant.arch == "unet":
        return import_module("ddnet.models.unet").UNet(width, chosen)
    options: dict[str, object] = dict(variant.fusion_options)
    if variant.fusion == "gru":
        options |= {"roles": variant.gru_roles, "reset": variant.gru_reset}
    network = import_module("ddnet.models.ddnet").DDNet
    return network(
        width, variant.branches, variant.fusion, variant.depth_rcabs, variant.depth_channels, chosen, options
    )


def initialise(model: nn.Module, seed: int) -> None:
    """Draw PyTorch's default initial weights anew, each module from a stream of its own.

    The stream depends on the seed and on the module's name only (a branch goes by its number of RCABs, not by its
    position), so variants of one seed start from the same weights wherever they have the same layer (protocol:
    "same initial weights for the shared shapes"). A residual network starts as the identity: its last convolution is
    zero, so that no step of a short budget is spent on unlearning random output.
    """
    rcabs = getattr(model, "branch_rcabs", ())
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        parts = name.split(".")
        if parts[0] == "branches":
            position = int(parts[1])
            parts[1] = f"{rcabs[position]}rcabs-{rcabs[:position].count(rcabs[position])}"
        digest = hashlib.sha256(f"{seed}/{'.'.join(parts)}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        fan_in = module.weight[0].numel()
        with torch.no_grad():
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
    if getattr(model, "residual", False):
        last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
