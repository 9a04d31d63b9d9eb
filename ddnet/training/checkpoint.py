"""Saving and loading of trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from ddnet.config import Model, Variant
from ddnet.errors import DDNetError
from ddnet.io.torch_files import check_state, load_torch, save_torch
from ddnet.models import build_model

FIX = "move it aside, if it is there, and run again"


@dataclass(frozen=True)
class Run:
    """A trained network with everything needed to use it: no second configuration file."""

    model: nn.Module
    variant: Variant
    info: dict[str, Any]


def save_run(path: Path, model: nn.Module, variant: Variant, info: dict[str, Any]) -> None:
    """Write `model.pt`: state dict, variant, and `info`, which must hold `width` and `output`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_torch(path, {"state_dict": state, "variant": variant.model_dump(mode="json"), "info": info})


def load_run(path: Path) -> Run:
    """Rebuild a network from `model.pt`, in evaluation mode on the CPU.

    Raises:
        DDNetError: missing or foreign file, or weights that do not fit the network.
    """
    content = _load(path)
    if not is_run(content):
        keys = ", ".join(map(str, content))[:200]
        raise DDNetError(f"{path}: not a model written by this suite (keys: {keys}); {FIX}")
    try:
        variant = Variant.model_validate(content["variant"])
        model = Model(**{name: content["info"].get(name) for name in ("width", "output")})
    except ValidationError as error:
        raise DDNetError(f"{path}: not a model written by this suite ({_first(error)}); {FIX}") from None
    # Of sizes alone first: what a damaged file says of its width must not take all memory.
    with torch.device("meta"):
        expected = build_model(variant, model.width, model.output).state_dict()
    state = check_state(expected, content["state_dict"], f"{path}, variant {variant.name}", FIX)
    network = build_model(variant, model.width, model.output)
    network.load_state_dict(state)
    return Run(network.eval(), variant, content["info"])


def is_run(content: Any) -> bool:
    """Whether a file's content has the entries of `save_run`."""
    return (
        isinstance(content, dict)
        and {"state_dict", "variant", "info"} <= set(content)
        and isinstance(content["info"], dict)
    )


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:200]


def _load(path: Path) -> dict[str, Any]:
    content = load_torch(path, FIX)
    if not isinstance(content, dict):
        raise DDNetError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content
