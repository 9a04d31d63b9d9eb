"""Estimate depth once per whole image, keep it as files, and read it back with its digest checked."""

from __future__ import annotations

import csv
import logging
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddnet.data.depth_maps import COLUMNS, DepthStore, true_depth
from ddnet.data.index import Scene
from ddnet.depth.preview import PreviewRow, write_preview
from ddnet.depth.sources import build_depth_source
from ddnet.depth.sources._base import Given
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path, sha256
from ddnet.io.images import FloatArray, read_image, write_depth16
from ddnet.runtime.log import Progress

log = logging.getLogger(__name__)

PREVIEW_ROWS = 6


def estimate_depth(
    scenes: Sequence[Scene],
    source_spec: str,
    out_folder: str | Path,
    model_path: str | Path | None = None,
    base_folder: str | Path | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
) -> Path:
    """Estimate the depth of every scene from its defocused image and write it as 16-bit PNG.

    Args:
        scenes: what to estimate; keys must be unique.
        source_spec: a depth source, such as `monodepth2`, `constant` or `noisy(0.2)`.
        out_folder: receives `<dataset>/<split>/<scene>.png`, `preview.png` and, last, `index.csv`.
        model_path: weights for a source that needs a model.
        base_folder: an earlier `out_folder` whose maps a source such as `shuffled` takes from other scenes;
            without it, the other scenes' true depth.
        seed: of the random sources and of the shuffling; the order of the scenes does not matter.
        size: (height, width) of the network input, if not that of the weights; ignored by sources without a choice.

    Returns:
        The path of `index.csv`.

    Raises:
        DDNetError: no scenes, or a scene lacks what the source needs.
    """
    if not scenes:
        raise DDNetError(f"depth source '{source_spec}': no scenes to estimate; is the index empty?")
    out = Path(out_folder)
    source = build_depth_source(source_spec, model_path, size)
    partners = _cycle(scenes, seed) if "other" in source.needs else {}
    base = DepthStore(base_folder) if base_folder is not None else None
    shown = set(_spread(scenes, PREVIEW_ROWS))
    rows: list[dict[str, str]] = []
    preview: list[PreviewRow] = []
    start, progress = time.monotonic(), Progress(f"depth {source_spec}", len(scenes))
    for scene in sorted(scenes, key=lambda item: item.key):
        image = read_image(scene.image)
        given = Given(
            scene=scene.key,
            true_depth=true_depth(scene) if "true_depth" in source.needs else None,
            other=_base_depth(partners[scene.key], base) if partners else None,
            rng=np.random.default_rng([seed, zlib.crc32(scene.key.encode())]),
        )
        depth = source.predict(image, given)
        path = out / f"{scene.key}.png"
        write_depth16(path, depth)
        relative = path.relative_to(out).as_posix()
        rows.append(dict(zip(COLUMNS, (scene.dataset, scene.split, scene.scene, relative, sha256(path)), strict=True)))
        if scene.key in shown:
            preview.append(PreviewRow(scene.key, image, depth, true_depth(scene) if scene.depth_m else None))
        progress.advance()
    write_preview(out / "preview.png", preview, source_spec)
    index = out / "index.csv"
    with atomic_path(index) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    log.info("depth %s: %d images in %.1f s -> %s", source_spec, len(rows), time.monotonic() - start, out)
    return index


def _cycle(scenes: Sequence[Scene], seed: int) -> dict[str, Scene]:
    """Scene key -> another scene of the same split, by one seeded cycle through each split."""
    groups: dict[tuple[str, str], list[Scene]] = {}
    for scene in sorted(scenes, key=lambda item: item.key):
        groups.setdefault((scene.dataset, scene.split), []).append(scene)
    partners: dict[str, Scene] = {}
    for (dataset, split), group in groups.items():
        if len(group) < 2:
            raise DDNetError(f"{dataset}/{split} has a single scene; shuffled depth needs at least two per split")
        key = zlib.crc32(f"{dataset}/{split}".encode())
        order = [group[i] for i in np.random.default_rng([seed, key]).permutation(len(group))]
        partners |= {scene.key: after for scene, after in zip(order, order[1:] + order[:1], strict=True)}
    return partners


def _base_depth(scene: Scene, base: DepthStore | None) -> FloatArray:
    return true_depth(scene) if base is None else base(scene)


def _spread(scenes: Sequence[Scene], count: int) -> list[str]:
    """Keys of about `count` scenes, evenly through each dataset and split, test scenes included."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, group in sorted((scene.key, (scene.dataset, scene.split)) for scene in scenes):
        groups.setdefault(group, []).append(key)
    share = max(1, count // len(groups))
    return [
        keys[i]
        for keys in groups.values()
        for i in sorted({int(i) for i in np.linspace(0, len(keys) - 1, min(share, len(keys)))})
    ]
