"""The one exception that users are meant to read, and what may reach their terminal."""

from __future__ import annotations

LONGEST = 1500  # characters; a message may quote what a file says


class DDNetError(ValueError):
    """Bad input, said in one line: what, where, what is allowed, how to fix it.

    What it quotes may come from a damaged or hostile file, or be a file's name: see `printable`.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]}…")


def printable(text: str) -> str:
    """Text in one line, with escapes for what would steer a terminal or turn letters around.

    Those are line breaks, control characters, Unicode's directions, and bytes of a name that are no UTF-8 (`\\xe4`).
    """
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else repr(char)[1:-1]
