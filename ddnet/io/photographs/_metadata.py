"""What a photograph's file says beside its pixels, carried over from one file to another of the same format.

Colour profile, EXIF, XMP and texts are neither interpreted nor rewritten: whole segments of a JPEG and whole chunks of
a PNG are copied, so nothing can grow, and what only the camera's maker understands stays in order. What describes the
pixels' coding, or other pictures in the same file, is left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ddnet.errors import DDNetError
from ddnet.io.tiff import DAMAGED

PNG = b"\x89PNG\r\n\x1a\n"
# Colour, size of a pixel, EXIF and texts; of what an encoder may write by itself, these replace it.
PNG_CARRIED = frozenset(
    (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
)
EXIF, ICC, PHOTOSHOP, JFIF = b"Exif\0\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0"
# Names of XMP, which look like addresses; nobody calls there.
XMP = tuple(b"http:" + name for name in (b"//ns.adobe.com/xap/1.0/\0", b"//ns.adobe.com/xmp/extension/\0"))
# XMP that lists further pictures or films which a phone appends to the file, where they are not any more.
APPENDED = (b"Container:Directory", b"GCamera:MicroVideo", b"hdrgm:Version")
APP0, APP1, APP2, APP13, COMMENT, SCAN = 0xE0, 0xE1, 0xE2, 0xED, 0xFE, 0xDA
XMP_TAG, ICC_PROFILE, EXIF_IFD, GPS_IFD, INTEROPERABILITY = 700, 34675, 34665, 34853, 40965
# Description, camera, resolution, software, date, artist, XMP, copyright, IPTC, Photoshop's.
TIFF_CARRIED = (270, 271, 272, 282, 283, 296, 305, 306, 315, XMP_TAG, 33432, 33723, 34377, ICC_PROFILE)


def png_chunks(content: bytes, where: str) -> list[tuple[bytes, bytes]]:
    """Kind and data of every chunk of a PNG, to its end.

    Raises:
        DDNetError: it is cut off, or a checksum does not hold.
    """
    found, place = [], len(PNG)
    while True:
        head = content[place : place + 8]
        if len(head) < 8:
            raise DDNetError(f"{where}: not a readable image (a PNG that is cut off); {DAMAGED}")
        length, kind = struct.unpack(">I4s", head)
        data, check = content[place + 8 : place + 8 + length], content[place + 8 + length : place + 12 + length]
        if len(check) < 4:
            raise DDNetError(f"{where}: not a readable image (a PNG that is cut off); {DAMAGED}")
        if zlib.crc32(kind + data) != int.from_bytes(check, "big"):
            raise DDNetError(f"{where}: not a readable image (a checksum of this PNG does not hold); {DAMAGED}")
        found.append((kind, data))
        if kind == b"IEND":
            return found
        place += 12 + length


def png_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return PNG + b"".join(parts)


def png_carried(chunks: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those that are to be carried over."""
    return [(kind, data) for kind, data in chunks if kind in PNG_CARRIED]


def png_with(encoded: bytes, carried: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with other chunks carried in."""
    header, *rest = png_chunks(encoded, "the encoded picture")
    return png_file([header, *carried, *((kind, data) for kind, data in rest if kind not in PNG_CARRIED)])


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and data of a JPEG's segments before its picture; ends quietly where the file does."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == SCAN:
            return
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if length < 2 or place + 2 + length > len(content):
            return
        yield marker, content[place + 4 : place + 2 + length]
        place += 2 + length


def _is_carried(marker: int, data: bytes) -> bool:
    if marker == APP1 and data.startswith(XMP):
        return not any(word in data for word in APPENDED)
    starts = {APP1: EXIF, APP2: ICC, APP13: PHOTOSHOP, COMMENT: b""}
    return marker in starts and data.startswith(starts[marker])


def jpeg_carried(content: bytes) -> list[tuple[int, bytes]]:
    """Segments of a JPEG that are to be carried over: pixels per inch, EXIF, XMP, colour profile, IPTC, comments."""
    found = [(marker, data) for marker, data in _segments(content) if _is_carried(marker, data)]
    density = next((d[:12] for marker, d in _segments(content) if marker == APP0 and d.startswith(JFIF)), b"")
    return [(APP0, density + b"\0\0"), *found] if len(density) == 12 else found  # without the small picture in it


def jpeg_with(encoded: bytes, carried: list[tuple[int, bytes]]) -> bytes:
    """A JPEG with other segments carried in, in place of its own first one where that is among them."""
    own = next(_segments(encoded), (0, b""))
    begin = 2 + (4 + len(own[1]) if own[0] == APP0 else 0)
    if not any(marker == APP0 for marker, _ in carried):
        carried = [own, *carried] if own[0] == APP0 else carried
    parts = [bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data for marker, data in carried]
    return encoded[:2] + b"".join(parts) + encoded[begin:]


def exif_of(carried: list[tuple[int, bytes]] | list[tuple[bytes, bytes]]) -> bytes:
    """The EXIF among what a JPEG or a PNG carries; empty where there is none."""
    for kind, data in carried:
        if kind == b"eXIf":
            return data
        if kind == APP1 and data.startswith(EXIF):
            return data[len(EXIF) :]
    return b""


def tiff_carried(stream: IO[bytes]) -> dict[int, Any]:
    """Tags of a TIFF or BigTIFF that are to be carried over, EXIF's and GPS's own as dictionaries."""
    stream.seek(0)
    head = stream.read(8)
    head += stream.read(8) if b"+" in head[:4] else b""

    def tags_at(place: int | None = None) -> dict[int, Any]:
        try:
            tags = ImageFileDirectory_v2(head)
            stream.seek(tags.next if place is None else place)
            tags.load(stream)
        except Exception:  # of any type: a damaged one is nothing to lose a picture over
            return {}
        found = {}
        for number in tags:
            try:
                found[number] = tags[number]
            except Exception:  # of any type, when a value is decoded
                continue
        return found

    tags = tags_at()
    carried = {number: tags[number] for number in TIFF_CARRIED if number in tags}
    for number in (EXIF_IFD, GPS_IFD):
        if isinstance(place := tags.get(number), int) and (inner := tags_at(place)):
            inner.pop(INTEROPERABILITY, None)  # a place in this file
            carried[number] = inner
    return carried


def webp_lossless(content: bytes) -> bool:
    """Whether a WebP's picture is coded without loss."""
    place = 12
    while place + 8 <= len(content):
        kind, length = struct.unpack("<4sI", content[place : place + 8])
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8L")
        place += 8 + length + length % 2
    return False
