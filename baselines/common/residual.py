"""Letting a network learn the difference to its input, where the published one gives the picture itself."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.common.dpdnet_blocks import Head


def learn_difference(network: nn.Module) -> None:
    """Make what a network gives in (0, 1) stand for the difference to its input, in (-1, 1); names stay as they are."""

    def add_input(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return inputs[0].repeat(1, output.shape[1] // inputs[0].shape[1], 1, 1) + (2.0 * output - 1.0)

    network.register_forward_hook(add_input)


def start_as_identity(network: nn.Module) -> None:
    """Zeros in the convolution before a sigmoid: the difference is 0 until something is learnt.

    The three channels before it in DPDNet's heads, which a ReLU would close for good in a short training, begin at 1.
    """
    heads = [module for module in network.modules() if isinstance(module, Head)]
    lasts = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1:]
    for head in heads:
        nn.init.ones_(head.get_parameter("0.0.bias"))
    for last in [head.get_submodule("1") for head in heads] or lasts:
        nn.init.zeros_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))
