"""Photographs of one's own: read upright at their own bit depth, and written again in the same format with all that
their files say beside the pixels (no torch here).

Pillow reads and writes 8 bits, OpenCV 16, of which Pillow keeps 8 where there is colour; tifffile reads TIFF.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.images import FloatArray, RawArray, exif_orientation, quantise, to_float
from ddnet.io.limits import MOST_PIXELS
from ddnet.io.photographs import _metadata as meta
from ddnet.io.photographs._convert import telling, told
from ddnet.io.photographs._encode import encode_png, encode_tiff, saved
from ddnet.io.photographs._made import marked
from ddnet.io.tiff import EXTRA_SAMPLES, MAGIC, TURNS, UNSPECIFIED, raw_refused, read_tiff

SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff"), "WebP": (".webp",)}
RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
HEIF = (".avif", ".heic", ".heif", ".hif")
RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb")
MOST_BYTES = MOST_PIXELS * 8 + 2**26  # sixteen bits of four channels, uncompressed, and some room

BACK = {6: 8, 8: 6}
LONGEST = {"JPEG": 65_500, "WebP": 16_383}  # pixels of a side


@dataclass(frozen=True)
class Photograph:
    """A photograph as it is looked at, and what writing another like it needs.

    Attributes:
        path: where it was read.
        container: a key of `SUFFIXES`, by what the file holds and not by its name.
        image: (H, W, 3) float32 RGB in [0, 1], upright; grey is repeated.
        bits: per channel, 8 or 16.
        grey: it has no colour.
        alpha: (H, W) integers as in the file, upright; None where it has none.
        orientation: EXIF's, 1 to 8, by which `image` was turned; the file written is turned back and says the same.
        carried: metadata, by container.
        lossless: a WebP coded without loss.
    """

    path: Path
    container: str
    image: FloatArray
    bits: int
    grey: bool
    alpha: RawArray | None
    orientation: int
    carried: Any
    lossless: bool = False

    @property
    def size(self) -> str:
        """Width and height as people say them, such as `4000x3000`."""
        return f"{self.image.shape[1]}x{self.image.shape[0]}"


def read_photograph(path: Path) -> Photograph:
    """Read a PNG, JPEG, TIFF or WebP.

    Raises:
        DDNetError: no such file; another format, with what to do; several pictures in one; CMYK or pixels that are not
            integers of 8 or 16 bits; damaged, cut off, or of more than `ddnet.io.limits.MOST_PIXELS`.
    """
    content = _content(path)
    container = _container(path, content)
    try:
        with _bounded():
            return {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "WebP": _webp}[container](path, content)
    except (DDNetError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path) from None
    except Image.UnidentifiedImageError:
        said = "damaged, or pixels that are not integers of 8 or 16 bits"
        raise DDNetError(f"{path}: not a readable image ({said}); {meta.DAMAGED}") from None
    except Exception as error:  # Pillow raises many types for damaged files; all mean the same to the reader
        said = f"{type(error).__name__}: {str(error)[:100]}"
        raise DDNetError(f"{path}: not a readable image ({said}); {meta.DAMAGED}") from None


def restored_pixels(restored: FloatArray, like: Photograph) -> RawArray:
    """(H, W, 3) in [0, 1] as integers of the photograph's bit depth; (H, W) where it is grey."""
    return quantise(restored.mean(axis=2) if like.grey else restored, like.bits)


def mean_change(pixels: RawArray, like: Photograph) -> float:
    """Mean absolute difference to the photograph, of the encoded values, as a part of the largest one."""
    before = quantise(like.image[..., 0] if like.grey else like.image, like.bits)
    largest, smallest = np.maximum(pixels, before), np.minimum(pixels, before)
    return float(np.mean(largest - smallest, dtype=np.float64) / np.iinfo(pixels.dtype).max)


def write_photograph(path: Path, pixels: RawArray, like: Photograph, quality: int = 95) -> None:
    """Write integers from `restored_pixels` as a file like the photograph's: format, bit depth, alpha, metadata.

    Args:
        path: any name; the format is the photograph's.
        quality: of JPEG and of WebP with loss, 1 to 100.
    """
    if like.alpha is not None:
        pixels = np.dstack([pixels, like.alpha])
    pixels = np.ascontiguousarray(TURNS[BACK.get(like.orientation, like.orientation)](pixels))
    if like.container == "TIFF":
        encoded = encode_tiff(pixels, like.carried)
    elif like.container == "PNG":
        encoded = meta.png_with(encode_png(pixels), like.carried)
    elif like.container == "JPEG":
        plain = saved(pixels, "JPEG", quality=quality, subsampling=0)
        encoded = meta.jpeg_with(plain, like.carried)
    else:
        given = {name: value for name, value in like.carried.items() if value}
        encoded = saved(pixels, "WebP", quality=quality, lossless=like.lossless, exact=like.lossless, **given)
    with atomic_path(path) as temporary:
        temporary.write_bytes(marked(encoded))


def write_beside(path: Path, pixels: RawArray) -> None:
    """Write what goes with a restored photograph, a map, as PNG: (H, W) or (H, W, 3) integers of 8 or 16 bits."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(marked(encode_png(np.ascontiguousarray(pixels))))


def converted(photo: Photograph, container: str) -> Photograph:
    """A photograph as one of another format, to give `restored_pixels` and `write_photograph`.

    Sixteen bits stay so in PNG and TIFF and become eight in JPEG and WebP. Colour profile, EXIF and XMP are carried
    over, other metadata is not. An extra sample of a TIFF that is no alpha is left out.

    Args:
        container: a key of `SUFFIXES`.

    Raises:
        DDNetError: the format has no alpha, or not so many pixels a side.
    """
    if container == photo.container:
        return photo
    where, alpha = photo.path, photo.alpha
    if photo.container == "TIFF" and photo.carried.get(EXTRA_SAMPLES) == UNSPECIFIED:
        alpha = None
    if alpha is not None and container == "JPEG":
        if (alpha != np.iinfo(alpha.dtype).max).any():
            raise DDNetError(f"{where}: is transparent in places, which a JPEG cannot be; write a PNG, TIFF or WebP")
        alpha = None
    if max(photo.image.shape) > LONGEST.get(container, MOST_PIXELS):
        raise DDNetError(
            f"{where}: {photo.size} is more than a {container} holds ({LONGEST[container]} a side); write a PNG or TIFF"
        )
    bits = 8 if container in ("JPEG", "WebP") else photo.bits
    if alpha is not None and bits < photo.bits:
        alpha = quantise(to_float(alpha), bits)
    carried = telling(container, told(photo.container, photo.carried))
    orientation = 1 if container == "TIFF" else exif_orientation(told(container, carried).exif)  # what it now says
    return replace(
        photo, container=container, bits=bits, alpha=alpha, orientation=orientation, carried=carried, lossless=False
    )


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise DDNetError(f"{path}: no such image file; name one that is there")
    if path.suffix.lower() in RAW:
        raise raw_refused(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(path)
        return path.read_bytes()
    except OSError as error:
        raise DDNetError(f"{path}: {error.strerror}; make it readable for this user") from None


def _container(path: Path, content: bytes) -> str:
    """By the first bytes: a wrong ending in the name does no harm."""
    if content[4:8] == b"ftyp":
        if content[8:11] == b"crx":
            raise raw_refused(path)
        raise DDNetError(f"{path}: HEIC, HEIF or AVIF is not read here; export it as JPEG, or as TIFF of 16 bits")
    if content.startswith(RAW_MAGIC) or content[8:10] == b"CR":
        raise raw_refused(path)
    if content.startswith(meta.PNG):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(MAGIC):
        return "TIFF"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP" and features.check("webp"):
        return "WebP"
    raise DDNetError(f"{path}: not a PNG, JPEG, TIFF or WebP; export it as one of these")


def _too_large(path: Path) -> DDNetError:
    most = f"{MOST_PIXELS // 10**6} million pixels"
    return DDNetError(f"{path}: not a readable image (of more than {most}); make it smaller, or cut it into parts")


@contextmanager
def _bounded() -> Iterator[None]:
    """Pillow refuses pictures of more than `MOST_PIXELS`, and warns of nothing else."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _opened(path: Path, content: bytes, *formats: str) -> Any:
    picture: Any = Image.open(io.BytesIO(content), formats=formats)
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:  # an MPO is a phone's JPEG with more behind it
        raise DDNetError(f"{path}: {picture.n_frames} pictures in one file; save the one that is meant by itself")
    return picture


def _pixels(path: Path, picture: Any) -> RawArray:
    """(H, W), (H, W, 2), (H, W, 3) or (H, W, 4) of 8 bits."""
    picture.load()
    clear = "transparency" in picture.info or picture.mode in ("PA", "La", "RGBa")
    modes = {"1": "L", "P": "RGB", "RGBX": "RGB", "YCbCr": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
    mode = modes.get(picture.mode, picture.mode)
    if mode not in ("L", "LA", "RGB", "RGBA"):
        how = "convert it to RGB, with its colour profile" if mode in ("CMYK", "LAB") else "save it with 8 or 16 bits"
        raise DDNetError(f"{path}: its pixels are {mode}; allowed are grey and RGB of 8 or 16 bits; {how}")
    if clear and mode in ("L", "RGB"):
        mode += "A"
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def _photograph(path: Path, container: str, raw: RawArray, orientation: int, carried: Any, **more: Any) -> Photograph:
    raw = TURNS[orientation](raw)
    channels = 1 if raw.ndim == 2 else raw.shape[2]
    grey = channels < 3
    alpha = np.ascontiguousarray(raw[..., -1]) if channels in (2, 4) else None
    colour = raw if raw.ndim == 2 else raw[..., 0 if grey else slice(3)]
    image = to_float(np.ascontiguousarray(colour))
    image = np.repeat(image[..., None], 3, axis=2) if grey else image
    return Photograph(path, container, image, raw.dtype.itemsize * 8, grey, alpha, orientation, carried, **more)


def _png(path: Path, content: bytes) -> Photograph:
    chunks = meta.png_chunks(content, str(path))
    carried = meta.png_carried(chunks)
    picture = _opened(path, content, "PNG")  # also where OpenCV reads the pixels: it checks the header and the size
    if any(kind == b"acTL" for kind, _ in chunks):
        raise DDNetError(f"{path}: an animation; save the picture that is meant by itself")
    depth, colour = chunks[0][1][8], chunks[0][1][9]
    clear = dict(chunks).get(b"tRNS", b"") if colour == 0 else b""
    if clear:  # of a grey that is clear OpenCV says nothing, and Pillow mistakes it with 2 or 4 bits
        picture.info.pop("transparency", None)
    if depth == 16:
        raw = _decoded16(path, content)
        if colour == 4:  # grey with alpha, which OpenCV makes colour of
            raw = raw[..., [0, 3]]
    else:
        raw = _pixels(path, picture)
    if clear:
        largest = np.iinfo(raw.dtype).max
        key = int.from_bytes(clear, "big") * (largest // (2**depth - 1))
        raw = np.dstack([raw, np.where(raw == key, 0, largest).astype(raw.dtype)])
    return _photograph(path, "PNG", raw, exif_orientation(meta.exif_of(carried)), carried)


def _jpeg(path: Path, content: bytes) -> Photograph:
    carried = meta.jpeg_carried(content)
    raw = _pixels(path, _opened(path, content, "JPEG", "MPO"))
    return _photograph(path, "JPEG", raw, exif_orientation(meta.exif_of(carried)), carried)


def _webp(path: Path, content: bytes) -> Photograph:
    picture = _opened(path, content, "WEBP")
    raw = _pixels(path, picture)
    carried = {name: picture.info.get(name) for name in ("exif", "icc_profile", "xmp")}
    exif = (carried["exif"] or b"").removeprefix(meta.EXIF)
    return _photograph(path, "WebP", raw, exif_orientation(exif), carried, lossless=meta.webp_lossless(content))


def _tiff(path: Path, content: bytes) -> Photograph:
    """Its pixels come upright, so the orientation is not carried over."""
    stream = io.BytesIO(content)
    read = read_tiff(stream, str(path))
    carried = meta.tiff_carried(stream)
    if read.extra is not None:
        carried[EXTRA_SAMPLES] = read.extra
    return _photograph(path, "TIFF", read.pixels, 1, carried)


def _decoded16(path: Path, content: bytes) -> RawArray:
    """RGB or grey of a PNG with 16 bits, and alpha; not turned by EXIF."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong is said in one line below
    try:
        raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        raw = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if raw is None or raw.dtype != np.uint16:
        raise DDNetError(f"{path}: not a readable image of 16 bits (damaged, or of a rare kind); {meta.DAMAGED}")
    if raw.ndim == 2:
        return raw
    return raw[..., [2, 1, 0, 3][: raw.shape[2]]]
