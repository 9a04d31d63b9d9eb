"""Programs of the distribution that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Path of a program; without it the test is skipped, or fails where DDNET_REQUIRE_PROGRAMS is 1."""
    path = shutil.which(name)
    if path:
        return path
    reason = f"{name} is not installed; tests/system-packages.txt names the distribution's packages"
    if os.environ.get("DDNET_REQUIRE_PROGRAMS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
