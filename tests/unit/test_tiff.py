"""TIFF of every kind: each reader gives the values that its tags mean, upright, or refuses the file in one line."""

from __future__ import annotations

import hashlib
import itertools
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from baselines.external.baseline import External
from ddnet.config import FolderData
from ddnet.data.folder import index_folder
from ddnet.data.index import Scene, inspect_image
from ddnet.errors import DDNetError
from ddnet.io.images import read_depth16, read_raw_rgb
from ddnet.io.photographs import read_photograph, restored_pixels, write_photograph
from ddnet.restoration.deblur import given_depth

SIZE = (37, 45)
# How a viewer turns what is stored, written out once more and not taken from the code.
UPRIGHT = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: np.rot90(np.fliplr(a)),
    6: lambda a: np.rot90(a, 3), 7: lambda a: np.rot90(np.fliplr(a), 3), 8: np.rot90,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How one file is written."""

    kind: str
    bits: int = 16
    planar: str = "contig"
    orientation: int = 1
    compression: str | None = None
    predictor: bool = False
    order: str = "<"
    layout: dict[str, Any] = field(default_factory=dict)
    big: bool = False

    def __str__(self) -> str:
        words = [self.kind, self.bits, self.planar, self.orientation, self.compression, self.predictor, self.order]
        return "-".join(str(word) for word in [*words, *self.layout, self.big])


# kind -> photometric, samples, extra samples, whether the picture is grey
KINDS: dict[str, tuple[str, int, tuple[int, ...], bool]] = {
    "grey": ("minisblack", 1, (), True),
    "negative": ("miniswhite", 1, (), True),
    "grey+alpha": ("minisblack", 2, (2,), True),
    "negative+alpha": ("miniswhite", 2, (2,), True),
    "grey*alpha": ("minisblack", 2, (1,), True),
    "rgb": ("rgb", 3, (), False),
    "rgb+alpha": ("rgb", 4, (2,), False),
    "rgb*alpha": ("rgb", 4, (1,), False),
    "rgb+other": ("rgb", 4, (0,), False),
    "palette": ("palette", 1, (), False),
}
LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"rowsperstrip": 5}, {"tile": (16, 32)})
COMPRESSIONS = (None, "lzw", "adobe_deflate", "deflate", "packbits", "zstd", "lzma")


def cases(count: int) -> Iterator[Case]:
    """Every value of every property with every kind at least once, the rest drawn."""
    draw = random.Random(22)
    axes: dict[str, tuple[Any, ...]] = {
        "bits": (8, 16), "planar": ("contig", "separate"), "orientation": tuple(range(1, 9)),
        "compression": COMPRESSIONS, "predictor": (False, True), "order": ("<", ">"), "layout": LAYOUTS,
        "big": (False, True),
    }  # fmt: skip
    wanted = [(kind, name, value) for kind in KINDS for name, values in axes.items() for value in values]
    for kind, name, value in itertools.islice(itertools.cycle(wanted), max(count, len(wanted))):
        drawn = {axis: draw.choice(values) for axis, values in axes.items()} | {name: value}
        if name == "predictor" and value:
            drawn["compression"] = draw.choice(("lzw", "adobe_deflate"))
        if drawn["compression"] in (None, "packbits"):
            drawn["predictor"] = False
        if KINDS[kind][1] == 1:
            drawn["planar"] = "contig"
        yield Case(kind, **drawn)


def made(path: Path, case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Write a file; what it shows, (H, W, 3) upright, and its last sample where there is one more."""
    photometric, samples, extra, grey = KINDS[case.kind]
    largest, kind = 2**case.bits - 1, np.uint8 if case.bits == 8 else np.uint16
    draw = np.random.default_rng(7)
    shown = draw.integers(0, largest + 1, (*SIZE, samples)).astype(kind)
    stored, last = shown.copy(), shown[..., -1].copy() if extra else None
    more: dict[str, Any] = {}
    if case.kind == "palette":
        shown, more["colormap"] = looked_up(stored[..., 0], case.bits, draw)
    elif photometric == "miniswhite":
        stored[..., 0] = largest - stored[..., 0]
    elif extra == (1,):
        visible = shown[..., -1:].astype(np.float64)
        stored[..., :-1] = np.rint(shown[..., :-1] * visible / largest)
        shown = np.floor(stored[..., :-1].astype(np.float64) * largest / np.maximum(visible, 1) + 0.5)
        if grey:
            shown = shown[..., :1]
    shown = np.broadcast_to(shown[..., :1], (*SIZE, 3)) if grey else shown[..., :3]
    if case.planar == "separate" and samples > 1:
        stored = np.moveaxis(stored, -1, 0)
    tifffile.imwrite(
        path, stored if samples > 1 else stored[..., 0], photometric=photometric, metadata=None,  # type: ignore[arg-type]
        planarconfig=case.planar if samples > 1 else None, extrasamples=extra or None, compression=case.compression,
        predictor=case.predictor, byteorder=case.order, bigtiff=case.big, **case.layout, **more,
        extratags=[(274, 3, 1, case.orientation, True)],
    )  # fmt: skip
    turn = UPRIGHT[case.orientation]
    return turn(shown), None if last is None else turn(last)


def looked_up(places: np.ndarray, bits: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    palette = draw.integers(0, 65536, (3, 2**bits)).astype(np.uint16)
    return np.moveaxis(palette[:, places], 0, -1), palette


def scene_of(path: Path, shape: tuple[int, ...]) -> Scene:
    return Scene("d", "test", path.stem, "", path, path, None, shape[0], shape[1], 16, "", "")


@pytest.mark.parametrize("case", cases(300), ids=str)
def test_every_reader_sees_what_the_tags_mean(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    shown, last = made(path, case)
    grey = KINDS[case.kind][3]
    bits = 16 if case.kind == "palette" else case.bits
    photo = read_photograph(path)
    assert (photo.bits, photo.grey, photo.orientation) == (bits, grey, 1)
    np.testing.assert_allclose(photo.image * (2**bits - 1), shown, atol=0.01)
    assert (photo.alpha is None) == (last is None)
    if last is not None:
        np.testing.assert_array_equal(photo.alpha, last)
    raw = read_raw_rgb(path)
    assert raw.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(raw, shown)
    found = inspect_image(path)
    assert (found.height, found.width, found.bits) == (*shown.shape[:2], bits)
    external = External(tmp_path)
    external.prepare([scene_of(path, shown.shape)])
    np.testing.assert_allclose(external.restore_scene(scene_of(path, shown.shape)) * (2**bits - 1), shown, atol=0.01)
    if grey and last is None:
        np.testing.assert_allclose(given_depth(path, photo) * (2**bits - 1), shown[..., 0], atol=0.01)
    elif not grey:
        with pytest.raises(DDNetError):
            read_depth16(path)
    copied(path, shown, last, 0 if KINDS[case.kind][2] == (0,) else 2)


def copied(path: Path, shown: np.ndarray, last: np.ndarray | None, extra: int) -> None:
    """What is written is right for tifffile, and for Pillow where that reads such files at all."""
    photo = read_photograph(path)
    copy = path.with_name("copy.tif")
    write_photograph(copy, restored_pixels(photo.image, photo), photo)
    expected = shown[..., 0] if photo.grey else shown
    expected = expected if last is None else np.dstack([expected, last])
    with tifffile.TiffFile(copy) as file:
        page = file.pages.first
        np.testing.assert_array_equal(page.asarray(), expected)
        assert page.photometric == (1 if photo.grey else 2) and page.tags.valueof(274, 1) == 1
        assert page.extrasamples == (() if last is None else (extra,))
    if photo.bits == 8 and extra == 2:
        np.testing.assert_array_equal(np.asarray(Image.open(copy)), expected)


def plain_tiff(tags: dict[int, tuple[int, Any]], body: bytes) -> bytes:
    """A TIFF of one strip without compression, byte by byte, for tags that no library writes."""
    tags = dict(sorted({**tags, 273: (4, 0), 279: (4, len(body))}.items()))
    codes, more = {1: "B", 3: "H", 4: "I"}, b""
    place = 8 + 2 + 12 * len(tags) + 4
    room = sum(-(-struct.calcsize(f"{len(np.atleast_1d(v))}{codes[t]}") // 2) * 2 for t, v in tags.values())
    entries = b""
    for number, (kind, given) in tags.items():
        values = [int(value) for value in np.atleast_1d(given)]
        values = [place + room] if number == 273 else values
        packed = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        if len(packed) > 4:
            at = struct.pack("<I", place + len(more))
            more += packed + b"\0" * (len(packed) % 2)
            packed = at
        entries += struct.pack("<HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + more.ljust(room, b"\0") + body


def packed(values: np.ndarray, bits: int, backwards: bool) -> bytes:
    """(H, W, C) integers of some bits, each row from a byte's beginning."""
    rows = values.reshape(len(values), -1, 1).astype(np.uint32)
    places = (rows >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(places.reshape(len(values), -1), axis=1, bitorder="little" if backwards else "big").tobytes()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("photometric", [0, 1, 2, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14])
def test_few_bits_are_spread_over_the_whole_range(bits: int, photometric: int, backwards: bool, tmp_path: Path) -> None:
    draw, path, samples = np.random.default_rng(bits), tmp_path / "a.tif", 3 if photometric == 2 else 1
    values = draw.integers(0, 2**bits, (*SIZE, samples))
    tags: dict[int, tuple[int, Any]] = {
        256: (3, SIZE[1]), 257: (3, SIZE[0]), 258: (3, [bits] * samples), 259: (3, 1), 262: (3, photometric),
        266: (3, 2 if backwards else 1), 277: (3, samples), 278: (3, SIZE[0]),
    }  # fmt: skip
    shown = np.broadcast_to(values / (2**bits - 1), (*SIZE, 3))
    if photometric == 0:
        shown = 1 - shown
    if photometric == 3:
        palette = draw.integers(0, 256, (3, 2**bits))
        shown = np.moveaxis(palette[:, values[..., 0]], 0, -1) / 255
        tags[320] = (3, palette.ravel() * 257)
    path.write_bytes(plain_tiff(tags, packed(values, bits, backwards)))
    photo = read_photograph(path)
    assert photo.bits == (8 if bits <= 8 or photometric == 3 else 16)
    np.testing.assert_allclose(photo.image, shown, atol=0.5 / (2**photo.bits - 1) + 1e-6)
    np.testing.assert_allclose(read_raw_rgb(path) / (2**photo.bits - 1), photo.image, atol=1e-6)


def plain_tags(samples: int = 3, bits: Any = 8, photometric: int | None = 2, **more: Any) -> dict[int, tuple[int, Any]]:
    tags = {256: (3, 4), 257: (3, 3), 258: (3, bits), 259: (3, 1), 277: (3, samples), 278: (3, 3)}
    if photometric is not None:
        tags[262] = (3, photometric)
    return tags | {int(number[1:]): (3, value) for number, value in more.items()}


BODY = bytes(range(96, 0, -1))
REFUSED: dict[str, tuple[dict[int, tuple[int, Any]], str]] = {
    "CMYK": (plain_tags(4, photometric=5), "pixels are CMYK"),
    "CIELab": (plain_tags(photometric=8), "pixels are CIELab"),
    "ICCLab": (plain_tags(photometric=9), "pixels are ICCLab"),
    "a mask": (plain_tags(1, 1, 4), "pixels are a mask"),
    "YCbCr": (plain_tags(photometric=6), "pixels are YCbCr"),
    "a sensor": (plain_tags(1, photometric=32803), "camera's raw"),
    "linear raw": (plain_tags(3, photometric=34892), "camera's raw"),
    "logarithms": (plain_tags(photometric=32845), "do not say that it is grey or RGB"),
    "no photometric": (plain_tags(photometric=None), "do not say that it is grey or RGB"),
    "unequal bits": (plain_tags(bits=[5, 6, 5]), "not integers of 8 or 16 bits"),
    "32 bits": (plain_tags(bits=32), "not integers of 8 or 16 bits"),
    "64 bits": (plain_tags(1, 64, 1), "not integers of 8 or 16 bits"),
    "signed": (plain_tags(bits=16, t339=2), "not integers of 8 or 16 bits"),
    "half floats": (plain_tags(1, 16, 1, t339=3), "not integers of 8 or 16 bits"),
    "floats": (plain_tags(1, 32, 1, t339=3), "not integers of 8 or 16 bits"),
    "complex": (plain_tags(1, 64, 1, t339=6), "not integers of 8 or 16 bits"),
    "mixed formats": (plain_tags(bits=16, t339=[1, 2, 1]), "not a readable image"),
    "two colours": (plain_tags(2), "neither grey nor RGB"),
    "five samples": (plain_tags(5, t338=[0, 0]), "neither grey nor RGB"),
    "grey and two": (plain_tags(3, photometric=1, t338=[0, 0]), "neither grey nor RGB"),
    "extra, but none": (plain_tags(3, t338=1), "neither grey nor RGB"),
    "extra of no kind": (plain_tags(4, t338=7), "extra sample is of no known kind"),
    "not multiplied": (plain_tags(4, t338=1), "not multiplied by alpha, as its tags say"),
    "negative, multiplied": (plain_tags(2, photometric=0, t338=1), "cannot be multiplied by alpha"),
    "planes of no kind": (plain_tags(t284=3), "neither grey nor RGB"),
    "no palette": (plain_tags(1, photometric=3), "palette is missing"),
    "short palette": (plain_tags(1, photometric=3, t320=[1] * 48), "palette is missing"),
    "rare compression": (plain_tags(t259=34712), "compressed in a rare way"),
    "old JPEG": (plain_tags(t259=6), "a rare way"),
    "differences, not compressed": (plain_tags(t317=2), "Predictor 2 does not go with"),
    "differences of floats": (plain_tags(t259=8, t317=3), "Predictor 3 does not go with"),
    "differences of 4 bits": (plain_tags(1, 4, 1, t259=8, t317=2), "Predictor 2 does not go with"),
    "a reduced copy": (plain_tags(t254=1), "camera's raw"),
    "volume": (plain_tags(t32997=2), "2 pictures in one file"),
}  # fmt: skip


def refused(path: Path, words: str) -> None:
    readers = [read_photograph, read_raw_rgb, inspect_image, read_depth16, lambda p: given_depth(p, Any)]  # type: ignore
    for read in readers:
        with pytest.raises(DDNetError) as caught:
            read(path)  # type: ignore[operator]
        said = str(caught.value)
        assert said.startswith(str(path)) and words in said and "\n" not in said and len(said) < 400
    with pytest.raises(DDNetError, match="1 of 1 restored pictures cannot be used") as caught:
        External(path.parent).prepare([scene_of(path, (3, 4))])
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_not_be_read_rightly_is_refused_by_every_reader(kind: str, tmp_path: Path, capfd: Any) -> None:
    tags, words = REFUSED[kind]
    (tmp_path / "a.tif").write_bytes(plain_tiff(tags, BODY))
    refused(tmp_path / "a.tif", words)
    assert capfd.readouterr() == ("", "")


def test_plain_tags_alone_are_taken(tmp_path: Path) -> None:
    """What the refused ones have wrong is what they are refused for."""
    path = tmp_path / "a.tif"
    path.write_bytes(plain_tiff(plain_tags(), BODY))
    np.testing.assert_array_equal(read_raw_rgb(path).ravel(), list(BODY[:36]))
    path.write_bytes(plain_tiff(plain_tags(4), BODY))  # without ExtraSamples a fourth is alpha
    assert read_photograph(path).alpha is not None


def test_several_pictures_are_refused_and_smaller_copies_are_none(tmp_path: Path) -> None:
    path, draw = tmp_path / "a.tif", np.random.default_rng(0)
    first, second = (draw.integers(0, 65536, (40, 48, 3)).astype(np.uint16) for _ in range(2))
    for kind, taken in ((0, False), (2, False), (4, False), (1, True)):
        with tifffile.TiffWriter(path) as file:
            file.write(first, photometric="rgb", metadata=None)
            file.write(second[::2, ::2, 0] > 9, photometric="minisblack", metadata=None, subfiletype=kind)
        if taken:
            np.testing.assert_array_equal(read_raw_rgb(path), first)
        else:
            refused(path, "2 pictures in one file")
    with tifffile.TiffWriter(path) as file:
        file.write(first, photometric="rgb", metadata=None, subifds=1)
        file.write(second[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read_raw_rgb(path), first)


@pytest.mark.parametrize(
    ("mode", "compression"), [("1", "group3"), ("1", "group4"), ("1", "tiff_ccitt"), ("L", "jpeg"), ("RGB", "jpeg")]
)
def test_fax_and_jpeg_are_what_pillow_makes_of_them(mode: str, compression: str, tmp_path: Path) -> None:
    import cv2

    noise = np.random.default_rng(1).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    Image.fromarray(smooth).convert(mode).save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as opened:
        expected = np.asarray(opened.convert("RGB")).astype(int)
    # Decoders of JPEG may differ by a level.
    np.testing.assert_allclose(read_raw_rgb(tmp_path / "a.tif"), expected, atol=2 if compression == "jpeg" else 0)


def test_a_damaged_file_is_refused_or_the_same_each_time(tmp_path: Path, capfd: Any) -> None:
    """Nothing of what lay in memory before may get into a picture."""
    path, draw = tmp_path / "a.tif", random.Random(0)
    for case in cases(0):
        if draw.random() < 0.75:
            continue
        made(path, case)
        whole = path.read_bytes()
        for _ in range(4):
            content = bytearray(whole)
            if draw.random() < 0.3:
                del content[draw.randrange(8, len(content)) :]
            for _ in range(draw.randrange(1, 4)):
                content[draw.randrange(8, len(content)) if len(content) > 8 else 4] = draw.randrange(256)
            path.write_bytes(content)
            digests = set()
            for filler in (0, 255):
                lying = [np.full(SIZE[0] * SIZE[1] * samples, filler, np.uint16) for samples in (1, 2, 3, 4)]
                del lying
                try:
                    digests.add(hashlib.sha256(read_raw_rgb(path).tobytes()).hexdigest())
                except DDNetError as error:
                    assert "\n" not in str(error) and str(error).startswith(str(path))
                    digests.add("refused")
            assert len(digests) == 1
    assert capfd.readouterr() == ("", "")


def test_four_fresh_processes_read_the_same(tmp_path: Path) -> None:
    paths = []
    for number, case in enumerate(case for case in cases(0) if case.planar == "separate" and case.bits == 16):
        made(path := tmp_path / f"{number}.tif", case)
        paths.append(str(path))
    code = (
        "import sys, hashlib\nfrom ddnet.io.images import read_raw_rgb\n"
        "print(hashlib.sha256(b''.join(read_raw_rgb(path).tobytes() for path in sys.argv[1:])).hexdigest())"
    )
    said = {subprocess.check_output([sys.executable, "-c", code, *paths[:20]]) for _ in range(4)}
    ours = hashlib.sha256(b"".join(read_raw_rgb(path).tobytes() for path in paths[:20])).hexdigest()
    assert said == {f"{ours}\n".encode()}


def test_pages_and_odd_tags_in_a_folder_of_pairs_are_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for role in ("source", "target"):
        (tmp_path / role).mkdir()
        for name in "abc":
            tifffile.imwrite(
                tmp_path / role / f"{name}.tif", draw.integers(0, 65536, (3, 40, 48)).astype(np.uint16),
                photometric="rgb", planarconfig="separate",
            )  # fmt: skip
    data = FolderData(kind="folder", path=str(tmp_path))
    assert len(index_folder(data)) == 3
    stack = draw.integers(0, 65536, (2, 40, 48, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "target/b.tif", stack, photometric="rgb")
    with pytest.raises(DDNetError, match=r"target/b.tif: 2 pictures in one file; save the one that is meant"):
        index_folder(data)
    tifffile.imwrite(tmp_path / "target/b.tif", stack[0], photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    with pytest.raises(DDNetError, match=r"target/b.tif: its EXIF orientation \(6\)"):
        index_folder(data)


def test_a_jpeg_within_that_claims_to_be_enormous_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, compression="jpeg")
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(content)
    refused(path, "a part of it has another size")
    for number, value in ((256, 60_000), (257, 60_000)):
        tags = plain_tags() | {number: (4, value), 513 - number: (4, 60_000)}
        path.write_bytes(plain_tiff(tags, BODY))
        refused(path, "of more than 180 million pixels")
