"""Photographs of every format that `ddnet deblur` reads, with all that their files say, and the networks it carries."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageCms

from ddnet.io.photographs import Photograph, converted, mean_change, read_photograph, restored_pixels, write_photograph
from ddnet.io.photographs._encode import encode_png, encode_tiff
from ddnet.io.photographs._metadata import png_with
from ddnet.restoration.deblur import given_depth
from ddnet.restoration.release import RELEASE, WITHOUT_DEPTH, load_carried

_TIFFS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("planes.tif", "rgb", {"planarconfig": "separate", "extratags": [(274, 3, 1, 6, True)]}),
    ("negative.tif", "miniswhite", {"byteorder": ">", "rowsperstrip": 5, "compression": "packbits"}),
    ("tiles.tif", "rgb", {"tile": (16, 16), "compression": "lzw", "predictor": True, "bigtiff": True}),
)

Made = tuple[str, Path, Callable[[], Any]]


def _again(path: Path) -> Photograph:
    """Read, write with what the file says, and read what was written: what is taken must be whole."""
    photo = read_photograph(path)
    copy = path.with_name(f"copy{path.suffix}")
    pixels = restored_pixels(photo.image, photo)
    write_photograph(copy, pixels, photo)
    again = read_photograph(copy)
    lossy = photo.container == "JPEG" or (photo.container == "WebP" and not photo.lossless)
    assert again.image.shape == photo.image.shape
    assert lossy or mean_change(restored_pixels(again.image, photo), photo) == 0.0
    for container in ("PNG", "TIFF", "WebP"):  # a JPEG may have to refuse it
        like = converted(photo, container)
        write_photograph(copy, restored_pixels(photo.image, like), like)
        assert read_photograph(copy).image.shape == photo.image.shape
    return photo


def photograph_files(folder: Path) -> Iterator[Made]:
    """Kind, file and reader."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    deep = draw.integers(0, 65536, (24, 40, 3)).astype(np.uint16)
    plain = (deep >> 8).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = Image.Exif()
    tags[271], tags[274] = "Maker", 6
    tags.get_ifd(34665)[37386] = 4.5
    said = [(b"iCCP", b"own\0\0" + zlib.compress(profile)), (b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0"))]
    record = {271: "Maker", 274: 6, 34675: profile, 34665: {37386: 4.5}}
    for name, pixels in (("a8.png", plain), ("a16.png", deep), ("grey.png", deep[..., :2])):
        (folder / name).write_bytes(png_with(encode_png(pixels), said))
    for name, pixels in (("a8.tif", plain), ("a16.tif", deep)):
        (folder / name).write_bytes(encode_tiff(pixels, record))
    for name, pixels, options in _TIFFS:
        stored = deep[..., :3] if pixels == "rgb" else deep[..., 0]
        stored = np.moveaxis(stored, 2, 0) if options.get("planarconfig") == "separate" else stored
        tifffile.imwrite(folder / name, stored, photometric=pixels, metadata=None, **options)
    Image.fromarray(plain).save(folder / "jpeg.tif", compression="jpeg")
    Image.fromarray(plain).convert("1").save(folder / "fax.tif", compression="group4")
    Image.fromarray(plain).quantize(16).save(folder / "palette.tif")
    for name in ("a.jpg", "a.webp"):
        Image.fromarray(plain).save(folder / name, exif=tags, icc_profile=profile, comment="mine")
    for file in sorted(folder.iterdir()):
        yield f"photograph {file.name}", file, lambda file=file: _again(file)
    upright, maps = read_photograph(folder / "a.jpg"), folder / "map.npy"
    np.save(maps, draw.random((12, 20)))
    yield "depth map of one's own", maps, lambda: given_depth(maps, upright)
    carried = folder / "release"
    shutil.copytree(RELEASE, carried)
    for name in ("manifest.json", f"{WITHOUT_DEPTH}.pt"):
        yield f"carried network: {name}", carried / name, lambda: load_carried(WITHOUT_DEPTH, carried)
