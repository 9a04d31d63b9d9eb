"""Training of one variant with one seed: setup -> fit -> validate -> save, readable from top to bottom."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ddnet.config import Training
from ddnet.data.depth_maps import DepthStore
from ddnet.data.photometric import augment_photometric
from ddnet.errors import DDNetError
from ddnet.io.files import write_json
from ddnet.io.images import read_image
from ddnet.io.tensors import crop_to, pad_to_multiple, to_tensor
from ddnet.models import banded, count_parameters
from ddnet.runtime.malloc import out_of_memory
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.signals import Stopped, held_back
from ddnet.training.checkpoint import save_run
from ddnet.training.progress import HISTORY, Progress, Weights, resume, save_progress, write_history
from ddnet.training.setup import Inputs, Setup, setup

log = logging.getLogger(__name__)

CURVES = "history.csv"
MOST_L1 = 1.0  # black for white everywhere; a mean above it means that the network has diverged


def learning_rate(step: int, total: int, spec: Training) -> float:
    """Linear warm-up, then halved at each milestone (a fraction of `total`)."""
    rate = spec.lr * 0.5 ** sum(step >= round(milestone * total) for milestone in spec.milestones)
    return rate * min(1.0, (step + 1) / (spec.warmup + 1))


def train(inputs: Inputs, out: Path) -> dict[str, Any]:
    """Train, resuming by itself where an interrupted run of the same configuration left off.

    Writes to `out`: `model.pt` (weights of the best validation), `history.csv`, `manifest.json`; while running
    also `state/last.ckpt`, which no workflow declares, so that it survives a failed job, and the curves so far
    (`state/history.csv`), for whoever watches; both stay until `discard_state`. Asked to leave
    (`ddnet.runtime.signals`), it saves its state after the step at hand.

    Returns:
        The manifest; of several processes that train together, the first alone writes and returns one.

    Raises:
        DDNetError: no validation scenes, depth that is missing or does not fit, a loss that is no longer finite or has
            exploded, too little memory even for single patches.
        Stopped: somebody asked this process to leave.
    """
    watch, who = Stopwatch(), f"{inputs.variant.name} seed {inputs.seed}"
    if not inputs.validation:
        raise DDNetError(f"{who}: no validation scenes, which choose the weights to keep; give the index a split 'val'")
    state_file = out / "state" / "last.ckpt"
    try:
        parts = setup(inputs)
        progress, best = resume(state_file, inputs.state_digest, parts.network, parts.optimizer, parts.average)
        if progress.step:
            log.info("%s: resuming at step %d", who, progress.step)
        best = fit(inputs, parts, progress, best, state_file)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise DDNetError(
            f"{who}: this device's memory does not hold this training; use one with more, DDNET_TRAINING_SET=disk, "
            "training.precision: bf16-mixed, or smaller training.patches"
        ) from None

    if not parts.fabric.is_global_zero:
        return {}
    parts.network.load_state_dict(best)
    output = inputs.variant.output or inputs.model.output
    info = {"width": inputs.model.width, "output": output, "seed": inputs.seed, "best_step": progress.best_step}
    save_run(out / "model.pt", parts.network, inputs.variant, info)
    write_history(out / "history.csv", progress.history)
    manifest = watch.manifest(
        **inputs.stamp,
        config_hash=inputs.digest(),
        variant=inputs.variant.name,
        seed=inputs.seed,
        parameters=count_parameters(parts.network),
        training_scenes=dict(Counter(scene.dataset for scene in inputs.training_scenes)),
        steps=parts.total_steps,
        processes_together=parts.fabric.world_size,
        batch_parts=parts.batch_parts,
        best_step=progress.best_step,
        best_val_psnr=progress.best_psnr,
        training_s=round(progress.seconds, 2),
        settings={"model": inputs.model.model_dump(mode="json"), "training": inputs.training.model_dump(mode="json")},
    )
    write_json(out / "manifest.json", manifest)
    return manifest


def fit(inputs: Inputs, parts: Setup, progress: Progress, best: Weights, state_file: Path) -> Weights:
    """Run the remaining steps; returns the weights of the best validation."""
    spec, total, who = inputs.training, parts.total_steps, f"{inputs.variant.name} seed {inputs.seed}"
    interval = max(1, round(spec.validate_every * total))
    began, spent, at_start = time.perf_counter(), progress.seconds, progress.step

    def save() -> None:
        progress.seconds = spent + time.perf_counter() - began
        if parts.fabric.is_global_zero:
            trained = (parts.network, parts.optimizer, parts.average)
            save_progress(state_file, inputs.state_digest, *trained, progress, best)
            write_history(state_file.with_name(CURVES), progress.history)

    def leave(signal: int) -> None:
        progress.sums = _mean_of_processes(parts, progress.sums)
        save()
        log.info("%s: state saved at step %d of %d", who, progress.step, total)
        raise Stopped(signal)

    parts.model.train()
    with held_back() as asked:
        while progress.step < total or progress.since:
            if not progress.since or (progress.step % interval and progress.step < total):
                rate = learning_rate(progress.step, total, spec)
                for group in parts.optimizer.param_groups:
                    group["lr"] = rate
                terms = train_step(inputs, parts, progress.step)
                progress.sums = [sum_ + term for sum_, term in zip(progress.sums, terms, strict=True)]
                progress.since += 1
                progress.step += 1
                # Before validation, whose best weights outlive a restart: a diverged network is never among them.
                _require_sane(terms, progress, who)
                if stop := _agreed(parts, asked()):
                    leave(stop)
                continue
            with parts.fabric.autocast(), parts.average.in_use() if parts.average else nullcontext():
                found = validate(parts.network, inputs, asked if parts.fabric.world_size == 1 else lambda: 0)
                state = {name: tensor.detach().cpu().clone() for name, tensor in parts.network.state_dict().items()}
            if found is None:
                leave(asked())
                continue
            psnr, error = found
            if np.isnan(psnr):
                raise DDNetError(f"{who}: the network gives no numbers at step {progress.step}; lower training.lr")
            means = [value / progress.since for value in _mean_of_processes(parts, progress.sums)]
            epoch, rate = progress.step * spec.batch / len(parts.patches), learning_rate(progress.step - 1, total, spec)
            progress.seconds = spent + time.perf_counter() - began
            values = (progress.step, epoch, rate, *means, psnr, error, progress.seconds)
            progress.history.append(dict(zip(HISTORY, map(float, values), strict=True)))
            if psnr > progress.best_psnr:
                progress.best_psnr, progress.best_step, best = psnr, progress.step, state
            left = (time.perf_counter() - began) / max(1, progress.step - at_start) * (total - progress.step)
            log.info(
                "%s: step %d/%d  loss %.4f  val %.2f dB (best %.2f)  ETA %d:%02d",
                who, progress.step, total, means[0], psnr, progress.best_psnr, *divmod(round(left), 60),
            )  # fmt: skip
            progress.sums, progress.since = [0.0, 0.0, 0.0], 0
            save()
    return best


def _require_sane(terms: NDArray[np.float64], progress: Progress, who: str) -> None:
    """Refuse a loss that is no number, at once, or whose mean since the last validation no picture can have."""
    if not np.isfinite(terms).all():
        raise DDNetError(f"{who}: the loss is no longer finite at step {progress.step}; lower training.lr")
    if progress.since > 1 and (mean := progress.sums[1] / progress.since) > MOST_L1:
        raise DDNetError(
            f"{who}: the loss has exploded at step {progress.step}: a mean absolute error of {mean:.3g} for pictures "
            "in [0, 1]; lower training.lr"
        )


def _agreed(parts: Setup, asked: int) -> int:
    """The signal that any of the processes was asked to leave with; all of them stop after the same step."""
    if parts.fabric.world_size == 1:
        return asked
    return int(parts.fabric.all_gather(torch.tensor(asked, device=parts.fabric.device)).max())


def _mean_of_processes(parts: Setup, sums: Sequence[float]) -> list[float]:
    """Sums over each process's part of the batches to those of the whole."""
    tensor = torch.tensor(sums, dtype=torch.float64, device=parts.fabric.device)
    return [float(value) for value in parts.fabric.all_reduce(tensor)]


def train_step(inputs: Inputs, parts: Setup, step: int) -> NDArray[np.float64]:
    """One optimiser step; returns (loss, L1 term, perceptual term) of this process's part of the batch.

    Where memory does not hold the batch, it goes through the network in two or more parts, whose gradients add up to
    those of the whole but for rounding; several processes together do not try that.
    """
    count = inputs.training.batch // parts.fabric.world_size
    while True:
        try:
            terms = _gradients(inputs, parts, step, count)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or parts.batch_parts == count or parts.fabric.world_size > 1:
                raise
        parts.batch_parts = next(n for n in range(parts.batch_parts + 1, count + 1) if count % n == 0)
        log.warning("memory does not hold the batch of %d: in %d parts from now on", count, parts.batch_parts)
        if parts.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
    parts.optimizer.step()
    if parts.average:
        parts.average.update()
    return np.array([sum(terms), *terms])


def _gradients(inputs: Inputs, parts: Setup, step: int, count: int) -> tuple[float, float]:
    """Add up the gradients of this process's `count` patches of a batch; returns the L1 and the perceptual term."""
    spec, turns = inputs.training, None
    if spec.augment:
        turns = np.random.default_rng([inputs.seed, step, 1]).integers(0, 8, spec.batch)
    order = parts.patches.order(inputs.seed, step, spec.batch)
    own, size = count * parts.fabric.global_rank, count // parts.batch_parts
    parts.optimizer.zero_grad(set_to_none=True)
    sums = np.zeros(2)
    for first in range(own, own + count, size):
        part = slice(first, first + size)
        image, target, depth = parts.patches.batch(order[part], None if turns is None else turns[part])
        image, target = augment_photometric([image, target], spec.photometric, [inputs.seed, step, 2], spec.batch, part)
        restored = parts.model(image.contiguous(memory_format=torch.channels_last), depth)
        content, perceptual = parts.loss(restored, target, first, spec.batch)
        parts.fabric.backward((content + perceptual) / parts.batch_parts)
        sums += content.item(), perceptual.item()
    content_mean, perceptual_mean = sums / parts.batch_parts
    return float(content_mean), float(perceptual_mean)


@torch.inference_mode()
def validate(model: nn.Module, inputs: Inputs, asked: Callable[[], int] = lambda: 0) -> tuple[float, float] | None:
    """Mean PSNR in dB and mean absolute error over the whole validation images; None where `asked` to leave."""
    model.eval()
    store = DepthStore(inputs.depth) if inputs.depth is not None and inputs.variant.uses_depth else None
    device = next(model.parameters()).device
    psnrs, errors = [], []
    for scene in inputs.validation:
        if asked():
            return None
        image, size = pad_to_multiple(to_tensor(read_image(scene.image)).to(device))
        depth = None if store is None else pad_to_multiple(to_tensor(store(scene)).to(device))[0]
        target = to_tensor(read_image(scene.target)).to(device)
        restored = crop_to(banded.forward(model, image, depth), size).float().clamp(0, 1)
        error = F.mse_loss(restored, target).clamp(min=1e-12)  # a flat picture can be met exactly
        psnrs.append(-10 * torch.log10(error).item())
        errors.append(F.l1_loss(restored, target).item())
    model.train()
    return float(np.mean(psnrs)), float(np.mean(errors))
