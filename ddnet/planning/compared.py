"""The compared systems, looked up by name when they are asked for.

This package does not depend on them: nothing here imports them beforehand, and without them all else works.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ddnet.errors import DDNetError

PACKAGE = "baselines"


def compared_systems(module: str = "") -> Any:
    """The package of the compared systems, or one of its modules.

    Raises:
        DDNetError: they are not installed.
    """
    try:
        return import_module(f"{PACKAGE}.{module}" if module else PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        raise DDNetError(
            f"the compared systems (package '{PACKAGE}') are not installed; install this suite from its repository"
        ) from None
