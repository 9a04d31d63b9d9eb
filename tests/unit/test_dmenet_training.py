"""DMENet learnt from scenes of known blur: its loss, its crops, and a tiny training from rendering to map."""

from __future__ import annotations

import csv
import inspect
import json
import logging
import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from baselines.dmenet.baseline import Dmenet
from baselines.dmenet.network import Network, Shift
from baselines.dmenet.training import MapTask, Sampler, loss_of, refresh_statistics, start, to_map, train
from baselines.dmenet.weights import load_weights
from ddnet.config import Photometric
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.embedded.optics import Lens
from ddnet.data.embedded.true_blur import true_sigma
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.images import read_image, write_image
from ddnet.runtime.signals import Stopped

SMALL: dict[str, Any] = {"width": 4, "steps": 4, "crop": 32, "batch": 1, "lr": 1e-3}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Four scenes of 64 pixels, as the smoke preset has them."""
    folder = tmp_path_factory.mktemp("scenes")
    render_split("embedded", "train", 4, 64, 16, 0, folder)
    return index_benchmark(folder)


def test_the_loss_is_the_sum_of_the_mean_squared_errors_against_nearest_values() -> None:
    truth = torch.arange(64.0).reshape(1, 1, 8, 8) / 64.0
    final, half, quarter = truth + 0.1, truth[..., ::2, ::2] - 0.2, truth[..., ::4, ::4] + 0.3
    assert float(loss_of((final, [quarter, half]), truth)) == pytest.approx(0.01 + 0.04 + 0.09, rel=1e-5)
    assert float(loss_of((truth, []), truth)) == 0.0


def test_crops_hold_each_pixels_own_truth_in_all_eight_orientations() -> None:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    scene = torch.stack([rows, columns, rows * 0, rows * 100 + columns])
    sampler = Sampler([scene], 64, 32, torch.Generator().manual_seed(0))
    image, truth = sampler.draw()
    assert image.shape == (64, 3, 32, 32) and truth.shape == (64, 1, 32, 32)
    assert torch.equal(image[:, 0] * 100 + image[:, 1], truth[:, 0])
    right, down = truth[:, 0, 0, 1] - truth[:, 0, 0, 0], truth[:, 0, 1, 0] - truth[:, 0, 0, 0]
    upright = {(x, y) for x in (1, -1) for y in (100, -100)}
    assert set(zip(right.int().tolist(), down.int().tolist())) == upright | {(y, x) for x, y in upright}
    assert len({int(part.min()) for part in truth}) > 30  # places


def test_every_scene_comes_once_before_any_comes_again() -> None:
    sampler = Sampler([torch.full((4, 16, 16), float(i)) for i in range(5)], 5, 16, torch.Generator().manual_seed(0))
    rounds = [sampler.draw()[1][:, 0, 0, 0].tolist() for _ in range(4)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_augmentation_is_the_images_alone_and_other_in_every_draw() -> None:
    def draws(photometric: Photometric | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        sampler = Sampler([torch.full((4, 16, 16), 0.5)], 2, 16, torch.Generator().manual_seed(3), photometric)
        return [sampler.draw(), sampler.draw()]

    plain, noisy, again = (draws(spec) for spec in (None, *2 * [Photometric(noise=0.1)]))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(plain, noisy, strict=True))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(noisy, again, strict=True))
    assert not torch.equal(noisy[0][0], plain[0][0]) and not torch.equal(noisy[0][0], noisy[1][0])


def test_blur_beyond_7_pixels_is_7() -> None:
    np.testing.assert_array_equal(to_map(np.array([0.0, 3.5, 7.0, 9.0], np.float32)), [0.0, 0.5, 1.0, 1.0])


def test_a_new_network_says_the_mean_blur_on_average() -> None:
    torch.manual_seed(0)
    network = Network(8)
    start(network, 0.1)
    _, helped = network.train()(torch.rand(4, 3, 64, 64))
    for level in helped:
        assert torch.logit(level).mean().item() == pytest.approx(math.log(0.1 / 0.9), abs=1e-3)


def test_refreshed_statistics_are_those_of_fresh_batches_not_of_the_past() -> None:
    torch.manual_seed(0)
    network = Network(4)
    start(network, 0.1)
    shift, seen = network.u1.get_submodule("b1"), []
    assert isinstance(shift, Shift)
    shift.get_buffer("moving_mean").fill_(1e6)
    network.u1.get_submodule("c1").register_forward_hook(lambda module, arguments, result: seen.append(result))
    sampler = Sampler([torch.rand(4, 48, 48) for _ in range(4)], 2, 32, torch.Generator().manual_seed(0))
    refresh_statistics(network, sampler, batches=5)
    assert len(seen) == 5 and not network.training
    for name, expected in (
        ("moving_mean", [result.mean(dim=(0, 2, 3)) for result in seen]),
        ("moving_variance", [result.var(dim=(0, 2, 3)) for result in seen]),
    ):
        torch.testing.assert_close(shift.get_buffer(name), torch.stack(expected).mean(dim=0), rtol=1e-3, atol=1e-3)


def test_a_tiny_training_writes_weights_history_and_scores(
    scenes: list[Scene], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ddnet.training.loop"):
        scores = Dmenet.train(scenes[:3], scenes[3:], tmp_path / "weights.npz", **SMALL)
    assert set(scores) == {
        "val_mae_px", "val_spearman", "constant_mae_px", "params", "params_inference", "seconds"
    }  # fmt: skip
    truth = true_sigma(scenes[3])
    median = np.median(np.concatenate([true_sigma(scene).ravel() for scene in scenes[:3]]))
    assert scores["constant_mae_px"] == pytest.approx(float(np.abs(truth - median).mean()), rel=1e-5)
    found = Dmenet(tmp_path / "weights.npz").defocus_map(read_image(scenes[3].image))
    assert scores["val_mae_px"] == pytest.approx(float(np.abs(found - truth).mean()), rel=1e-5)
    assert load_weights(tmp_path / "weights.npz")[1] == "trained"
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["val_mae_px"]) == pytest.approx(scores["val_mae_px"], rel=1e-6)
    assert [record.message.split("  loss ")[0] for record in caplog.records][-1] == "DMENet: step 4/4"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["history.csv", "state", "weights.npz"]


def test_a_preset_may_set_all_that_a_training_takes() -> None:
    """The planner reads the options from the class, whose file it does not import."""
    assert inspect.signature(Dmenet.train) == inspect.signature(train)


@pytest.mark.parametrize("at", [0, 2])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    at: int, scenes: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SMALL | {"photometric": {"noise": 0.1}}
    whole, cut = tmp_path / "whole" / "weights.npz", tmp_path / "cut" / "weights.npz"
    Dmenet.train(scenes[:3], scenes[3:], whole, **options)
    steps, step = list[int](), MapTask.train_step

    def asked_to_leave(task: MapTask, number: int) -> Any:
        steps.append(number)
        if steps == list(range(at + 1)):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, number)

    monkeypatch.setattr(MapTask, "train_step", asked_to_leave)
    with pytest.raises(Stopped):
        Dmenet.train(scenes[:3], scenes[3:], cut, **options)
    assert not cut.exists()
    Dmenet.train(scenes[:3], scenes[3:], cut, **options)
    assert steps == [0, 1, 2, 3]
    assert whole.with_name("history.csv").read_text() == cut.with_name("history.csv").read_text()
    with np.load(whole) as first, np.load(cut) as second:
        assert all((first[name] == second[name]).all() for name in first)
    Dmenet.train(scenes[:3], scenes[3:], cut, "other code", **options)
    assert steps == 2 * [0, 1, 2, 3]  # none of the state was taken up


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads_and_the_order_of_scenes(
    scenes: list[Scene], tmp_path: Path
) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    try:
        for name, many, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4)):
            torch.set_num_threads(many)
            order = scenes if name == "one" else scenes[::-1]
            train(order, scenes[:1], tmp_path / name / "weights.npz", seed=seed, **SMALL)
            assert torch.get_num_threads() == many
    finally:
        torch.set_num_threads(threads)
    one, two, other = ((tmp_path / name / "weights.npz").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other
    assert torch.equal(torch.random.get_rng_state(), state)


def halves(folder: Path, seed: int) -> Scene:
    """Noise of which one half, by turns each side, is blurred by 3 pixels; depth and lens say so."""
    lens, side = Lens(50.0, 0.2, 2.0), 96
    blurred_at = 1.0 / (1.0 / 2.0 - 4.0 * 3.0 / (lens.focal_px(side) * lens.aperture_m))
    right = (np.arange(side) < side // 2) == bool(seed % 2)
    grey = gaussian_filter(np.random.default_rng(seed).random((side, side)), 0.5)
    image = 0.5 + np.where(right, 2.0 * gaussian_filter(grey - 0.5, 3.0), grey - 0.5)
    folder.mkdir()
    for name, picture in (("image", image), ("target", grey)):
        write_image(folder / f"{name}.png", np.repeat(picture[..., None], 3, axis=2).astype(np.float32))
    np.save(
        folder / "depth_m.npy", np.where(right, blurred_at, 2.0).astype(np.float32) * np.ones((side, 1), np.float32)
    )
    (folder / "scene.json").write_text(json.dumps({"lens": asdict(lens)}))
    files = (folder / "image.png", folder / "target.png", folder / "depth_m.npy")
    return Scene("embedded", "train", folder.name, "indoor", *files, side, side, 16, "", "")


def test_training_learns_the_blur_of_scenes_like_its_own(tmp_path: Path) -> None:
    scenes = [halves(tmp_path / str(seed), seed) for seed in range(6)]
    assert float(true_sigma(scenes[0]).max()) == pytest.approx(3.0, rel=1e-3)
    scores = train(scenes[:4], scenes[4:], tmp_path / "w.npz", width=4, steps=150, batch=2, crop=32, lr=1e-2)
    assert scores["constant_mae_px"] == pytest.approx(1.5, rel=1e-3)
    assert scores["val_mae_px"] < 0.5
    assert scores["val_spearman"] > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crop": 40},
            r"crop is 40; it must be a multiple of 16, at least 32, and fit into embedded/train/.* of 64 x 64",
        ),
        ({"crop": 16}, r"crop is 16; .*at least 32"),
        ({"crop": 80}, r"crop is 80; .*fit into embedded/train/\S+ of 64 x 64 pixels"),
        ({"steps": 0}, r"steps is 0; it must be a whole number, at least 1"),
        ({"steps": "many"}, r"steps is 'many'; it must be a whole number"),
        ({"seed": -1}, r"seed is -1; it must be a whole number, at least 0"),
        ({"batch": 1.5}, r"batch is 1\.5; it must be a whole number, at least 1"),
        ({"lr": 0.0}, r"lr is 0\.0; it must be a number above 0"),
        ({"lr": math.nan}, r"lr is nan; it must be a number above 0"),
        ({"decay_every": None}, r"decay_every is None; it must be a number above 0"),
        ({"width": "wide"}, r"width is 'wide'; it must be an even number"),
        ({"width": 5}, r"width is 5; it must be an even number"),
        ({"photometric": {"nose": 1}}, r"unknown key 'nose'; did you mean 'noise'\?"),
        ({"lr": 1e30, "steps": 20}, r"the loss is nan at step \d+; lower lr, which is 1e\+30"),
    ],
)
def test_options_out_of_range_are_one_line_and_nothing_is_written(
    scenes: list[Scene], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DDNetError, match=message):
        train(scenes, scenes[:1], tmp_path / "weights.npz", **(SMALL | options))
    assert not list(tmp_path.iterdir())


def test_scenes_must_be_there_and_their_blur_known(scenes: list[Scene], tmp_path: Path) -> None:
    for given, held_out in (([], scenes), (scenes, [])):
        with pytest.raises(DDNetError, match=rf"{len(given)} training and {len(held_out)} validation scenes"):
            train(given, held_out, tmp_path / "weights.npz", **SMALL)
    with pytest.raises(DDNetError, match="its true blur is not known"):
        train([replace(scenes[0], depth_m=None)], scenes, tmp_path / "weights.npz", **SMALL)
