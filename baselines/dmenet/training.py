"""DMENet learnt from scenes whose true blur is known.

Of the published loss this is the supervised part: the mean squared error of the map and of the five auxiliary maps.
Left out is what needs data that is not here: the perceptual term (features of a classifier), the binary in-focus masks
of photographs, and the adversarial adaptation from rendered to real images. The encoder starts from random weights (He
et al. 2015), not from a classifier's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from baselines.dmenet.inference import fold, sigma_map
from baselines.dmenet.network import MULTIPLE, SLOPE, WIDTH, Network, Shift
from baselines.dmenet.weights import MAPS, save_weights
from ddnet.config import Photometric, explain
from ddnet.data.embedded.true_blur import textured, true_sigma
from ddnet.data.index import Scene
from ddnet.data.photometric import augment_photometric
from ddnet.errors import DDNetError
from ddnet.io.images import read_image
from ddnet.io.tensors import channels_last, to_tensor
from ddnet.runtime.provenance import stable_hash
from ddnet.training.loop import CURVES, LoopState, Task, run, within_memory, write_history

FloatArray = NDArray[np.float32]

HISTORY = ("step", "loss", "val_mae_px", "val_spearman")
CHECKS = 10  # validations
DECAY = 0.8  # of the learning rate, several times
SMALLEST_CROP = 2 * MULTIPLE  # one value per channel has no variance
REFRESH = 64  # batches whose statistics the finished network keeps


class Recipe(NamedTuple):
    """How a network is trained; see `train`."""

    seed: int
    steps: int
    batch: int
    crop: int
    lr: float
    decay_every: float
    photometric: Photometric


def to_map(sigma: FloatArray) -> FloatArray:
    """Blur in pixels to the values that the network learns, in [0, 1]."""
    slope, offset = MAPS["trained"]
    return np.clip((sigma - offset) / slope, 0.0, 1.0).astype(np.float32)


def start(network: Network, mean: float) -> None:
    """He's initial weights, and every map at the mean of the truth: few steps are too few to find that."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            slope = 0.0 if name.startswith("encoder.") else SLOPE
            nn.init.kaiming_normal_(module.weight, a=slope, nonlinearity="leaky_relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    level = math.log(mean / (1.0 - mean))
    last = network.uf.get_submodule("c3")
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, level)
    for head in network.heads():
        shift = head.get_submodule("b2")
        assert isinstance(shift, Shift)
        nn.init.constant_(shift.beta, level)


def loss_of(outputs: tuple[Tensor, list[Tensor]], truth: Tensor) -> Tensor:
    """Mean squared error of the map and, summed with equal weights, of the auxiliary maps.

    Args:
        outputs: of the network.
        truth: (B, 1, H, W) in [0, 1]; auxiliary maps are compared with its nearest values at their sizes.
    """
    final, helped = outputs
    terms = [F.mse_loss(y, F.interpolate(truth, size=y.shape[2:], mode="nearest")) for y in (final, *helped)]
    return torch.stack(terms).sum()


class Sampler:
    """Random square crops, mirrored and turned, of scenes taken in a random order each time round.

    Args:
        scenes: (4, H, W) image and truth each.
        photometric: augmentation of the images; None: none.
    """

    def __init__(
        self,
        scenes: Sequence[Tensor],
        batch: int,
        crop: int,
        generator: torch.Generator,
        photometric: Photometric | None = None,
    ) -> None:
        self.scenes, self.batch, self.crop, self.generator = scenes, batch, crop, generator
        self.photometric = photometric or Photometric()
        self.order: list[int] = []
        self.drawn = 0

    def _below(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def _one(self) -> Tensor:
        if not self.order:
            self.order = torch.randperm(len(self.scenes), generator=self.generator).tolist()
        scene = self.scenes[self.order.pop()]
        top, left = (self._below(side - self.crop + 1) for side in scene.shape[1:])
        part = scene[:, top : top + self.crop, left : left + self.crop]
        part = part.flip(2) if self._below(2) else part
        return torch.rot90(part, self._below(4), (1, 2))

    def draw(self) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) images and (B, 1, S, S) truths."""
        both = torch.stack([self._one() for _ in range(self.batch)])
        seed = [self.generator.initial_seed(), self.drawn, 2]
        [image] = augment_photometric([both[:, :3]], self.photometric, seed, self.batch)
        self.drawn += 1
        return image.contiguous(memory_format=torch.channels_last), both[:, 3:].contiguous()

    def state(self) -> dict[str, Any]:
        """What a resumed training reads back, to draw what is due next."""
        return {"generator": self.generator.get_state(), "order": self.order, "drawn": self.drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.generator.set_state(state["generator"])
        self.order, self.drawn = list(state["order"]), int(state["drawn"])


def refresh_statistics(network: Network, sampler: Sampler, batches: int = REFRESH) -> None:
    """Replace the moving statistics by the mean over fresh batches: those of training lag behind the weights."""
    shifts = [module for module in network.modules() if isinstance(module, Shift)]
    network.train()
    with torch.no_grad():
        for batch in range(batches):
            for shift in shifts:
                shift.momentum = 1.0 / (batch + 1)
            network(sampler.draw()[0])
    network.eval()


class Validation:
    """Scenes that a map is compared with: mean absolute error in pixels, rank correlation at textured pixels.

    Args:
        scenes: with a true blur.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.images = [to_tensor(read_image(scene.image)) for scene in scenes]
        self.truths = [true_sigma(scene) for scene in scenes]
        self.textured = [textured(read_image(scene.target)) for scene in scenes]

    def mae(self, maps: Sequence[FloatArray]) -> float:
        """Mean over all pixels of all scenes."""
        errors = [np.abs(found - truth).ravel() for found, truth in zip(maps, self.truths, strict=True)]
        return float(np.concatenate(errors).mean(dtype=np.float64))

    def spearman(self, maps: Sequence[FloatArray]) -> float | None:
        """Over the textured pixels of all scenes together; None where nothing varies."""
        from scipy.stats import spearmanr

        found, true = (
            np.concatenate([values[mask] for values, mask in zip(many, self.textured, strict=True)])
            for many in (maps, self.truths)
        )
        if min(found.size, true.size) < 2 or np.ptp(found) == 0 or np.ptp(true) == 0:
            return None
        return float(spearmanr(found, true).statistic)

    def score(self, network: Network) -> tuple[float, float | None]:
        """`mae` and `spearman` of the network's maps."""
        layers, (slope, offset) = fold(network.eval()), MAPS["trained"]
        maps = [sigma_map(layers, image, slope, offset) for image in self.images]
        return self.mae(maps), self.spearman(maps)


class MapTask(Task):
    """DMENet's training: Adam with beta1 0.9, whose rate falls to 0.8 of itself every `recipe.decay_every` steps.

    The weights of the last step are kept, with their statistics refreshed.
    """

    title = "DMENet"
    columns = HISTORY
    keeps_best = False

    def __init__(self, network: Network, sampler: Sampler, recipe: Recipe, validation: Validation) -> None:
        self.network: Network = network
        self.sampler, self.recipe, self.validation = sampler, recipe, validation
        self.steps, self.lr, self.every = recipe.steps, recipe.lr, max(1, recipe.steps // CHECKS)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr)

    def rate(self, step: int) -> float:
        """Multiplied step by step, as a schedule does it."""
        rate = self.recipe.lr
        for _ in range(step // max(1, round(self.recipe.decay_every * self.steps))):
            rate *= DECAY
        return rate

    def train_step(self, step: int) -> Sequence[float]:
        """The loss."""
        self.network.train()
        image, truth = self.sampler.draw()
        loss = loss_of(self.network(image), truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return [float(loss.detach())]

    def state(self) -> dict[str, Any]:
        """The sampler's included."""
        return super().state() | {"sampler": self.sampler.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        super().load_state(state)
        self.sampler.load_state(state["sampler"])

    def validate(self, step: int, asked: Callable[[], int]) -> Sequence[Any] | None:
        """Mean absolute error in pixels, negative, and rank correlation."""
        if asked():
            return None
        if step == self.steps:
            refresh_statistics(self.network, self.sampler)
        mae, spearman = self.validation.score(self.network)
        return [-mae, spearman]

    def row(self, state: LoopState, found: Sequence[Any]) -> list[Any]:
        """A validation as a row of `HISTORY`."""
        return [state.step, state.last[0], -found[0], found[1]]

    def describe(self, state: LoopState, found: Sequence[Any]) -> str:
        """The same for the log."""
        spearman = "-" if found[1] is None else f"{found[1]:.3f}"
        return f"loss {state.last[0]:.4f}  val mean absolute error {-found[0]:.3f} px  spearman {spearman}"


def train(
    scenes_train: Sequence[Scene],
    scenes_val: Sequence[Scene],
    out: Path,
    stamp: str = "",
    *,
    seed: int = 0,
    width: int = WIDTH,
    steps: int = 20_000,
    batch: int = 3,
    crop: int = 240,
    lr: float = 1e-4,
    decay_every: float = 0.05,
    photometric: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train on scenes with a true blur; write `out` for `load_weights` and history.csv beside it.

    An interrupted training of the same recipe and data resumes by itself from state/last.ckpt beside `out`, which
    stays until `discard_state`. One thread, whatever torch was set to: the same seed on the same machine gives the same
    arrays.

    Args:
        scenes_train: to learn from.
        scenes_val: of the history and the scores, never learnt from.
        stamp: of the code and the data, for the resume state.
        seed: of the initial weights, the order of the scenes and the crops.
        width: see `Network`; 64 is the published one.
        steps: of the optimiser; the published number is not known, this one is ours.
        batch, crop, lr: crops per step, their side in pixels (a multiple of 16) and Adam's first learning rate; as
            published, where pre-training had batches of 8.
        decay_every: share of the steps after which the learning rate falls to 0.8 of itself, again and again.
        photometric: augmentation of the crops, as `training.photometric` of a preset; None: none.

    Returns:
        `val_mae_px`, `val_spearman` (at textured pixels, None where undefined), `constant_mae_px` of always answering
        the training scenes' median blur, `seconds`, `params` (with the auxiliary heads) and `params_inference`.

    Raises:
        DDNetError: no scenes, one without a true blur, an option out of range, or a loss that is no longer finite.
    """
    try:
        augmentation = Photometric.model_validate(photometric or {})
    except ValidationError as error:
        raise explain(error, Photometric, "DMENet: photometric") from None
    recipe = Recipe(seed, steps, batch, crop, lr, decay_every, augmentation)
    _check(recipe, scenes_train, scenes_val)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _train(scenes_train, scenes_val, out, width, recipe, stamp)
    finally:
        torch.set_num_threads(before)


def _check(recipe: Recipe, scenes_train: Sequence[Scene], scenes_val: Sequence[Scene]) -> None:
    if not scenes_train or not scenes_val:
        raise DDNetError(
            f"DMENet: {len(scenes_train)} training and {len(scenes_val)} validation scenes; give some of each"
        )
    for name in ("seed", "steps", "batch", "crop"):
        value, least = getattr(recipe, name), 0 if name == "seed" else 1
        if not isinstance(value, int) or value < least:
            raise DDNetError(f"DMENet: {name} is {value!r}; it must be a whole number, at least {least}")
    for name in ("lr", "decay_every"):
        value = getattr(recipe, name)
        if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
            raise DDNetError(f"DMENet: {name} is {value!r}; it must be a number above 0")
    smallest = min(scenes_train, key=lambda scene: min(scene.height, scene.width))
    side = min(smallest.height, smallest.width)
    if recipe.crop % MULTIPLE or not SMALLEST_CROP <= recipe.crop <= side:
        raise DDNetError(
            f"DMENet: crop is {recipe.crop}; it must be a multiple of {MULTIPLE}, at least {SMALLEST_CROP}, and fit "
            f"into {smallest.key} of {smallest.width} x {smallest.height} pixels"
        )


def _train(
    scenes_train: Sequence[Scene], scenes_val: Sequence[Scene], out: Path, width: int, recipe: Recipe, stamp: str
) -> dict[str, Any]:
    began = time.monotonic()
    pairs = [
        (read_image(scene.image), true_sigma(scene)) for scene in sorted(scenes_train, key=lambda scene: scene.key)
    ]
    blur = np.concatenate([sigma.ravel() for _, sigma in pairs])
    scenes = [torch.cat([to_tensor(image), to_tensor(to_map(sigma))], dim=1)[0] for image, sigma in pairs]
    validation = Validation(scenes_val)
    network = channels_last(Network(width))
    start(network, float(to_map(blur).mean()))
    sampler = Sampler(scenes, recipe.batch, recipe.crop, torch.Generator().manual_seed(recipe.seed), recipe.photometric)
    keys = [sorted(scene.key for scene in part) for part in (scenes_train, scenes_val)]
    digest = stable_hash([stamp, width, recipe, *keys])
    with within_memory(MapTask.title, "or a lower training.batch"):
        task = MapTask(network, sampler, recipe, validation)
        state, _ = run(task, out.with_name("state") / "last.ckpt", digest)
    constant = np.median(blur)
    save_weights(out, {name: value.numpy() for name, value in network.state_dict().items()}, width, "trained")
    write_history(out.with_name(CURVES), HISTORY, state.history)
    _, _, mae, spearman = state.history[-1]
    return {
        "val_mae_px": mae,
        "val_spearman": spearman,
        "constant_mae_px": validation.mae([np.full_like(truth, constant) for truth in validation.truths]),
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "params_inference": sum(p.numel() for name, p in network.named_parameters() if "_aux." not in name),
        "seconds": time.monotonic() - began,
    }
