"""Fitting, estimating and reading back depth, on toy scenes of a few kilobytes."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddnet.data.depth_maps import DepthStore, true_depth
from ddnet.data.index import Scene, describe_pair, normalised_inverse_depth
from ddnet.depth.estimate import _cycle, estimate_depth
from ddnet.depth.fit import _assign_folds, fit_depth
from ddnet.depth.fit_network import DepthTask, augment, disparity_loss
from ddnet.depth.network import DepthNetwork
from ddnet.depth.weights import load_weights, save_fitted
from ddnet.errors import DDNetError
from ddnet.io.images import quantise, read_depth16, read_image, read_raw_rgb, write_depth16, write_image
from ddnet.runtime.signals import Stopped

HEIGHT, WIDTH = 72, 66


def _toy_scene(folder: Path, split: str, number: int, with_depth: bool = True) -> Scene:
    """A dark wall behind a bright rectangle: brightness tells the distance, so a few steps can learn it."""
    rng = np.random.default_rng([number, len(split)])
    depth_m = np.full((HEIGHT, WIDTH), 5.0, dtype=np.float32)
    top, left = rng.integers(4, 30, 2)
    depth_m[top : top + 32, left : left + 28] = rng.uniform(0.7, 1.2)
    bright = normalised_inverse_depth(depth_m)[..., None] * np.float32([1.0, 0.9, 0.8])
    image = np.clip(bright + rng.normal(0, 0.02, bright.shape), 0, 1).astype(np.float32)
    place = folder / "scenes" / "toy" / split / f"{number:03d}"
    for name in ("image", "target"):
        write_image(place / f"{name}.png", image)
    np.save(place / "depth_m.npy", depth_m)
    return describe_pair(
        "toy", split, f"{number:03d}", "indoor", place / "image.png", place / "target.png",
        place / "depth_m.npy" if with_depth else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    folder = tmp_path_factory.mktemp("toy")
    train = [_toy_scene(folder, "train", number) for number in range(4)]
    return train + [_toy_scene(folder, "val", number) for number in range(2)]


def _split(scenes: list[Scene], split: str) -> list[Scene]:
    return [scene for scene in scenes if scene.split == split]


# ------------------------------------------------------------------ fitting


def _fit(scenes: list[Scene], out: Path, folds: int, steps: int = 12) -> dict[str, float]:
    return fit_depth(
        _split(scenes, "train"), _split(scenes, "val"), out,
        height=64, width=64, steps=steps, batch=4, lr=3e-4, seed=5, threads=1, folds=folds,
    )  # fmt: skip


def test_a_short_fit_learns_and_is_repeatable(scenes: list[Scene], tmp_path: Path) -> None:
    scores = _fit(scenes, tmp_path / "a" / "fitted.pt", folds=1, steps=20)
    with (tmp_path / "a" / "history.csv").open(newline="") as stream:
        history = list(csv.DictReader(stream))
    losses = [float(row["loss"]) for row in history]
    assert [int(row["step"]) for row in history] == list(range(2, 21, 2))
    assert min(losses[-3:]) < 0.6 * losses[0]
    assert scores["val_abs_error"] == pytest.approx(float(history[-1]["val_abs_error"]))
    assert scores["val_spearman"] > 0.3
    _fit(scenes, tmp_path / "b" / "fitted.pt", folds=1, steps=20)
    first, again = (load_weights(tmp_path / name / "fitted.pt").networks[0] for name in "ab")
    for key, value in first.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[key], rtol=0, atol=0, msg=key)


def test_an_interrupted_fit_goes_on_to_the_same_bits_without_the_fold_that_is_finished(
    scenes: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole" / "fitted.pt", tmp_path / "cut" / "fitted.pt"
    _fit(scenes, whole, folds=2, steps=3)
    steps, step = list[tuple[int, int]](), DepthTask.train_step

    def asked_to_leave(task: DepthTask, number: int) -> Any:
        steps.append((task.fold, number))
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, number)

    monkeypatch.setattr(DepthTask, "train_step", asked_to_leave)
    with pytest.raises(Stopped):
        _fit(scenes, cut, folds=2, steps=3)
    assert not cut.exists()
    _fit(scenes, cut, folds=2, steps=3)
    assert steps == [(fold, number) for fold in range(2) for number in range(3)]
    assert whole.with_name("history.csv").read_text() == cut.with_name("history.csv").read_text()
    for first, again in zip(load_weights(whole).networks, load_weights(cut).networks, strict=True):
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


def test_two_folds_estimate_each_others_scenes(scenes: list[Scene], tmp_path: Path) -> None:
    scores = _fit(scenes, tmp_path / "fitted.pt", folds=2, steps=3)
    weights = load_weights(tmp_path / "fitted.pt")
    first, second = weights.fitted_on
    assert not first & second
    assert first | second == {scene.key for scene in _split(scenes, "train")}
    assert all(len(weights.networks_for(scene.key)) == 1 for scene in _split(scenes, "train"))
    assert all(len(weights.networks_for(scene.key)) == 2 for scene in _split(scenes, "val"))
    estimate_depth(scenes, "monodepth2", tmp_path / "depth", model_path=tmp_path / "fitted.pt")
    store = DepthStore(tmp_path / "depth")
    for split in ("train", "val"):
        errors = [np.abs(store(scene) - true_depth(scene)).mean() for scene in _split(scenes, split)]
        assert np.mean(errors) == pytest.approx(scores[f"{split}_abs_error"], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 3}, "folds is 3; allowed are 1 and 2"),
        ({"height": 65}, "65x64: both sides must be multiples of 32"),
        ({"crop": 48}, "48x48: both sides must be multiples of 32"),
        ({"scenes_val": []}, "0 validation scenes"),
    ],
)
def test_settings_that_cannot_work_are_refused(scenes, tmp_path, change, message) -> None:
    settings = {
        "scenes_train": _split(scenes, "train"), "scenes_val": _split(scenes, "val"),
        "height": 64, "width": 64, "steps": 1, "batch": 2, "lr": 1e-3, "seed": 0, "threads": 1, **change,
    }  # fmt: skip
    with pytest.raises(DDNetError, match=message):
        fit_depth(out_path=tmp_path / "fitted.pt", **settings)


@pytest.mark.parametrize("turn", [1, 2])
def test_both_folds_hold_both_locations(scenes: list[Scene], turn: int) -> None:
    """Whatever the order in which indoor and outdoor scenes are numbered."""
    many = [replace(scenes[0], scene=f"{i:03d}", location=("indoor", "outdoor")[i // turn % 2]) for i in range(12)]
    folds = _assign_folds(many, 2)
    for location in ("indoor", "outdoor"):
        chosen = [fold for fold, scene in zip(folds, many, strict=True) if scene.location == location]
        assert sorted(chosen) == [0, 0, 0, 1, 1, 1]


def test_the_loss_is_zero_for_the_truth_and_grows_with_the_error() -> None:
    depth = torch.rand(2, 1, 32, 32)
    truth = [torch.nn.functional.avg_pool2d(depth, 2**scale) for scale in range(4)]
    assert float(disparity_loss(truth, depth)) == pytest.approx(0.0, abs=1e-7)
    flat = torch.full((1, 1, 32, 32), 0.3)  # no edges: L1 and a tenth of log-L1 remain
    higher = [torch.nn.functional.avg_pool2d(flat + 0.1, 2**scale) for scale in range(4)]
    expected = 0.1 + 0.1 * float(np.log(0.41 / 0.31))
    assert float(disparity_loss(higher, flat)) == pytest.approx(expected, abs=1e-5)


def test_augmentation_moves_image_and_depth_together() -> None:
    """A picture of its own depth still is one, but for the colours and the hidden rectangle."""
    depth = torch.rand(8, 1, 96, 96)
    image = depth.expand(-1, 3, -1, -1)
    changed, moved = augment(image, depth, 64, torch.Generator().manual_seed(0))
    assert changed.shape == (8, 3, 64, 64) and moved.shape == (8, 1, 64, 64)
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    for one, other in zip(changed[:, 0].flatten(1), moved[:, 0].flatten(1), strict=True):
        assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 0.8


# ------------------------------------------------------------------ estimating and reading back


def test_estimates_come_back_as_written_and_a_picture_shows_them(scenes: list[Scene], tmp_path: Path) -> None:
    index = estimate_depth(scenes, "rendered", tmp_path / "rendered")
    assert index == tmp_path / "rendered" / "index.csv"
    with index.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["dataset", "split", "scene", "path", "sha256"]
    assert [row["path"] for row in rows] == sorted(f"{scene.key}.png" for scene in scenes)
    store = DepthStore(tmp_path / "rendered")
    for scene in scenes:
        depth = store(scene)
        assert depth.shape == (HEIGHT, WIDTH) and depth.dtype == np.float32
        np.testing.assert_allclose(depth, true_depth(scene), atol=1 / 65535)
        stored = read_raw_rgb(tmp_path / "rendered" / f"{scene.key}.png")[..., 0]
        np.testing.assert_array_equal(store.raw(scene), stored, strict=True)
    preview = read_image(tmp_path / "rendered" / "preview.png")
    assert preview.shape[0] > 400 and preview.std() > 0.05


def test_each_of_the_65536_stored_values_comes_back(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write_depth16(tmp_path / "depth.png", every / np.float32(65535))
    np.testing.assert_array_equal(quantise(read_depth16(tmp_path / "depth.png")), every, strict=True)


def test_constant_stays_constant_on_disk(scenes: list[Scene], tmp_path: Path) -> None:
    estimate_depth(scenes, "constant", tmp_path)
    values = np.concatenate([DepthStore(tmp_path)(scene).ravel() for scene in scenes])
    assert np.ptp(values) == 0 and values[0] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_is_another_scenes_map_of_the_same_split(scenes: list[Scene], seed: int) -> None:
    partners = _cycle(scenes, seed)
    assert all(partners[scene.key].key != scene.key for scene in scenes)
    assert all(partners[scene.key].split == scene.split for scene in scenes)
    assert {partner.key for partner in partners.values()} == {scene.key for scene in scenes}
    assert _cycle(scenes[::-1], seed) == partners


def test_shuffled_takes_from_the_base_source_or_from_the_truth(scenes: list[Scene], tmp_path: Path) -> None:
    estimate_depth(scenes, "noisy(0.05)", tmp_path / "base")
    estimate_depth(scenes, "shuffled", tmp_path / "shuffled", base_folder=tmp_path / "base", seed=2)
    estimate_depth(scenes, "shuffled", tmp_path / "true", seed=2)
    base, shuffled, true = (DepthStore(tmp_path / name) for name in ("base", "shuffled", "true"))
    for scene, partner in ((scene, _cycle(scenes, 2)[scene.key]) for scene in scenes):
        np.testing.assert_array_equal(shuffled(scene), base(partner))
        np.testing.assert_allclose(true(scene), true_depth(partner), atol=1 / 65535)
        assert not np.array_equal(shuffled(scene), base(scene))


def test_noise_follows_the_scene_and_the_seed_not_the_order(scenes: list[Scene], tmp_path: Path) -> None:
    estimate_depth(scenes, "noisy", tmp_path / "a", seed=1)
    estimate_depth(scenes[:3][::-1], "noisy", tmp_path / "b", seed=1)
    estimate_depth(scenes[:3], "noisy", tmp_path / "c", seed=2)
    first, again, different = (DepthStore(tmp_path / name) for name in "abc")
    np.testing.assert_array_equal(first(scenes[0]), again(scenes[0]))
    assert not np.array_equal(first(scenes[0]), different(scenes[0]))


def test_an_altered_map_is_refused_with_the_fix(scenes: list[Scene], tmp_path: Path) -> None:
    estimate_depth(scenes, "rendered", tmp_path)
    path = tmp_path / f"{scenes[0].key}.png"
    path.write_bytes((tmp_path / f"{scenes[1].key}.png").read_bytes())
    store = DepthStore(tmp_path)
    for read in (store, store.raw):
        with pytest.raises(DDNetError, match=f"{path}.*SHA-256.*move .* aside and run the rule estimate_depth again"):
            read(scenes[0])
    assert store(scenes[1]).shape == read_depth16(path).shape
    path.unlink()
    with pytest.raises(DDNetError, match="listed in index.csv but missing"):
        store(scenes[0])


def test_a_store_names_what_it_lacks(scenes: list[Scene], tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="no depth was estimated there; run the rule estimate_depth"):
        DepthStore(tmp_path / "nowhere")
    estimate_depth(scenes[:2], "constant", tmp_path)
    with pytest.raises(DDNetError, match=f"no depth for scene {scenes[3].key}"):
        DepthStore(tmp_path)(scenes[3])
    (tmp_path / "index.csv").write_text("scene,path\n")
    with pytest.raises(DDNetError, match="columns must be dataset,split,scene,path,sha256"):
        DepthStore(tmp_path)


def test_scenes_without_true_depth_can_be_estimated_but_not_rendered(tmp_path: Path) -> None:
    photograph = _toy_scene(tmp_path, "test", 0, with_depth=False)
    torch.manual_seed(0)
    save_fitted(tmp_path / "random.pt", [DepthNetwork()], (64, 64), [[]])
    estimate_depth([photograph], "monodepth2", tmp_path / "depth", model_path=tmp_path / "random.pt")
    assert DepthStore(tmp_path / "depth")(photograph).shape == (HEIGHT, WIDTH)
    assert read_image(tmp_path / "depth" / "preview.png").shape[1] == 480  # image and estimate, no empty columns
    with pytest.raises(DDNetError, match="toy/test/000: its true depth is unknown"):
        estimate_depth([photograph], "rendered", tmp_path / "rendered")
    with pytest.raises(DDNetError, match="toy/test has a single scene"):
        estimate_depth([photograph], "shuffled", tmp_path / "shuffled")
    with pytest.raises(DDNetError, match="no scenes to estimate"):
        estimate_depth([], "constant", tmp_path / "empty")
