"""DPDD and RealDOF in miniature: official names and layouts, true 16-bit PNGs, pictures that a network can learn from.

Import it as `from miniature import make_dpdd`: pytest puts the folder of `conftest.py` on the path. All 500 pairs of
64 x 96 take about 3 s and 33 MB.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ddnet.config import Trial
from ddnet.data.dpdd import official_pairs
from ddnet.io.images import RawArray, quantise

SIGMA = 1.5  # blur of the sources, pixels

# layout -> folder of a role in a split
DPDD_FOLDERS = {
    "hub": {"source": "{split}_c/source", "target": "{split}_c/target"},
    "zip": {
        "source": "dd_dp_dataset_canon/dd_dp_dataset_png/{split}_c/source",
        "target": "dd_dp_dataset_canon/dd_dp_dataset_png/{split}_c/target",
    },
    "restormer": {"source": "{split}/DPDD/inputC", "target": "{split}/DPDD/target"},
}
# layout -> what else lies there and is not wanted; {stem} is that of a split's first source
DPDD_OTHERS = {
    "hub": ("{split}_l/source/{stem}.png", "{split}_r/source/{stem}_R.png"),
    "zip": (
        "dd_dp_dataset_canon/dd_dp_dataset_png/{split}_l/source/{stem}.png",
        "__MACOSX/dd_dp_dataset_canon/dd_dp_dataset_png/{split}_c/source/._{stem}.png",
    ),
    "restormer": ("{split}/DPDD/inputL/{stem}.png", "{split}/DPDD/indoor_labels.npy"),
}


def make_pair(size: tuple[int, int], *seeds: int) -> tuple[RawArray, RawArray]:
    """A source and its target: (H, W, 3) uint16 texture with edges, the source blurred; all 65,536 levels in use."""
    rng = np.random.default_rng(seeds)
    height, width = size
    target = np.full((height, width, 3), 0.5, np.float32)
    for step, weight in ((16, 0.5), (6, 0.3), (3, 0.25)):
        grid = rng.random((height // step + 2, width // step + 2, 3), np.float32) - 0.5
        target += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        (top, bottom), (left, right) = np.sort(rng.integers(0, height, 2)), np.sort(rng.integers(0, width, 2))
        target[top:bottom, left:right] = 0.5 * target[top:bottom, left:right] + 0.5 * rng.random(3, np.float32)
    target = np.clip(target, 0, 1)
    source = np.asarray(cv2.GaussianBlur(target, (0, 0), SIGMA), np.float32)
    return quantise(source), quantise(target)


def write_png(path: Path, raw: RawArray) -> None:
    """An (H, W, 3) integer image, RGB, as PNG of its own bit depth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(raw))


def _png(raw: RawArray) -> bytes:
    return cv2.imencode(".png", raw[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


# layout -> the two views of a training scene
DPDD_VIEWS = {
    "hub": ("train_l/source/{stem}_L.png", "train_r/source/{stem}_R.png"),
    "zip": (
        "dd_dp_dataset_canon/dd_dp_dataset_png/train_l/source/{stem}_L.png",
        "dd_dp_dataset_canon/dd_dp_dataset_png/train_r/source/{stem}_R.png",
    ),
    "restormer": ("train/DPDD/inputL/{stem}.png", "train/DPDD/inputR/{stem}.png"),
}


def make_dpdd(
    folder: Path,
    layout: str = "hub",
    size: tuple[int, int] = (64, 96),
    trial: Trial | None = None,
    seed: int = 0,
    views: bool = False,
) -> Path:
    """Write DPDD in miniature under `folder`: the 500 official pairs, or with `trial` the first of each split.

    Args:
        folder: may exist; gets the folders of the layout.
        layout: "hub" (`train_c/source/..`), "zip" (the authors' tree, packed) or "restormer"
            (`train/DPDD/inputC/..`); each with some files of the kind that real copies also hold.
        size: height and width.
        trial: how many pairs.
        seed: of the pictures; the same for the same name in every layout.
        views: also the left and right views of the training scenes: the source, moved a pixel to either side.

    Returns:
        The folder, or the zip file in it.
    """
    root = folder / "unpacked" if layout == "zip" else folder
    for number, pair in enumerate(official_pairs(trial)):
        source, target = make_pair(size, seed, number)
        for role, stem, raw in (("source", pair.source, source), ("target", pair.target, target)):
            write_png(root / DPDD_FOLDERS[layout][role].format(split=pair.split) / f"{stem}.png", raw)
        for name, shift in zip(DPDD_VIEWS[layout], (-1, 1), strict=True) if views and pair.split == "train" else ():
            write_png(root / name.format(stem=pair.source), np.roll(source, shift, axis=1))
    for split in ("train", "val", "test"):
        stem = next(pair.source for pair in official_pairs() if pair.split == split)
        for other in () if views and split == "train" else DPDD_OTHERS[layout]:
            path = root / other.format(split=split, stem=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"not wanted")
    return zip_folder(root, folder / "dd_dp_dataset_canon.zip") if layout == "zip" else folder


def make_realdof(
    folder: Path, count: int = 50, size: tuple[int, int] = (80, 112), layout: str = "folder", seed: int = 0
) -> Path:
    """Write RealDOF in miniature under `folder`.

    Args:
        folder: may exist.
        count: pairs; the real set has 50.
        size: height and width.
        layout: "folder" (`RealDOF/{source,target}/0000.png`) or "parquet" (two files, an image column per role).
        seed: of the pictures.

    Returns:
        The folder.
    """
    pairs = ((number, *make_pair(size, seed, 1000 + number)) for number in range(count))
    if layout == "parquet":
        _write_parquet(folder, pairs, count)
        return folder
    for number, source, target in pairs:
        write_png(folder / "RealDOF" / "source" / f"{number:04d}.png", source)
        write_png(folder / "RealDOF" / "target" / f"{number:04d}.png", target)
    return folder


def _write_parquet(folder: Path, pairs: Iterator[tuple[int, RawArray, RawArray]], count: int) -> None:
    """`0.parquet` and `1.parquet`, columns as a hub stores images: {bytes, path}."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {role: {"bytes": _png(raw), "path": f"{number:04d}.png"} for role, raw in (("source", a), ("target", b))}
        for number, a, b in pairs
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for part, chunk in enumerate((rows[: count // 2], rows[count // 2 :])):
        pq.write_table(pa.Table.from_pylist(chunk), folder / f"{part}.parquet")


def zip_folder(folder: Path, file: Path, wrapper: str = "") -> Path:
    """Pack a folder's content, below a folder named `wrapper` if given; returns the zip file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != file):
            archive.write(path, (Path(wrapper) / path.relative_to(folder)).as_posix())
    return file
