"""Depth of every training patch by itself."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_folder import write_depth_anything

from ddnet.config import Patches
from ddnet.data.index import Scene, describe_pair
from ddnet.data.patch_set import PatchSet
from ddnet.data.patches import extract_patches
from ddnet.depth import patches as patch_depth
from ddnet.depth.network import DepthNetwork
from ddnet.depth.patches import estimate_patch_depth
from ddnet.depth.sources import build_depth_source
from ddnet.depth.weights import save_fitted
from ddnet.errors import DDNetError
from ddnet.io.images import quantise, write_image

SIZES = [(100, 150), (96, 96), (130, 100)]


def _scene(folder: Path, number: int, size: tuple[int, int]) -> Scene:
    rng = np.random.default_rng(number)
    for name in ("image", "target"):
        write_image(folder / f"{number}_{name}.png", rng.random((*size, 3), dtype=np.float32))
    pair = (folder / f"{number}_{name}.png" for name in ("image", "target"))
    return describe_pair("toy", "train", f"{number}", "", *pair, None)


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 64 px of three images of different sizes."""
    folder = tmp_path_factory.mktemp("patches")
    scenes = [_scene(folder, number, size) for number, size in enumerate(SIZES)]
    extract_patches(scenes, folder / "patches", Patches(size=64))
    return folder / "patches"


@pytest.fixture(scope="module")
def networks() -> list[DepthNetwork]:
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        made.append(DepthNetwork().eval())
    return made


def _expected(patches: Path, number: int, network: DepthNetwork) -> np.ndarray:
    with torch.inference_mode():
        return network(PatchSet(patches).batch(np.array([number]))[0])[0][0, 0].numpy()


def test_every_patch_is_shown_to_the_network_as_it_is(patches: Path, networks, tmp_path: Path) -> None:
    """In the order of patches.csv, at the patch's own size whatever the weights were made for, as 16 bits."""
    save_fitted(tmp_path / "model.pt", networks[:1], (192, 640), [[]])
    estimate_patch_depth(patches, "monodepth2", tmp_path / "patches.npy", tmp_path / "model.pt")
    depths = np.load(tmp_path / "patches.npy", mmap_mode="r")
    assert len(depths) == len(PatchSet(patches)) > 10
    assert depths.shape[1:] == (64, 64) and depths.dtype == np.uint16
    for number in range(len(depths)):
        wanted = quantise(_expected(patches, number, networks[0])).astype(int)
        assert np.abs(depths[number].astype(int) - wanted).max() <= 1
    assert len({depth.tobytes() for depth in depths}) == len(depths)


def test_the_training_set_takes_them(patches: Path, tmp_path: Path, networks) -> None:
    save_fitted(tmp_path / "model.pt", networks[:1], (64, 64), [[]])
    estimate_patch_depth(patches, "monodepth2", tmp_path / "patches.npy", tmp_path / "model.pt")
    depths = np.load(tmp_path / "patches.npy", mmap_mode="r")
    _, _, depth = PatchSet(patches, depths).batch(np.array([7, 2]))
    np.testing.assert_allclose(depth[:, 0], depths[[7, 2]] / 65535, atol=1e-6)


def test_the_number_of_patches_a_time_does_not_matter(patches: Path, networks, tmp_path: Path, monkeypatch) -> None:
    save_fitted(tmp_path / "model.pt", networks[:1], (64, 64), [[]])
    for name, batch in (("many", 16), ("few", 3)):
        monkeypatch.setattr(patch_depth, "BATCH", batch)
        estimate_patch_depth(patches, "monodepth2", tmp_path / f"{name}.npy", tmp_path / "model.pt")
    many, few = (np.load(tmp_path / f"{name}.npy").astype(int) for name in ("many", "few"))
    assert np.abs(many - few).max() <= 1


def test_a_fold_never_estimates_patches_of_a_scene_it_was_fitted_on(patches: Path, networks, tmp_path: Path) -> None:
    first, *others = PatchSet.scene_keys(patches)
    save_fitted(tmp_path / "folds.pt", networks, (64, 64), [[first], others])
    estimate_patch_depth(patches, "monodepth2", tmp_path / "patches.npy", tmp_path / "folds.pt")
    depths = np.load(tmp_path / "patches.npy")
    last = len(depths) - 1
    for number, unseen in ((0, networks[1]), (last, networks[0])):
        np.testing.assert_allclose(depths[number] / 65535, _expected(patches, number, unseen), atol=2e-5)


def test_depth_anything_scales_every_patch_by_itself(patches: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = write_depth_anything(tmp_path / "model")
    estimate_patch_depth(patches, "depth_anything", tmp_path / "patches.npy", model)
    depths = np.load(tmp_path / "patches.npy")
    assert all((depth.min(), depth.max()) == (0, 65535) for depth in depths)
    patch = PatchSet(patches).batch(np.array([5]))[0][0].permute(1, 2, 0).contiguous().numpy()
    alone = build_depth_source("depth_anything", model).predict(patch)
    np.testing.assert_allclose(depths[5] / 65535, alone, atol=1e-4)


def test_what_cannot_be_done_is_refused_and_leaves_no_file(
    patches: Path, networks, tmp_path: Path, monkeypatch
) -> None:
    save_fitted(tmp_path / "model.pt", networks[:1], (64, 64), [[]])
    out = tmp_path / "out" / "patches.npy"
    for spec, needs in (("noisy(0.1)", "true_depth"), ("shuffled", "other")):
        with pytest.raises(DDNetError, match=rf"'{spec[:5]}.* needs {needs}, which a patch by itself does not have"):
            estimate_patch_depth(patches, spec, out)
    scene = _scene(tmp_path, 0, (100, 100))
    extract_patches([scene], tmp_path / "odd", Patches(size=48))
    with pytest.raises(DDNetError, match=r"training.patches.size is 48x48: both sides must be multiples of 32"):
        estimate_patch_depth(tmp_path / "odd", "monodepth2", out, tmp_path / "model.pt")
    full = namedtuple("Usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(DDNetError, match=r"out: the depth maps of the patches need \d+ kB and 1 B are free; free some"):
        estimate_patch_depth(patches, "monodepth2", out, tmp_path / "model.pt")
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
