"""The scene index: one CSV row per image/target pair, whatever dataset it comes from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.files import atomic_path, sha256
from ddnet.images import bit_depth, read_raw_rgb

COLUMNS = (
    "dataset", "split", "scene", "location", "image", "target", "depth_m",
    "height", "width", "bits", "image_sha256", "target_sha256",
)  # fmt: skip

# Monodepth2's disparity convention, 1/z mapped linearly onto [0, 1], with a nearest distance that fits photographs.
NEAREST_M, FARTHEST_M = 0.5, 100.0


@dataclass(frozen=True)
class Scene:
    """One item: a defocused image, its all-in-focus target, and the true depth where it is known."""

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

    @property
    def key(self) -> str:
        """`dataset/split/scene`, unique in an index and the tail of every path that belongs to the scene."""
        return f"{self.dataset}/{self.split}/{self.scene}"


def normalised_inverse_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Metres to inverse depth in [0, 1], shape kept: 0.5 m or nearer is 1; 100 m, farther or unknown (+inf) is 0."""
    inverse = 1.0 / np.maximum(depth_m, 1e-6)
    scaled = (inverse - 1.0 / FARTHEST_M) / (1.0 / NEAREST_M - 1.0 / FARTHEST_M)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def describe_pair(
    dataset: str, split: str, scene: str, location: str, image: Path, target: Path, depth_m: Path | None
) -> Scene:
    """Read one pair and make its index entry.

    Raises:
        DDNetError: a file is missing or unreadable, or image and target differ in size or bit depth.
    """
    first, second = read_raw_rgb(image), read_raw_rgb(target)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise DDNetError(
            f"{image}: {first.shape} {first.dtype}, but its target {target} is {second.shape} {second.dtype}; "
            "a pair must agree in size and bit depth and is never resized"
        )
    return Scene(
        dataset, split, scene, location, image, target, depth_m,
        first.shape[0], first.shape[1], bit_depth(first), sha256(image), sha256(target),
    )  # fmt: skip


def write_index(path: str | Path, scenes: list[Scene]) -> None:
    """Write the index CSV; file paths are stored relative to its folder so that the folder can be moved."""
    root = Path(path).parent.resolve()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for scene in sorted(scenes, key=lambda item: item.key):
            row = {name: getattr(scene, name) for name in COLUMNS}
            for name in ("image", "target", "depth_m"):
                row[name] = Path(row[name]).resolve().relative_to(root) if row[name] else ""
            writer.writerow(row)


def read_index(path: str | Path, dataset: str | None = None, split: str | None = None) -> list[Scene]:
    """Read the index, optionally only one dataset and/or split, in the order of the scene keys."""
    root = Path(path).parent
    scenes = []
    with Path(path).open(newline="", encoding="utf-8") as stream:
        for record in csv.DictReader(stream):
            row: dict[str, Any] = dict(record)
            if (dataset and row["dataset"] != dataset) or (split and row["split"] != split):
                continue
            row |= {name: root / row[name] if row[name] else None for name in ("image", "target", "depth_m")}
            row |= {name: int(row[name]) for name in ("height", "width", "bits")}
            scenes.append(Scene(**row))
    return scenes


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
