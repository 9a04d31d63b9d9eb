from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddnet.cli import CONFIG
from ddnet.config import Model, Patches, Perceptual, Training, load_variants
from ddnet.data.index import describe_pair
from ddnet.data.patches import extract_patches
from ddnet.engine import train as training
from ddnet.engine.checkpoint import load_run
from ddnet.engine.estimate_depth import estimate_depth
from ddnet.engine.train import Inputs, learning_rate, train
from ddnet.errors import DDNetError
from ddnet.images import write_image

VARIANTS = load_variants(CONFIG / "variants.yaml")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    scenes = []
    for number in range(4):
        target = np.random.default_rng(number).random((32, 48, 3)).astype(np.float32)
        image, sharp = tmp_path / f"{number}.png", tmp_path / f"{number}-target.png"
        write_image(image, 0.5 * target + 0.25)
        write_image(sharp, target)
        split = "train" if number < 3 else "val"
        scenes.append(describe_pair("toy", split, f"s{number}", "indoor", image, sharp, None))
    extract_patches(scenes[:3], tmp_path / "patches", Patches(size=32, stride=0.5, drop=0))
    estimate_depth(scenes, "constant", tmp_path / "depth")
    return Inputs(
        variant=VARIANTS["ddnet_1b"],
        seed=5,
        model=Model(width=4, output="residual"),
        training=Training(steps=8, batch=2, lr=1e-3, validate_every=0.25, perceptual=Perceptual(weight=0)),
        patches=tmp_path / "patches",
        training_scenes=scenes[:3],
        validation=scenes[3:],
        depth=tmp_path / "depth",
        weights=tmp_path / "weights",
    )


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_run(path / "model.pt").model.state_dict()


def test_training_lowers_the_loss_and_leaves_a_usable_run(inputs: Inputs, tmp_path: Path) -> None:
    longer = replace(inputs, training=inputs.training.model_copy(update={"steps": 40, "lr": 5e-3}))
    manifest = train(longer, tmp_path / "run")
    header, *rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert header == ",".join(training.HISTORY)
    losses = [float(row.split(",")[3]) for row in rows]
    assert len(rows) == 4 and losses[-1] < 0.93 * losses[0]
    run = load_run(tmp_path / "run" / "model.pt")
    assert run.variant == inputs.variant and run.info["seed"] == 5
    assert manifest["best_val_psnr"] == pytest.approx(max(float(row.split(",")[6]) for row in rows))
    assert not (tmp_path / "run" / "state" / "last.ckpt").exists()


def test_an_interrupted_training_resumes_to_the_same_bits(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(inputs, tmp_path / "whole")
    original = training.train_step

    def dies_at_step_five(*arguments: object) -> object:
        if arguments[-1] == 5:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train_step", dies_at_step_five)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "cut")
    assert not (tmp_path / "cut" / "model.pt").exists()
    assert (tmp_path / "cut" / "state" / "last.ckpt").exists()

    steps = []
    monkeypatch.setattr(training, "train_step", lambda *a: steps.append(a[-1]) or original(*a))
    train(inputs, tmp_path / "cut")
    assert steps == [4, 5, 6, 7]  # validated and saved at step 4
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    without_seconds = [
        [row.rsplit(",", 1)[0] for row in (tmp_path / name / "history.csv").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert without_seconds[0] == without_seconds[1]


def test_a_state_of_another_configuration_is_not_resumed(inputs: Inputs, tmp_path: Path) -> None:
    parts = training.setup(inputs)
    path = tmp_path / "state.ckpt"
    progress = training.Progress(step=6)
    training._save(path, inputs, parts, progress, {})
    assert training._resume(path, inputs, parts)[0].step == 6
    other = replace(inputs, training=inputs.training.model_copy(update={"lr": 1e-4}))
    assert training._resume(path, other, parts)[0].step == 0
    path.write_bytes(path.read_bytes()[:100])
    assert training._resume(path, inputs, parts)[0].step == 0


def test_same_seed_same_bits_and_other_seed_other_bits(inputs: Inputs, tmp_path: Path) -> None:
    train(inputs, tmp_path / "a")
    train(inputs, tmp_path / "b")
    train(replace(inputs, seed=6), tmp_path / "c")
    a, b, c = (state(tmp_path / name)["tail.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_network_without_depth_reads_none(inputs: Inputs, tmp_path: Path) -> None:
    train(replace(inputs, variant=VARIANTS["unet_rcab"], depth=None), tmp_path / "run")
    with pytest.raises(DDNetError, match="no depth maps"):
        train(replace(inputs, depth=None), tmp_path / "other")


def test_learning_rate_warms_up_and_halves() -> None:
    spec = Training(lr=1.0, milestones=(0.5, 0.75), warmup=3)
    rates = [learning_rate(step, 100, spec) for step in (0, 1, 3, 49, 50, 74, 75, 99)]
    assert rates == [0.25, 0.5, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_loss_that_is_no_number_ends_the_run(inputs: Inputs, tmp_path: Path) -> None:
    broken = replace(inputs, training=inputs.training.model_copy(update={"lr": 1e30}))
    with pytest.raises(DDNetError, match="no longer finite"):
        train(broken, tmp_path / "run")
    assert not (tmp_path / "run" / "model.pt").exists()


def test_damaged_and_foreign_models_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(DDNetError, match="no such model file"):
        load_run(path)
    path.write_bytes(b"not a model")
    with pytest.raises(DDNetError, match="unreadable"):
        load_run(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(DDNetError, match="not a model written by this suite"):
        load_run(path)
