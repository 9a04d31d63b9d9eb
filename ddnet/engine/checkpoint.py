"""Saving and loading of trained networks and of the state that an interrupted training resumes from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ddnet.config import Variant
from ddnet.errors import DDNetError
from ddnet.models import build_model
from ddnet.torch_files import load_torch, save_torch


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
    if not {"state_dict", "variant", "info"} <= set(content):
        raise DDNetError(f"{path}: not a model written by this suite (keys: {', '.join(map(str, content))})")
    variant = Variant.model_validate(content["variant"])
    model = build_model(variant, content["info"]["width"], content["info"]["output"])
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise DDNetError(f"{path}: weights do not fit variant {variant.name}: {' '.join(str(error).split())}") from None
    return Run(model.eval(), variant, content["info"])


def _load(path: Path) -> dict[str, Any]:
    content = load_torch(path, "delete it, if it is there, and run again")
    if not isinstance(content, dict):
        raise DDNetError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def save_state(path: Path, stamp: str, state: dict[str, Any]) -> None:
    """Write the resume state, stamped with the digest of the configuration it belongs to."""
    save_torch(path, {"stamp": stamp, **state})


def discard_state(run: Path) -> None:
    """Remove a finished training's resume state, once whoever asked for it has recorded that it is finished.

    Before, a process killed between the last step and that record would lose the whole training.
    """
    shutil.rmtree(run / "state", ignore_errors=True)


def load_state(path: Path, stamp: str) -> dict[str, Any] | None:
    """Resume state, or None where there is none, it is damaged, or it belongs to another configuration."""
    if not path.is_file():
        return None
    try:
        state = _load(path)
    except DDNetError:
        return None
    return state if state.get("stamp") == stamp else None
