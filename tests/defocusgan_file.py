"""A file like DefocusGAN's published weights, with random values: for tests that fetch and convert it."""

from __future__ import annotations

from pathlib import Path

import torch

from baselines.defocusgan.baseline import published_name
from baselines.defocusgan.network import Network


def write_defocusgan(path: Path) -> None:
    """Write `path` as torch.save writes a checkpoint: a dictionary with `state_dict`."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {published_name(name): value for name, value in Network().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 90}, path)
