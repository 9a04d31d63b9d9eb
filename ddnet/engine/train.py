"""Training of one variant with one seed: setup -> fit -> validate -> save, readable from top to bottom."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ddnet.config import Model, Training, Variant
from ddnet.data.index import Scene
from ddnet.data.patch_set import PatchSet, training_set_place
from ddnet.engine.checkpoint import load_state, save_run, save_state
from ddnet.engine.estimate_depth import DepthStore
from ddnet.errors import DDNetError
from ddnet.files import atomic_path, sha256, write_json
from ddnet.images import read_image
from ddnet.losses import DeblurLoss, VggFeatures
from ddnet.memory import keep_freed_memory
from ddnet.models import banded, build_model, count_parameters, initialise
from ddnet.provenance import Stopwatch, stable_hash
from ddnet.tensors import channels_last, crop_to, pad_to_multiple, to_tensor
from ddnet.weights import load_trunk

log = logging.getLogger(__name__)

HISTORY = ("step", "epoch", "lr", "loss", "loss_l1", "loss_perceptual", "val_psnr", "val_l1", "seconds")


@dataclass(frozen=True)
class Inputs:
    """Everything one training reads.

    Attributes:
        patches: folder written by `extract_patches`.
        validation: scenes that choose the weights to keep; never test scenes.
        depth: folder of the estimated depth maps; None for a network without depth.
        patch_depth: (P, S, S) uint16 .npy, the depth of each patch estimated from the patch alone; None: cut from
            the maps in `depth`, which validation uses in any case.
        weights: folder of pretrained trunks for the perceptual loss.
    """

    variant: Variant
    seed: int
    model: Model
    training: Training
    patches: Path
    validation: Sequence[Scene]
    depth: Path | None
    weights: Path
    training_scenes: Sequence[Scene]
    stamp: dict[str, Any] = field(default_factory=dict)
    patch_depth: Path | None = None

    def digest(self) -> str:
        """The configuration in short."""
        settings = [part.model_dump(mode="json") for part in (self.variant, self.model, self.training)]
        return stable_hash([*settings, self.seed, self.stamp])

    @cached_property
    def state_digest(self) -> str:
        """What a resume state must have been made with: the configuration, and by its content the depth."""
        maps = (self.depth / "index.csv" if self.depth and self.variant.uses_depth else None, self.patch_depth)
        return stable_hash([self.digest(), *(sha256(file) for file in maps if file)])


@dataclass
class Progress:
    """What changes while training, apart from weights and optimiser; saved with them."""

    step: int = 0
    best_psnr: float = float("-inf")
    best_step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Setup:
    """The pieces that `fit` works with; `model` is `network` as Fabric wraps it, compiled if asked for."""

    fabric: Any
    network: nn.Module
    model: Any
    optimizer: torch.optim.Optimizer
    loss: DeblurLoss
    patches: PatchSet
    total_steps: int


def learning_rate(step: int, total: int, spec: Training) -> float:
    """Linear warm-up, then halved at each milestone (a fraction of `total`)."""
    rate = spec.lr * 0.5 ** sum(step >= round(milestone * total) for milestone in spec.milestones)
    return rate * min(1.0, (step + 1) / (spec.warmup + 1))


def setup(inputs: Inputs) -> Setup:
    """Seed, data, network, loss and optimiser, placed by Lightning Fabric."""
    spec = inputs.training
    fabric = _fabric(spec)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(inputs.seed)
    patches = _training_set(inputs, fabric.device)
    network = build_model(inputs.variant, inputs.model.width, inputs.model.output)
    initialise(network, inputs.seed)
    network = channels_last(network)
    features = VggFeatures(load_trunk(spec.perceptual.trunk, inputs.weights)) if spec.perceptual.weight else None
    loss = channels_last(DeblurLoss(spec.perceptual, features))
    optimizer = torch.optim.Adam(network.parameters(), lr=spec.lr, betas=(0.9, 0.999), fused=True)
    model, optimizer = fabric.setup(torch.compile(network) if spec.compile else network, optimizer)
    total = spec.steps or spec.epochs * patches.steps_per_epoch(spec.batch)
    return Setup(fabric, network, model, optimizer, fabric.to_device(loss), patches, total)


def _fabric(spec: Training) -> Any:
    """Lightning Fabric for this process: alone, or one of several that `torch.distributed.run` has started.

    From its own light package or, where only that is installed, from inside `lightning`.
    """
    try:
        fabric_class = import_module("lightning_fabric").Fabric
    except ImportError:
        fabric_class = import_module("lightning.fabric").Fabric
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if spec.batch % processes:
        raise DDNetError(
            f"training.batch is {spec.batch}, which {processes} processes cannot share evenly; "
            "set DDNET_DEVICES to a divisor"
        )
    if processes == 1:
        return fabric_class(accelerator="auto", devices=1, precision=spec.precision)
    fabric = fabric_class(accelerator="auto", devices=processes, strategy="ddp", precision=spec.precision)
    fabric.launch()
    return fabric


def _training_set(inputs: Inputs, device: torch.device) -> PatchSet:
    """The patches and, for a network guided by depth, their depth, kept where this machine has the room."""
    depths = _training_depths(inputs) if inputs.variant.uses_depth else None
    needed = PatchSet.stored_bytes(inputs.patches) + sum(depth.nbytes for depth in (() if depths is None else depths))
    place = training_set_place(needed, torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None)
    log.info("training set of %.2f GB, read from: %s", needed / 1e9, place)
    return PatchSet(inputs.patches, depths, place, device)


def _training_depths(inputs: Inputs) -> list[NDArray[np.uint16]] | NDArray[np.uint16]:
    """Depth of the training patches (P, S, S), or maps (H, W) of the training images in the order of the patches'."""
    if inputs.depth is None:
        raise DDNetError(f"variant {inputs.variant.name} is guided by depth, but no depth maps were given")
    if inputs.patch_depth is not None:
        if not inputs.patch_depth.is_file():
            raise DDNetError(f"{inputs.patch_depth}: no such file; estimate the depth of the patches first")
        return np.load(inputs.patch_depth, mmap_mode="r")
    store = DepthStore(inputs.depth)
    scenes = {scene.key: scene for scene in inputs.training_scenes}
    return [store.raw(scenes[key]) for key in PatchSet.scene_keys(inputs.patches)]


def train(inputs: Inputs, out: Path) -> dict[str, Any]:
    """Train, resuming by itself where an interrupted run of the same configuration left off.

    Writes to `out`: `model.pt` (weights of the best validation), `history.csv`, `manifest.json`; while running
    also `state/last.ckpt`, which no workflow declares, so that it survives a failed job.

    Returns:
        The manifest; of several processes that train together, the first alone writes and returns one.

    Raises:
        DDNetError: depth that is missing or does not fit, a loss that is no longer finite, too little GPU memory.
    """
    watch = Stopwatch()
    state_file = out / "state" / "last.ckpt"
    try:
        parts = setup(inputs)
        progress, best = _resume(state_file, inputs, parts)
        if progress.step:
            log.info("%s seed %d: resuming at step %d", inputs.variant.name, inputs.seed, progress.step)
        best = fit(inputs, parts, progress, best, state_file)
    except torch.OutOfMemoryError:
        raise DDNetError(
            f"{inputs.variant.name} seed {inputs.seed}: the GPU's memory does not hold this training; use one with "
            "more, DDNET_TRAINING_SET=disk, training.precision: bf16-mixed, or a lower training.batch"
        ) from None

    if not parts.fabric.is_global_zero:
        return {}
    parts.network.load_state_dict(best)
    output = inputs.variant.output or inputs.model.output
    info = {"width": inputs.model.width, "output": output, "seed": inputs.seed, "best_step": progress.best_step}
    save_run(out / "model.pt", parts.network, inputs.variant, info)
    _write_history(out / "history.csv", progress.history)
    manifest = watch.manifest(
        **inputs.stamp,
        config_hash=inputs.digest(),
        variant=inputs.variant.name,
        seed=inputs.seed,
        parameters=count_parameters(parts.network),
        steps=parts.total_steps,
        processes_together=parts.fabric.world_size,
        best_step=progress.best_step,
        best_val_psnr=progress.best_psnr,
        training_s=round(progress.seconds, 2),
        settings={"model": inputs.model.model_dump(mode="json"), "training": inputs.training.model_dump(mode="json")},
    )
    write_json(out / "manifest.json", manifest)
    shutil.rmtree(state_file.parent, ignore_errors=True)
    return manifest


def fit(
    inputs: Inputs, parts: Setup, progress: Progress, best: dict[str, torch.Tensor], state_file: Path
) -> dict[str, torch.Tensor]:
    """Run the remaining steps; returns the weights of the best validation."""
    spec, total = inputs.training, parts.total_steps
    interval = max(1, round(spec.validate_every * total))
    sums = np.zeros(3)
    since = 0
    began, before, at_start = time.perf_counter(), progress.seconds, progress.step
    parts.model.train()
    while progress.step < total:
        rate = learning_rate(progress.step, total, spec)
        for group in parts.optimizer.param_groups:
            group["lr"] = rate
        sums += train_step(inputs, parts, progress.step)
        since += 1
        progress.step += 1
        if progress.step % interval and progress.step != total:
            continue
        sums = parts.fabric.all_reduce(torch.from_numpy(sums).to(parts.fabric.device)).cpu().numpy()
        # Before validation, whose best weights would outlive a restart: a diverged network must not be among them.
        with parts.fabric.autocast():
            psnr, error = validate(parts.network, inputs) if np.isfinite(sums).all() else (np.nan, np.nan)
        if np.isnan(psnr):
            raise DDNetError(
                f"{inputs.variant.name} seed {inputs.seed}: the loss is no longer finite at step {progress.step}; "
                "lower training.lr"
            )
        progress.seconds = before + time.perf_counter() - began
        epoch = progress.step * spec.batch / len(parts.patches)
        values = (progress.step, epoch, rate, *(sums / since), psnr, error, progress.seconds)
        progress.history.append(dict(zip(HISTORY, map(float, values), strict=True)))
        if psnr > progress.best_psnr:
            progress.best_psnr, progress.best_step = psnr, progress.step
            best = {name: tensor.detach().cpu().clone() for name, tensor in parts.network.state_dict().items()}
        left = (time.perf_counter() - began) / (progress.step - at_start) * (total - progress.step)
        log.info(
            "%s seed %d: step %d/%d  loss %.4f  val %.2f dB (best %.2f)  ETA %d:%02d",
            inputs.variant.name, inputs.seed, progress.step, total, sums[0] / since, psnr, progress.best_psnr,
            *divmod(round(left), 60),
        )  # fmt: skip
        sums = np.zeros(3)
        since = 0
        if parts.fabric.is_global_zero:
            _save(state_file, inputs, parts, progress, best)
    return best


def train_step(inputs: Inputs, parts: Setup, step: int) -> NDArray[np.float64]:
    """One optimiser step; returns (loss, L1 term, perceptual term) of this process's part of the batch."""
    spec, turns = inputs.training, None
    if spec.augment:
        turns = np.random.default_rng([inputs.seed, step, 1]).integers(0, 8, spec.batch)
    count = spec.batch // parts.fabric.world_size
    first = count * parts.fabric.global_rank
    part = slice(first, first + count)
    order = parts.patches.order(inputs.seed, step, spec.batch)
    image, target, depth = parts.patches.batch(order[part], None if turns is None else turns[part])
    restored = parts.model(image.contiguous(memory_format=torch.channels_last), depth)
    content, perceptual = parts.loss(restored, target, first, spec.batch)
    parts.optimizer.zero_grad(set_to_none=True)
    parts.fabric.backward(content + perceptual)
    parts.optimizer.step()
    return np.array([content.item() + perceptual.item(), content.item(), perceptual.item()])


@torch.inference_mode()
def validate(model: nn.Module, inputs: Inputs) -> tuple[float, float]:
    """Mean PSNR in dB and mean absolute error over the whole validation images."""
    model.eval()
    store = DepthStore(inputs.depth) if inputs.depth is not None and inputs.variant.uses_depth else None
    device = next(model.parameters()).device
    psnrs, errors = [], []
    for scene in inputs.validation:
        image, size = pad_to_multiple(to_tensor(read_image(scene.image)).to(device))
        depth = None if store is None else pad_to_multiple(to_tensor(store(scene)).to(device))[0]
        target = to_tensor(read_image(scene.target)).to(device)
        restored = crop_to(banded.forward(model, image, depth), size).float().clamp(0, 1)
        psnrs.append(-10 * torch.log10(F.mse_loss(restored, target)).item())
        errors.append(F.l1_loss(restored, target).item())
    model.train()
    return float(np.mean(psnrs)), float(np.mean(errors))


def _save(path: Path, inputs: Inputs, parts: Setup, progress: Progress, best: dict[str, torch.Tensor]) -> None:
    state = {
        "model": parts.network.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "progress": vars(progress),
        "best": best,
        "rng": torch.get_rng_state(),
    }
    save_state(path, inputs.state_digest, state)


def _resume(path: Path, inputs: Inputs, parts: Setup) -> tuple[Progress, dict[str, torch.Tensor]]:
    state = load_state(path, inputs.state_digest)
    if state is None:
        return Progress(), {}
    parts.network.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    return Progress(**state["progress"]), state["best"]


def _write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
