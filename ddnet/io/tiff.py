"""TIFF, decoded in this one place: each tag that says what samples mean is heeded, or the file is refused.

tifffile hands back samples as they are stored. Here they become a picture as it is looked at: upright, black is 0,
colours are not multiplied by alpha, palettes are looked up. OpenCV and Pillow ignore some of these tags.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.io.limits import MOST_PIXELS

if TYPE_CHECKING:
    from tifffile import TiffPage

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DAMAGED = "fetch or export it again"

# By EXIF's orientation: turn what is stored upright.
TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, 1),
}  # fmt: skip

BITS, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT, EXTRA_SAMPLES, DNG_VERSION = 258, 262, 274, 339, 338, 50706
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
SENSOR = (32803, 34892)  # photometric: what a camera's sensor saw
OTHER_COLOURS = {4: "a mask", 5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
UNSPECIFIED, MULTIPLIED, ALPHA = 0, 1, 2  # what an extra sample is
NONE, JPEG, PACKBITS = 1, 7, 32773
PREDICTED = (5, 8, 32946, 34925, 50000)  # LZW, deflate (two numbers), LZMA, Zstandard: after differences along the rows
COMPRESSIONS = (NONE, 2, 3, 4, JPEG, PACKBITS, *PREDICTED)  # 2 to 4: fax

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # what is wrong is said in one line below


@dataclass(frozen=True)
class Tiff:
    """The one picture of a TIFF.

    Attributes:
        pixels: (H, W) grey, (H, W, 2) grey and an extra sample, (H, W, 3) RGB or (H, W, 4) RGB and an extra sample;
            uint8 or uint16 over the whole range of the type, upright. Fewer bits than these are spread to them.
        extra: what the extra sample is, `ALPHA` or `UNSPECIFIED`; None where there is none.
    """

    pixels: NDArray[Any]
    extra: int | None


def read_tiff(stream: IO[bytes], where: str) -> Tiff:
    """Decode a TIFF or BigTIFF.

    Args:
        where: its name, for messages.

    Raises:
        DDNetError: several pictures in one file; a camera's raw file; CMYK, CIELab and other colours; pixels that are
            not integers of up to 16 bits; a rare compression; tags that are missing or contradict each other; damaged,
            cut off, or of more than `ddnet.io.limits.MOST_PIXELS`.
    """
    with _page(stream, where) as page:
        colours = _checked(page, stream, where)
        # Into zeros: what a damaged file leaves out is never what lay in memory before.
        stored = page.asarray(out=np.zeros(page.shaped, page.dtype), squeeze=False, maxworkers=1)
        stored = stored[:, 0, ..., 0].transpose(1, 2, 0) if len(stored) > 1 else stored[0, 0]
        pixels, extra = _meant(page, stored, colours, where)
    pixels = TURNS[_orientation(page)](pixels)
    return Tiff(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), extra)


def raw_refused(where: object) -> DDNetError:
    """What is said of a camera's raw file."""
    return DDNetError(f"{where}: a camera's raw file is not read here; develop it and export a TIFF of 16 bits")


def tiff_orientation(stream: IO[bytes], where: str) -> int:
    """EXIF's orientation of a TIFF, 1 to 8.

    Raises:
        DDNetError: as `read_tiff`, as far as it shows before the pixels are decoded.
    """
    with _page(stream, where) as page:
        return _orientation(page)


@contextmanager
def _page(stream: IO[bytes], where: str) -> Iterator[TiffPage]:
    """The only picture of a file; whatever is raised in here is one line."""
    from tifffile import TiffFile

    stream.seek(0)
    try:
        with TiffFile(stream) as file:
            page = file.pages.first
            # What a smaller copy of the picture shows, or a thumbnail, the picture shows as well.
            others = sum(not file.pages[number].aspage().subfiletype & 1 for number in range(1, len(file.pages)))
            if DNG_VERSION in page.tags or page.photometric in SENSOR or page.subfiletype & 1:
                raise raw_refused(where)
            if others or page.imagedepth > 1:
                count = (1 + others) * page.imagedepth
                raise DDNetError(f"{where}: {count} pictures in one file; save the one that is meant by itself")
            yield page
    except (DDNetError, MemoryError):
        raise
    except Exception as error:  # tifffile and the decoders raise many types; all mean the same to the reader
        said = f"{type(error).__name__}: {str(error)[:100]}".splitlines()[0]
        raise DDNetError(f"{where}: not a readable image ({said}); {DAMAGED}") from None


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(ORIENTATION)
    return value if isinstance(value, int) and value in TURNS else 1


def _checked(page: TiffPage, stream: IO[bytes], where: str) -> int:
    """Refuse what would not be decoded rightly; the number of samples that are colours, 1 or 3."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if max(height * width, page.tilelength * page.tilewidth) > MOST_PIXELS:
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise DDNetError(f"{where}: not a readable image (of more than {most}); make it smaller, or cut it into parts")
    if page.compression not in COMPRESSIONS:
        raise DDNetError(f"{where}: compressed in a rare way (Compression {int(page.compression)}); save it with LZW")
    if page.photometric in OTHER_COLOURS or (page.photometric == YCBCR and page.compression != JPEG):
        said = OTHER_COLOURS.get(page.photometric, "YCbCr without JPEG")
        how = "convert it to RGB, with its colour profile"
        raise DDNetError(f"{where}: its pixels are {said}; allowed are grey and RGB of 8 or 16 bits; {how}")
    if PHOTOMETRIC not in page.tags or page.photometric > YCBCR:
        raise _refused(
            where, f"its tags do not say that it is grey or RGB (PhotometricInterpretation {page.photometric})"
        )
    bits, kinds = page.bitspersample, set(np.atleast_1d(page.tags.valueof(SAMPLE_FORMAT, 1)).tolist())
    if not isinstance(bits, int) or not 1 <= bits <= 16 or not kinds <= {1, 4}:  # 4: its writer did not know
        said = f"BitsPerSample {bits}, SampleFormat {', '.join(str(kind) for kind in sorted(kinds))}"
        raise DDNetError(
            f"{where}: its pixels are not integers of 8 or 16 bits ({said}); save it with 8 or 16 bits per channel"
        )
    colours = 3 if page.photometric in (RGB, YCBCR) else 1
    extra = samples - colours
    if (
        extra not in (0, 1)
        or (page.extrasamples and len(page.extrasamples) != extra)
        or page.planarconfig not in (1, 2)
    ):
        said = f"{samples} samples per pixel, ExtraSamples {list(page.extrasamples)}"
        raise _refused(where, f"it is neither grey nor RGB, with or without alpha ({said})")
    if page.compression == JPEG and (bits != 8 or extra):
        raise _refused(where, "it is a JPEG of other than 8 bits, or with an extra sample")
    if page.photometric == YCBCR and page.planarconfig != 1:
        raise DDNetError(f"{where}: its pixels are YCbCr in planes; convert it to RGB")
    if page.predictor != 1 and (
        page.compression in (NONE, PACKBITS)  # some readers heed the tag there, others do not
        or (page.compression in PREDICTED and (page.predictor != 2 or bits not in (8, 16)))
    ):
        raise _refused(where, f"its Predictor {int(page.predictor)} does not go with its bits or compression")
    _check_segments(page, stream, where)
    return colours


def _refused(where: str, said: str) -> DDNetError:
    return DDNetError(f"{where}: {said}; save it as plain grey or RGB of 8 or 16 bits")


def _check_segments(page: TiffPage, stream: IO[bytes], where: str) -> None:
    """Every strip or tile must be in the file, and be what it should be."""
    offsets, counts = (np.asarray(values, np.int64) for values in (page.dataoffsets, page.databytecounts))
    ends = stream.seek(0, io.SEEK_END)
    missing = len(offsets) != np.prod(page.chunked) or len(counts) != len(offsets) or not len(offsets)
    if not missing:
        missing = bool(offsets.min() <= 0 or counts.min() <= 0 or (offsets + counts).max() > ends)
    if not missing and page.compression == NONE:
        missing = int(counts.sum()) * 8 < page.imagelength * page.imagewidth * page.samplesperpixel * page.bitspersample
    if missing:
        raise DDNetError(f"{where}: not a readable image (a TIFF that is cut off); {DAMAGED}")
    if page.compression == JPEG:
        from PIL.JpegImagePlugin import JpegImageFile

        height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True):
            stream.seek(offset)
            with JpegImageFile(io.BytesIO(stream.read(count))) as part:
                if part.width > width or part.height > height:
                    raise DDNetError(f"{where}: not a readable image (a part of it has another size); {DAMAGED}")


def _meant(page: TiffPage, stored: NDArray[Any], colours: int, where: str) -> tuple[NDArray[Any], int | None]:
    """(H, W, C) samples as they are meant, and what the extra one is."""
    bits, extra = page.bitspersample, None
    if page.photometric == PALETTE:
        looked_up = _looked_up(page, stored[..., 0], where)
        stored, colours = np.dstack([looked_up, _spread(stored[..., 1:], bits, looked_up.dtype)]), 3
    else:
        stored = _spread(stored, bits, np.dtype(np.uint8 if bits <= 8 else np.uint16))
    if page.photometric == WHITE_IS_ZERO:
        stored[..., 0] = np.iinfo(stored.dtype).max - stored[..., 0]
    if stored.shape[2] > colours:
        extra = page.extrasamples[0] if page.extrasamples else ALPHA  # without the tag every reader takes it for alpha
        if extra == MULTIPLIED:
            if page.photometric not in (BLACK_IS_ZERO, RGB):
                raise _refused(where, "its colours cannot be multiplied by alpha, as its tags say (ExtraSamples 1)")
            _divide(stored, where)
            extra = ALPHA
        if extra not in (UNSPECIFIED, ALPHA):
            raise _refused(where, f"its extra sample is of no known kind (ExtraSamples {extra})")
    return stored, extra


def _spread(stored: NDArray[Any], bits: int, to: np.dtype[Any]) -> NDArray[Any]:
    """Integers of some bits over the whole range of a type: white stays white."""
    largest, most = 2**bits - 1, int(np.iinfo(to).max)
    if largest == most:
        return stored
    return ((stored.astype(np.uint32) * most + largest // 2) // largest).astype(to)


def _looked_up(page: TiffPage, stored: NDArray[Any], where: str) -> NDArray[Any]:
    """(H, W) places in a palette to (H, W, 3) colours; of 8 bits where its 16 say no more."""
    palette = page.colormap
    if palette is None or palette.shape != (3, 2**page.bitspersample):
        raise _refused(where, "its palette is missing or of another size")
    if not (palette % 257).any() or not (palette % 256).any():
        palette = (palette >> 8).astype(np.uint8)
    return np.moveaxis(palette[:, stored.astype(np.intp)], 0, -1)


def _divide(stored: NDArray[Any], where: str) -> None:
    """Colours that are multiplied by alpha to colours as they are, in place; black where nothing is to be seen."""
    alpha, largest = stored[..., -1], int(np.iinfo(stored.dtype).max)
    if (alpha == largest).all():
        return
    whole = np.maximum(alpha, 1).astype(np.uint64)
    for channel in range(stored.shape[2] - 1):
        if (stored[..., channel] > alpha).any():
            raise _refused(where, "its colours are not multiplied by alpha, as its tags say (ExtraSamples 1)")
        stored[..., channel] = (stored[..., channel].astype(np.uint64) * largest + whole // 2) // whole
