"""Scenes on disk: 16-bit PNGs, the depth in metres and a record per scene, and whole splits of them.

Everything follows from one seed: scene i of a split has the seed that NumPy's SeedSequence makes of the
benchmark's seed, the split's name and i, so neither the number of workers nor that of the other scenes
changes a byte.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddnet.data.embedded.optics import Lens
from ddnet.data.embedded.render import READ_NOISE, SHOT_NOISE, Rendered, develop, render
from ddnet.data.embedded.scenes import LOCATIONS, make_scene
from ddnet.data.embedded.stereo import FOCUS_DISTANCES_M, PHOTOGRAPH, make_stereo, render_stereo
from ddnet.data.embedded.surfaces import SceneSpec
from ddnet.errors import DDNetError
from ddnet.io.arrays import write_npy
from ddnet.io.files import sha256, write_json
from ddnet.io.images import write_image

logger = logging.getLogger(__name__)

# (dataset, split) -> pool of photographs.
POOL_OF = {
    ("embedded", "train"): "train",
    ("embedded", "train_depth"): "train",
    ("embedded", "val"): "val",
    ("embedded", "test"): "test",
    ("embedded_ood", "test"): "ood",
}
STEREO = "stereo"


@dataclass(frozen=True)
class SceneJob:
    """One scene to render into `folder`; `pool` is a pool of photographs or STEREO (`index`: the focus)."""

    folder: Path
    pool: str
    location: str
    seed: int
    index: int
    size: int
    samples: int


def scene_seed(seed: int, dataset: str, split: str, index: int) -> int:
    """Seed of one scene: 32 bits from SeedSequence([seed, CRC-32 of "dataset/split", index])."""
    words = [seed, zlib.crc32(f"{dataset}/{split}".encode()), index]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _write(folder: Path, rendered: Rendered, lens: Lens, seed: int, record: dict[str, Any]) -> None:
    """Develop and write one scene; scene.json comes last, so a folder without it is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.json").unlink(missing_ok=True)
    names = []
    for name, view in develop(rendered, np.random.default_rng([seed, 3])).items():
        write_image(folder / f"{name}.png", view, bits=16)
        names.append(f"{name}.png")
    write_npy(folder / "depth_m.npy", rendered.depth_m)
    digests = {name: sha256(folder / name) for name in [*names, "depth_m.npy"]}
    noise = {"shot": SHOT_NOISE, "read": READ_NOISE}
    write_json(
        folder / "scene.json",
        {**record, "lens": asdict(lens), "seed": seed, "noise": noise, "sha256": digests},
    )


def write_scene(spec: SceneSpec, folder: Path, samples: int = 64) -> None:
    """Render a scene; write image, target, left and right.png, depth_m.npy and scene.json into `folder`."""
    record = {
        "location": spec.location,
        "size": spec.size,
        "samples": samples,
        "photographs": list(spec.photographs),
        "surfaces": [{"name": s.name, "photograph": s.photograph} for s in spec.surfaces],
    }
    _write(folder, render(spec, samples), spec.lens, spec.seed, record)


def write_stereo(folder: Path, index: int, seed: int, size: int, samples: int = 64) -> None:
    """Refocus the stereo motorcycle at the `index`-th distance and write it like any other scene."""
    stereo = make_stereo(size, FOCUS_DISTANCES_M[index])
    record = {
        "location": "indoor",
        "size": size,
        "samples": samples,
        "photographs": [PHOTOGRAPH],
        "layers": stereo.layers,
        "unknown_disparity": round(stereo.unknown, 6),
    }
    _write(folder, render_stereo(stereo, samples, seed), stereo.lens, seed, record)


def run_job(job: SceneJob) -> str:
    """Render one job (in a worker process); returns the scene's name."""
    if job.pool == STEREO:
        write_stereo(job.folder, job.index, job.seed, job.size, job.samples)
    else:
        write_scene(make_scene(job.pool, job.location, job.seed, job.size), job.folder, job.samples)
    return job.folder.name


def plan_split(dataset: str, split: str, count: int, size: int, samples: int, seed: int, root: Path) -> list[SceneJob]:
    """Jobs of one split: indoor and outdoor in turn; `embedded_ood` ends in one to three of the stereo pair.

    Raises:
        DDNetError: unknown dataset or split, or a count below 1.
    """
    if (dataset, split) not in POOL_OF:
        known = ", ".join("/".join(pair) for pair in POOL_OF)
        raise DDNetError(f"embedded benchmark: no split {dataset}/{split}; allowed are {known}")
    if count < 1:
        raise DDNetError(f"embedded benchmark: {count} scenes for {dataset}/{split}; at least 1 is needed")
    refocused = min(len(FOCUS_DISTANCES_M), max(1, count // 4)) if dataset == "embedded_ood" else 0
    jobs = []
    for i in range(count):
        drawn = i < count - refocused
        kind = LOCATIONS[i % 2] if drawn else STEREO
        number = i // 2 if drawn else i - (count - refocused)
        folder = root / dataset / split / f"{kind}_{number:03d}"
        location = kind if drawn else "indoor"
        pool = POOL_OF[dataset, split] if drawn else STEREO
        jobs.append(SceneJob(folder, pool, location, scene_seed(seed, dataset, split, i), number, size, samples))
    return jobs


def _leave_with_parent() -> None:
    """In a worker: end when the process that started it is gone, however that ended.

    The pool's own pipes do not tell: every worker holds both ends of the queue that all of them wait at.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _finished(jobs: list[SceneJob], workers: int) -> Iterator[Iterator[str]]:
    """Names of scenes as they get done, here or in spawned processes; the first failure stops the rest."""
    if workers == 1:
        yield (run_job(job) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), spawn, initializer=_leave_with_parent) as executor:
        futures = [executor.submit(run_job, job) for job in jobs]
        try:
            yield (future.result() for future in as_completed(futures))
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def run_jobs(jobs: list[SceneJob], workers: int) -> None:
    """Render jobs, logging progress and the time left about every tenth.

    Raises:
        DDNetError: `workers` below 1, or a scene cannot be rendered.
    """
    if workers < 1:
        raise DDNetError(f"workers is {workers}; it must be at least 1")
    began = time.monotonic()
    step = max(1, len(jobs) // 10)
    with _finished(jobs, workers) as names:
        for done, name in enumerate(names, start=1):
            if done % step == 0 or done == len(jobs):
                spent = time.monotonic() - began
                left = spent / done * (len(jobs) - done)
                logger.info("rendered %d of %d scenes (%s), %.0f s left", done, len(jobs), name, left)


def remove_stale(jobs: list[SceneJob]) -> None:
    """Remove scenes of an earlier, larger rendering beside the planned ones; other folders are left alone."""
    planned = {job.folder for job in jobs}
    for parent in {job.folder.parent for job in jobs}:
        for record in sorted(parent.glob("*/scene.json")):
            if record.parent not in planned:
                logger.info("removing %s: not among the planned scenes", record.parent)
                shutil.rmtree(record.parent)


def render_split(
    dataset: str, split: str, count: int, size: int, samples: int, seed: int, root: Path, workers: int = 1
) -> list[Path]:
    """Render a split under root/<dataset>/<split>/<scene>/; returns the scene folders.

    Args:
        count: scenes, half of them indoor.
        workers: processes; 1 renders in this one. The files do not depend on it.
    """
    jobs = plan_split(dataset, split, count, size, samples, seed, Path(root))
    remove_stale(jobs)
    run_jobs(jobs, workers)
    return [job.folder for job in jobs]
