"""Training of one variant with one seed: setup -> loop -> save, readable from top to bottom."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ddnet.data.depth_maps import DepthStore
from ddnet.data.photometric import augment_photometric
from ddnet.errors import DDNetError
from ddnet.io.files import write_json
from ddnet.io.images import read_image
from ddnet.io.tensors import crop_to, pad_to_multiple, to_tensor
from ddnet.models import banded, count_parameters
from ddnet.runtime.malloc import out_of_memory
from ddnet.runtime.provenance import Stopwatch
from ddnet.training.checkpoint import save_run
from ddnet.training.loop import CURVES, LoopState, Task, halving_rate, run, within_memory, write_history
from ddnet.training.setup import Inputs, Setup, setup

log = logging.getLogger(__name__)

HISTORY = ("step", "epoch", "lr", "loss", "loss_l1", "loss_perceptual", "val_psnr", "val_l1", "seconds")
MOST_L1 = 1.0  # black for white everywhere; a mean above it means that the network has diverged


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
    with within_memory(who, "training.precision: bf16-mixed, or smaller training.patches"):
        parts = setup(inputs)
        state, best = run(VariantTask(who, inputs, parts), out / "state" / "last.ckpt", inputs.state_digest)

    if not parts.fabric.is_global_zero:
        return {}
    parts.network.load_state_dict(best)
    output = inputs.variant.output or inputs.model.output
    info = {"width": inputs.model.width, "output": output, "seed": inputs.seed, "best_step": state.best_step}
    save_run(out / "model.pt", parts.network, inputs.variant, info)
    write_history(out / CURVES, HISTORY, state.history)
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
        best_step=state.best_step,
        best_val_psnr=state.best_score,
        training_s=round(state.seconds, 2),
        settings={"model": inputs.model.model_dump(mode="json"), "training": inputs.training.model_dump(mode="json")},
    )
    write_json(out / "manifest.json", manifest)
    return manifest


class VariantTask(Task):
    """A variant's training, by one process or by several together."""

    columns = HISTORY

    def __init__(self, title: str, inputs: Inputs, parts: Setup) -> None:
        self.title, self.inputs, self.parts, self.lr = title, inputs, parts, inputs.training.lr
        self.network, self.optimizer, self.average = parts.network, parts.optimizer, parts.average
        self.steps, self.leads = parts.total_steps, parts.fabric.is_global_zero
        self.every = max(1, round(inputs.training.validate_every * self.steps))
        parts.model.train()

    def rate(self, step: int) -> float:
        """By the settings."""
        spec = self.inputs.training
        return halving_rate(spec.lr, spec.warmup, spec.milestones, step, self.steps)

    def train_step(self, step: int) -> Sequence[float]:
        """Loss, L1 term, perceptual term."""
        return list(train_step(self.inputs, self.parts, step))

    def validate(self, step: int, asked: Callable[[], int]) -> Sequence[float] | None:
        """PSNR in dB and mean absolute error; several processes together leave after a step only."""
        return validate(self.parts.network, self.inputs, asked if self.parts.fabric.world_size == 1 else lambda: 0)

    def row(self, state: LoopState, found: Sequence[float]) -> list[float]:
        """A validation as a row of `HISTORY`."""
        epoch = state.step * self.inputs.training.batch / len(self.parts.patches)
        values = (state.step, epoch, self.rate(state.step - 1), *state.means, *found, state.seconds)
        return list(map(float, values))

    def check(self, state: LoopState) -> None:
        """Refuse a loss that is no number, at once, or whose mean since the last validation no image can have."""
        super().check(state)
        if state.since > 1 and (mean := state.means[1]) > MOST_L1:
            raise DDNetError(
                f"{self.title}: the loss has exploded at step {state.step}: a mean absolute error of {mean:.3g} for "
                "pictures in [0, 1]; lower training.lr"
            )

    def precision(self) -> AbstractContextManager[Any]:
        """As the steps'."""
        return self.parts.fabric.autocast()

    def agreed(self, asked: int) -> int:
        """All processes stop after the same step."""
        fabric = self.parts.fabric
        if fabric.world_size == 1:
            return asked
        return int(fabric.all_gather(torch.tensor(asked, device=fabric.device)).max())

    def summed(self, sums: Sequence[float]) -> list[float]:
        """Over the processes."""
        tensor = torch.tensor(sums, dtype=torch.float64, device=self.parts.fabric.device)
        return [float(value) for value in self.parts.fabric.all_reduce(tensor)]


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
