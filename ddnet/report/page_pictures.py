"""Pictures for the page: of every shown test scene the input, the target, what was restored, and the depth maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from ddnet.data.index import Scene, panel_scenes
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.images import FloatArray, quantise, read_depth16, read_image
from ddnet.planning.plan import slug
from ddnet.report.collect import RunRef
from ddnet.report.panels import PanelScene, depth_scale, psnr_of, reduced
from ddnet.runtime.log import Progress

if TYPE_CHECKING:
    import pandas as pd

INPUT, TARGET = "blurred-input", "sharp-target"  # no variant is called so: their names have no hyphen
QUALITY = 92  # of JPEG without chroma subsampling, which would blur colours


@dataclass(frozen=True)
class PageScenes:
    """Which pictures the page shows.

    Attributes:
        scenes: test scenes, all datasets.
        runs: one run of every variant, and the compared systems; those without pictures are left out.
        depths: depth source -> folder of its maps, the preset's own first.
        width: pictures at least twice as wide are reduced by whole factors, to no less than this.
    """

    scenes: Sequence[Scene]
    runs: Sequence[RunRef]
    depths: Mapping[str, Path]
    width: int


def shown_scenes(scenes: Sequence[Scene], save: str, panels: int, most: int) -> list[Scene]:
    """Test scenes whose restored pictures are kept (`evaluation.save`), evenly spaced where there are more than `most`.

    Args:
        most: scenes per dataset.
    """
    kept = list(scenes) if save == "all" else panel_scenes(scenes, panels)
    return panel_scenes(kept, most)


def first_seeds(runs: Sequence[RunRef]) -> list[RunRef]:
    """Of every variant its first seed, in the order of the runs: pictures show one network, not a mean."""
    first: dict[str, RunRef] = {}
    for ref in sorted(runs, key=lambda item: -1 if item.seed is None else item.seed):
        first.setdefault(ref.variant, ref)
    return [ref for ref in runs if ref is first[ref.variant]]


def _restored(ref: RunRef, scene: Scene) -> Path:
    return ref.folder / "restored" / scene.dataset / f"{scene.scene}.png"


def _write_jpeg(path: Path, picture: FloatArray) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(quantise(picture, 8)).save(temporary, "JPEG", quality=QUALITY, subsampling=0, optimize=True)


def _coloured(depth: FloatArray, limit: float) -> FloatArray:
    import matplotlib

    return np.asarray(matplotlib.colormaps["magma"](np.clip(depth / limit, 0, 1))[..., :3], dtype=np.float32)


def _scene_values(images: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """(dataset, scene) -> variant -> PSNR; `images` holds one run of each variant."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    rows = images[images["metric"] == "psnr"]
    for dataset, scene, variant, value in zip(
        rows["dataset"], rows["scene"], rows["variant"], rows["value"], strict=True
    ):
        values.setdefault((dataset, scene), {})[variant] = round(float(value), 4)
    return values


def write_pictures(shown: PageScenes, images: pd.DataFrame, folder: Path, link: str) -> list[dict[str, Any]]:
    """Write all pictures as JPEG into `folder`, and describe every scene.

    Args:
        images: the long frame of `collect` over the shown runs.
        link: address of `folder` relative to the page.

    Returns:
        Per scene: dataset, scene, location, width, height (of the written pictures), `psnr` by method in dB,
        `pictures` (method -> address; INPUT and TARGET are methods too), and `depths` (source -> address).

    Raises:
        DDNetError: a restored picture is not of its scene's size, or a file is missing or broken.
    """
    psnr, described = _scene_values(images), []
    limits = {source: depth_scale([_panel(s, maps) for s in shown.scenes])[0] for source, maps in shown.depths.items()}
    progress = Progress("page", len(shown.scenes), "scenes")
    for number, scene in enumerate(shown.scenes):
        place = f"{scene.dataset}/{number:03d}"

        def write(name: str, picture: FloatArray, place: str = place) -> str:
            _write_jpeg(folder / place / f"{name}.jpg", picture)
            return f"{link}/{quote(place)}/{quote(name)}.jpg"

        image, target = read_image(scene.image), read_image(scene.target)
        small = reduced(target, shown.width)
        pictures = {INPUT: write(INPUT, reduced(image, shown.width)), TARGET: write(TARGET, small)}
        for ref in shown.runs:
            if not (path := _restored(ref, scene)).is_file():
                continue
            restored = read_image(path)
            if restored.shape != target.shape:
                raise DDNetError(f"{path}: is {restored.shape}, its scene {target.shape}; evaluate {ref.name} again")
            pictures[ref.variant] = write(ref.variant, reduced(restored, shown.width))
        maps = {
            source: write(
                f"depth-{slug(source)}",
                _coloured(reduced(read_depth16(stored / f"{scene.key}.png"), shown.width), limits[source]),
            )
            for source, stored in shown.depths.items()
        }
        measured = {name: value for name, value in psnr.get((scene.dataset, scene.scene), {}).items() if value == value}
        measured[INPUT] = round(psnr_of(image, target), 4)
        described.append(
            {
                "dataset": scene.dataset,
                "scene": scene.scene,
                "location": scene.location,
                "width": small.shape[1],
                "height": small.shape[0],
                "psnr": {name: _for_json(value) for name, value in measured.items()},
                "pictures": pictures,
                "depths": maps,
            }
        )
        progress.advance()
    return described


def _for_json(value: float) -> float | str:
    return "∞" if math.isinf(value) else value


def _panel(scene: Scene, maps: Path) -> PanelScene:
    return PanelScene(scene.dataset, scene.scene, scene.location, scene.image, scene.target, maps / f"{scene.key}.png")
