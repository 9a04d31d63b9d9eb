"""What changes while a network is trained, and its file, from which an interrupted training goes on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddnet.io.files import atomic_path
from ddnet.training.average import WeightAverage
from ddnet.training.checkpoint import load_state, save_state, whole_state

HISTORY = ("step", "epoch", "lr", "loss", "loss_l1", "loss_perceptual", "val_psnr", "val_l1", "seconds")

Weights = dict[str, torch.Tensor]


@dataclass
class Progress:
    """What changes while training, apart from weights and optimiser; saved with them.

    Attributes:
        sums: of (loss, L1 term, perceptual term) over the `since` steps after the last validation.
    """

    step: int = 0
    best_psnr: float = float("-inf")
    best_step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    since: int = 0


def save_progress(
    path: Path,
    stamp: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    progress: Progress,
    best: Weights,
) -> None:
    """Write the whole state of a training; `stamp` is the digest of what it was configured with."""
    state: dict[str, Any] = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict() if average else None,
        "progress": vars(progress),
        "best": best,
        "rng": torch.get_rng_state(),
    }
    save_state(path, stamp, state)


def resume(
    path: Path, stamp: str, network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> tuple[Progress, Weights]:
    """Load a state of the same stamp into network, optimiser and average; a new beginning where there is none.

    Raises:
        DDNetError: it has the stamp, and is damaged otherwise.
    """
    state = load_state(path, stamp)
    if state is None:
        return Progress(), {}
    with whole_state(path):
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average:
            average.load_state_dict(state["average"])
        torch.set_rng_state(state["rng"])
        return Progress(**state["progress"]), dict(state["best"])


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the curves as CSV, one row per validation."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
