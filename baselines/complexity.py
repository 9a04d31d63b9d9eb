"""Parameters and multiply-accumulates of the compared networks, as published and by the suite's own protocol.

MACs are those of ptflops, which sees the layers of a network and some functions; convolutions that a network calls as
functions are added to them. The paper's MACs come from another counter (thop 0.1.1); `paper_rule` counts as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from baselines import system_class
from baselines.common.network_system import NetworkSystem
from baselines.defocusgan import network as defocusgan_network
from baselines.dmenet import network as dmenet_network
from baselines.mdpnet import network as mdpnet_network
from ddnet.config import Recipe
from ddnet.errors import DDNetError
from ddnet.evaluation.complexity import flop_counter_macs, ptflops_macs
from ddnet.models import count_parameters

SIZE = 512  # pixels a side; the paper's MACs are of this size
# Networks that are counted with what only their training needs, as their authors do.
WHOLE: dict[str, Callable[[], nn.Module]] = {"dmenet": dmenet_network.Network, "mdpnet": mdpnet_network.Network}
NOTES = {
    "dmenet": "the network of the defocus map with its auxiliary heads; deconvolution is not counted",
    "dpdnet": (
        "35.25 M are printed, but the published code has 31.03 M: up-convolutions of 3x3 instead of its 2x2 would make "
        "34.52 M, of 4x4 39.39 M, so no size of theirs gives the printed number"
    ),
    "ifan": "applying the predicted filters, a product per tap and channel at 1/8 of the size, is not counted",
    "mdpnet": "all three decoders; restoring needs the last part of one only",
    "defocusgan": (
        "4.59 M are printed, but the published code uses 4,860,675 parameters and has 4,934,531 with two layers that "
        "nothing goes through; the printed 281.2 G MACs are reached by the paper's counter, which takes a transposed "
        "convolution's kernel for every value of the output, 4 times too often at stride 2, and counts averages and "
        "upsampling"
    ),
}
UPSAMPLING = {"nearest": 1, "bilinear": 11}  # what the paper's counter takes per value of the output
CONVOLUTIONS = (torch.conv2d, torch.conv_transpose2d)

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any], Tensor], int]


def published_network(system: str) -> nn.Module:
    """The network of a compared system at its published width, as its authors count it, without values (meta).

    Raises:
        DDNetError: the system is no network.
    """
    kind = system_class(system)
    if system not in WHOLE and not (isinstance(kind, type) and issubclass(kind, NetworkSystem)):
        raise DDNetError(f"{system}: is no network, so that it has no parameters and MACs; count a network")
    with torch.device("meta"):
        return (WHOLE[system]() if system in WHOLE else kind.network(kind.width)).eval()


def counted(system: str, size: int = SIZE) -> dict[str, Any]:
    """Parameters and MACs of a compared system's published network, for one picture of `size` x `size` pixels.

    Returns:
        `params`, `params_m` (10^6), `macs_g` (10^9), `flopcounter_macs_g` (convolutions alone, without bias), `size`,
        `tool`, and `note`: what the numbers contain, or why the printed ones cannot be reached; it may be empty. Of
        DefocusGAN also `paper_rule_macs_g`, see `paper_rule`.

    Raises:
        DDNetError: the system is no network.
    """
    network = published_network(system)
    alone, picture = _Alone(network), torch.zeros(1, 3, size, size, device="meta")
    params, added = count_parameters(network), unseen_macs(network, picture)
    result = {
        "params": params,
        "params_m": params / 1e6,
        "macs_g": (ptflops_macs(alone, size) + added) / 1e9,
        "flopcounter_macs_g": flop_counter_macs(alone, size) / 1e9,
        "size": size,
        "tool": f"ptflops {version('ptflops')} (pytorch backend)"
        + (", and convolutions that are called as functions" if added else ""),
        "note": NOTES.get(system, ""),
    }
    if isinstance(network, defocusgan_network.Network):
        result["paper_rule_macs_g"] = paper_rule(network, picture) / 1e9
    return result


def training_flop(system: str, recipe: Recipe, patch: int, patches: int) -> float:
    """FLOP of a training by a recipe, about: convolutions of the network alone, three times those of a forward pass.

    Args:
        patch, patches: side in pixels of the preset's training patches, and their number.

    Raises:
        DDNetError: a width that the network does not have.
    """
    kind, side = system_class(system), recipe.crop or patch
    with torch.device("meta"):
        network = kind.training_network(recipe.width or kind.width, **recipe.sizes).eval()
    steps = recipe.steps or (recipe.epochs or 1) * -(-patches // recipe.batch)
    return 3.0 * 2.0 * flop_counter_macs(_Alone(network), side) * recipe.batch * steps


class _Alone(nn.Module):
    """A network that takes a picture alone, called as the suite's own networks are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, depth: Tensor) -> Any:
        """(B, 3, H, W) to what the network makes of it; `depth` is not used."""
        return self.network(image)


class _Calls(TorchFunctionMode):
    """While it is entered, adds up what a rule says of every call of a torch function."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.total = rule, 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.total += self.rule(func, args, kwargs or {}, output)
        return output


def convolution_macs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> int:
    """MACs of a convolution as ptflops counts them, one more per output value for a bias; 0 for another function."""
    if func not in CONVOLUTIONS:
        return 0
    x, weight = args[:2]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    # A transposed convolution takes each value of its input through the kernel, the other one each value of its output.
    places = output if func is torch.conv2d else x
    return int(places.numel() * weight[0].numel() + (0 if bias is None else output.numel()))


def unseen_macs(network: nn.Module, *inputs: Tensor) -> int:
    """MACs of the convolutions that a network calls as functions: ptflops sees those that are layers."""
    seen = 0

    def see(layer: Any, args: tuple[Any, ...], output: Tensor) -> None:
        nonlocal seen
        func = torch.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else torch.conv2d
        seen += convolution_macs(func, (args[0], layer.weight, layer.bias), {}, output)

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_hook(see) for layer in layers]
    try:
        with torch.no_grad(), _Calls(convolution_macs) as calls:
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls.total - seen


def paper_rule(network: nn.Module, *inputs: Tensor, upsampling: tuple[str, ...] = ("nearest", "bilinear")) -> int:
    """MACs of one forward by the rule of the paper's counter, for networks of its authors' kind.

    Their code reaches the printed 163.9 G (DDNet, 1 branch) and 281.2 G (DefocusGAN) at 512 x 512 by it:

    - a convolution: its kernel for every value of the output; no bias;
    - a transposed one: likewise, which is stride^2 times as many as there are;
    - channel attention's global average: a value of the input each, and one per channel;
    - upsampling that is a layer in their code: 1 per value of the output for nearest, 11 for bilinear;
    - nothing else: neither activations, sums and maximum pooling, nor what their code calls as a function.

    Args:
        inputs: arguments of the network.
        upsampling: the modes that are layers in the published code; in DDNet's, `nearest` alone.
    """

    def rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
        if func in CONVOLUTIONS:
            weight = args[1]
            kernel = weight[0] if func is torch.conv2d else weight[:, 0]
            return int(output.numel() * kernel.numel())
        if func is F.interpolate and kwargs["mode"] in upsampling:
            return int(output.numel() * UPSAMPLING[kwargs["mode"]])
        if func is torch.Tensor.mean:
            return int(args[0].numel() + output.numel())
        return 0

    with torch.no_grad(), _Calls(rule) as calls:
        network(*inputs)
    return calls.total
