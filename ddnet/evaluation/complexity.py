"""Parameters and multiply-accumulates of the restoration network, as papers report them."""

from __future__ import annotations

import contextlib
import io
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from ddnet.config import Complexity, Variant
from ddnet.models import build_model, count_parameters


def _inputs(size: int, device: str) -> dict[str, torch.Tensor]:
    return {
        "image": torch.zeros(1, 3, size, size, device=device),
        "depth": torch.zeros(1, 1, size, size, device=device),
    }


def ptflops_macs(model: nn.Module, size: int) -> int:
    """MACs of one forward by ptflops (pytorch backend): convolutions and the element-wise layers it knows.

    Runs on the meta device where the model is built there: ptflops only reads shapes.
    """
    from ptflops import get_model_complexity_info

    device = next(model.parameters()).device.type
    # It prints a warning that modules called by keyword have batch size 1, which is what is wanted.
    with contextlib.redirect_stdout(io.StringIO()):
        macs, _ = get_model_complexity_info(
            model.eval(),
            (3, size, size),
            input_constructor=lambda _: _inputs(size, device),
            backend="pytorch",
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
        )
    return int(macs)


def flop_counter_macs(model: nn.Module, size: int) -> int:
    """MACs of the convolutions alone by torch's FlopCounterMode, which counts two FLOPs per MAC."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device.type
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(**_inputs(size, device))
    return int(counter.get_total_flops() // 2)


def measure_complexity(variant: Variant, spec: Complexity, output: str = "sigmoid") -> dict[str, Any]:
    """Parameters and MACs of a variant at the paper's width and input size (depth network not included).

    Returns:
        `params`, `params_m` (10^6), `macs_g` (10^9, ptflops), `flopcounter_macs_g`, `size`, `width`, `tool`.
    """
    with torch.device("meta"):
        model = build_model(variant, spec.width, output)
    params = count_parameters(model)
    return {
        "variant": variant.name,
        "params": params,
        "params_m": params / 1e6,
        "macs_g": ptflops_macs(model, spec.size) / 1e9,
        "flopcounter_macs_g": flop_counter_macs(model, spec.size) / 1e9,
        "size": spec.size,
        "width": spec.width,
        "tool": f"ptflops {version('ptflops')} (pytorch backend)",
    }
