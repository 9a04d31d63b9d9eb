"""What one training reads, and the pieces that it is made of, placed by Lightning Fabric."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ddnet.config import Model, Training, Variant
from ddnet.data.depth_maps import DepthStore
from ddnet.data.index import Scene
from ddnet.data.patch_set import PatchSet, training_set_place
from ddnet.errors import DDNetError
from ddnet.io.arrays import read_npy
from ddnet.io.files import sha256
from ddnet.io.tensors import best_device, channels_last
from ddnet.models import build_model, initialise
from ddnet.models.pretrained import load_trunk
from ddnet.runtime.malloc import keep_freed_memory
from ddnet.runtime.provenance import stable_hash
from ddnet.training.average import WeightAverage
from ddnet.training.losses import DeblurLoss, VggFeatures

log = logging.getLogger(__name__)


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
class Setup:
    """The pieces that `fit` works with; `model` is `network` as Fabric wraps it, compiled if asked for.

    `batch_parts` is in how many equal parts, one after another, a batch goes through the network: as many as
    memory asks for.
    """

    fabric: Any
    network: nn.Module
    model: Any
    optimizer: torch.optim.Optimizer
    loss: DeblurLoss
    patches: PatchSet
    total_steps: int
    average: WeightAverage | None = None
    batch_parts: int = 1


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
    average = WeightAverage(network, spec.average) if spec.average else None
    return Setup(fabric, network, model, optimizer, fabric.to_device(loss), patches, total, average)


def _fabric(spec: Training) -> Any:
    """Lightning Fabric for this process: alone, or one of several that `torch.distributed.run` has started.

    From its own light package or, where only that is installed, from inside `lightning`.
    """
    try:
        fabric_class = import_module("lightning_fabric").Fabric
    except ImportError:
        fabric_class = import_module("lightning.fabric").Fabric
    # On a machine with Slurm's commands it advises to start processes by srun; a job's come from torch.distributed.run.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if spec.batch % processes:
        raise DDNetError(
            f"training.batch is {spec.batch}, which {processes} processes cannot share evenly; "
            "set DDNET_DEVICES to a divisor"
        )
    accelerator = best_device().type
    if processes == 1:
        return fabric_class(accelerator=accelerator, devices=1, precision=spec.precision)
    fabric = fabric_class(accelerator=accelerator, devices=processes, strategy="ddp", precision=spec.precision)
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
        raise DDNetError(
            f"variant {inputs.variant.name} is guided by depth, but no depth maps were given; estimate depth first"
        )
    if inputs.patch_depth is not None:
        if not inputs.patch_depth.is_file():
            raise DDNetError(f"{inputs.patch_depth}: no such file; estimate the depth of the patches first")
        return read_npy(inputs.patch_depth, "move it aside and run again", mapped=True)
    store = DepthStore(inputs.depth)
    scenes = {scene.key: scene for scene in inputs.training_scenes}
    return [store.raw(scenes[key]) for key in PatchSet.scene_keys(inputs.patches)]
