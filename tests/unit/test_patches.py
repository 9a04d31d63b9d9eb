import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddnet.config import Patches
from ddnet.data import patches as module
from ddnet.data.index import Scene, describe_pair
from ddnet.data.patch_set import PatchSet, Place, training_set_place
from ddnet.data.patches import extract_patches, grid, sharpness
from ddnet.errors import DDNetError
from ddnet.io.images import read_raw_rgb, write_image
from ddnet.planning.code_digest import closure
from ddnet.runtime.paths import ROOT

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SMALL = Patches(size=32, stride=0.5)


def make_scene(folder: Path, number: int, size: tuple[int, int], bits: int = 16) -> Scene:
    target = np.random.default_rng(number).random((*size, 3)).astype(np.float32)
    target[:, :32] *= 0.05  # a dull left side: its patches are the least sharp
    image, sharp = folder / f"{number}.png", folder / f"{number}-target.png"
    write_image(image, target * 0.5, bits)
    write_image(sharp, target, bits)
    return describe_pair("toy", "train", f"s{number}", "indoor", image, sharp, None)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    return [make_scene(tmp_path, number, (64, 80)) for number in range(3)]


@pytest.fixture
def mixed(tmp_path: Path) -> list[Scene]:
    """Three images of three sizes, the last with 8 bits."""
    return [
        make_scene(tmp_path, number, size, bits)
        for number, (size, bits) in enumerate([((64, 80), 16), ((48, 33), 16), ((80, 64), 8)], 10)
    ]


def random_depths(scenes: list[Scene]) -> list[NDArray[np.uint16]]:
    rng = np.random.default_rng(9)
    return [rng.integers(0, 65536, (scene.height, scene.width)).astype(np.uint16) for scene in scenes]


def test_dpdd_gives_28_patches_per_image_of_which_20_stay() -> None:
    rows, columns = grid(1120, 512, 204), grid(1680, 512, 204)
    assert len(rows) * len(columns) == 28
    assert rows[-1] == 1120 - 512 and columns[-1] == 1680 - 512
    assert 350 * (28 - int(Patches().drop * 28)) == 7000


def test_an_image_of_dpdd_gives_20_patches_of_512(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 0, (1120, 1680), bits=8)
    assert extract_patches([scene], tmp_path / "patches", Patches()) == 20
    corners = [tuple(row) for row in PatchSet(tmp_path / "patches").corners[:, 1:3].tolist()]
    everywhere = [(y, x) for y in (0, 204, 408, 608) for x in (0, 204, 408, 612, 816, 1020, 1168)]
    sharp = sharpness(read_raw_rgb(scene.target).astype(np.float32) * 257, everywhere, 512)
    limit = np.sort(sharp)[8]  # int(0.3 * 28) of them go
    assert corners == [corner for corner, value in zip(everywhere, sharp, strict=True) if value >= limit]


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


def expected(raw: NDArray[Any], corner: NDArray[np.int64], turn: int) -> NDArray[Any]:
    _, y, x, size = corner
    window = np.rot90(raw[y : y + size, x : x + size], turn % 4)
    return window[:, ::-1] if turn > 3 else window


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", ["disk", "ram", "gpu"])
@pytest.mark.parametrize("per_patch", [False, True])
def test_batches_are_the_images_own_pixels_bit_for_bit(
    per_patch: bool, place: Place, device: str, mixed: list[Scene], tmp_path: Path
) -> None:
    folder = tmp_path / "patches"
    count = extract_patches(mixed, folder, SMALL)
    maps = random_depths(mixed)
    single = np.random.default_rng(1).integers(0, 65536, (count, 32, 32)).astype(np.uint16)
    patches = PatchSet(folder, single if per_patch else maps, place, device)
    assert PatchSet.scene_keys(folder) == [scene.key for scene in mixed]
    assert set(patches.corners[:, 0]) == {0, 1, 2} and (patches.corners[:, 3] == 32).all()
    numbers = np.random.default_rng(2).permutation(count)
    turns = np.arange(count) % 8
    image, target, depth = patches.batch(numbers, turns)
    assert depth is not None and image.shape == target.shape == (count, 3, 32, 32) and depth.shape == (count, 1, 32, 32)
    for tensor in (image, target, depth):
        assert tensor.device.type == device and tensor.dtype == torch.float32 and tensor.is_contiguous()
    for at, (number, turn) in enumerate(zip(numbers, turns.tolist(), strict=True)):
        corner = patches.corners[number]
        scene = mixed[corner[0]]
        for path, tensor in ((scene.image, image), (scene.target, target)):
            raw = read_raw_rgb(path)
            raw = raw.astype(np.uint16) * 257 if raw.dtype == np.uint8 else raw
            values = expected(raw, corner, turn).astype(np.float32) * np.float32(1 / 65535)
            np.testing.assert_array_equal(tensor[at].permute(1, 2, 0).cpu().numpy(), values)
        own = expected(single[number], np.array([0, 0, 0, 32]), turn) if per_patch else None
        raw_depth = expected(maps[corner[0]], corner, turn) if own is None else own
        np.testing.assert_array_equal(depth[at, 0].cpu().numpy(), raw_depth.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("device", DEVICES)
def test_each_16_bit_depth_is_what_reading_the_map_gives(device: str, tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 0, (256, 256))
    extract_patches([scene], tmp_path / "patches", Patches(size=256))
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    depth = PatchSet(tmp_path / "patches", [every], device=device).batch(np.array([0]))[2]
    assert depth is not None
    np.testing.assert_array_equal(depth[0, 0].cpu().numpy(), every.astype(np.float32) / np.float32(65535))


def test_images_lie_one_after_another_where_scenes_csv_says(mixed: list[Scene], tmp_path: Path) -> None:
    extract_patches(mixed, tmp_path / "patches", SMALL)
    flat = np.load(tmp_path / "patches/targets.npy", mmap_mode="r")
    assert flat.dtype == np.uint16 and flat.shape == (3 * (64 * 80 + 48 * 33 + 80 * 64),)
    header, *rows = (tmp_path / "patches/scenes.csv").read_text().splitlines()
    assert header == "position,scene,offset,height,width"
    assert rows[1:] == ["1,toy/train/s11,15360,48,33", "2,toy/train/s12,20112,80,64"]
    np.testing.assert_array_equal(flat[15360:20112].reshape(48, 33, 3), read_raw_rgb(mixed[1].target))
    assert PatchSet.stored_bytes(tmp_path / "patches") == 2 * (2 * flat.size + 128)  # 128: NumPy's header


def test_threads_change_nothing_in_the_files(mixed: list[Scene], tmp_path: Path) -> None:
    for threads in (1, 2, 5):
        extract_patches(mixed, tmp_path / str(threads), SMALL, threads)
        for name in ("images.npy", "targets.npy", "views.npy", "scenes.csv", "patches.csv"):
            assert (tmp_path / str(threads) / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def add_views(folder: Path, scene: Scene, number: int) -> Scene:
    """Two views, each another picture, of the scene's bit depth."""
    left, right = (folder / f"{number}-{side}.png" for side in ("left", "right"))
    for seed, path in enumerate((left, right)):
        pixels = np.random.default_rng([number, seed]).random((scene.height, scene.width, 3)).astype(np.float32)
        write_image(path, pixels, scene.bits)
    return describe_pair("toy", "train", scene.scene, "indoor", scene.image, scene.target, None, (left, right))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", ["disk", "ram", "gpu"])
def test_views_are_cut_where_the_image_is_bit_for_bit(
    place: Place, device: str, mixed: list[Scene], tmp_path: Path
) -> None:
    folder = tmp_path / "patches"
    scenes = [add_views(tmp_path, scene, number) for number, scene in enumerate(mixed)]
    count = extract_patches(scenes, folder, SMALL)
    patches = PatchSet(folder, None, place, device, views=True)
    numbers = np.random.default_rng(2).permutation(count)
    found = patches.views(numbers)
    assert found.shape == (count, 6, 32, 32) and found.device.type == device and found.dtype == torch.float32
    for views, corner in zip(found, patches.corners[numbers], strict=True):
        for path, view in zip(scenes[corner[0]].views or (), views.chunk(2), strict=True):
            raw = read_raw_rgb(path)
            raw = raw.astype(np.uint16) * 257 if raw.dtype == np.uint8 else raw
            values = expected(raw, corner, 0).astype(np.float32) * np.float32(1 / 65535)
            np.testing.assert_array_equal(view.permute(1, 2, 0).cpu().numpy(), values)
    sizes = [PatchSet.stored_bytes(folder, views) - 128 * (2 + views) for views in (False, True)]
    assert sizes[1] == 2 * sizes[0] and PatchSet.has_views(folder)


def test_views_that_are_not_wanted_or_not_there_are_not_held(mixed: list[Scene], tmp_path: Path) -> None:
    some = [add_views(tmp_path, mixed[0], 0), *mixed[1:]]
    extract_patches(some, tmp_path / "some", SMALL)
    assert np.load(tmp_path / "some/views.npy").shape == (0,) and not PatchSet.has_views(tmp_path / "some")
    with pytest.raises(DDNetError, match=r"views.npy: the training images have no left and right views"):
        PatchSet(tmp_path / "some", views=True)
    extract_patches(some[:1], tmp_path / "all", SMALL)
    (tmp_path / "all/views.npy").unlink()
    PatchSet(tmp_path / "all").batch(np.array([0]))


@pytest.mark.parametrize("turn", range(8))
def test_augmentation_turns_image_target_and_depth_alike(turn: int, scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, SMALL)
    patches = PatchSet(folder, [read_raw_rgb(scene.image)[..., 0] for scene in scenes])
    image, target, depth = patches.batch(np.array([5]), np.array([turn]))
    assert depth is not None
    np.testing.assert_allclose(image[0, 0], depth[0, 0], atol=1e-6)
    np.testing.assert_allclose(image, target * 0.5, atol=2e-5)


def test_eight_distinct_turns(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, SMALL)
    patches = PatchSet(folder)
    turned = {patches.batch(np.array([5]), np.array([turn]))[0].numpy().tobytes() for turn in range(8)}
    assert len(turned) == 8


def test_order_is_a_permutation_per_epoch_and_needs_no_state(scenes: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    extract_patches(scenes, folder, SMALL)
    patches = PatchSet(folder)
    steps = 2 * patches.steps_per_epoch(4)
    drawn = np.concatenate([patches.order(1, step, 4) for step in range(steps)])[: 2 * len(patches)]
    first, second = drawn[: len(patches)], drawn[len(patches) :]
    assert sorted(first) == sorted(second) == list(range(len(patches)))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(patches.order(1, 3, 4), drawn[12:16])
    assert not np.array_equal(patches.order(2, 0, 4), patches.order(1, 0, 4))


def test_bad_input(scenes: list[Scene], tmp_path: Path) -> None:
    small = make_scene(tmp_path, 5, (64, 31))
    with pytest.raises(
        DDNetError, match=r"5\.png: a side of 31 px is smaller than patches of 32 px.*training\.patches"
    ):
        extract_patches([*scenes, small], tmp_path / "a", SMALL)
    with pytest.raises(DDNetError, match=r"1\.png: is \(64, 80\), the index says \(64, 64\)"):
        extract_patches([scenes[0], replace(scenes[1], width=64)], tmp_path / "b", SMALL)
    with pytest.raises(DDNetError, match="no training scenes"):
        extract_patches([], tmp_path / "c", SMALL)
    assert not any((tmp_path / "b").iterdir()) and not (tmp_path / "a").exists() and not (tmp_path / "c").exists()


def test_a_full_disk_is_known_before_the_work(
    scenes: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 2 * 3 * 3 * 64 * 80  # arrays, bytes, scenes, channels
    for free, fits in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            assert extract_patches(scenes, tmp_path / "patches", SMALL) > 0
        else:
            with pytest.raises(DDNetError, match=r"patches: the training images need 184 kB and 184 kB are free"):
                extract_patches(scenes, tmp_path / "patches", SMALL)
            assert not any((tmp_path / "patches").iterdir())


def test_depth_of_another_number_size_or_kind_is_refused(mixed: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    count = extract_patches(mixed, folder, SMALL)
    maps = random_depths(mixed)
    for wrong in (maps[:2], [maps[0], maps[1], maps[2].T], [depth.astype(np.float32) for depth in maps]):
        with pytest.raises(DDNetError, match=r"depth maps for 3 places .*; estimate the depth again"):
            PatchSet(folder, wrong)  # type: ignore[arg-type]
    for shape in ((count - 1, 32, 32), (count, 32, 16)):
        with pytest.raises(DDNetError, match=rf"{shape[0]} depth maps for {count} places"):
            PatchSet(folder, np.zeros(shape, np.uint16))


def test_files_of_another_version_are_refused(scenes: list[Scene], tmp_path: Path) -> None:
    extract_patches(scenes, tmp_path / "patches", SMALL)
    (tmp_path / "patches/scenes.csv").write_text("position,scene\n0,toy/train/s0\n")
    with pytest.raises(DDNetError, match=r"scenes\.csv: columns must be position,scene,offset,height,width"):
        PatchSet(tmp_path / "patches")


def test_the_machine_decides_where_the_training_set_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "auto"):
        monkeypatch.delenv("DDNET_TRAINING_SET", raising=False)
        if value is not None:
            monkeypatch.setenv("DDNET_TRAINING_SET", value)
        assert [training_set_place(39, free) for free in (None, 97, 98)] == ["disk", "disk", "gpu"]
    for place in ("disk", "ram", "gpu"):
        monkeypatch.setenv("DDNET_TRAINING_SET", place)
        assert training_set_place(10**12, 100) == place
    with pytest.raises(DDNetError, match="is 'gpu', but there is no GPU here"):
        training_set_place(1, None)
    monkeypatch.setenv("DDNET_TRAINING_SET", "cuda")
    with pytest.raises(DDNetError, match="DDNET_TRAINING_SET is 'cuda'; allowed are disk, ram, gpu and auto"):
        training_set_place(1, None)


def test_reading_patches_otherwise_cuts_none_anew() -> None:
    """Jobs rerun where a file that they import changes."""
    files = {path.relative_to(ROOT).as_posix() for path in closure(ROOT, ["ddnet.data.patches"])}
    assert "ddnet/data/patches.py" in files and "ddnet/data/patch_set.py" not in files


def test_extraction_does_without_torch() -> None:
    code = "import sys, ddnet.data.patches; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
