"""Saving and loading of trained networks and of the state that an interrupted training resumes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddnet.config import Variant
from ddnet.errors import DDNetError
from ddnet.files import atomic_path
from ddnet.models import build_model


@dataclass(frozen=True)
class Run:
    """A trained network with everything needed to use it: no second configuration file."""

    model: nn.Module
    variant: Variant
    info: dict[str, Any]


def save_run(path: Path, model: nn.Module, variant: Variant, info: dict[str, Any]) -> None:
    """Write `model.pt`: state dict, variant, and `info`, which must hold `width` and `output`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save({"state_dict": state, "variant": variant.model_dump(mode="json"), "info": info}, temporary)


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
    if not path.is_file():
        raise DDNetError(f"{path}: no such model file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged files; all mean the same to the reader
        raise DDNetError(f"{path}: unreadable ({type(error).__name__}); delete it and run again") from None
    if not isinstance(content, dict):
        raise DDNetError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def save_state(path: Path, stamp: str, state: dict[str, Any]) -> None:
    """Write the resume state, stamped with the digest of the configuration it belongs to."""
    with atomic_path(path) as temporary:
        torch.save({"stamp": stamp, **state}, temporary)


def load_state(path: Path, stamp: str) -> dict[str, Any] | None:
    """Resume state, or None where there is none, it is damaged, or it belongs to another configuration."""
    if not path.is_file():
        return None
    try:
        state = _load(path)
    except DDNetError:
        return None
    return state if state.get("stamp") == stamp else None
