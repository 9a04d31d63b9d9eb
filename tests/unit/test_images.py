"""Image files at their own bit depth, and the padding that a pyramid needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hostile import PLAIN, STEERING, possible

from ddnet.errors import DDNetError
from ddnet.io.images import (
    FloatArray,
    bit_depth,
    quantise,
    read_depth16,
    read_image,
    read_raw_rgb,
    write_depth16,
    write_image,
)
from ddnet.io.tensors import crop_to, pad_to_multiple, to_array, to_tensor


def _ramp(height: int = 5, width: int = 7) -> FloatArray:
    return np.random.default_rng(3).random((height, width, 3), np.float32)


def test_sixteen_bits_survive_a_round_trip(tmp_path: Path) -> None:
    raw = np.arange(65536, dtype=np.uint16)[: 3 * 21845].reshape(-1, 5, 3)  # nearly every 16-bit value
    write_image(tmp_path / "a.png", (raw / 65535).astype(np.float32))
    found = read_raw_rgb(tmp_path / "a.png")
    assert bit_depth(found) == 16
    assert np.array_equal(found, raw)


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_error_is_half_a_level(bits: int, tmp_path: Path) -> None:
    image = _ramp()
    write_image(tmp_path / "a.png", image, bits=bits)
    found = read_image(tmp_path / "a.png")
    assert found.dtype == np.float32 and found.shape == image.shape
    assert np.abs(found - image).max() <= 0.5 / (2**bits - 1) + 1e-7


def test_channels_are_rgb_as_another_reader_sees_them(tmp_path: Path) -> None:
    from PIL import Image

    image = np.zeros((4, 6, 3), np.float32)
    image[..., 0] = 1.0
    write_image(tmp_path / "red.png", image, bits=8)
    with Image.open(tmp_path / "red.png") as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert np.array_equal(read_image(tmp_path / "red.png"), image)


def test_values_outside_the_range_are_clipped_and_bits_checked() -> None:
    assert quantise(np.array([-1.0, 0.5, 2.0], np.float32), 8).tolist() == [0, 128, 255]
    with pytest.raises(DDNetError, match="bits is 12; allowed are 8 and 16"):
        quantise(_ramp(), 12)


def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert np.array_equal(read_raw_rgb(tmp_path / "grey.png"), np.dstack([grey] * 3))
    bgra = np.dstack([grey, grey + 50, grey + 100, grey + 150])
    cv2.imwrite(str(tmp_path / "alpha.png"), bgra)
    assert np.array_equal(read_raw_rgb(tmp_path / "alpha.png"), bgra[..., 2::-1])


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"missing.png: no such image file"):
        read_image(tmp_path / "missing.png")
    (tmp_path / "page.png").write_text("<html>quota exceeded</html>", encoding="utf-8")
    with pytest.raises(DDNetError, match=r"page.png: not a readable image"):
        read_image(tmp_path / "page.png")
    cv2.imwrite(str(tmp_path / "float.tiff"), np.ones((3, 3), np.float32))
    with pytest.raises(DDNetError, match=r"float.tiff: its pixels are not integers of 8 or 16 bits"):
        read_image(tmp_path / "float.tiff")


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises((DDNetError, cv2.error)):
        write_image(tmp_path / "picture.unknown", _ramp())
    assert list(tmp_path.iterdir()) == []


def test_depth_round_trip_and_channel_check(tmp_path: Path) -> None:
    depth = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    write_depth16(tmp_path / "depth.png", depth)
    found = read_depth16(tmp_path / "depth.png")
    assert found.shape == (5, 7) and found.dtype == np.float32
    assert np.abs(found - depth).max() <= 0.5 / 65535 + 1e-7
    write_image(tmp_path / "colour.png", _ramp())
    with pytest.raises(DDNetError, match=r"colour.png: a depth map has one channel, this file has 3"):
        read_depth16(tmp_path / "colour.png")


@pytest.mark.parametrize("size", [(16, 32), (17, 31), (40, 33), (3, 5)])
def test_pad_and_crop_are_inverse(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    padded, original = pad_to_multiple(x, 16)
    assert all(side % 16 == 0 and side - 16 < given for side, given in zip(padded.shape[-2:], size, strict=True))
    assert torch.equal(crop_to(padded, original), x)


def test_padding_mirrors_without_repeating_the_border() -> None:
    x = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 1, 4, 10)
    padded, _ = pad_to_multiple(x, 4)
    assert padded[0, 0, 0, 8:].tolist() == [8, 9, 8, 7]


def test_arrays_and_tensors_are_inverse() -> None:
    image = _ramp()
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor[0, 2, 4, 6] == image[4, 6, 2]
    assert np.array_equal(to_array(tensor), image)
    assert to_tensor(image[..., 0]).shape == (1, 1, 5, 7)


def test_a_few_bytes_that_claim_to_be_an_enormous_picture_are_refused_unread(tmp_path: Path) -> None:
    """60,000 x 60,000 grey pixels, all of them there, compressed a thousandfold: 3.6 GB."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side, packer = 60_000, zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    with pytest.raises(DDNetError, match=r"bomb.png: not a readable image .*of more than 180 million pixels"):
        read_image(bomb)


@pytest.mark.parametrize("stem", STEERING + PLAIN)
def test_pictures_of_any_name_are_read_and_no_library_prints_it(
    stem: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in possible([stem], tmp_path, ".png"):
        path = tmp_path / f"{name}.png"
        write_image(path, np.full((3, 4, 3), 0.5, np.float32))
        assert read_image(path).shape == (3, 4, 3)
        path.write_bytes(b"no picture")
        with pytest.raises(DDNetError, match="not a readable image"):
            read_image(path)
    assert capfd.readouterr() == ("", "")
