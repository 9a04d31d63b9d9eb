"""Photographs of one's own: what is read is what is seen, and what is written says all that the file said."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from ddnet.errors import DDNetError
from ddnet.io.limits import MOST_PIXELS
from ddnet.io.photographs import (
    SUFFIXES,
    TURNS,
    converted,
    mean_change,
    read_photograph,
    restored_pixels,
    write_photograph,
)
from ddnet.io.photographs._convert import told
from ddnet.io.photographs._encode import encode_png, encode_tiff
from ddnet.io.photographs._made import MARK, made_here, marked
from ddnet.io.photographs._metadata import PNG, png_carried, png_chunks, png_file, png_with

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def pixels(channels: int, bits: int, height: int = 31, width: int = 47) -> np.ndarray:
    largest = 2**bits - 1
    drawn = np.random.default_rng(channels * bits).integers(0, largest + 1, (height, width, channels))
    drawn = drawn.astype(np.uint8 if bits == 8 else np.uint16)
    return drawn[..., 0] if channels == 1 else drawn


def exif(orientation: int = 6) -> Image.Exif:
    tags = Image.Exif()
    tags[271], tags[274] = "Maker", orientation
    tags.get_ifd(34665)[37386] = 4.5
    return tags


def written(path: Path, channels: int, bits: int, orientation: int = 6) -> np.ndarray:
    """A file with profile and EXIF; its pixels as stored."""
    raw, tags = pixels(channels, bits), exif(orientation)
    if path.suffix == ".png":
        carried = [(b"iCCP", b"own\0\0" + zlib.compress(PROFILE)), (b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0"))]
        path.write_bytes(png_with(encode_png(raw), carried))
    elif path.suffix == ".tif":
        path.write_bytes(encode_tiff(raw, {271: "Maker", 274: orientation, 34675: PROFILE, 34665: {37386: 4.5}}))
    else:
        Image.fromarray(raw).save(path, exif=tags, icc_profile=PROFILE, lossless=True, exact=True)
    return raw


CASES = [(".png", n, bits) for bits in (8, 16) for n in (1, 2, 3, 4)]
CASES += [(".tif", n, 8) for n in (1, 2, 3, 4)] + [(".tif", n, 16) for n in (1, 3, 4)]
CASES += [(".jpg", 1, 8), (".jpg", 3, 8), (".webp", 3, 8), (".webp", 4, 8)]


@pytest.mark.parametrize(("suffix", "channels", "bits"), CASES)
def test_a_photograph_is_read_upright_and_written_as_it_was(
    suffix: str, channels: int, bits: int, tmp_path: Path
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    stored = written(first, channels, bits)
    photo = read_photograph(first)
    assert (photo.bits, photo.grey, photo.alpha is not None) == (bits, channels < 3, channels in (2, 4))
    if suffix != ".jpg":
        colour = np.rot90(stored[..., : 3 if channels > 2 else 1] if channels > 1 else stored[..., None], -1)
        expected = np.broadcast_to(colour, (*colour.shape[:2], 3)) / np.float64(2**bits - 1)
        np.testing.assert_allclose(photo.image, expected, atol=1e-7)
    same = restored_pixels(photo.image, photo)
    assert mean_change(same, photo) == 0.0
    assert mean_change(restored_pixels(1 - photo.image, photo), photo) > 0.2
    write_photograph(second, same, photo)
    again = read_photograph(second)
    np.testing.assert_allclose(again.image, photo.image, atol=0 if suffix != ".jpg" else 0.1)
    if photo.alpha is not None:
        np.testing.assert_array_equal(again.alpha, photo.alpha)
    shown = [Image.open(path) for path in (first, second)]
    assert shown[0].size == shown[1].size and shown[0].mode == shown[1].mode and shown[0].format == shown[1].format
    assert again.bits == bits
    for picture in shown:
        assert picture.info["icc_profile"] == PROFILE
        said = picture.getexif()
        assert said[271] == "Maker" and said.get_ifd(34665)[37386] == 4.5
    if bits == 8:
        upright = [np.asarray(ImageOps.exif_transpose(picture)) for picture in shown]
        assert upright[0].shape[:2] == upright[1].shape[:2] == (47, 31)
        np.testing.assert_allclose(upright[0], upright[1], atol=0 if suffix != ".jpg" else 60)


def reopened(path: Path) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(path)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_every_orientation_looks_as_before(suffix: str, orientation: int, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    written(first, 3, 8, orientation)
    photo = read_photograph(first)
    np.testing.assert_array_equal(np.rint(photo.image * 255), reopened(first))
    write_photograph(second, restored_pixels(photo.image, photo), photo)
    np.testing.assert_array_equal(reopened(second), reopened(first))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_of_a_turned_tiff_are_upright(orientation: int, tmp_path: Path) -> None:
    raw = written(tmp_path / "a.tif", 3, 16, orientation)
    photo = read_photograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.rint(photo.image * 65535), TURNS[orientation](raw))


def test_a_jpeg_keeps_the_bytes_of_what_it_says(tmp_path: Path) -> None:
    """A thumbnail, a maker's notes and whatever else EXIF holds are not written anew; a comment and IPTC stay, too."""
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels(3, 8)).save(path, dpi=(300, 300), comment=b"mine")
    plain = path.read_bytes()
    notes = b"Exif\0\0" + exif(3).tobytes().removeprefix(b"Exif\0\0") + b"whatever a maker appends"
    said = [(0xE1, notes), (0xED, b"Photoshop 3.0\0iptc"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")]
    more = [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<hdrgm:Version/>"), (0xE2, b"MPF\0other pictures")]
    segments = b"".join(bytes((255, m)) + struct.pack(">H", len(d) + 2) + d for m, d in said + more)
    path.write_bytes(plain[:20] + segments + plain[20:])
    photo = read_photograph(path)
    assert photo.orientation == 3
    write_photograph(tmp_path / "b.jpg", restored_pixels(photo.image, photo), photo)
    content = (tmp_path / "b.jpg").read_bytes()
    assert all(content.count(data) == 1 for _, data in said) and not any(data in content for _, data in more)
    again = Image.open(tmp_path / "b.jpg")
    assert again.info["comment"] == b"mine" and again.info["dpi"] == (300, 300) and content.count(b"JFIF") == 1


def test_a_phone_s_jpeg_with_more_pictures_behind_it(tmp_path: Path) -> None:
    first, second = (Image.fromarray(pixels(3, 8, height)) for height in (31, 16))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    photo = read_photograph(tmp_path / "a.jpg")
    write_photograph(tmp_path / "b.jpg", restored_pixels(photo.image, photo), photo)
    again = Image.open(tmp_path / "b.jpg")
    assert (again.format, again.size) == ("JPEG", (47, 31))


def test_a_palette_with_one_clear_colour_becomes_colour_with_alpha(tmp_path: Path) -> None:
    Image.fromarray(pixels(3, 8)).quantize(16).save(tmp_path / "a.png", transparency=3)
    photo = read_photograph(tmp_path / "a.png")
    assert not photo.grey and photo.alpha is not None and set(np.unique(photo.alpha)) == {0, 255}
    write_photograph(tmp_path / "b.png", restored_pixels(photo.image, photo), photo)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "b.png")), np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    )


def test_webp_stays_with_or_without_loss(tmp_path: Path) -> None:
    for lossless in (True, False):
        Image.fromarray(pixels(3, 8)).save(tmp_path / "a.webp", lossless=lossless, exif=exif(1), icc_profile=PROFILE)
        assert read_photograph(tmp_path / "a.webp").lossless is lossless


def several(path: Path, form: str) -> None:
    Image.fromarray(pixels(3, 8)).save(path, form, save_all=True, append_images=[Image.fromarray(pixels(3, 8)[::-1])])


def dng(path: Path) -> None:
    path.write_bytes(encode_tiff(pixels(3, 8), {50706: b"\1\4\0\0"}))


def floats(path: Path) -> None:
    path.write_bytes(cv2.imencode(".tiff", np.ones((8, 8, 3), np.float32))[1].tobytes())


REFUSED: dict[str, tuple[str, Any, str]] = {
    "raw by its name": ("a.NEF", lambda p: p.write_bytes(b"MM\0*"), "develop it and export a TIFF of 16 bits"),
    "raw by its content": ("a.tif", dng, "a camera's raw file is not read here"),
    "raw of Canon": ("a.jpg", lambda p: p.write_bytes(b"II*\0\x10\0\0\0CR\2\0"), "a camera's raw file"),
    "HEIC": ("a.jpg", lambda p: p.write_bytes(b"\0\0\0\x18ftypheic\0\0"), "HEIC, HEIF or AVIF is not read"),
    "GIF": ("a.gif", lambda p: Image.fromarray(pixels(3, 8)).save(p), "not a PNG, JPEG, TIFF or WebP"),
    "CMYK": ("a.jpg", lambda p: Image.new("CMYK", (8, 8)).save(p), "pixels are CMYK"),
    "CMYK TIFF": ("a.tif", lambda p: Image.new("CMYK", (8, 8)).save(p), "pixels are CMYK"),
    "pages": ("a.tif", lambda p: several(p, "TIFF"), "2 pictures in one file"),
    "animated WebP": ("a.webp", lambda p: several(p, "WEBP"), "2 pictures in one file"),
    "animated PNG": ("a.png", lambda p: several(p, "PNG"), "2 pictures in one file"),
    "floats": ("a.tif", floats, "its pixels are not integers of 8 or 16 bits"),
    "nothing": ("a.png", lambda p: None, "no such image file"),
    "empty": ("a.png", lambda p: p.touch(), "not a PNG, JPEG, TIFF or WebP"),
}  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(DDNetError) as caught:
        read_photograph(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said and len(said) < 500
    return said


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_refused_with_the_way_out(kind: str, tmp_path: Path) -> None:
    name, make, words = REFUSED[kind]
    make(tmp_path / name)
    assert words in refused(tmp_path / name)


@pytest.mark.parametrize(("suffix", "channels", "bits"), CASES)
def test_half_a_file_is_refused(suffix: str, channels: int, bits: int, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / f"a{suffix}"
    written(path, channels, bits)
    content = path.read_bytes()
    for size in (len(content) // 2, len(content) - 30, 40, 12):
        path.write_bytes(content[:size])
        refused(path)
    assert capfd.readouterr() == ("", "")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_enormous_claims_are_refused_and_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    written(path, 3, 8)
    whole = path.read_bytes()
    for depth in (8, 16):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, depth, 2, 0, 0, 0))
        path.write_bytes(PNG + header + whole[33:])
        assert f"of more than {MOST_PIXELS // 10**6} million pixels" in refused(path)
    before = Image.MAX_IMAGE_PIXELS
    bomb = zlib.compress(bytes(50_000_000), 9)
    path.write_bytes(png_with(whole, [(b"iCCP", b"own\0\0" + bomb)]))
    refused(path)
    path.write_bytes(png_with(whole, [(b"zTXt", b"own\0\0" + bomb)]))
    refused(path)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("ddnet.io.photographs.MOST_BYTES", 100)
    assert "of more than" in refused(path)


def test_damaged_metadata_does_not_cost_the_picture(tmp_path: Path) -> None:
    path, again = tmp_path / "a.png", tmp_path / "b.png"
    for said in (b"", b"MM", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(200)):
        Image.fromarray(pixels(3, 8)).save(path)
        path.write_bytes(png_with(path.read_bytes(), [(b"eXIf", said)]))
        photo = read_photograph(path)
        assert photo.orientation == 1
        write_photograph(again, restored_pixels(photo.image, photo), photo)
        np.testing.assert_array_equal(read_photograph(again).image, photo.image)
    for value in (0, 9, 99, 2**16 - 1):
        Image.fromarray(pixels(3, 8)).save(path, exif=exif(value))
        assert read_photograph(path).orientation == 1


def test_texts_and_colour_of_a_png_stay(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "mine")
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    Image.fromarray(pixels(3, 8)).save(tmp_path / "a.png", pnginfo=texts, dpi=(300, 300))
    photo = read_photograph(tmp_path / "a.png")
    write_photograph(tmp_path / "b.png", restored_pixels(photo.image, photo), photo)
    kinds = [[kind for kind, _ in png_carried(png_chunks((tmp_path / n).read_bytes(), n))] for n in ("a.png", "b.png")]
    assert kinds[0] == kinds[1] and {b"tEXt", b"iTXt", b"pHYs"} == set(kinds[0])


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.jpg", 3, 8)
    photo = read_photograph(tmp_path / "a.jpg")
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError):
        write_photograph(tmp_path / "b.jpg", restored_pixels(photo.image, photo), photo)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_grey_and_alpha_of_sixteen_bits_is_what_pillow_makes_of_it() -> None:
    raw = pixels(2, 16)
    read = np.asarray(Image.open(io.BytesIO(encode_png(raw))).convert("LA"))
    np.testing.assert_array_equal(read, (raw >> 8).astype(np.uint8))
    assert png_file(png_chunks(encode_png(raw), "")) == encode_png(raw)


def profile_bytes(size: int = 150_000) -> bytes:
    """A profile so large that a JPEG holds it in several segments."""
    plain = bytearray(PROFILE + np.random.default_rng(0).bytes(size - len(PROFILE)))
    plain[:4] = size.to_bytes(4, "big")
    return bytes(plain)


def telling_file(path: Path, channels: int, bits: int, orientation: int) -> np.ndarray:
    """A file with a large profile, EXIF with GPS, and XMP; its pixels as stored."""
    raw, tags, xmp = pixels(channels, bits, 32, 48), exif(orientation), b"<x:xmpmeta/>"
    raw = np.kron(raw[::8, ::8], np.ones((8, 8) + (1,) * (raw.ndim - 2), raw.dtype))  # what a JPEG can hold
    tags.get_ifd(34853)[1] = "N"
    said = tags.tobytes()
    if path.suffix == ".png":
        carried = [(b"iCCP", b"own\0\0" + zlib.compress(profile_bytes())), (b"eXIf", said.removeprefix(b"Exif\0\0"))]
        path.write_bytes(png_with(encode_png(raw), [*carried, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)]))
    elif path.suffix == ".tif":
        record = {
            271: "Maker",
            34675: profile_bytes(),
            34665: {37386: 4.5},
            34853: {1: "N"},
            700: xmp,
            274: orientation,
        }
        path.write_bytes(encode_tiff(raw, record))
    else:
        options: dict[str, Any] = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {"lossless": True}
        Image.fromarray(raw).save(path, exif=said, icc_profile=profile_bytes(), xmp=xmp, exact=True, **options)
    return raw


ONES = [(".png", 16), (".png", 8), (".tif", 16), (".tif", 8), (".jpg", 8), (".webp", 8)]


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("to", ["PNG", "TIFF", "JPEG", "WebP"])
@pytest.mark.parametrize(("suffix", "bits"), ONES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_photograph_of_one_format_becomes_one_of_another(
    suffix: str, bits: int, channels: int, to: str, orientation: int, tmp_path: Path
) -> None:
    """It looks the same, keeps its bits where the format has them, and says the same."""
    if (suffix == ".jpg" and channels in (2, 4)) or (suffix == ".webp" and channels < 3):
        return  # no such files
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{SUFFIXES[to][0]}"
    telling_file(first, channels, bits, orientation)
    photo = read_photograph(first)
    if photo.alpha is not None and to == "JPEG":
        with pytest.raises(DDNetError, match=r"a\..*: is transparent in places, which a JPEG cannot be; write a PNG"):
            converted(photo, to)
        return
    like = converted(photo, to)
    write_photograph(second, restored_pixels(photo.image, like), like)
    again = read_photograph(second)
    assert (again.container, again.bits) == (to, bits if to in ("PNG", "TIFF") else 8)
    assert again.grey == (photo.grey and to != "WebP")
    difference = np.abs(again.image - photo.image)
    assert difference.max() < 1e-6 if to in ("PNG", "TIFF") else difference.mean() < 0.03
    if photo.alpha is not None:
        assert again.alpha is not None
        difference = photo.alpha / np.iinfo(photo.alpha.dtype).max - again.alpha / np.iinfo(again.alpha.dtype).max
        assert np.abs(difference).max() < 0.51 / 255
    with Image.open(second) if not (bits == 16 and channels == 2 and to == "TIFF") else Image.new("L", (1, 1)) as shown:
        if shown.format:  # the one that Pillow does not read
            said = shown.getexif()
            assert shown.info["icc_profile"] == profile_bytes() and said[271] == "Maker"
            assert said.get_ifd(34665)[37386] == 4.5 and said.get_ifd(34853)[1] == "N"
            assert b"<x:xmpmeta/>" in second.read_bytes()
            upright = np.asarray(ImageOps.exif_transpose(shown).convert("L")).shape
            assert upright == photo.image.shape[:2]
    read = told(to, converted(photo, to).carried)
    assert (read.profile, read.xmp) == (profile_bytes(), b"<x:xmpmeta/>") and read.exif


def test_an_opaque_alpha_may_go_and_what_is_no_alpha_does(tmp_path: Path) -> None:
    raw = pixels(4, 16)
    raw[..., 3] = 65535
    (tmp_path / "a.png").write_bytes(encode_png(raw))
    assert converted(read_photograph(tmp_path / "a.png"), "JPEG").alpha is None
    (tmp_path / "a.tif").write_bytes(encode_tiff(pixels(4, 16), {338: 0}))
    photo = read_photograph(tmp_path / "a.tif")
    assert photo.alpha is not None and converted(photo, "PNG").alpha is None and converted(photo, "TIFF") is photo


def test_what_a_format_cannot_hold_is_refused_or_left_out(tmp_path: Path) -> None:
    Image.new("L", (16_400, 8)).save(tmp_path / "a.png", exif=exif(6))
    with pytest.raises(DDNetError, match=r"a.png: 8x16400 is more than a WebP holds \(16383 a side\)"):
        converted(read_photograph(tmp_path / "a.png"), "WebP")
    tags = exif(6)
    tags.get_ifd(34665)[37500] = bytes(70_000)  # more than a JPEG's EXIF holds
    Image.fromarray(pixels(3, 8)).save(tmp_path / "a.png", exif=tags)
    photo = read_photograph(tmp_path / "a.png")
    like = converted(photo, "JPEG")
    assert photo.orientation == 6 and like.orientation == 1
    write_photograph(tmp_path / "b.jpg", restored_pixels(photo.image, like), like)
    assert read_photograph(tmp_path / "b.jpg").image.shape == photo.image.shape


def test_a_big_tiff_says_as_much_as_a_small_one(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(
        tmp_path / "a.tif", pixels(3, 16), photometric="rgb", bigtiff=True, iccprofile=PROFILE, software="mine",
        extratags=[(271, 2, 0, "Maker", True)],
    )  # fmt: skip
    carried = read_photograph(tmp_path / "a.tif").carried
    assert (carried[271], carried[305], carried[34675]) == ("Maker", "mine", PROFILE)


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".png", 4), (".jpg", 3), (".jpg", 1), (".webp", 3), (".webp", 4), (".tif", 3)]
)
@pytest.mark.parametrize("plain", [True, False])
def test_the_mark_of_what_is_written_here_changes_nothing_else(
    suffix: str, channels: int, plain: bool, tmp_path: Path
) -> None:
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    if plain:
        Image.fromarray(pixels(channels, 8)).save(path)
    else:
        written(path, channels, 8)
    content = path.read_bytes()
    again.write_bytes(marked(content))
    assert made_here(again) and not made_here(path) and not made_here(tmp_path)
    assert marked(again.read_bytes()) == again.read_bytes()
    first, second = Image.open(path), Image.open(again)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    assert {key: first.info[key] for key in second.info if key != "comment"} == {
        key: value for key, value in second.info.items() if key != "comment"
    }
    raw = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in (path, again)]
    np.testing.assert_array_equal(*raw)
    photo = read_photograph(again)
    write_photograph(path, restored_pixels(photo.image, photo), photo)
    assert path.read_bytes().count(MARK) == 1
