"""PNG of every kind and what turns or animates a picture: each reader gives the values that are meant, or refuses."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from baselines.external.baseline import External
from ddnet.config import FolderData
from ddnet.data.folder import index_folder
from ddnet.data.index import Scene, inspect_image
from ddnet.errors import DDNetError
from ddnet.io.images import read_depth16, read_raw_rgb
from ddnet.io.photographs import read_photograph, restored_pixels, write_photograph
from ddnet.io.photographs._metadata import png_file
from ddnet.restoration.deblur import given_depth

SIZE = (35, 41)
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's type of colour: grey, RGB, palette, grey and alpha, RGB and alpha
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
SAID = ("nothing", "tRNS", "sBIT", "gAMA", "interlaced")


@dataclass(frozen=True)
class Kind:
    """A PNG's type of colour, its bits, and what else it says."""

    colour: int
    bits: int
    said: str


def kinds() -> Iterator[Kind]:
    for colour, depths in DEPTHS.items():
        for bits in depths:
            yield from (Kind(colour, bits, said) for said in SAID if said != "tRNS" or colour < 4)


def rows(values: np.ndarray, bits: int) -> bytes:
    """Rows of a PNG, each with no filter."""
    lines = values.reshape(len(values), -1)
    if bits == 16:
        return b"".join(b"\0" + line.astype(">u2").tobytes() for line in lines)
    places = (lines[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(line.ravel()).tobytes() for line in places)


def png(values: np.ndarray, colour: int, bits: int, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = [values[y::down, x::right] for y, x, down, right in PASSES] if interlaced else [values]
    body = zlib.compress(b"".join(rows(part, bits) for part in parts if part.size))
    return png_file([(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")])


def made(path: Path, kind: Kind) -> tuple[np.ndarray, np.ndarray | None]:
    """Write a file; what it shows, (H, W, 1 or 3) in [0, 1], and alpha in [0, 1]."""
    draw, samples = np.random.default_rng(5), SAMPLES[kind.colour]
    values = draw.integers(0, 2**kind.bits, (*SIZE, samples))
    shown, alpha, chunks = values / (2**kind.bits - 1), None, []
    if kind.said == "sBIT":
        chunks.append((b"sBIT", bytes([max(1, min(kind.bits, 8) - 2)] * (3 if kind.colour == 3 else samples))))
    if kind.said == "gAMA":
        chunks.append((b"gAMA", struct.pack(">I", 100_000)))
    if kind.colour == 3:
        palette = draw.integers(0, 256, (2**kind.bits, 3))
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
        shown = palette[values[..., 0]] / 255
    if kind.colour in (4, 6):
        shown, alpha = shown[..., :-1], shown[..., -1]
    if kind.said == "tRNS" and kind.colour == 3:
        chunks.append((b"tRNS", bytes([0, 100])))
        alpha = np.choose(np.minimum(values[..., 0], 2), (0, 100, 255)) / 255
    elif kind.said == "tRNS":
        chunks.append((b"tRNS", struct.pack(f">{samples}H", *values[3, 4])))
        alpha = 1.0 - (values == values[3, 4]).all(axis=2)
    path.write_bytes(png(values, kind.colour, kind.bits, *chunks, interlaced=kind.said == "interlaced"))
    return shown, alpha


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_every_reader_sees_what_a_png_means(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    shown, alpha = made(path, kind)
    colour = np.broadcast_to(shown, (*SIZE, 3))
    bits = max(kind.bits, 8)
    photo = read_photograph(path)
    assert (photo.bits, photo.grey) == (bits, shown.shape[2] == 1)
    np.testing.assert_allclose(photo.image, colour, atol=1e-6)
    assert (photo.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_allclose(photo.alpha / np.float64(2**bits - 1), alpha, atol=1e-6)
    raw = read_raw_rgb(path)
    np.testing.assert_array_equal(raw, np.rint(colour * (2**bits - 1)))
    assert inspect_image(path).bits == bits
    scene = Scene("d", "test", "a", "", path, path, None, *SIZE, bits, "", "")
    external = External(tmp_path)
    external.prepare([scene])
    np.testing.assert_allclose(external.restore_scene(scene), colour, atol=1e-6)
    if shown.shape[2] == 1 and kind.colour == 0:  # of a colour key the values stay what they are
        np.testing.assert_allclose(given_depth(path, photo), shown[..., 0], atol=1e-6)
    write_photograph(tmp_path / "b.png", restored_pixels(photo.image, photo), photo)
    again = read_photograph(tmp_path / "b.png")
    np.testing.assert_array_equal(again.image, photo.image)
    np.testing.assert_array_equal(again.alpha, photo.alpha)  # type: ignore[arg-type]


def oriented(value: int) -> bytes:
    tags = Image.Exif()
    tags[274] = value
    return tags.tobytes()


def turned_files(folder: Path, values: np.ndarray, value: int) -> Iterator[Path]:
    """The same pixels in files that ask to be turned: EXIF before and behind the pixels of a PNG, in JPEG and TIFF."""
    for name, bits in (("8", 8), ("16", 16)):
        content = png(values if bits == 8 else values * 257, 2, bits)
        for place, where in (("before", 33), ("behind", len(content) - 12)):
            chunk = png_file([(b"eXIf", oriented(value).removeprefix(b"Exif\0\0"))])[8:]
            path = folder / f"{place}{name}.png"
            path.write_bytes(content[:where] + chunk + content[where:])
            yield path
    for name in ("jpeg.jpg", "tiff.tif"):
        Image.fromarray(values.astype(np.uint8)).save(folder / name, exif=oriented(value), quality=100, subsampling=0)
        yield folder / name


@pytest.mark.parametrize("value", range(1, 9))
def test_what_viewers_turn_is_turned_or_refused(value: int, tmp_path: Path) -> None:
    values = np.kron(np.random.default_rng(0).integers(0, 256, (5, 6, 1)), np.ones((8, 8, 3), int))
    from PIL import ImageOps

    for path in turned_files(tmp_path, values, value):
        raw = read_raw_rgb(path) / (257 if "16" in path.name else 1)
        with Image.open(io.BytesIO(png(values, 2, 8))) as plain:
            plain.getexif()[274] = value
            expected = np.asarray(ImageOps.exif_transpose(plain)).astype(int)
        np.testing.assert_allclose(raw, expected, atol=3 if path.suffix == ".jpg" else 0)
        photo = read_photograph(path)
        np.testing.assert_allclose(photo.image * 255, expected, atol=3 if path.suffix == ".jpg" else 1e-4)
        if path.suffix != ".jpg":
            np.testing.assert_allclose(given_depth(path, photo) * 255, expected[..., 0], atol=1e-4)
        for role in ("source", "target"):
            (tmp_path / path.stem / role).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                copy = tmp_path / path.stem / role / f"{number}{path.suffix}"
                if number == 1 and role == "target":
                    copy.write_bytes(path.read_bytes())
                else:
                    drawn = (
                        np.random.default_rng([number, ord(role[0])]).integers(0, 256, values.shape).astype(np.uint8)
                    )
                    deep = drawn * np.uint16(257) if "16" in path.name else drawn
                    cv2.imwrite(str(copy), deep)
        data = FolderData(kind="folder", path=str(tmp_path / path.stem))
        if value == 1:
            assert len(index_folder(data)) == 3
        else:
            with pytest.raises(DDNetError, match=rf"1\{path.suffix}: its EXIF orientation \({value}\) asks viewers"):
                index_folder(data)


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_animations_are_refused_by_every_reader(form: str, tmp_path: Path) -> None:
    """Whatever their names end in: OpenCV would take the first picture, and says nothing."""
    path = tmp_path / "a.png"
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 48, 3)).astype(np.uint8)) for n in (0, 1)]
    frames[0].save(path, form, save_all=True, append_images=frames[1:], duration=100)
    readers = [read_raw_rgb, inspect_image, read_depth16, *([read_photograph] if form != "GIF" else [])]
    for read in readers:
        with pytest.raises(DDNetError, match=r"a.png: .*save the (one|picture) that is meant by itself"):
            read(path)
    with pytest.raises(DDNetError, match=r"the first: .*a.png: an animation; save the picture that is meant by itself"):
        External(tmp_path).prepare([Scene("d", "test", "a", "", path, path, None, 40, 48, 8, "", "")])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_depth_in_three_equal_channels_is_grey(bits: int, suffix: str, tmp_path: Path) -> None:
    path, largest = tmp_path / f"a{suffix}", 2**bits - 1
    depth = np.random.default_rng(0).integers(0, largest + 1, SIZE).astype(np.uint8 if bits == 8 else np.uint16)
    opaque = np.full_like(depth, largest)
    for channels in (1, 3, 4):
        stored = depth if channels == 1 else np.dstack([depth, depth, depth, opaque][:channels])
        assert cv2.imwrite(str(path), stored)
        np.testing.assert_allclose(read_depth16(path) * largest, depth, atol=0.01)
    for channels, what in ((3, "one channel, this file has 3 that differ"), (4, "transparent in places")):
        stored = np.dstack([depth, depth, depth, opaque][:channels])
        stored[2, 3, channels - 1] ^= 1
        assert cv2.imwrite(str(path), stored)
        with pytest.raises(DDNetError, match=what):
            read_depth16(path)


def test_a_jpeg_of_printers_colours_or_cut_short_is_refused(tmp_path: Path) -> None:
    path, scene = tmp_path / "a.jpg", Scene("d", "test", "a", "", Path("a"), Path("a"), None, 40, 48, 8, "", "")
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 4)).astype(np.uint8)
    Image.fromarray(noise, "CMYK").save(path)
    for read in (read_raw_rgb, inspect_image, read_photograph):
        with pytest.raises(DDNetError, match=r"a.jpg: its pixels are CMYK; allowed are grey and RGB"):
            read(path)
    Image.fromarray(noise[..., :3]).save(path, quality=95)
    External(tmp_path).prepare([scene])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DDNetError, match=r"the first: .*a.jpg: a damaged JPEG"):
        External(tmp_path).prepare([scene])
