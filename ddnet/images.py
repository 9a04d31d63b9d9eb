"""Image files at their own bit depth (no torch here: the report reads pictures too).

DPDD is 16-bit PNG, and Pillow, imageio and scikit-image hand back 8 bits of it; OpenCV keeps all sixteen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet import MOST_PIXELS
from ddnet.errors import DDNetError
from ddnet.files import atomic_path

FloatArray = NDArray[np.float32]
RawArray = NDArray[Any]  # uint8 or uint16


def _read_raw(path: str | Path) -> RawArray:
    import cv2

    if not Path(path).is_file():
        raise DDNetError(f"{path}: no such image file; give the path of a picture")
    try:
        # Not by its name: of one that is no UTF-8 OpenCV dies, and others it prints as they are.
        raw = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # of more pixels than it may read
        raw = None
    if raw is None:
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise DDNetError(
            f"{path}: not a readable image (truncated, not PNG/JPEG/TIFF, or of more than {most}); "
            "fetch or export it again"
        )
    if raw.dtype not in (np.uint8, np.uint16):
        raise DDNetError(f"{path}: pixels are {raw.dtype}; allowed are uint8 and uint16")
    if raw.ndim == 3 and raw.shape[2] not in (3, 4):
        raise DDNetError(f"{path}: has {raw.shape[2]} channels; allowed are grey, RGB and RGB with alpha")
    return raw


def read_raw_rgb(path: str | Path) -> RawArray:
    """Read an image as (H, W, 3) RGB in its own integer type (uint8 or uint16); grey is repeated, alpha dropped."""
    raw = _read_raw(path)
    if raw.ndim == 2:
        return np.repeat(raw[..., None], 3, axis=2)
    return np.ascontiguousarray(raw[..., 2::-1])


def bit_depth(raw: RawArray) -> int:
    """Bits per channel of an integer image: 8 or 16."""
    return raw.dtype.itemsize * 8


def to_float(raw: RawArray) -> FloatArray:
    """Integer image to float32 in [0, 1] by its own type's maximum."""
    return raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)


def quantise(image: FloatArray, bits: int = 16) -> RawArray:
    """Float image, clipped to [0, 1], rounded to `bits` (8 or 16) bits."""
    if bits not in (8, 16):
        raise DDNetError(f"bits is {bits}; allowed are 8 and 16")
    scale = 2**bits - 1
    return np.rint(np.clip(image, 0.0, 1.0).astype(np.float64) * scale).astype(np.uint8 if bits == 8 else np.uint16)


def read_image(path: str | Path) -> FloatArray:
    """Read an image as (H, W, 3) RGB float32 in [0, 1], at its own bit depth."""
    return to_float(read_raw_rgb(path))


def _write_png(path: str | Path, raw: RawArray) -> None:
    import cv2

    try:
        done, content = cv2.imencode(Path(path).suffix, raw)
    except cv2.error:
        done = False
    if not done:
        raise DDNetError(f"{path}: could not be written as an image; use the ending .png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())  # not by OpenCV, which would not say why a disk refuses


def write_image(path: str | Path, image: FloatArray, bits: int = 16) -> None:
    """Write an (H, W, 3) RGB image in [0, 1] as PNG with 8 or 16 bits per channel."""
    _write_png(path, np.ascontiguousarray(quantise(image, bits)[..., ::-1]))


def read_depth16(path: str | Path) -> FloatArray:
    """Read a stored depth map: (H, W) float32 normalised inverse depth in [0, 1]."""
    raw = _read_raw(path)
    if raw.ndim != 2:
        raise DDNetError(f"{path}: a depth map has one channel, this file has {raw.shape[2]}; give a grey picture")
    return to_float(raw)


def write_depth16(path: str | Path, depth: FloatArray) -> None:
    """Write an (H, W) depth map in [0, 1] as 16-bit greyscale PNG: a cache that any viewer opens."""
    _write_png(path, quantise(depth, 16))
