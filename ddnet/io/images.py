"""Image files at their own bit depth (no torch here: the report reads pictures too).

DPDD is 16-bit PNG, and Pillow, imageio and scikit-image hand back 8 bits of it; OpenCV keeps all sixteen. It heeds all
that a PNG or JPEG says of its samples but not their orientation; of a TIFF it ignores more, so tifffile reads those.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.limits import MOST_PIXELS
from ddnet.io.tiff import DAMAGED, MAGIC, ORIENTATION, TURNS, read_tiff, tiff_orientation

FloatArray = NDArray[np.float32]
RawArray = NDArray[Any]  # uint8 or uint16

PNG, JPEG, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"


def _read_raw(path: str | Path) -> RawArray:
    """Upright: (H, W), (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGB and alpha."""
    import cv2

    path = Path(path)
    orientation = stored_orientation(path)
    with path.open("rb") as stream:
        start = stream.read(16)
        if start.startswith(MAGIC):
            return read_tiff(stream, str(path)).pixels
    try:
        # Not by its name: of one that is no UTF-8 OpenCV dies, and others it prints as they are.
        content = np.fromfile(path, np.uint8)
        raw = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        others = raw is not None and not start.startswith((PNG, JPEG, BMP))
        several = others and len(cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)[1]) > 1
    except cv2.error:  # of more pixels than it may read
        raw = None
    if raw is None:
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise DDNetError(
            f"{path}: not a readable image (truncated, not PNG/JPEG/TIFF, or of more than {most}); {DAMAGED}"
        )
    if several:
        raise DDNetError(f"{path}: an animation; save the picture that is meant by itself")
    if raw.dtype not in (np.uint8, np.uint16):
        raise DDNetError(f"{path}: pixels are {raw.dtype}; allowed are uint8 and uint16")
    if raw.ndim == 3 and raw.shape[2] not in (3, 4):
        raise DDNetError(f"{path}: has {raw.shape[2]} channels; allowed are grey, RGB and RGB with alpha")
    return TURNS[orientation](raw if raw.ndim == 2 else raw[..., [2, 1, 0, 3][: raw.shape[2]]])


def stored_orientation(path: Path) -> int:
    """EXIF's orientation, 1 to 8, of a PNG, JPEG or TIFF: how what is stored must be turned to be upright, by `TURNS`.

    Raises:
        DDNetError: no such file, or nobody may read it; an animated PNG, several pictures in one TIFF, or CMYK.
    """
    if not path.is_file():
        raise DDNetError(f"{path}: no such image file; give the path of a picture")
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
            if start.startswith(MAGIC):
                return tiff_orientation(stream, str(path))
            if start == PNG:
                return exif_orientation(_png_exif(stream, path))
            return _jpeg_orientation(stream, path) if start.startswith(JPEG) else 1
    except OSError as error:
        raise DDNetError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from None


def exif_orientation(exif: bytes) -> int:
    """EXIF's orientation; 1 where it says none, or nothing that can be read."""
    from PIL import Image

    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(ORIENTATION, 1)
    except Exception:  # of any type; the pixels are whole
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def _png_exif(stream: IO[bytes], path: Path) -> bytes:
    """The EXIF of a PNG, before its pixels or behind them; empty where there is none."""
    while len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"acTL":
            raise DDNetError(f"{path}: an animation; save the picture that is meant by itself")
        if kind == b"eXIf":
            return stream.read(length)
        stream.seek(length + 4, 1)
    return b""


def _jpeg_orientation(stream: IO[bytes], path: Path) -> int:
    from PIL.JpegImagePlugin import JpegImageFile  # `Image.open` would refuse a large one as a decompression bomb

    stream.seek(0)
    try:
        with JpegImageFile(stream) as image:
            mode, exif = image.mode, image.info.get("exif", b"")
    except Exception:  # not Pillow's to say what is wrong with a file
        return 1
    if mode == "CMYK":
        how = "convert it to RGB, with its colour profile"
        raise DDNetError(f"{path}: its pixels are CMYK; allowed are grey and RGB of 8 or 16 bits; {how}")
    return exif_orientation(exif)


def read_raw_rgb(path: str | Path) -> RawArray:
    """Read an image, upright, as (H, W, 3) RGB in its own integer type (uint8 or uint16).

    Grey is repeated, alpha and any other extra sample dropped.
    """
    raw = _read_raw(path)
    if raw.ndim == 2:
        raw = raw[..., None]
    return np.ascontiguousarray(raw[..., :3] if raw.shape[2] > 2 else np.repeat(raw[..., :1], 3, axis=2))


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
    """Read a stored depth map, upright: (H, W) float32 normalised inverse depth in [0, 1].

    It may be written as RGB, as many estimators do, where that is grey.

    Raises:
        DDNetError: no readable picture; its channels differ, or it is transparent somewhere.
    """
    raw = _read_raw(path)
    if raw.ndim == 2:
        return to_float(raw)
    channels, depth = raw.shape[2], raw[..., 0]
    if channels % 2 == 0 and (raw[..., -1] != np.iinfo(raw.dtype).max).any():
        raise DDNetError(
            f"{path}: is transparent in places, where it tells no depth; give a grey picture without alpha"
        )
    if channels > 2 and ((raw[..., 1] != depth).any() or (raw[..., 2] != depth).any()):
        raise DDNetError(
            f"{path}: a depth map has one channel, this file has {channels} that differ; give a grey picture"
        )
    return to_float(depth)


def write_depth16(path: str | Path, depth: FloatArray) -> None:
    """Write an (H, W) depth map in [0, 1] as 16-bit greyscale PNG: a cache that any viewer opens."""
    _write_png(path, quantise(depth, 16))
