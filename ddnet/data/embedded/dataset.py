"""The embedded benchmark: true defocus with true depth, made on the spot from packaged photographs.

`render_benchmark` writes it, `index_benchmark` reads it back and checks every byte. The optics are exact
for planar scenes (`optics`, `render`); scenes are drawn from one seed (`scenes`, `textures`); a real
photograph with measured depth joins the second test set (`stereo`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ddnet.data.embedded.write import POOL_OF, plan_split, remove_stale, render_split, run_jobs
from ddnet.data.index import Scene, describe_pair
from ddnet.errors import DDNetError
from ddnet.io.files import read_json, sha256

__all__ = ["DATASET_OF", "index_benchmark", "render_benchmark", "render_split"]

logger = logging.getLogger(__name__)

# Key of a preset's scene counts -> (dataset, split).
DATASET_OF: dict[str, tuple[str, str]] = {
    "train": ("embedded", "train"),
    "train_depth": ("embedded", "train_depth"),
    "val": ("embedded", "val"),
    "test": ("embedded", "test"),
    "embedded_ood": ("embedded_ood", "test"),
}


def render_benchmark(
    root: Path, splits: Mapping[str, int], size: int, samples: int = 64, seed: int = 0, workers: int = 1
) -> list[Path]:
    """Render the benchmark under root/<dataset>/<split>/<scene>/; returns the scene folders.

    Args:
        root: folder of scenes; what an earlier rendering left there beyond the planned scenes is removed.
        splits: number of scenes for some of "train", "train_depth" (other scenes of the training photographs, for
            fitting a depth network), "val", "test" and "embedded_ood" (the refocused stereo pair counts among the
            last).
        size: width and height of the images in pixels.
        samples: lens samples per scene, even.
        seed: everything follows from it.
        workers: processes; the files do not depend on it.

    Raises:
        DDNetError: a split, count, size, number of samples or of workers is not allowed.
    """
    for key in splits:
        if key not in DATASET_OF:
            raise DDNetError(f"embedded benchmark: no split {key!r}; allowed are {', '.join(DATASET_OF)}")
    if seed < 0:
        raise DDNetError(f"embedded benchmark: seed is {seed}; it must be 0 or more")
    jobs = [
        job
        for key, count in splits.items()
        for job in plan_split(*DATASET_OF[key], count, size, samples, seed, Path(root))
    ]
    remove_stale(jobs)
    run_jobs(jobs, workers)
    return [job.folder for job in jobs]


def _describe(dataset: str, split: str, record_path: Path) -> Scene:
    folder = record_path.parent
    record = read_json(record_path, "render the scene again")
    try:
        location, digests = str(record["location"]), dict(record["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise DDNetError(f"{record_path}: not a scene's record ({error!r}); render the scene again") from error
    for name in ("image.png", "target.png", "left.png", "right.png", "depth_m.npy"):
        path = folder / name
        if not path.is_file():
            raise DDNetError(f"{path}: missing; render the scene again")
        if sha256(path) != digests.get(name):
            raise DDNetError(f"{path}: its SHA-256 is not the one in scene.json; render the scene again")
    return describe_pair(
        dataset,
        split,
        folder.name,
        location,
        folder / "image.png",
        folder / "target.png",
        folder / "depth_m.npy",
        (folder / "left.png", folder / "right.png"),
    )


def index_benchmark(root: Path) -> list[Scene]:
    """Index entries of the rendered scenes under `root`, every file checked against its scene.json.

    Raises:
        DDNetError: no scene, a folder without its scene.json (an unfinished rendering), or a file that is missing or
            not the one that was written; the message names it.
    """
    scenes = []
    for dataset, split in POOL_OF:
        for folder in sorted(path for path in (Path(root) / dataset / split).glob("*") if path.is_dir()):
            if not (folder / "scene.json").is_file():
                raise DDNetError(f"{folder}: no scene.json; the rendering was cut short, render the scene again")
            scenes.append(_describe(dataset, split, folder / "scene.json"))
    if not scenes:
        raise DDNetError(f"{root}: no rendered scene; run the rule render_scenes first")
    return scenes
