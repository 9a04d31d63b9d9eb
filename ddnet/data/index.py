"""The scene index: one CSV row per image/target pair, whatever dataset it comes from."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path, listable, read_rows, sha256
from ddnet.io.images import RawArray, bit_depth, read_raw_rgb
from ddnet.io.limits import MOST_PIXELS
from ddnet.runtime.log import Progress
from ddnet.runtime.resources import cpu_count

COLUMNS = (
    "dataset", "split", "scene", "location", "image", "target", "depth_m",
    "height", "width", "bits", "image_sha256", "target_sha256", "left", "right", "left_sha256", "right_sha256",
)  # fmt: skip
PATHS = ("image", "target", "depth_m", "left", "right")

# Monodepth2's disparity convention, 1/z mapped linearly onto [0, 1], with a nearest distance that fits photographs.
NEAREST_M, FARTHEST_M = 0.5, 100.0

MOST_THREADS = 8  # each holds two whole images; beyond this, disks are the limit


@dataclass(frozen=True)
class Scene:
    """One item: a defocused image, its all-in-focus target, and where they are known the true depth and the two views.

    The views are those of a dual-pixel sensor, which the image is the mean of; there are both or none.
    """

    dataset: str
    split: str
    scene: str
    location: str
    image: Path
    target: Path
    depth_m: Path | None
    height: int
    width: int
    bits: int
    image_sha256: str
    target_sha256: str
    left: Path | None = None
    right: Path | None = None
    left_sha256: str = ""
    right_sha256: str = ""

    @property
    def views(self) -> tuple[Path, Path] | None:
        """The left and the right view; None where they are not known."""
        return (self.left, self.right) if self.left and self.right else None

    @property
    def key(self) -> str:
        """`dataset/split/scene`, unique in an index and the tail of every path that belongs to the scene."""
        return f"{self.dataset}/{self.split}/{self.scene}"


@dataclass(frozen=True)
class ImageFile:
    """What an image file turned out to be: its size, bits per channel (8 or 16) and the SHA-256 of its bytes."""

    path: Path
    height: int
    width: int
    bits: int
    spread: bool  # a 16-bit file with no more than 8 bits in it
    sha256: str
    pixels: str  # SHA-256 of what it shows, whatever the format of the file

    def __str__(self) -> str:
        """In words, for messages."""
        return f"{self.width} x {self.height} at {self.bits} bits"


class PairFiles(NamedTuple):
    """The files of a scene before anybody looked into them."""

    split: str
    scene: str
    location: str
    image: Path
    target: Path
    views: tuple[Path, Path] | None = None


def normalised_inverse_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Metres to inverse depth in [0, 1], shape kept: 0.5 m or nearer is 1; 100 m, farther or unknown (+inf) is 0."""
    inverse = 1.0 / np.maximum(depth_m, 1e-6)
    scaled = (inverse - 1.0 / FARTHEST_M) / (1.0 / NEAREST_M - 1.0 / FARTHEST_M)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def inspect_image(path: Path) -> ImageFile:
    """Read a whole image and say what it is.

    Raises:
        DDNetError: the file is missing, cut short, not an image of 8 or 16 bits, or nobody may read it.
    """
    try:
        digest = sha256(path)
    except OSError as error:
        raise DDNetError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from None
    _check_jpeg(path)
    raw = read_raw_rgb(path)  # which refuses PNG, TIFF and BMP that end early or (PNG) fail their checksums
    pixels = hashlib.sha256(raw.data).hexdigest()
    return ImageFile(path, raw.shape[0], raw.shape[1], bit_depth(raw), _is_spread(raw), digest, pixels)


def _check_jpeg(path: Path) -> None:
    """Of a JPEG that ends early OpenCV fills up a part with grey and says nothing; Pillow refuses it and says why."""
    from PIL.JpegImagePlugin import JpegImageFile  # `Image.open` would refuse a large one as a decompression bomb

    with path.open("rb") as stream:
        if stream.read(2) != b"\xff\xd8":
            return
    try:
        with JpegImageFile(path) as image:
            if image.width * image.height <= MOST_PIXELS:
                image.load()
    except (OSError, SyntaxError) as error:
        raise DDNetError(f"{path}: a damaged JPEG ({error}); copy or export it again") from None


def _is_spread(raw: RawArray) -> bool:
    """Whether 16-bit values are 8-bit ones times 257 or 256; an ordinary 16-bit image is through with its first row."""
    return raw.dtype == np.uint16 and any(all(not (row % step).any() for row in raw) for step in (257, 256))


def image_problem(path: Path, problem: Callable[[ImageFile], str] = lambda found: "") -> str:
    """Why a file is no readable image, or not the one it has to be, in words without its path; empty where it is."""
    try:
        return problem(inspect_image(path))
    except DDNetError as error:
        return str(error).removeprefix(f"{path}: ")


def inspect_images(
    paths: Sequence[Path], what: str, problem: Callable[[ImageFile], str] = lambda found: ""
) -> list[ImageFile]:
    """`inspect_image` of many files in parallel, in their order; `what` names them in the log.

    Args:
        problem: why a file is not what it has to be, in words; empty where it is.

    Raises:
        DDNetError: of the first file, in order, that is unreadable or has a problem.
    """
    progress = Progress(f"{what}: checking", len(paths))

    def one(path: Path) -> ImageFile:
        found = inspect_image(path)
        if words := problem(found):
            raise DDNetError(f"{path}: {words}")
        progress.advance()
        return found

    with ThreadPoolExecutor(min(MOST_THREADS, cpu_count())) as threads:
        return list(threads.map(one, paths))


def _scene(
    dataset: str,
    split: str,
    scene: str,
    location: str,
    image: ImageFile,
    target: ImageFile,
    depth_m: Path | None,
    views: Sequence[ImageFile],
) -> Scene:
    for name, other in zip(("target", "left view", "right view"), (target, *views), strict=False):
        if (image.height, image.width, image.bits) != (other.height, other.width, other.bits):
            raise DDNetError(
                f"{image.path}: {image}, but its {name} {other.path} is {other}; "
                "a pair must agree in size and bit depth and is never resized"
            )
    made = Scene(
        dataset, split, scene, location, image.path, target.path, depth_m,
        image.height, image.width, image.bits, image.sha256, target.sha256,
    )  # fmt: skip
    if not views:
        return made
    left, right = views
    return replace(made, left=left.path, right=right.path, left_sha256=left.sha256, right_sha256=right.sha256)


def describe_pair(
    dataset: str,
    split: str,
    scene: str,
    location: str,
    image: Path,
    target: Path,
    depth_m: Path | None,
    views: tuple[Path, Path] | None = None,
) -> Scene:
    """Read one pair, with its left and right view where there are `views`, and make its index entry.

    Raises:
        DDNetError: a file is missing or unreadable, or they differ in size or bit depth.
    """
    whole, sharp, *seen = (inspect_image(path) for path in (image, target, *(views or ())))
    return _scene(dataset, split, scene, location, whole, sharp, depth_m, seen)


def describe_pairs(
    dataset: str,
    pairs: Sequence[PairFiles],
    digests: Mapping[Path, str] | None = None,
    problem: Callable[[ImageFile], str] = lambda found: "",
) -> list[Scene]:
    """Read many pairs, in parallel, and make their index entries in the order given.

    Args:
        digests: file -> its SHA-256 when it was first seen; every file must still have it. None: not known.
        problem: as in `inspect_images`.

    Raises:
        DDNetError: a file is missing, unreadable, changed or has a problem, or a pair or its views differ in size or
            bit depth, or a pair shows the same picture twice.
    """

    def any_problem(found: ImageFile) -> str:
        if digests is not None and digests.get(found.path) != found.sha256:
            return (
                "its SHA-256 is not the one recorded when it was first seen; the file has changed: "
                "put the original back, or move it aside and fetch again (snakemake with --forcerun fetch_item)"
            )
        return problem(found)

    files = [(pair.image, pair.target, *(pair.views or ())) for pair in pairs]
    found = iter(inspect_images([file for those in files for file in those], dataset, any_problem))
    described = [[next(found) for _ in those] for those in files]
    for image, target, *_ in described:
        if image.pixels == target.pixels:
            raise DDNetError(
                f"{image.path}: shows the very pixels of its target {target.path}: nothing to restore, and its PSNR "
                "would be infinite; put the defocused photograph there, or move the pair elsewhere"
            )
    return [
        _scene(dataset, pair.split, pair.scene, pair.location, image, target, None, views)
        for pair, (image, target, *views) in zip(pairs, described, strict=True)
    ]


def write_index(path: str | Path, scenes: Sequence[Scene]) -> None:
    """Write the index CSV.

    Paths of files inside the index's folder or inside the working directory are stored relative to that folder, so
    that the project can be moved; those of other files are absolute.
    """
    root = Path(path).parent
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for scene in sorted(scenes, key=lambda item: item.key):
            row = {name: getattr(scene, name) for name in COLUMNS}
            for name in PATHS:
                row[name] = _stored(row[name], root).as_posix() if row[name] else ""
            writer.writerow(row)


def _stored(file: Path, root: Path) -> Path:
    """A file's path as the index in `root` keeps it; links on the way to the data stay links."""
    whole, here = _normal(file.absolute()), Path.cwd()
    for inside, base in ((whole, _normal(root.absolute())), (whole.resolve(), root.resolve())):
        if inside.is_relative_to(base):
            return inside.relative_to(base)
    if whole.is_relative_to(here) and root.resolve().is_relative_to(here):
        return Path(os.path.relpath(whole, root.resolve()))
    return whole


def _normal(path: Path) -> Path:
    """Without `..`, and unlike `Path.resolve` without following links."""
    return Path(os.path.normpath(path))


def _located(stored: str, root: Path) -> Path:
    """The inverse of `_stored`, without `..` on the way."""
    if ".." not in Path(stored).parts:
        return root / stored
    whole, here = _normal(root.resolve() / stored), Path.cwd()
    return whole.relative_to(here) if not root.is_absolute() and whole.is_relative_to(here) else whole


def read_index(path: str | Path, dataset: str | None = None, split: str | None = None) -> list[Scene]:
    """Read the index, optionally only one dataset and/or split, in the order of the scene keys.

    Raises:
        DDNetError: no such file, an index of another version, or a line that is none.
    """
    root = Path(path).parent
    scenes = []
    for record in read_rows(path, COLUMNS, fix := "move it aside and index the data again"):
        row: dict[str, Any] = dict(record)
        if problem := _row_problem(record):
            raise DDNetError(f"{path}: {problem}; {fix}")
        if (dataset and row["dataset"] != dataset) or (split and row["split"] != split):
            continue
        row |= {name: _located(row[name], root) if row[name] else None for name in PATHS}
        row |= {name: int(row[name]) for name in ("height", "width", "bits")}
        scenes.append(Scene(**row))
    if len({scene.key for scene in scenes}) < len(scenes):
        raise DDNetError(f"{path}: a scene stands there twice; {fix}")
    return scenes


def _row_problem(row: Mapping[str, str]) -> str:
    """Why a line of the index is none, in words; empty where it is one."""
    for name in ("dataset", "split", "scene"):
        if not row[name] or row[name] in (".", "..") or not row[name].isprintable() or {*row[name]} & {*"/\\"}:
            return f"'{name}' is {row[name][:40]!r}, which names no file"
    for name in ("height", "width", "bits"):
        if not (row[name].isascii() and row[name].isdigit() and 0 < len(row[name]) < 7 and int(row[name])):
            return f"'{name}' is {row[name][:40]!r}, not a number from 1 on"
    if not row["image"] or not row["target"] or bool(row["left"]) != bool(row["right"]):
        return f"scene {row['scene']} lacks an image, a target or one of two views"
    if bad := [name for name in PATHS if not listable(row[name]) or len(row[name]) > 4000]:
        return f"'{bad[0]}' is {row[bad[0]][:40]!r}, which names no file"
    return ""


def panel_scenes(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """The scenes that pictures show: of each dataset `count`, evenly spaced in the order of the keys.

    The choice rests on names alone, never on how well a method did.
    """
    chosen = []
    for dataset in sorted({scene.dataset for scene in scenes}):
        ours = sorted((scene for scene in scenes if scene.dataset == dataset), key=lambda scene: scene.key)
        wanted = min(count, len(ours))
        chosen += [ours[(2 * place + 1) * len(ours) // (2 * wanted)] for place in range(wanted)]
    return chosen
