"""The compared systems: one file each, whose class has `restore(image, depth)`, or pictures that are finished already.

A class whose `needs` contain `weights` has `train`, which learns them, or `convert`, which reads its authors' file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ddnet.config import Baseline
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.planning.baselines import baseline_module
from ddnet.registry import class_name


def system_class(system: str) -> Any:
    """The class that a system's file holds."""
    return getattr(import_module(baseline_module(system)), class_name(system))


def build(baseline: Baseline, weights: Path | None = None, dataset: str = "") -> Any:
    """The system that a line of the baselines file describes.

    Args:
        weights: what `train` or `convert` of its class wrote, for a system that needs weights.
        dataset: whose images it will see: some options differ between datasets.

    Raises:
        DDNetError: it does not take such options, or needs weights that are not given.
    """
    kind = system_class(baseline.system)
    needed: dict[str, Any] = {}
    if "weights" in getattr(kind, "needs", ()):
        if weights is None:
            raise DDNetError(f"baseline '{baseline.name}': {baseline.system} needs weights; give its weights.npz")
        needed = {"weights": weights}
    options = baseline.options_on(dataset)
    check_arguments(kind, needed | options, f"baseline '{baseline.name}'", baseline.system)
    return kind(**needed, **options)


def train(
    system: str,
    scenes_train: Sequence[Scene],
    scenes_val: Sequence[Scene],
    out: Path,
    options: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    stamp: str = "",
) -> dict[str, Any]:
    """Learn a system's weights and write them to `out`; `options` are arguments of its own `train`.

    Args:
        inputs: what a network is trained from besides: `patches` and `trunks`.
        stamp: of the code and the data, for the resume state of a system that keeps one.

    Returns:
        Its scores, plain values.

    Raises:
        DDNetError: it does not take such options, or cannot learn from these scenes.
    """
    learn = system_class(system).train
    given = {**(inputs or {}), **options}
    if "stamp" in inspect.signature(learn).parameters:
        given["stamp"] = stamp
    check_arguments(learn, {"scenes_train": 0, "scenes_val": 0, "out": 0, **given}, f"systems.{system}", "training")
    scores: dict[str, Any] = learn(scenes_train, scenes_val, out, **given)
    return scores


def check_arguments(function: Any, arguments: Mapping[str, Any], where: str, what: str) -> None:
    """Refuse arguments that a function does not take; `where` and `what` are how a message calls them and it."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters) or "no options"
        raise DDNetError(f"{where}: {error}; {what} takes {takes}") from None
