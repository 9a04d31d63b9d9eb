"""Programs from the distribution that some tests drive; `make programs` installs them."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of a program; the test is skipped where it is not installed, or fails with DDNET_REQUIRE_PROGRAMS=1."""
    path = shutil.which(name)
    if path is None:
        missing = f"{name} is not installed; `make programs` installs it"
        if os.environ.get("DDNET_REQUIRE_PROGRAMS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return path
