"""Pixels to the bytes of a file: (H, W), or (H, W, C) with C of 2 (grey and alpha), 3 or 4; 8 or 16 bits."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ddnet.io.images import RawArray
from ddnet.io.photographs._metadata import png_file
from ddnet.io.tiff import BITS, EXTRA_SAMPLES


def saved(pixels: RawArray, form: str, **options: Any) -> bytes:
    """8 bits as Pillow writes them in a format."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def encode_png(pixels: RawArray) -> bytes:
    """A PNG of 8 or 16 bits, nothing but pixels."""
    if pixels.dtype == np.uint8:
        return saved(pixels, "PNG")
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        return _encode_grey_alpha(pixels)
    import cv2

    stored = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return bytes(cv2.imencode(".png", np.ascontiguousarray(stored))[1].tobytes())


def _encode_grey_alpha(pixels: RawArray) -> bytes:
    """A PNG of grey and alpha with 16 bits, which no library at hand writes: rows as differences to the last."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    body = np.hstack([np.full((height, 1), 2, np.uint8), rows]).tobytes()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((16, 4, 0, 0, 0))
    return png_file([(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")])


def encode_tiff(pixels: RawArray, carried: dict[int, Any]) -> bytes:
    """A TIFF in one strip, deflated after differences along the rows; Pillow writes what stands before the pixels."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, channels = planes.shape
    bits = pixels.dtype.itemsize * 8
    along = np.diff(planes, axis=1, prepend=np.zeros((height, 1, channels), planes.dtype))
    body = zlib.compress(along.astype(along.dtype.newbyteorder("<")).tobytes())
    tags: dict[int, Any] = {
        256: width, 257: height, BITS: (bits,) * channels, 259: 8, 262: 2 if channels > 2 else 1, 273: 0,
        277: channels, 278: height, 279: len(body), 284: 1, 317: 2,
    }  # fmt: skip
    if channels in (2, 4):
        tags[EXTRA_SAMPLES] = 2
    stream = io.BytesIO()
    tagged = directory({number: value for number, value in carried.items() if number not in tags} | tags)
    if EXTRA_SAMPLES in carried and channels in (2, 4):
        tagged[EXTRA_SAMPLES] = carried[EXTRA_SAMPLES]
    tagged.save(stream)
    return stream.getvalue() + body


def directory(tags: dict[int, Any]) -> Any:
    """Tags of a TIFF, without those that cannot be written: a damaged one is nothing to lose a picture over."""
    kept = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        alone = TiffImagePlugin.ImageFileDirectory_v2()
        try:
            alone[number] = value
            alone.tobytes()
        except Exception:  # of any type
            continue
        kept[number] = value
    return kept
