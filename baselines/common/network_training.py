"""Training of a compared network by a recipe: setup -> loop -> save.

What differs between systems is the recipe (a block of the baselines file) and the system's objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from ddnet.io.files import sha256
from ddnet.io.images import read_image
from ddnet.io.tensors import channels_last
from ddnet.models import count_parameters
from ddnet.models.pretrained import load_trunk
from ddnet.runtime.malloc import keep_freed_memory
from ddnet.runtime.provenance import stable_hash
from ddnet.training.average import WeightAverage
from ddnet.training.loop import CURVES, LoopState, Task, halving_rate, run, within_memory, write_history
from ddnet.training.losses import VggFeatures

if TYPE_CHECKING:
    from baselines.common.network_system import NetworkSystem
    from baselines.common.objective import Objective

HISTORY = ("step", "lr", "loss", "val_psnr", "seconds")


@dataclass
class Setup:
    """The pieces that `NetworkTask` works with."""

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


class NetworkTask(Task):
    """A baseline's training by its recipe."""

    columns = HISTORY

    def __init__(self, parts: Setup) -> None:
        recipe = parts.recipe
        self.title, self.parts, self.lr, self.steps = parts.kind.title, parts, recipe.lr, parts.steps
        self.network, self.optimizer, self.average = parts.system.model, parts.optimiser, parts.average
        self.every = max(1, round(recipe.validate_every * parts.steps))

    def rate(self, step: int) -> float:
        """By the recipe."""
        recipe = self.parts.recipe
        return halving_rate(recipe.lr, recipe.warmup, recipe.milestones, step, self.steps)

    def train_step(self, step: int) -> Sequence[float]:
        """The loss."""
        return [train_step(self.parts, step)]

    def validate(self, step: int, asked: Callable[[], int]) -> Sequence[float] | None:
        """PSNR in dB."""
        return None if asked() else [validate(self.parts)]

    def row(self, state: LoopState, found: Sequence[float]) -> list[float]:
        """A validation as a row of `HISTORY`."""
        return [state.step, self.rate(state.step - 1), *state.means, *found, state.seconds]

    def state(self) -> dict[str, Any]:
        """Heads and critics included."""
        return {"objective": self.parts.objective.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.parts.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])


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
    memory = within_memory(kind.title, "or a lower training.batch")
    with torch.random.fork_rng(devices=devices), memory:
        parts = setup(kind, scenes_val, patches, trunks, recipe)
        state, best = run(NetworkTask(parts), state_file, digest)
    width = recipe.width or kind.width
    with torch.device("meta"):
        used = kind.network(width, **recipe.sizes)
    sizes = {name: int(getattr(used, name)) for name in kind.sizes}
    sizes["residual"] = int(recipe.output == "residual")
    save_weights(out, {name: best[name] for name in used.state_dict()}, width, **sizes)
    write_history(out.with_name(CURVES), HISTORY, state.history)
    return {
        "val_psnr": state.best_score,
        "best_step": state.best_step,
        "steps": parts.steps,
        "width": width,
        "params": count_parameters(used),
        "seconds": round(state.seconds, 2),
    }
