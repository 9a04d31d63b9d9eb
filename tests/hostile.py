"""Names that files may have on Linux, and that programs trip over."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

MOST_BYTES = 255
# What is not printed as it is: control characters, Unicode's directions, separators of lines, bytes that are no UTF-8.
STEERING = [
    "two\nlines", "return\rback", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31mred", "bell\x07\b\b", "\x7f",
    "exe\u202egpj", "\u2066isolated", "\u200fright", "para\u2029graph", "line\u2028feed",
    os.fsdecode(b"k\xe4se"), os.fsdecode(b"\xff\xfe\x80"), os.fsdecode("Käse ".encode() + b"\xc3"),
]  # fmt: skip
PLAIN = [
    "Käse", unicodedata.normalize("NFD", "Käse"), "写真" * 20, "photo 📷 👨‍👩‍👧", "عکس", "10.30\u202fAM", "  spaces  ",
    "dots...", "a.b.c", "~draft", "~", "-rf", "--overwrite", "-", "%s%d%(x)s", "100%", "'quoted'", 'say "so"',
    "back\\slash", "$HOME `id` $(id)", "a;b|c&d", "[0-9]*?", "#1", "C:", "s3:", "@file", "=1+1", "CON",
    "nul\u200bwidth", "\\n",
]  # fmt: skip
BRACED = ["{wildcards}", "{0}", "{{", "}"]


def of_bytes(count: int, letter: str = "n") -> str:
    """A name of so many bytes."""
    size = len(letter.encode())
    return letter * (count // size) + "x" * (count % size)


def possible(stems: list[str], folder: Path, suffix: str = "") -> list[str]:
    """Those that the disk takes, which may want UTF-8."""
    found = []
    for stem in stems:
        try:
            (folder / f"{stem}{suffix}").touch()
        except OSError:
            continue
        (folder / f"{stem}{suffix}").unlink()
        found.append(stem)
    return found


def is_quiet(text: str) -> bool:
    """Whether lines hold nothing that steers a terminal."""
    return all(line.isprintable() for line in text.split("\n"))
