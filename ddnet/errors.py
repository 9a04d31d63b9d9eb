"""The one exception that users are meant to read."""

from __future__ import annotations

LONGEST = 1500  # characters; a message may quote what a file says


class DDNetError(ValueError):
    """Bad input, said in one line: what, where, what is allowed, how to fix it.

    What it quotes may come from a damaged or hostile file: line breaks and control characters are written as escapes.
    """

    def __init__(self, message: str) -> None:
        line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]}…")
