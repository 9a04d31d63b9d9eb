"""The one exception that users are meant to read."""

from __future__ import annotations


class DDNetError(ValueError):
    """Bad input, said in one line: what, where, what is allowed, how to fix it."""
