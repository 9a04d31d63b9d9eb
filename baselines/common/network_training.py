"""Training of a compared network by a recipe: setup -> fit -> validate -> save.

Every system is trained by this one loop; what differs is the recipe (a block of the baselines file) and the system's
objective. As everywhere in this suite, the weights of the best validation are kept.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.crops import Crops
from baselines.common.residual import learn_difference, start_as_identity
from ddnet.config import Perceptual, Recipe
from ddnet.data.index import Scene
from ddnet.data.patch_set import PatchSet, training_set_place
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path, sha256
from ddnet.io.images import read_image
from ddnet.io.tensors import channels_last
from ddnet.models import count_parameters
from ddnet.models.pretrained import load_trunk
from ddnet.runtime.malloc import keep_freed_memory, out_of_memory
from ddnet.runtime.provenance import stable_hash
from ddnet.runtime.signals import Stopped, held_back
from ddnet.training.average import WeightAverage
from ddnet.training.checkpoint import load_state, save_state, whole_state
from ddnet.training.losses import VggFeatures

if TYPE_CHECKING:
    from baselines.common.network_system import NetworkSystem
    from baselines.common.objective import Objective

log = logging.getLogger(__name__)

HISTORY_COLUMNS = ("step", "lr", "loss", "val_psnr", "seconds")


@dataclass
class Progress:
    """What changes while training, apart from weights and optimiser; saved with them.

    `losses` are those of the steps after the last validation.
    """

    step: int = 0
    best_psnr: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    history: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass
class Setup:
    """The pieces that `fit` works with."""

    kind: type[NetworkSystem]
    recipe: Recipe
    objective: Objective
    optimiser: torch.optim.Optimizer
    crops: Crops
    system: NetworkSystem
    validation: Sequence[Scene]
    steps: int
    average: WeightAverage | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.system.device


def perceptual_term(spec: Perceptual, trunks: Path, device: torch.device) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Mean squared difference of VGG's conv3_3 features of two pictures (B, 3, H, W) RGB in [0, 1]; None if unused.

    Raises:
        DDNetError: the trunk is not in `trunks`.
    """
    if not spec.weight:
        return None
    features = channels_last(VggFeatures(load_trunk(spec.trunk, trunks)).to(device))

    def term(restored: Tensor, target: Tensor) -> Tensor:
        restored, target = (pixels[: spec.crops] for pixels in (restored, target))
        if spec.channel_order == "bgr":
            restored, target = restored.flip(1), target.flip(1)
        with torch.no_grad():
            wanted = features(target)
        return F.mse_loss(features(restored), wanted)

    return term


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then halved at each milestone."""
    rate = recipe.lr * 0.5 ** sum(step >= round(milestone * steps) for milestone in recipe.milestones)
    return rate * min(1.0, (step + 1) / (recipe.warmup + 1))


def starting_network(kind: type[NetworkSystem], recipe: Recipe) -> nn.Module:
    """A new network with its initial weights; one made to learn the difference to its input begins as the identity.

    Raises:
        DDNetError: a width or another size that the system does not have.
    """
    for name, value in recipe.sizes.items():
        if name not in kind.sizes or value not in kind.sizes[name]:
            allowed = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in kind.sizes.items()) or "none"
            raise DDNetError(f"{kind.title}: training.sizes has '{name}: {value}'; allowed are {allowed}")
    network = kind.training_network(recipe.width or kind.width, **recipe.sizes)
    kind.initialise(network)
    if recipe.output == "residual":
        if kind.has_residual:
            raise DDNetError(f"{kind.title}: it learns the difference to its input anyway; write output: published")
        learn_difference(network)
        start_as_identity(network)
    return network


def weighted_view_terms(kind: type[NetworkSystem], recipe: Recipe, patches: Path) -> list[str]:
    """Terms of a recipe's loss that compare with the two views of a dual-pixel sensor.

    Raises:
        DDNetError: there are some, and the training images have no views.
    """
    terms = sorted(name for name in kind.objective.view_terms if recipe.loss.get(name))
    if terms and not PatchSet.has_views(patches):
        named = " and ".join(f"training.loss.{name}" for name in terms)
        raise DDNetError(
            f"{kind.title}: {named} need{'' if terms[1:] else 's'} the two views of a dual-pixel sensor, which these "
            f"training images do not have; write {', '.join(f'{name}: 0' for name in terms)}"
        )
    return terms


def setup(kind: type[NetworkSystem], validation: Sequence[Scene], patches: Path, trunks: Path, recipe: Recipe) -> Setup:
    """Seeded network, data, loss and optimiser on the GPU where there is one."""
    torch.manual_seed(recipe.seed)
    network = starting_network(kind, recipe)
    system = kind.around(channels_last(network))
    view_terms = weighted_view_terms(kind, recipe, patches)
    needed = PatchSet.stored_bytes(patches, bool(view_terms))
    free = None
    if system.device.type == "cuda":
        free = torch.cuda.mem_get_info(system.device)[0]
    else:
        keep_freed_memory()
    crops = Crops(patches, recipe, training_set_place(needed, free), system.device, view_terms, kind.bits)
    term = perceptual_term(recipe.perceptual, trunks, system.device)
    loss = recipe.loss | ({"perceptual": recipe.perceptual.weight} if term else {})
    objective = kind.objective(system.model, loss, term, system.to_rgb).to(system.device)
    choose: Any = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.RAdam
    optimiser = choose(
        list(objective.learned()),
        lr=recipe.lr,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        decoupled_weight_decay=True,
    )
    steps = recipe.steps or (recipe.epochs or 1) * crops.steps_per_epoch(recipe.batch)
    average = WeightAverage(system.model, recipe.average) if recipe.average else None
    return Setup(kind, recipe, objective, optimiser, crops, system, validation, steps, average)


def train_step(parts: Setup, step: int) -> float:
    """One optimiser step; returns the loss."""
    rate = learning_rate(parts.recipe, step, parts.steps)
    for group in parts.optimiser.param_groups:
        group["lr"] = rate
    drawn, sharp, seen = parts.crops.draw(step)
    image, target = (parts.system.to_network(pixels).to(parts.device) for pixels in (drawn, sharp))
    views = None
    if seen is not None:
        views = torch.cat([parts.system.to_network(view) for view in seen.chunk(2, dim=1)], dim=1).to(parts.device)
    image = image.contiguous(memory_format=torch.channels_last)
    parts.objective.train()
    parts.objective.before_step(image, target, step / parts.steps)
    loss = parts.objective(image, target, step / parts.steps, views)
    parts.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if parts.recipe.clip is not None:
        nn.utils.clip_grad_norm_(parts.objective.learned(), parts.recipe.clip)
    parts.optimiser.step()
    if parts.average:
        parts.average.update()
    return float(loss.detach())


def validate(parts: Setup) -> float:
    """Mean PSNR over the whole validation images in dB."""
    parts.objective.eval()
    psnrs = []
    for scene in parts.validation:
        error = np.mean((parts.system.restore(read_image(scene.image)) - read_image(scene.target)) ** 2, dtype=float)
        psnrs.append(-10.0 * math.log10(max(float(error), 1e-12)) if math.isfinite(error) else math.nan)
    return float(np.mean(psnrs))


def fit(parts: Setup, progress: Progress, best: dict[str, Tensor], save: Callable[[dict[str, Tensor]], None]) -> Any:
    """Run the remaining steps; returns the weights of the best validation."""
    title, every = parts.kind.title, max(1, round(parts.recipe.validate_every * parts.steps))
    began, before, at_start = time.perf_counter(), progress.seconds, progress.step
    with held_back() as asked:
        while progress.step < parts.steps:
            rate = learning_rate(parts.recipe, progress.step, parts.steps)
            progress.losses.append(train_step(parts, progress.step))
            progress.step += 1
            if not math.isfinite(progress.losses[-1]):
                raise DDNetError(
                    f"{title}: the loss is {progress.losses[-1]} at step {progress.step}; lower lr, which is "
                    f"{parts.recipe.lr:g}"
                )
            progress.seconds = before + time.perf_counter() - began
            if progress.step % every == 0 or progress.step == parts.steps:
                with parts.average.in_use() if parts.average else nullcontext():
                    psnr, mean = validate(parts), float(np.mean(progress.losses))
                    state = {
                        name: value.detach().cpu().clone() for name, value in parts.system.model.state_dict().items()
                    }
                progress.seconds = before + time.perf_counter() - began
                progress.history.append([progress.step, rate, mean, psnr, progress.seconds])
                if psnr > progress.best_psnr:
                    progress.best_psnr, progress.best_step, best = psnr, progress.step, state
                left = (time.perf_counter() - began) / (progress.step - at_start) * (parts.steps - progress.step)
                log.info(
                    "%s: step %d/%d  loss %.5f  val %.2f dB (best %.2f)  ETA %d:%02d",
                    title, progress.step, parts.steps, mean, psnr, progress.best_psnr, *divmod(round(left), 60),
                )  # fmt: skip
                progress.losses = []
                save(best)
            if (stop := asked()) and progress.step < parts.steps:
                if progress.losses:
                    save(best)
                log.info("%s: state saved at step %d of %d", title, progress.step, parts.steps)
                raise Stopped(stop)
    return best


def train(
    kind: type[NetworkSystem],
    scenes_val: Sequence[Scene],
    out: Path,
    patches: Path,
    trunks: Path,
    recipe: Recipe,
    stamp: str = "",
) -> dict[str, Any]:
    """Train a system; writes `out` as its class reads it, and history.csv beside it.

    An interrupted training of the same recipe and data resumes by itself from state/last.ckpt beside `out`; that stays
    until `discard_state`.

    Args:
        scenes_val: of the validation, which chooses the weights to keep; never test scenes.
        patches: folder written by `extract_patches`.
        trunks: folder of pretrained trunks for the perceptual term.
        stamp: of the code, for the resume state.

    Returns:
        `val_psnr`, `best_step`, `steps`, `width`, `params` (of what is saved) and `seconds`.

    Raises:
        DDNetError: no validation scenes, an option that the system does not take, crops that do not fit, a loss that
            needs views where there are none, or that is no longer finite, too little GPU memory.
    """
    from baselines.common.network_system import save_weights

    if not scenes_val:
        raise DDNetError(f"{kind.title}: no validation scenes; give some")
    state_file = out.with_name("state") / "last.ckpt"
    digest = stable_hash([kind.title, recipe.model_dump(mode="json"), sha256(patches / "patches.csv"), stamp])
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            parts = setup(kind, scenes_val, patches, trunks, recipe)
            progress, best = _resume(state_file, digest, parts)
            best = fit(parts, progress, best, lambda kept: _save(state_file, digest, parts, progress, kept))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise DDNetError(
                f"{kind.title}: this device's memory does not hold this training; use one with more, "
                "DDNET_TRAINING_SET=disk, or a lower training.batch"
            ) from None
    width = recipe.width or kind.width
    with torch.device("meta"):
        used = kind.network(width, **recipe.sizes)
    sizes = {name: int(getattr(used, name)) for name in kind.sizes}
    sizes["residual"] = int(recipe.output == "residual")
    save_weights(out, {name: best[name] for name in used.state_dict()}, width, **sizes)
    _write_history(out.with_name("history.csv"), progress.history)
    return {
        "val_psnr": progress.best_psnr,
        "best_step": progress.best_step,
        "steps": parts.steps,
        "width": width,
        "params": count_parameters(used),
        "seconds": round(progress.seconds, 2),
    }


def _save(path: Path, digest: str, parts: Setup, progress: Progress, best: dict[str, Tensor]) -> None:
    state = {
        "objective": parts.objective.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
        "average": parts.average.state_dict() if parts.average else None,
        "progress": vars(progress),
        "best": best,
        "rng": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state() if parts.device.type == "cuda" else None,
    }
    save_state(path, digest, state)


def _resume(path: Path, digest: str, parts: Setup) -> tuple[Progress, dict[str, Tensor]]:
    state = load_state(path, digest)
    if state is None:
        return Progress(), {}
    with whole_state(path):
        parts.objective.load_state_dict(state["objective"])
        parts.optimiser.load_state_dict(state["optimiser"])
        if parts.average:
            parts.average.load_state_dict(state["average"])
        torch.set_rng_state(state["rng"])
        if state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"])
        progress = Progress(**state["progress"])
    log.info("%s: resuming at step %d", parts.kind.title, progress.step)
    return progress, state["best"]


def _write_history(path: Path, rows: Sequence[Sequence[float]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        writer.writerows([[int(step), *(f"{value:.8g}" for value in values)] for step, *values in rows])
