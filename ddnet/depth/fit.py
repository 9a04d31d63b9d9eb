"""Fit the depth network on the training scenes' true disparity, seen only through their defocused images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddnet.data.depth_maps import true_depth
from ddnet.data.index import Scene
from ddnet.depth.fit_network import HISTORY, DepthTask, FitSettings
from ddnet.depth.network import DepthNetwork
from ddnet.depth.scores import DepthScores, score
from ddnet.depth.sources._base import resize_depth, resize_image
from ddnet.depth.sources.monodepth2 import check_size
from ddnet.depth.weights import save_fitted
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray, read_image
from ddnet.io.tensors import to_tensor
from ddnet.runtime.provenance import stable_hash
from ddnet.training.loop import CURVES, run, within_memory, write_history


def fit_depth(
    scenes_train: Sequence[Scene],
    scenes_val: Sequence[Scene],
    out_path: str | Path,
    *,
    height: int,
    width: int,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    threads: int,
    folds: int = 2,
    crop: int | None = None,
    stamp: str = "",
) -> dict[str, float]:
    """Fit Monodepth2's network and write it as one file, with `history.csv` beside it.

    With `folds=2` two networks are fitted, each on every second training scene. A training scene is later
    estimated by the one that has not seen it, every other scene by the mean of both: otherwise the
    restoration network would learn from far better depth than it gets at test time, and trust it too much.

    Args:
        scenes_train: scenes to fit on; their true depth must be known.
        scenes_val: scenes of the history and the returned scores, never fitted on.
        out_path: the file for `Monodepth2(out_path)`.
        height, width: network input, multiples of 32; images are resized to it.
        steps, batch, lr: optimiser steps per network, images per step, peak learning rate.
        seed, threads: the same pair on the same machine gives the same file content.
        folds: 1 (one network on all scenes) or 2.
        crop: side of the square training crops, a multiple of 32; None for whole images.
        stamp: of the code and the data: an interrupted fit of the same stamp and options goes on from `state/` beside
            the file, which stays until `discard_state`.

    Returns:
        `val_abs_error`, `val_spearman`, `val_delta_125` of the mean of all networks; `mean_map_abs_error` of
        always answering the training scenes' mean map; `train_abs_error` and `train_spearman` of the training
        scenes as they will be estimated; `seconds`.

    Raises:
        DDNetError: too few scenes, unknown true depth, or a size, crop or fold count out of range.
    """
    size = check_size((height, width))
    if folds not in (1, 2):
        raise DDNetError(f"fit_depth: folds is {folds}; allowed are 1 and 2")
    if len(scenes_train) < 2 * folds or not scenes_val:
        raise DDNetError(
            f"fit_depth: {len(scenes_train)} training and {len(scenes_val)} validation scenes; "
            f"{folds} fold(s) need at least {2 * folds} and 1"
        )
    if crop is not None:
        check_size((crop, crop))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _fit(
            sorted(scenes_train, key=lambda scene: scene.key), scenes_val, Path(out_path), size, folds,
            FitSettings(steps, batch, lr, crop, seed), stamp,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)


def _fit(
    train: Sequence[Scene],
    val: Sequence[Scene],
    out_path: Path,
    size: tuple[int, int],
    folds: int,
    settings: FitSettings,
    stamp: str,
) -> dict[str, float]:
    start = time.monotonic()
    images, depths = _load(train, size)
    val_images, _ = _load(val, size)
    val_truths = [true_depth(scene) for scene in val]
    fold_of = _assign_folds(train, folds)
    history: list[list[Any]] = []
    networks: list[DepthNetwork] = []
    seen: list[list[str]] = []

    def validate(network: DepthNetwork) -> tuple[float, float]:
        found = _score([network], val_images, val_truths)
        return found.abs_error, found.spearman

    for fold in range(folds):
        chosen = np.flatnonzero(fold_of != fold) if folds > 1 else np.arange(len(train))

        fold_settings = FitSettings(settings.steps, settings.batch, settings.lr, settings.crop, settings.seed + fold)
        task = DepthTask(images[chosen], depths[chosen], fold_settings, validate, fold)
        drawn_from = [train[int(i)].key for i in chosen]
        digest = stable_hash([stamp, asdict(fold_settings), size, drawn_from])
        with within_memory(task.title, "or a lower depth.fit.batch"):
            state, _ = run(task, out_path.with_name("state") / f"fold{fold}.ckpt", digest)
        history += state.history
        networks.append(task.network.eval())
        seen.append(drawn_from)
    save_fitted(out_path, networks, size, seen)
    write_history(out_path.with_name(CURVES), HISTORY, history)

    final = _score(networks, val_images, val_truths)
    mean_map = depths.mean(dim=0)[0].numpy()
    trivial = score([resize_depth(mean_map, _shape(truth)) for truth in val_truths], val_truths)
    held_out = _score_train(networks, images, train, fold_of)
    return {
        "val_abs_error": final.abs_error,
        "val_spearman": final.spearman,
        "val_delta_125": final.delta_125,
        "mean_map_abs_error": trivial.abs_error,
        "train_abs_error": held_out.abs_error,
        "train_spearman": held_out.spearman,
        "seconds": time.monotonic() - start,
    }


def _assign_folds(train: Sequence[Scene], folds: int) -> NDArray[np.int64]:
    """Fold of every scene: by turns within each location, so that both networks see both kinds."""
    fold_of = np.zeros(len(train), dtype=np.int64)
    by_location = sorted(range(len(train)), key=lambda i: (train[i].location, train[i].key))
    fold_of[by_location] = np.arange(len(train)) % folds
    return fold_of


def _load(scenes: Sequence[Scene], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, h, w) and true depths (N, 1, h, w) of all scenes at the network's input size."""
    images = [to_tensor(resize_image(read_image(scene.image), size)) for scene in scenes]
    depths = [F.interpolate(to_tensor(true_depth(scene)), size=size, mode="area") for scene in scenes]
    return torch.cat(images), torch.cat(depths)


@torch.inference_mode()
def _estimate(networks: Sequence[DepthNetwork], image: Tensor, shape: tuple[int, int]) -> FloatArray:
    batch = image[None].contiguous(memory_format=torch.channels_last)
    return resize_depth(torch.stack([network(batch)[0][0, 0] for network in networks]).mean(dim=0).numpy(), shape)


def _shape(depth: FloatArray) -> tuple[int, int]:
    return depth.shape[0], depth.shape[1]


def _score(networks: Sequence[DepthNetwork], images: Tensor, truths: Sequence[FloatArray]) -> DepthScores:
    estimates = [_estimate(networks, image, _shape(truth)) for image, truth in zip(images, truths, strict=True)]
    return score(estimates, truths)


def _score_train(
    networks: Sequence[DepthNetwork], images: Tensor, train: Sequence[Scene], fold_of: NDArray[np.int64]
) -> DepthScores:
    """Scores of the training scenes as `Monodepth2` will estimate them: fold k by network k."""
    truths = [true_depth(scene) for scene in train]
    estimates = [
        _estimate([networks[fold]], image, _shape(truth))
        for fold, image, truth in zip(fold_of, images, truths, strict=True)
    ]
    return score(estimates, truths)
