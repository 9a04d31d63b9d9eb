"""The compared systems: one file each, whose class has `restore(image, depth)`."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from ddnet.config import Baseline
from ddnet.errors import DDNetError
from ddnet.registry import class_name


def build(baseline: Baseline) -> Any:
    """The system that a line of the baselines file describes.

    Raises:
        DDNetError: it does not take such options.
    """
    kind = getattr(import_module(f"baselines.{baseline.system}"), class_name(baseline.system))
    try:
        inspect.signature(kind).bind(**baseline.options)
    except TypeError as error:
        takes = ", ".join(inspect.signature(kind).parameters) or "no options"
        raise DDNetError(f"baseline '{baseline.name}': {error}; {baseline.system} takes {takes}") from None
    return kind(**baseline.options)
