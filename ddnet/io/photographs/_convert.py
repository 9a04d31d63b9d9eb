"""What a photograph's file says, said in a file of another format: colour profile, EXIF and XMP."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

from ddnet.io.photographs import _metadata as meta
from ddnet.io.photographs._encode import directory
from ddnet.io.tiff import EXTRA_SAMPLES

PNG_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"
MOST_SEGMENT, MOST_PROFILE = 65_533, 2**24  # bytes
NOT_EXIF = (meta.XMP_TAG, 33723, 34377, meta.ICC_PROFILE)  # tags of a TIFF that other formats keep elsewhere, or not


@dataclass(frozen=True)
class Told:
    """What all formats can say: EXIF without its first letters, colour profile, XMP; empty where there is none."""

    exif: bytes = b""
    profile: bytes = b""
    xmp: bytes = b""


def told(container: str, carried: Any) -> Told:
    """What the metadata of a photograph of some format says that all can say."""
    if container == "WebP":
        exif, profile, xmp = (carried.get(name) or b"" for name in ("exif", "icc_profile", "xmp"))
        return Told(exif.removeprefix(meta.EXIF), profile, xmp)
    if container == "PNG":
        return Told(meta.exif_of(carried), _png_profile(carried), _after(carried, b"iTXt", PNG_XMP))
    if container == "JPEG":
        parts = sorted(data for marker, data in carried if marker == meta.APP2 and data.startswith(meta.ICC))
        profile = b"".join(part[len(meta.ICC) + 2 :] for part in parts)
        return Told(meta.exif_of(carried), profile, _after(carried, meta.APP1, meta.XMP[0]))
    profile, xmp = (carried.get(number) for number in (meta.ICC_PROFILE, meta.XMP_TAG))
    exif = io.BytesIO()
    if tags := {number: value for number, value in carried.items() if number not in (*NOT_EXIF, EXTRA_SAMPLES)}:
        directory(tags).save(exif)
    return Told(exif.getvalue(), *(value if isinstance(value, bytes) else b"" for value in (profile, xmp)))


def telling(container: str, said: Told) -> Any:
    """The metadata of a photograph of some format that says this."""
    if container == "WebP":
        return {"exif": said.exif, "icc_profile": said.profile, "xmp": said.xmp}
    if container == "PNG":
        profile = b"profile\0\0" + zlib.compress(said.profile) if said.profile else b""
        xmp = PNG_XMP + said.xmp if said.xmp else b""
        return [(kind, data) for kind, data in ((b"iCCP", profile), (b"iTXt", xmp), (b"eXIf", said.exif)) if data]
    if container == "JPEG":
        most = MOST_SEGMENT - len(meta.ICC) - 2
        parts = [said.profile[place : place + most] for place in range(0, len(said.profile), most)]
        segments = [
            (meta.APP1, start + data) for start, data in ((meta.EXIF, said.exif), (meta.XMP[0], said.xmp)) if data
        ]
        if len(parts) < 256:
            segments += [(meta.APP2, meta.ICC + bytes((n, len(parts))) + part) for n, part in enumerate(parts, 1)]
        return [(marker, data) for marker, data in segments if len(data) <= MOST_SEGMENT]
    tags = meta.tiff_carried(io.BytesIO(said.exif)) if said.exif else {}
    return tags | {n: value for n, value in ((meta.ICC_PROFILE, said.profile), (meta.XMP_TAG, said.xmp)) if value}


def _after(carried: Any, kind: int | bytes, start: bytes) -> bytes:
    """What stands after a start in the first segment or chunk of a kind that has it."""
    found: bytes = next((data for one, data in carried if one == kind and data.startswith(start)), b"")
    return found.removeprefix(start)


def _png_profile(carried: list[tuple[bytes, bytes]]) -> bytes:
    packed = next((data for kind, data in carried if kind == b"iCCP"), b"").partition(b"\0")[2][1:]
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(packed, MOST_PROFILE)
    except zlib.error:
        return b""
    return profile if unpack.eof else b""
