"""A mark in the files that are written here, by which a later run tells them from a user's own of the same name.

It is a JPEG's comment, a chunk of its own in PNG and WebP, and behind the pixels in a TIFF: nothing else changes.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

MARK = b"Written by ddnet deblur"
PNG, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 33  # bytes, with the chunk that comes first


def made_here(path: Path) -> bool:
    """Whether a file carries the mark; not one that cannot be read."""
    try:
        return MARK in path.read_bytes()
    except OSError:
        return False


def marked(content: bytes) -> bytes:
    """A PNG, JPEG, WebP or TIFF with the mark in it."""
    if MARK in content:  # carried over from what was restored here before
        return content
    if content.startswith(PNG):
        chunk = b"ddNt" + MARK  # by its letters: nobody needs it, private, may be copied
        packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return content[:PNG_HEADER] + packed + content[PNG_HEADER:]
    if content.startswith(b"\xff\xd8"):
        place = 2
        while content[place] == 0xFF and 0xE0 <= content[place + 1] <= 0xEF:  # comments come behind these
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        return content[:place] + b"\xff\xfe" + struct.pack(">H", 2 + len(MARK)) + MARK + content[place:]
    if content.startswith(b"RIFF"):
        body = content[8:] + b"ddnt" + struct.pack("<I", len(MARK)) + MARK + b"\0" * (len(MARK) % 2)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    return content + MARK  # behind a TIFF's pixels, where nothing points to
