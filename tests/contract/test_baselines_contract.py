"""What every line of the baselines file must hold to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from baselines import build, train
from ddnet.cli.main import CONFIG
from ddnet.config import Baseline, load_baselines, load_settings, load_variants
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.index import Scene
from ddnet.data.patches import extract_patches
from ddnet.errors import DDNetError
from ddnet.planning.baselines import system_needs
from ddnet.planning.plan import Plan

BASELINES = load_baselines(CONFIG / "baselines.yaml")
SMOKE = load_settings(CONFIG / "smoke.yaml")
WITH_WEIGHTS = sorted({b.system for b in BASELINES.values() if "weights" in system_needs(b.system)})
PLAN = Plan(SMOKE, load_variants(CONFIG / "variants.yaml"), BASELINES)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Scene]]:
    """The smoke preset's training and validation scenes, by split."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 4), ("val", 2)):
        render_split("embedded", split, count, 64, 8, 0, root)
    found = index_benchmark(root)
    return {split: [scene for scene in found if scene.split == split] for split in ("train", "val")}


@pytest.fixture(scope="session")
def inputs(
    scenes: dict[str, list[Scene]], weights_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """What a network is trained from: patches of the training scenes, and the trunks of perceptual losses."""
    patches = tmp_path_factory.mktemp("patches")
    extract_patches(scenes["train"], patches, SMOKE.training.patches)
    return {"patches": patches, "trunks": weights_folder}


def learn(system: str, scenes: dict[str, list[Scene]], inputs: dict[str, object], out: Path) -> dict[str, object]:
    given = inputs if "patches" in system_needs(system) else {}
    return train(system, scenes["train"], scenes["val"], out, PLAN.training_of(system), given)


@pytest.fixture(scope="session")
def weights(
    scenes: dict[str, list[Scene]], inputs: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What each system has learned in the smoke preset."""
    files = {system: tmp_path_factory.mktemp(system) / "weights.npz" for system in WITH_WEIGHTS}
    for system, file in files.items():
        learn(system, scenes, inputs, file)
    return files


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("kind", ["noise", "flat", "black", "edge"])
def test_any_picture_comes_back_finite_in_range_and_the_same_each_time(
    name: str, kind: str, weights: dict[str, Path]
) -> None:
    image = np.full((40, 44, 3), 0.5 if kind == "flat" else 0.0, np.float32)
    if kind == "edge":
        image[:, 20:] = 0.8
    if kind == "noise":
        image = np.random.default_rng(0).random(image.shape, np.float32)
    given = image.copy()
    learned = weights.get(BASELINES[name].system)
    restored = build(BASELINES[name], learned).restore(image, None)
    assert restored.shape == image.shape and restored.dtype == np.float32
    assert np.isfinite(restored).all() and restored.min() >= 0 and restored.max() <= 1
    assert (image == given).all()
    assert (build(BASELINES[name], learned).restore(image, None) == restored).all()


@pytest.mark.parametrize("system", WITH_WEIGHTS)
def test_the_same_scenes_teach_the_same_and_scores_are_plain_values(
    system: str, scenes: dict[str, list[Scene]], inputs: dict[str, object], weights: dict[str, Path], tmp_path: Path
) -> None:
    scores = learn(system, scenes, inputs, tmp_path / "weights.npz")
    assert scores and json.loads(json.dumps(scores)) == scores
    with np.load(weights[system]) as once, np.load(tmp_path / "weights.npz") as again:
        assert once.files == again.files
        for name in once.files:
            np.testing.assert_array_equal(once[name], again[name])


@pytest.mark.parametrize("name", [name for name, b in BASELINES.items() if b.system in WITH_WEIGHTS])
@pytest.mark.parametrize("damage", ["cut", "page", "empty", "other", "pickled"])
def test_weights_that_are_not_what_they_should_be_are_one_line(
    name: str, damage: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    good, bad = weights[BASELINES[name].system], tmp_path / "weights.npz"
    if damage in ("cut", "page", "empty"):
        content = good.read_bytes()[:-100] if damage == "cut" else b"<html>sign in</html>" if damage == "page" else b""
        bad.write_bytes(content)
    else:
        values = np.zeros(3) if damage == "other" else np.array([{}], dtype=object)
        np.savez(bad, thing=values)
    with pytest.raises(DDNetError, match=r"weights\.npz") as caught:
        build(BASELINES[name], bad)
    assert "\n" not in str(caught.value)
    with pytest.raises(DDNetError, match="needs weights"):
        build(BASELINES[name])
    with pytest.raises(DDNetError, match=r"weights\.npz"):
        build(BASELINES[name], tmp_path / "nowhere" / "weights.npz")


@pytest.mark.parametrize("system", [system for system in WITH_WEIGHTS if "patches" not in system_needs(system)])
def test_training_options_that_a_system_does_not_take_are_one_line(system: str, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=rf"systems\.{system}: .*'stepz'; training takes scenes_train"):
        train(system, [], [], tmp_path / "weights.npz", {"stepz": 3})


def test_options_may_differ_on_one_dataset() -> None:
    line = Baseline(name="mine", system="ebdb", label="Mine", options={"lam": 3.0}, per_dataset={"far": {"lam": 4.0}})
    assert (build(line).lam, build(line, dataset="far").lam, build(line, dataset="near").lam) == (3.0, 4.0, 3.0)


def test_options_that_a_system_does_not_take_are_one_line() -> None:
    with pytest.raises(DDNetError, match=r"baseline 'mine': .*'lambda'; ebdb takes method, alpha, lam, iterations, m"):
        build(Baseline(name="mine", system="ebdb", label="Mine", options={"lambda": 3}))


def test_a_line_with_a_system_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "baselines.yaml"
    table.write_text((CONFIG / "baselines.yaml").read_text() + "\nmine: {system: mine, label: Mine}\n")
    with pytest.raises(
        DDNetError,
        match=r"baseline 'mine': no system 'mine'; did you mean .*; correct it, or write baselines/mine/baseline.py",
    ):
        Plan(load_settings(CONFIG / "smoke.yaml"), load_variants(CONFIG / "variants.yaml"), load_baselines(table))
    table.write_text("ebdb: {system: ebdb, label: EBDB}\n")
    with pytest.raises(DDNetError, match="lacks 'blurred"):
        load_baselines(table)
