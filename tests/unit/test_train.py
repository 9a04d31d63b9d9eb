import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddnet.cli.main import CONFIG
from ddnet.config import Model, Patches, Perceptual, Training, load_variants
from ddnet.data.depth_maps import DepthStore
from ddnet.data.index import Scene, describe_pair
from ddnet.data.patch_set import PatchSet
from ddnet.data.patches import extract_patches
from ddnet.depth.estimate import estimate_depth
from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.io.images import write_depth16, write_image
from ddnet.runtime.job import discard_state
from ddnet.training import train as training
from ddnet.training.checkpoint import load_run
from ddnet.training.loop import LoopState, halving_rate, resume, save_progress
from ddnet.training.train import Inputs, VariantTask, train

VARIANTS = load_variants(CONFIG / "variants.yaml")


def toy_scenes(folder: Path) -> list[Scene]:
    """Three training scenes of 32 x 48 px and one for validation."""
    scenes = []
    for number in range(4):
        target = np.random.default_rng(number).random((32, 48, 3)).astype(np.float32)
        image, sharp = folder / f"{number}.png", folder / f"{number}-target.png"
        write_image(image, 0.5 * target + 0.25)
        write_image(sharp, target)
        split = "train" if number < 3 else "val"
        scenes.append(describe_pair("toy", split, f"s{number}", "indoor", image, sharp, None))
    return scenes


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return toy_inputs(tmp_path)


def toy_inputs(tmp_path: Path) -> Inputs:
    """A training of eight steps, validated after every other one."""
    scenes = toy_scenes(tmp_path)
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


def test_variants_of_one_seed_see_the_same_patches_in_the_same_order(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []
    batch = PatchSet.batch

    def watched(self: PatchSet, *arguments: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        found = batch(self, *arguments)  # type: ignore[arg-type]
        drawn.append(torch.cat(found[:2]).clone())
        return found

    monkeypatch.setattr(PatchSet, "batch", watched)
    seen = {}
    for variant, seed in (("ddnet_1b", 5), ("unet", 5), ("fusion_input", 5), ("unet", 6)):
        drawn.clear()
        train(replace(inputs, variant=VARIANTS[variant], seed=seed), tmp_path / f"{variant}-{seed}")
        seen[variant, seed] = torch.stack(drawn)
    assert len(seen["unet", 5]) == inputs.training.steps
    assert torch.equal(seen["ddnet_1b", 5], seen["unet", 5]) and torch.equal(seen["fusion_input", 5], seen["unet", 5])
    assert not torch.equal(seen["unet", 5], seen["unet", 6])


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
    assert (tmp_path / "run" / "state" / "last.ckpt").exists()  # until it is recorded that the training is finished
    discard_state(tmp_path / "run")
    assert not (tmp_path / "run" / "state").exists()


def test_an_interrupted_training_resumes_to_the_same_bits(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(inputs, tmp_path / "whole")
    original = training.train_step

    def dies_at_step_five(*arguments: object) -> object:
        if arguments[-1] == 5:
            raise RuntimeError("the machine is gone")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train_step", dies_at_step_five)
    with pytest.raises(RuntimeError, match="machine is gone"):
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
    task = VariantTask("toy", inputs, training.setup(inputs))
    path = tmp_path / "state.ckpt"

    def resumed(of: Inputs) -> int:
        return resume(task, path, of.state_digest)[0].step

    save_progress(task, path, inputs.state_digest, LoopState(step=6), {})
    assert resumed(inputs) == 6
    other = replace(inputs, training=inputs.training.model_copy(update={"lr": 1e-4}))
    assert resumed(other) == 0
    estimate_depth([*inputs.training_scenes, *inputs.validation], "constant(0.25)", tmp_path / "depth")
    assert resumed(replace(inputs)) == 0  # the same settings, but other depth since then
    estimate_depth([*inputs.training_scenes, *inputs.validation], "constant", tmp_path / "depth")
    assert resumed(replace(inputs)) == 6
    path.write_bytes(path.read_bytes()[:100])
    assert resumed(inputs) == 0


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


@pytest.fixture
def varied(inputs: Inputs, tmp_path: Path) -> Inputs:
    """Training images of different sizes, and depth that is different everywhere."""
    scenes = []
    for number, size in enumerate([(32, 48), (64, 40), (48, 48)]):
        target = np.random.default_rng(number).random((*size, 3)).astype(np.float32)
        image, sharp = tmp_path / f"v{number}.png", tmp_path / f"v{number}-target.png"
        write_image(image, 0.5 * target + 0.25)
        write_image(sharp, target)
        scenes.append(describe_pair("toy", "train", f"v{number}", "indoor", image, sharp, None))
    extract_patches(scenes, tmp_path / "varied", Patches(size=32, stride=0.5, drop=0))
    index = estimate_depth([*scenes, *inputs.validation], "constant", tmp_path / "varied-depth")
    with index.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, scene in enumerate(sorted([*scenes, *inputs.validation], key=lambda scene: scene.key)):
        row = rows[number]
        path = index.parent / row["path"]
        write_depth16(path, np.random.default_rng(number).random((scene.height, scene.width), np.float32))
        row["sha256"] = sha256(path)
    with index.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return replace(inputs, patches=tmp_path / "varied", training_scenes=scenes, depth=index.parent)


def test_the_place_of_the_training_set_changes_no_bit(
    varied: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("disk", "ram"):
        monkeypatch.setenv("DDNET_TRAINING_SET", place)
        assert training.setup(varied).patches.place == place
        train(varied, tmp_path / place)
    disk, ram = state(tmp_path / "disk"), state(tmp_path / "ram")
    assert all(torch.equal(disk[name], ram[name]) for name in disk)


def test_depth_per_patch_takes_the_place_of_cropped_maps_in_training_only(
    varied: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert varied.depth is not None
    corners = PatchSet(varied.patches).corners
    maps = [DepthStore(varied.depth).raw(scene) for scene in varied.training_scenes]
    cut = np.stack([maps[p][y : y + size, x : x + size] for p, y, x, size in corners])
    np.save(tmp_path / "cut.npy", cut)
    np.save(tmp_path / "other.npy", cut[::-1])
    train(varied, tmp_path / "maps")
    for name in ("cut", "other"):
        train(replace(varied, patch_depth=tmp_path / f"{name}.npy"), tmp_path / name)
    whole, same, other = (state(tmp_path / name) for name in ("maps", "cut", "other"))
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)

    seen: list[str] = []
    original = DepthStore.__call__
    monkeypatch.setattr(DepthStore, "__call__", lambda self, scene: seen.append(scene.key) or original(self, scene))
    parts = training.setup(replace(varied, patch_depth=tmp_path / "cut.npy"))
    assert not seen
    training.validate(parts.model, varied)
    assert seen == [scene.key for scene in varied.validation]
    with pytest.raises(DDNetError, match=r"none\.npy: no such file; estimate the depth of the patches"):
        train(replace(varied, patch_depth=tmp_path / "none.npy"), tmp_path / "none")


def test_learning_rate_warms_up_and_halves() -> None:
    rates = [halving_rate(1.0, 3, (0.5, 0.75), step, 100) for step in (0, 1, 3, 49, 50, 74, 75, 99)]
    assert rates == [0.25, 0.5, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_loss_that_explodes_ends_the_run(inputs: Inputs, tmp_path: Path) -> None:
    broken = replace(inputs, training=inputs.training.model_copy(update={"lr": 1e30}))
    with pytest.raises(
        DDNetError, match=r"the loss has exploded at step 2: a mean absolute error of .* lower training.lr"
    ):
        train(broken, tmp_path / "run")
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_diverged_network_is_never_among_the_best(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[int] = []

    def diverges_at_step_five(_: Inputs, __: training.Setup, step: int) -> np.ndarray:
        return np.full(3, np.nan if step == 5 else 0.1)

    monkeypatch.setattr(training, "train_step", diverges_at_step_five)
    monkeypatch.setattr(training, "validate", lambda *_: validated.append(1) or (20.0 + len(validated), 0.1))
    with pytest.raises(DDNetError, match="the loss is nan at step 6; lower lr"):
        train(inputs, tmp_path / "run")
    assert len(validated) == 2  # after steps 2 and 4
    task = VariantTask("toy", inputs, training.setup(inputs))
    loop, best = resume(task, tmp_path / "run/state/last.ckpt", inputs.state_digest)
    assert (loop.step, loop.best_step, loop.best_score) == (4, 4, 22.0) and best

    monkeypatch.setattr(training, "validate", lambda *_: (float("nan"), float("nan")))
    monkeypatch.setattr(training, "train_step", lambda *_: np.full(3, 0.1))
    with pytest.raises(DDNetError, match="gives no numbers at step 2"):
        train(inputs, tmp_path / "other")


def test_too_little_gpu_memory_is_said_in_one_line(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(training, "train_step", no_memory)
    with pytest.raises(
        DDNetError, match=r"ddnet_1b seed 5: this device's memory does not hold .*training\.patches"
    ) as caught:
        train(inputs, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_damaged_and_foreign_models_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(DDNetError, match="no such file"):
        load_run(path)
    path.write_bytes(b"not a model")
    with pytest.raises(DDNetError, match="not a readable PyTorch file"):
        load_run(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(DDNetError, match="not a model written by this suite"):
        load_run(path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler for the processor")
def test_a_compiled_network_trains_alike_and_is_saved_as_itself(inputs: Inputs, tmp_path: Path) -> None:
    spec = inputs.training.model_copy(update={"steps": 2, "validate_every": 0.5})
    inputs = replace(inputs, variant=VARIANTS["unet"], training=spec)
    train(inputs, tmp_path / "eager")
    train(replace(inputs, training=spec.model_copy(update={"compile": True})), tmp_path / "compiled")
    eager, compiled = state(tmp_path / "eager"), state(tmp_path / "compiled")
    assert eager.keys() == compiled.keys()
    for name, tensor in eager.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=0, atol=1e-5)


def test_a_machine_with_slurm_s_commands_is_given_no_advice_on_them(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    command = tmp_path / "srun"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    train(replace(inputs, training=inputs.training.model_copy(update={"steps": 2})), tmp_path / "run")
    assert not [str(warning.message) for warning in recwarn if "srun" in str(warning.message)]
