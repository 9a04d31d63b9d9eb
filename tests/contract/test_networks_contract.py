"""What every compared network must hold to, at the smoke preset's width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import system_class
from baselines.common import network_training
from baselines.common.network_system import save_weights
from ddnet.cli.main import CONFIG
from ddnet.config import Recipe, load_baselines, load_settings, load_variants
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.patches import extract_patches
from ddnet.planning.baselines import system_needs
from ddnet.planning.plan import Plan

BASELINES = load_baselines(CONFIG / "baselines.yaml")
SMOKE = Plan(load_settings(CONFIG / "smoke.yaml"), load_variants(CONFIG / "variants.yaml"), BASELINES)
NETWORKS = sorted({line.system for line in BASELINES.values() if "patches" in system_needs(line.system)})


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    render_split("embedded", "train", 4, 64, 8, 0, root)
    extract_patches(index_benchmark(root), root / "patches", SMOKE.settings.training.patches)
    return root / "patches"


@pytest.mark.parametrize("system", NETWORKS)
def test_a_few_steps_on_one_batch_lower_the_loss_of_its_own_recipe(
    system: str, patches: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke = SMOKE.training_of(system)
    own = BASELINES[system].recipe
    assert own is not None
    recipe = own.model_dump(mode="json") | {name: smoke[name] for name in ("width", "sizes", "crop", "batch")}
    recipe |= {"steps": 4, "lr": 1e-3, "augment": [], "perceptual": recipe["perceptual"] | {"trunk": "vgg16"}}
    torch.manual_seed(0)
    parts = network_training.setup(
        system_class(system), [], patches, weights_folder, Recipe.model_validate(recipe | {"warmup": 0})
    )
    fixed = parts.crops.draw(0)
    monkeypatch.setattr(parts.crops, "draw", lambda step: fixed)
    losses = [network_training.train_step(parts, 0) for _ in range(4)]
    assert np.isfinite(losses).all() and losses[3] < losses[0]


@pytest.mark.parametrize("system", NETWORKS)
def test_pictures_of_odd_sizes_come_back_as_large_as_they_were(system: str, tmp_path: Path) -> None:
    kind, width = system_class(system), SMOKE.training_of(system)["width"]
    torch.manual_seed(0)
    network = kind.network(width)
    save_weights(
        tmp_path / "weights.npz",
        network.state_dict(),
        width,
        **{name: int(getattr(network, name)) for name in kind.sizes},
    )
    image = np.random.default_rng(0).random((97, 131, 3), np.float32)
    restored = kind(tmp_path / "weights.npz").restore(image)
    assert restored.shape == image.shape and np.isfinite(restored).all()
