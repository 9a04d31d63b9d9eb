"""The one training loop: steps, validations, the weights to keep, and a state from which an interrupted one goes on.

What differs between trainings is a `Task`: our variants (`ddnet.training.train`), the depth network
(`ddnet.depth.fit_network`) and the baselines that learn (`baselines.common.network_training`,
`baselines.dmenet.training`).
"""

from __future__ import annotations

import csv
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.torch_files import load_torch, save_torch
from ddnet.runtime.malloc import out_of_memory
from ddnet.runtime.signals import Stopped, held_back
from ddnet.training.average import WeightAverage

log = logging.getLogger(__name__)

CURVES = "history.csv"

Weights = dict[str, Tensor]


@dataclass
class LoopState:
    """What changes while training, apart from what the task itself saves.

    Attributes:
        step: steps done.
        best_score, best_step: of the best validation so far.
        seconds: spent, those before an interruption included.
        history: one row per validation.
        sums: of a step's terms over the `since` steps after the last validation.
        last: the terms of the last step.
    """

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    history: list[list[Any]] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    since: int = 0
    last: list[float] = field(default_factory=list)

    @property
    def means(self) -> list[float]:
        """Of a step's terms since the last validation."""
        return [value / self.since for value in self.sums]


class Task(ABC):
    """One training, as `run` sees it.

    Attributes:
        title: how messages call it.
        steps: how many there are.
        every: a validation follows so many steps, and the last one.
        lr: the highest learning rate, for messages.
        optimizer: its rate is set before each step.
        network: whose weights are kept.
        average: averaged weights, validated and kept in place of the last step's; None: none.
        columns: of the history.
        keeps_best: whether the weights of the best validation are kept, else those of the last.
        leads: whether this process, of several that train together, writes files.
    """

    title: str
    steps: int
    every: int
    lr: float
    optimizer: torch.optim.Optimizer
    network: nn.Module
    average: WeightAverage | None = None
    columns: ClassVar[tuple[str, ...]]
    keeps_best: ClassVar[bool] = True
    leads: bool = True

    @abstractmethod
    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""

    @abstractmethod
    def train_step(self, step: int) -> Sequence[float]:
        """One step of the optimiser; its loss, and then the terms that are worth a mean."""

    @abstractmethod
    def validate(self, step: int, asked: Callable[[], int]) -> Sequence[Any] | None:
        """A score, the more the better, and other values; None where it was `asked` to leave in the middle."""

    @abstractmethod
    def row(self, state: LoopState, found: Sequence[Any]) -> list[Any]:
        """Values of `columns` after a validation that has `found` something."""

    def describe(self, state: LoopState, found: Sequence[Any]) -> str:
        """The same in a few words, for the log."""
        return f"loss {state.means[0]:.4f}  val {found[0]:.2f} dB (best {state.best_score:.2f})"

    def check(self, state: LoopState) -> None:
        """Refuse a network that has diverged; called after each step.

        Raises:
            DDNetError: the loss is no number.
        """
        if not all(map(math.isfinite, state.last)):
            raise DDNetError(
                f"{self.title}: the loss is {state.last[0]} at step {state.step}; lower lr, which is {self.lr:g}"
            )

    def state(self) -> dict[str, Any]:
        """What a resumed training has to read back."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def precision(self) -> AbstractContextManager[Any]:
        """In which validation runs."""
        return nullcontext()

    def agreed(self, asked: int) -> int:
        """The signal that any of several processes was asked to leave with."""
        return asked

    def summed(self, sums: Sequence[float]) -> list[float]:
        """Sums over this process's part of the batches to those of the whole."""
        return list(sums)


def halving_rate(lr: float, warmup: int, milestones: Sequence[float], step: int, steps: int) -> float:
    """Linear warm-up over `warmup` steps, then halved at each milestone (a fraction of `steps`)."""
    rate = lr * 0.5 ** sum(step >= round(milestone * steps) for milestone in milestones)
    return rate * min(1.0, (step + 1) / (warmup + 1))


def run(task: Task, state_file: Path | None = None, stamp: str = "") -> tuple[LoopState, Weights]:
    """Train to the end, from where a state of the same stamp left off; asked to leave, save the step at hand.

    Beside the state lie the curves so far (`history.csv`), for whoever watches.

    Args:
        state_file: None: nothing is saved, and an interrupted training begins anew.
        stamp: digest of all that the state must have been made with.

    Returns:
        The loop's last state, and the weights to keep.

    Raises:
        DDNetError: the network has diverged, or its state is damaged.
        Stopped: this process was asked to leave.
    """
    state, best = resume(task, state_file, stamp) if state_file else (LoopState(), Weights())
    if state.step:
        log.info("%s: resuming at step %d", task.title, state.step)
    began, spent, at_start = time.perf_counter(), state.seconds, state.step

    def save() -> None:
        state.seconds = spent + time.perf_counter() - began
        if state_file and task.leads:
            save_progress(task, state_file, stamp, state, best)
            write_history(state_file.with_name(CURVES), task.columns, state.history)

    def leave(signal: int) -> None:
        state.sums = task.summed(state.sums)
        save()
        if state_file:
            log.info("%s: state saved at step %d of %d", task.title, state.step, task.steps)
        raise Stopped(signal)

    with held_back() as asked:
        while state.step < task.steps or state.since:
            if not state.since or (state.step % task.every and state.step < task.steps):
                for group in task.optimizer.param_groups:
                    group["lr"] = task.rate(state.step)
                state.last = [float(term) for term in task.train_step(state.step)]
                sums = state.sums if state.since else [0.0] * len(state.last)
                state.sums = [total + term for total, term in zip(sums, state.last, strict=True)]
                state.since += 1
                state.step += 1
                # Before validation, whose best weights outlive a restart: a diverged network is never among them.
                task.check(state)
                if stop := task.agreed(asked()):
                    leave(stop)
                continue
            with task.precision(), task.average.in_use() if task.average else nullcontext():
                found = task.validate(state.step, asked)
                weights = {name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}
            if found is None:
                leave(asked())
                continue
            if math.isnan(found[0]):
                raise DDNetError(
                    f"{task.title}: the network gives no numbers at step {state.step}; lower lr, which is {task.lr:g}"
                )
            state.sums = task.summed(state.sums)
            state.seconds = spent + time.perf_counter() - began
            state.history.append(task.row(state, found))
            if found[0] > state.best_score or not task.keeps_best:
                state.best_score, state.best_step, best = float(found[0]), state.step, weights
            left = (time.perf_counter() - began) / max(1, state.step - at_start) * (task.steps - state.step)
            log.info(
                "%s: step %d/%d  %s  ETA %d:%02d",
                task.title, state.step, task.steps, task.describe(state, found), *divmod(round(left), 60),
            )  # fmt: skip
            state.sums, state.since = [], 0
            save()
    return state, best


def save_progress(task: Task, path: Path, stamp: str, state: LoopState, best: Weights) -> None:
    """Write all that an interrupted training needs, random states included; `stamp` is as in `run`."""
    average = task.average.state_dict() if task.average else None
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random = {"cpu": torch.get_rng_state(), "cuda": cuda}
    content = {"task": task.state(), "average": average, "loop": vars(state), "best": best, "random": random}
    save_torch(path, {"stamp": stamp, **content})


def resume(task: Task, path: Path, stamp: str) -> tuple[LoopState, Weights]:
    """Load a state of the same stamp into the task; a new beginning where there is none.

    Raises:
        DDNetError: it has the stamp, and is damaged otherwise.
    """
    content = load_state(path, stamp)
    if content is None:
        return LoopState(), {}
    with whole_state(path):
        task.load_state(content["task"])
        if task.average:
            task.average.load_state_dict(content["average"])
        torch.set_rng_state(content["random"]["cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(content["random"]["cuda"])
        return LoopState(**content["loop"]), dict(content["best"])


@contextmanager
def within_memory(title: str, remedies: str) -> Iterator[None]:
    """Say in one line that the device's memory does not hold a training; `remedies` are what may be changed.

    Raises:
        DDNetError: it does not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise DDNetError(
            f"{title}: this device's memory does not hold this training; use one with more, "
            f"DDNET_TRAINING_SET=disk, {remedies}"
        ) from None


@contextmanager
def whole_state(path: Path) -> Iterator[None]:
    """Say in one line that a resume state of the right stamp does not fit what it is loaded into."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise DDNetError(
            f"{path}: a damaged resume state ({type(error).__name__}); move it aside, and the training begins anew"
        ) from None


def load_state(path: Path, stamp: str) -> dict[str, Any] | None:
    """Resume state, or None where there is none, it is damaged, or it belongs to another configuration."""
    if not path.is_file():
        return None
    try:
        state = load_torch(path, "move it aside")
    except DDNetError:
        return None
    return state if isinstance(state, dict) and state.get("stamp") == stamp else None


def write_history(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write the curves as CSV, one row per validation."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
