"""Two processes that share each batch do what one does, and their failures are one line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import toy_scenes

from ddnet.cli.main import CONFIG
from ddnet.config import Model, Patches, Perceptual, Training, load_variants
from ddnet.data.patches import extract_patches
from ddnet.depth.estimate import estimate_depth
from ddnet.errors import DDNetError
from ddnet.training.checkpoint import load_run
from ddnet.training.losses import DeblurLoss, VggFeatures
from ddnet.training.processes import train_in_processes
from ddnet.training.train import Inputs


@pytest.fixture
def inputs(tmp_path: Path, weights_folder: Path) -> Inputs:
    scenes = toy_scenes(tmp_path)
    extract_patches(scenes[:3], tmp_path / "patches", Patches(size=32, stride=0.5, drop=0))
    estimate_depth(scenes, "constant", tmp_path / "depth")
    perceptual = Perceptual(weight=0.01, trunk="vgg16", crops=3)  # of four: unequal in the two halves of a batch
    return Inputs(
        variant=load_variants(CONFIG / "variants.yaml")["ddnet_1b"], seed=5, model=Model(width=4, output="residual"),
        training=Training(steps=4, batch=4, lr=1e-3, validate_every=0.5, perceptual=perceptual, augment=True),
        patches=tmp_path / "patches", training_scenes=scenes[:3], validation=scenes[3:], depth=tmp_path / "depth",
        weights=weights_folder, stamp={"code_digest": "x"},
    )  # fmt: skip


def test_two_processes_equal_one_with_the_double_batch(inputs: Inputs, tmp_path: Path) -> None:
    for processes in (1, 2):
        train_in_processes(inputs, tmp_path / str(processes), processes)
    histories = [list(csv.DictReader((tmp_path / run / "history.csv").open())) for run in ("1", "2")]
    assert len(histories[0]) == len(histories[1]) == 2
    for one, two in zip(*histories, strict=True):
        for name in set(one) - {"seconds"}:
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-5), name
        assert float(one["loss_perceptual"]) > 0
    one, two = (load_run(tmp_path / run / "model.pt").model.state_dict() for run in ("1", "2"))
    # Adam steps by the sign of a gradient that is nothing but rounding: such weights differ on some processors.
    apart = torch.cat([(tensor - one[name]).abs().flatten() for name, tensor in two.items()])
    assert float(apart.quantile(0.99)) < 1e-5 and float(apart.max()) < inputs.training.lr
    together = [json.loads((tmp_path / run / "manifest.json").read_text())["processes_together"] for run in ("1", "2")]
    assert together == [1, 2]


def test_what_is_wrong_in_one_of_them_is_one_line(inputs: Inputs, tmp_path: Path) -> None:
    odd = replace(inputs, training=inputs.training.model_copy(update={"batch": 3}))
    with pytest.raises(DDNetError, match="^training.batch is 3, which 2 processes cannot share evenly; set DDNET_DEV"):
        train_in_processes(odd, tmp_path / "out", 2)
    assert not (tmp_path / "out" / "model.pt").exists()


@pytest.mark.parametrize("crops", [None, 1, 2, 3, 4, 9])
def test_the_terms_of_a_batch_are_the_means_of_its_parts_terms(crops: int | None) -> None:
    from ddnet.benchmark.estimate_cost import random_trunk

    torch.manual_seed(0)
    loss = DeblurLoss(Perceptual(weight=0.5, trunk="vgg16", crops=crops), VggFeatures(random_trunk()))
    restored, target = torch.rand(2, 4, 3, 16, 16)
    whole = torch.stack(loss(restored, target))
    parts = [torch.stack(loss(restored[at : at + 2], target[at : at + 2], at, 4)) for at in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, whole)
    assert whole[1] > 0
