"""`ddnet.load`: what it finds by path and by name, and that it restores as the suite evaluates."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_kpac
import test_released
import torch
from monodepth2_zip import published_states

import ddnet
from baselines.common.network_system import save_weights
from baselines.dpdnet.baseline import Dpdnet
from baselines.kpac.baseline import Kpac
from ddnet.cli.main import CONFIG
from ddnet.config import load_variants
from ddnet.data.depth_maps import DepthStore
from ddnet.data.index import describe_pair
from ddnet.depth.estimate import estimate_depth
from ddnet.depth.network import DepthNetwork
from ddnet.depth.weights import save_fitted
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import ModelRestorer
from ddnet.io.files import write_json
from ddnet.io.images import read_image, write_image
from ddnet.models import build_model, initialise
from ddnet.models.released import load_released
from ddnet.training.checkpoint import load_run, save_run

VARIANTS = load_variants(CONFIG / "variants.yaml")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    torch.set_num_threads(1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def picture(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def run_of(variant: str, preset: str = "smoke", seed: int = 0, root: str | Path = "results/runs", **facts: Any) -> Path:
    """A finished run with random weights of a narrow network."""
    chosen = VARIANTS[variant]
    model = build_model(chosen, 4, "sigmoid")
    initialise(model, seed)
    folder = Path(root) / preset / f"{variant}-seed{seed}"
    save_run(folder / "model.pt", model, chosen, {"width": 4, "output": "sigmoid", "seed": seed})
    facts = {"steps": 10, "best_val_psnr": 20.0 + seed, "settings": {"training": {"batch": 2}}, **facts}
    write_json(folder / "manifest.json", {"depth_source": "constant" if chosen.uses_depth else None, **facts})
    return folder


def refused(what: str | Path, *given: Any) -> str:
    """What loading says, or with `given` restoring."""
    with pytest.raises(DDNetError) as caught:
        loaded = ddnet.load(what)
        if given:
            loaded.restore(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fitted_network(file: Path) -> None:
    """Two folds of a random depth network for 64 x 96."""
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(DepthNetwork())
    save_fitted(file, networks, (64, 96), [["a"], ["b"]])


def published_network(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, state in published_states(64, 96).items():
        torch.save(state, folder / name)


def evaluated(folder: Path, image: np.ndarray, depth: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """What the workflow makes of a picture: estimated depth kept as a file, then one pass; and the picture it read."""
    for name in ("image.png", "target.png"):
        write_image(name, image)
    scene = describe_pair("mine", "test", "one", "", Path("image.png").absolute(), Path("target.png").absolute(), None)
    estimate_depth([scene], "monodepth2", "maps", depth)
    read = read_image("image.png")
    return ModelRestorer(load_run(folder / "model.pt").model).restore(read, DepthStore("maps")(scene)), read


def test_import_stays_light_and_load_is_there_when_it_is_asked_for() -> None:
    code = "import sys, ddnet; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(ddnet.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "function load" in done.stdout, done.stderr
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        ddnet.lode  # noqa: B018


@pytest.mark.parametrize("how", ["folder", "file", "name", "alias", "path of text"])
def test_a_run_restores_the_same_however_it_is_named(how: str) -> None:
    folder = run_of("ddnet_1b")
    given = {
        "folder": folder, "file": folder / "model.pt", "name": "ddnet_1b", "alias": "fusion_gru",
        "path of text": str(folder),
    }[how]  # fmt: skip
    loaded, image = ddnet.load(given), picture()
    restored = loaded.restore(image)
    depth = np.full((37, 53), np.float32(32768 / 65535))  # a half, as a file of 16 bits keeps it
    expected = ModelRestorer(load_run(folder / "model.pt").model).restore(image, depth)
    np.testing.assert_array_equal(restored, expected)
    assert restored.dtype == np.float32 and (loaded.name, loaded.source) == ("ddnet_1b", str(folder / "model.pt"))
    given_depth = np.random.default_rng(1).random((37, 53))
    assert not np.array_equal(loaded.restore(image, given_depth), restored)


def test_a_network_without_depth_takes_a_picture_alone() -> None:
    folder, image = run_of("unet"), picture(1, 70)
    loaded = ddnet.load("unet")
    expected = ModelRestorer(load_run(folder / "model.pt").model).restore(image, None)
    np.testing.assert_array_equal(loaded.restore(image), expected)
    np.testing.assert_array_equal(loaded.restore(image, np.zeros((3, 3), np.float32)), expected)


def test_depth_is_estimated_as_it_was_for_the_evaluation_of_a_fitted_preset() -> None:
    folder = run_of("ddnet_1b", depth_source="monodepth2")
    fitted_network(Path("data/smoke/depth_model/monodepth2.pt"))
    expected, read = evaluated(folder, picture(), Path("data/smoke/depth_model/monodepth2.pt"))
    np.testing.assert_array_equal(ddnet.load("ddnet_1b").restore(read), expected)


def test_a_run_of_another_project_brings_its_depth_network_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_of("ddnet_1b", depth_source="monodepth2")
    fitted_network(Path("data/smoke/depth_model/monodepth2.pt"))
    inside = ddnet.load(folder).restore(picture())
    folder = folder.absolute()
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(ddnet.load(folder).restore(picture()), inside)


def test_published_depth_is_estimated_at_the_presets_size_and_of_an_unknown_preset_at_the_networks_own() -> None:
    published_network(Path("data/weights/monodepth2/mono+stereo_640x192"))
    for preset, size in (("paper", (192, 640)), ("my_own", (64, 96))):
        loaded = ddnet.load(run_of("ddnet_1b", preset, depth_source="monodepth2"))
        assert loaded.restore(picture()).shape == (37, 53, 3)
        assert loaded.depth is not None and loaded.depth._source.size == size  # type: ignore[attr-defined]
    fitted_network(Path("data/my_own/depth_model/monodepth2.pt"))
    loaded = ddnet.load("results/runs/my_own/ddnet_1b-seed0")
    loaded.restore(picture())
    assert len(loaded.depth._source.weights.networks) == 2  # type: ignore[attr-defined, union-attr]


def test_without_its_depth_network_both_ways_out_are_told() -> None:
    image = picture()
    run_of("ddnet_1b", depth_source="monodepth2")
    published_network(Path("data/weights/monodepth2"))  # not what the preset used
    said = refused("ddnet_1b", image)
    assert (
        "the network that estimates it, data/smoke/depth_model/monodepth2.pt, is not here; pass depth, (H, W)" in said
    )
    assert said.endswith("monodepth2.pt --configfile workflow/config/smoke.yaml")
    assert ddnet.load("ddnet_1b").restore(image, np.zeros((37, 53))).shape == (37, 53, 3)
    said = refused(run_of("ddnet_1b", "paper", depth_source="depth_anything"), image)
    assert "is not here, in data/weights/depth_anything; pass depth" in said and "`ddnet weights import FILE`" in said
    said = refused(run_of("ddnet_1b_noisy", depth_source="noisy(0.1)"), image)
    assert "guided by depth of 'noisy(0.1)', which cannot be had from a picture alone; pass depth" in said


def test_of_several_runs_the_longest_and_best_finished_one_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    run_of("unet", "smoke", 9, best_val_psnr=40.0)
    for seed, psnr in ((0, 24.0), (1, 25.0), (2, 23.0)):
        run_of("unet", "embedded", seed, best_val_psnr=psnr, steps=2500)
    unfinished = run_of("unet", "paper", 0, best_val_psnr=30.0, steps=78_750)
    (unfinished / "manifest.json").unlink()
    with caplog.at_level(logging.INFO):
        assert ddnet.load("unet").source == "results/runs/embedded/unet-seed1/model.pt"
    assert "unet: results/runs/embedded/unet-seed1, of 4 finished runs; validation 25.00 dB" in caplog.text
    assert ddnet.load(unfinished).name == "unet"  # by its path, whoever asks knows


def test_what_is_not_there_is_told_with_the_nearest_name() -> None:
    assert "nothing is called 'ddnet_1c'; did you mean 'ddnet_1b'?" in refused("ddnet_1c")
    assert "variant 'ddnet_2b' has no finished run in results/runs" in refused("ddnet_2b")
    assert "results/runs/x: no such file or folder" in refused("results/runs/x")
    assert "neither model.pt nor weights.npz is in it" in refused(Path.cwd())
    said = refused("kpac")
    assert "kpac: no weights of kpac are here; import its authors' file" in said and "{kpac: {weights: train}}" in said
    said = refused("jnb")
    assert "no weights of jnb are here; train it" in said
    assert "ddnet: the weights that its authors published are not here" in refused("ddnet")
    Path("model.pt").write_bytes(b"nothing")
    assert "model.pt: not a readable PyTorch file" in refused("model.pt")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8, 3), np.uint8), "the image is of type uint8; give floating point in [0, 1]; divide by 255"),
        (np.zeros((8, 8), np.float32), "the image is (8, 8); give (H, W, 3)"),
        (np.zeros((0, 8, 3), np.float32), "the image is (0, 8, 3); give (H, W, 3)"),
        (np.full((8, 8, 3), 255.0), "the image spans 255 to 255; give values in [0, 1]"),
        (np.full((8, 8, 3), np.nan), "the image spans nan to nan"),
    ],
)
def test_what_is_no_picture_is_one_line(image: np.ndarray, words: str) -> None:
    assert words in refused("blurred", image)


def test_depth_that_does_not_fit_the_picture_is_one_line() -> None:
    run_of("ddnet_1b")
    assert "the depth is (8, 8), the image (37, 53)" in refused("ddnet_1b", picture(), np.zeros((8, 8)))
    assert "the depth is (37, 53, 1); give (H, W)" in refused("ddnet_1b", picture(), np.zeros((37, 53, 1)))
    assert "the depth spans 0 to 2; give values" in refused(
        "ddnet_1b", picture(), np.linspace(0, 2, 37 * 53).reshape(37, 53)
    )


def learned_dpdnet(preset: str, seed: int, kind: str = "train") -> Path:
    torch.manual_seed(seed)
    file = Path("results/systems", preset, "dpdnet", "weights.npz")
    save_weights(file, Dpdnet.network(4).state_dict(), 4)
    write_json(file.with_name("manifest.json"), {"weights": kind})
    os.utime(file, (1000 + seed, 1000 + seed))
    return file


def test_a_compared_system_is_loaded_with_official_weights_or_those_learned_last() -> None:
    image = picture(16, 32)
    first, second = learned_dpdnet("smoke", 1), learned_dpdnet("embedded", 2)
    loaded = ddnet.load("dpdnet")
    assert loaded.source == f"learned, {second}"
    np.testing.assert_array_equal(loaded.restore(image), Dpdnet(second).restore(image))
    for path in (first, first.parent):
        np.testing.assert_array_equal(ddnet.load(path).restore(image), Dpdnet(first).restore(image))
    official = learned_dpdnet("paper", 0, "official")
    assert ddnet.load("dpdnet").source == f"its authors' weights, {official}"
    wrong = official.parent.rename(official.parent.with_name("dpdnett"))
    assert "no compared system 'dpdnett' has weights" in refused(wrong)


def test_a_system_without_weights_needs_nothing() -> None:
    image = picture()
    np.testing.assert_array_equal(ddnet.load("blurred").restore(image), image)


def test_imported_weights_are_used_as_they_are() -> None:
    image, folder = picture(16, 32), Path("data/weights/kpac")
    folder.mkdir(parents=True)
    test_kpac.published_file(folder, 3)
    loaded = ddnet.load("kpac")
    assert loaded.source == "its authors' weights, data/weights/kpac"
    Kpac.convert(folder, Path("weights.npz"))
    np.testing.assert_array_equal(loaded.restore(image), Kpac(Path("weights.npz")).restore(image))


def test_the_released_network_is_loaded_with_published_depth() -> None:
    file = Path("data/weights/ddnet/ddnet_models.pth")
    file.parent.mkdir(parents=True)
    test_released.save(file, test_released.published())
    image, depth = picture(16, 32), np.random.default_rng(2).random((16, 32), np.float32)
    loaded = ddnet.load("ddnet")
    np.testing.assert_array_equal(
        loaded.restore(image, depth), ModelRestorer(load_released(file)).restore(image, depth)
    )
    assert "guided by depth, and the network that estimates it is not here, in data/weights/monodepth2" in refused(
        "ddnet", image
    )
    published_network(Path("data/weights/monodepth2"))
    assert ddnet.load("ddnet").restore(image).shape == image.shape
    (Path.cwd() / "ddnet").mkdir()  # a folder of that name changes nothing
    assert ddnet.load("ddnet").source == str(file)


@pytest.mark.parametrize("smallest", [0, 1 << 40])
def test_half_precision_and_tiles_are_near_but_not_the_same(smallest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddnet.models.banded.SMALLEST_BYTES", smallest)  # in bands, or as a whole
    folder, image = run_of("ddnet_1b"), picture(96, 112)
    depth = image[..., 0].copy()
    full, half = ddnet.load(folder).restore(image, depth), ddnet.load(folder, half=True).restore(image, depth)
    assert 0 < np.abs(half - full).max() < 0.02 and half.dtype == np.float32
    tiled = ddnet.load(folder).restore(image, depth, tile=64)
    assert 0 < np.abs(tiled - full).mean() < 0.05
    np.testing.assert_array_equal(ddnet.load(folder).restore(image, depth, tile=112), full)


def test_what_has_no_half_precision_says_so() -> None:
    with pytest.raises(DDNetError, match="ebdb: it has no half precision; load it without half=True"):
        ddnet.load("ebdb", half=True)
