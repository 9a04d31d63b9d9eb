from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddnet.config import Patches
from ddnet.data.index import Scene, describe_pair
from ddnet.data.patches import PatchSet, extract_patches, grid, sharpness
from ddnet.errors import DDNetError
from ddnet.images import read_raw_rgb, write_image


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        target = rng.random((64, 80, 3)).astype(np.float32)
        target[:, :32] *= 0.05  # a dull left side: its patches are the least sharp
        image, sharp = tmp_path / f"{number}.png", tmp_path / f"{number}-target.png"
        write_image(image, target * 0.5)
        write_image(sharp, target)
        made.append(describe_pair("toy", "train", f"s{number}", "indoor", image, sharp, None))
    return made


def test_dpdd_gives_28_patches_per_image_of_which_20_stay() -> None:
    rows, columns = grid(1120, 512, 204), grid(1680, 512, 204)
    assert len(rows) * len(columns) == 28
    assert rows[-1] == 1120 - 512 and columns[-1] == 1680 - 512
    assert 350 * (28 - int(Patches().drop * 28)) == 7000


def test_the_least_sharp_are_dropped(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    spec = Patches(size=32, stride=0.5, drop=0.3)
    count = extract_patches(scenes, folder, spec)
    corners = [(y, x) for y in grid(64, 32, 16) for x in grid(80, 32, 16)]
    assert count == 3 * (len(corners) - int(0.3 * len(corners)))
    kept = PatchSet(folder).corners
    assert set(kept[:, 0]) == {0, 1, 2}
    # All three wholly dull patches (x = 0) of each image are gone.
    assert (kept[:, 2] > 0).all()


def test_sharpness_is_a_product_over_four_sobel_sizes() -> None:
    flat = np.full((64, 64, 3), 0.5, np.float32)
    flat[:, 40:] = np.random.default_rng(0).random((64, 24, 3))
    values = sharpness(flat, [(0, 0), (0, 16), (0, 32)], 32)
    assert values[0] == 0 and values[2] == pytest.approx(1) and values[0] < values[1] < values[2]


def test_batches_are_the_images_own_pixels(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, Patches(size=32, stride=0.5))
    depths = np.random.default_rng(0).random((3, 64, 80)).astype(np.float32)
    patches = PatchSet(folder, depths)
    image, target, depth = patches.batch(np.array([0, len(patches) - 1]))
    assert image.shape == target.shape == (2, 3, 32, 32)
    assert depth is not None and depth.shape == (2, 1, 32, 32)
    position, y, x, size = patches.corners[-1]
    raw = read_raw_rgb(scenes[position].image)[y : y + size, x : x + size]
    np.testing.assert_array_equal(np.rint(image[1].transpose(1, 2, 0) * 65535), raw)
    np.testing.assert_array_equal(depth[1, 0], depths[position, y : y + size, x : x + size])
    assert PatchSet.scene_keys(folder) == [scene.key for scene in scenes]


@pytest.mark.parametrize("turn", range(8))
def test_augmentation_turns_image_target_and_depth_alike(turn: int, scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, Patches(size=32, stride=0.5))
    stacked = np.load(folder / "images.npy")
    patches = PatchSet(folder, (stacked[..., 0] / 65535).astype(np.float32))
    image, target, depth = patches.batch(np.array([5]), np.array([turn]))
    assert depth is not None
    np.testing.assert_allclose(image[0, 0], depth[0, 0], atol=1e-6)
    np.testing.assert_allclose(image, target * 0.5, atol=2e-5)


def test_eight_distinct_turns(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, Patches(size=32, stride=0.5))
    patches = PatchSet(folder)
    turned = {patches.batch(np.array([5]), np.array([turn]))[0].tobytes() for turn in range(8)}
    assert len(turned) == 8


def test_order_is_a_permutation_per_epoch_and_needs_no_state(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, Patches(size=32, stride=0.5))
    patches = PatchSet(folder)
    steps = 2 * patches.steps_per_epoch(4)
    drawn = np.concatenate([patches.order(1, step, 4) for step in range(steps)])[: 2 * len(patches)]
    first, second = drawn[: len(patches)], drawn[len(patches) :]
    assert sorted(first) == sorted(second) == list(range(len(patches)))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(patches.order(1, 3, 4), drawn[12:16])
    assert not np.array_equal(patches.order(2, 0, 4), patches.order(1, 0, 4))


def test_bad_input(scenes: list[Scene], tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="smaller than patches"):
        extract_patches(scenes, tmp_path / "a", Patches(size=512))
    with pytest.raises(DDNetError, match="different sizes"):
        extract_patches([scenes[0], replace(scenes[1], width=64)], tmp_path / "b", Patches(size=32))
    with pytest.raises(DDNetError, match="no training scenes"):
        extract_patches([], tmp_path / "c", Patches(size=32))
    assert not (tmp_path / "c" / "patches.csv").exists()
