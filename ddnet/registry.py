"""name -> class, by file name: `ddnet/models/fusion/gru.py` holds class `Gru`, known as `gru`.

Nothing is imported before it is asked for, so one broken file cannot take the others along. A fusion may also
live outside this package, as an entry point of the group `ddnet.fusion`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError

PACKAGES = {"fusion": "ddnet.models.fusion", "depth": "ddnet.depth.sources", "metric": "ddnet.evaluation.metrics"}


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The tail of an error message: the nearest allowed name, if any, and all of them."""
    choices = sorted(allowed)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{hint} (allowed: {', '.join(choices)})"


def class_name(name: str) -> str:
    """The class that a registry name stands for: `lpips_alex` -> `LpipsAlex`."""
    return "".join(word.title() for word in name.split("_"))


def _package(kind: str) -> str:
    try:
        return PACKAGES[kind]
    except KeyError:
        raise DDNetError(f"unknown registry '{kind}'{did_you_mean(kind, PACKAGES)}") from None


def _external(kind: str) -> dict[str, Any]:
    """Entry points of other packages; what a file here is named after is that file's."""
    inside = _inside(kind)
    return {point.name: point for point in entry_points(group=f"ddnet.{kind}") if point.name not in inside}


def _inside(kind: str) -> set[str]:
    folder = Path(__file__).parent.joinpath(*_package(kind).split(".")[1:])
    return {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}


def names(kind: str) -> list[str]:
    """All names of one kind (`fusion`, `depth` or `metric`), sorted; files that begin with `_` are helpers."""
    return sorted(_inside(kind) | set(_external(kind)))


def module_name(kind: str, name: str) -> str:
    """Dotted module that holds `name`, without importing it.

    Raises:
        DDNetError: no such name; says the nearest one.
    """
    if name not in names(kind):
        raise DDNetError(f"unknown {kind} '{name}'{did_you_mean(name, names(kind))}")
    external = _external(kind).get(name)
    return external.module if external is not None else f"{_package(kind)}.{name}"


def resolve(kind: str, name: str) -> Any:
    """Import and return the class registered as `name`.

    Raises:
        DDNetError: no such name, or the file does not hold the class that its name promises.
    """
    module = importlib.import_module(module_name(kind, name))
    external = _external(kind).get(name)
    attribute = external.attr if external is not None else class_name(name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise DDNetError(f"{module.__name__}: no class {attribute}; name it so, or rename the file") from None
