"""Depth sources: one file each, found by file name; `build_depth_source` makes what a config names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnet.errors import DDNetError
from ddnet.planning.plan import source_parts
from ddnet.registry import did_you_mean, names, resolve

if TYPE_CHECKING:
    from ddnet.depth.sources._base import DepthSource


def parse_spec(spec: str) -> tuple[str, tuple[float, ...]]:
    """Split `name` or `name(number, ...)`: `noisy(0.2)` -> `("noisy", (0.2,))`.

    Raises:
        DDNetError: not of that form, or no such source; says the nearest one.
    """
    name, arguments = source_parts(spec)
    if name not in names("depth"):
        raise DDNetError(f"unknown depth source '{name}'{did_you_mean(name, names('depth'))}")
    return name, arguments


def build_depth_source(
    spec: str, model_path: str | Path | None = None, size: tuple[int, int] | None = None
) -> DepthSource:
    """Make the depth source that a config names.

    Args:
        spec: `name` or `name(number, ...)`; the numbers are the class's constructor arguments.
        model_path: weights, for sources that need a model; ignored by the others.
        size: (height, width) of the network input, for sources that let it be chosen; default: the weights' own.

    Raises:
        DDNetError: bad name or arguments, or a model is needed and none is given.
    """
    name, arguments = parse_spec(spec)
    cls = resolve("depth", name)
    keywords: dict[str, Any] = {}
    if "model" in cls.needs:
        if model_path is None:
            raise DDNetError(
                f"depth source '{name}' needs weights; give model_path ('ddnet data status' says where they come from)"
            )
        keywords["model_path"] = model_path
        if cls.takes_size:
            keywords["size"] = size
    try:
        inspect.signature(cls).bind(*arguments, **keywords)
    except TypeError as error:
        takes = ", ".join(inspect.signature(cls).parameters) or "nothing"
        raise DDNetError(f"depth source '{spec}': {error}; {name} takes {takes}") from None
    return cls(*arguments, **keywords)
