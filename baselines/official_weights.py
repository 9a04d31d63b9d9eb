"""The authors' weights of the compared systems: whether a file is what a system's row stands for, by converting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from baselines import system_class
from baselines.common.network_system import NetworkSystem
from baselines.common.npz_weights import opened
from ddnet.errors import DDNetError


def convert_official(system: str, folder: Path, out: Path) -> int:
    """Make our file of the authors' one in `folder` and say how many parameters the published network has.

    Raises:
        DDNetError: no such file, one that does not fit, or one of another form than the published default, such as
            another number of filters, which would not be the row that the tables call by the system's name.
    """
    kind = system_class(system)
    kind.convert(folder, out)
    if issubclass(kind, NetworkSystem):
        _require_default_form(kind, folder, out)
    return int(kind.parameters())


def _require_default_form(kind: type[NetworkSystem], folder: Path, out: Path) -> None:
    with torch.device("meta"):
        network: Any = kind.network(kind.width)
    expected = {"width": kind.width, **{name: int(getattr(network, name)) for name in kind.sizes}}
    with opened(out, kind.title) as arrays:
        found = {name: int(arrays[name]) for name in expected}
    if different := [name for name in expected if found[name] != expected[name]]:
        said = ", ".join(f"{name.replace('_', ' ')} {found[name]} instead of {expected[name]}" for name in different)
        raise DDNetError(f"{folder}: weights of {kind.title}, but with {said}; import the file that its row stands for")
