from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.crops import Crops
from ddnet.config import Patches, Recipe
from ddnet.data.embedded import index_benchmark, render_split
from ddnet.data.patches import extract_patches
from ddnet.errors import DDNetError
from ddnet.images import read_image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of 64 x 64; crops of 32."""
    root = tmp_path_factory.mktemp("scenes")
    render_split("embedded", "train", 4, 64, 8, 0, root)
    extract_patches(index_benchmark(root), root / "patches", Patches(size=32))
    return root / "patches"


def crops(patches: Path, **changes: object) -> Crops:
    values = {"loss": {"mse": 1}, "lr": 1e-3, "batch": 6, "steps": 10, "crop": 32, **changes}
    return Crops(patches, Recipe.model_validate(values), "disk", CPU)


def whole_images(patches: Path) -> list[np.ndarray]:
    root = patches.parent
    return [read_image(scene.image) for scene in index_benchmark(root)]


def holds(image: np.ndarray, crop: np.ndarray) -> bool:
    """Whether a crop stands somewhere in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)[..., 0, :, :, :]
    return bool((np.abs(windows - crop).max(axis=(2, 3, 4)) < 1e-6).any())


@pytest.mark.parametrize("crop", [32, None])
def test_a_step_draws_the_same_crops_each_time_and_image_and_target_of_one_place(patches: Path, crop: object) -> None:
    image, target = crops(patches, crop=crop).draw(3)
    again, _ = crops(patches, crop=crop).draw(3)
    assert image.shape == target.shape == (6, 3, 32, 32)
    assert torch.equal(image, again) and not torch.equal(image, crops(patches, crop=crop).draw(4)[0])
    assert not torch.equal(image, crops(patches, crop=crop, seed=1).draw(3)[0])
    blurred = [read_image(scene.image) for scene in index_benchmark(patches.parent)]
    sharp = [read_image(scene.target) for scene in index_benchmark(patches.parent)]
    for one, other in zip(image, target, strict=True):
        found = [holds(whole, one.permute(1, 2, 0).numpy()) for whole in blurred]
        assert found == [holds(whole, other.permute(1, 2, 0).numpy()) for whole in sharp] and sum(found) == 1


def test_crops_of_one_image_stay_in_it(patches: Path) -> None:
    image, _ = crops(patches, one_image=True).draw(0)
    pictures = [crop.permute(1, 2, 0).numpy() for crop in image]
    assert sorted(sum(holds(whole, crop) for crop in pictures) for whole in whole_images(patches)) == [0, 0, 0, 6]


def test_turns_keep_the_pixels_and_move_them(patches: Path) -> None:
    plain, turned = crops(patches).draw(1)[0], crops(patches, augment=["turns"]).draw(1)[0]
    assert not torch.equal(plain, turned)
    for one, other in zip(plain, turned, strict=True):
        assert torch.equal(one.flatten(1).sort().values, other.flatten(1).sort().values)


def test_grey_turns_some_pairs_and_noise_some_images(patches: Path) -> None:
    def grey(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels[:, :1] == pixels).flatten(1).all(1)

    image, target = crops(patches, batch=64, augment=["grey"]).draw(0)
    assert torch.equal(grey(image), grey(target)) and 8 <= int(grey(image).sum()) <= 32
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    plain = crops(patches, batch=64).draw(0)[0]
    first = int(grey(image).nonzero()[0])
    torch.testing.assert_close(image[first, 0], (plain[first] * weights).sum(0))

    plain = crops(patches, batch=64).draw(1)[0]
    noisy, target_of_noisy = crops(patches, batch=64, augment=["noise"]).draw(1)
    changed = (noisy != plain).flatten(1).any(1)
    assert 1 <= int(changed.sum()) <= 12 and float(noisy.min()) >= 0 and float(noisy.max()) <= 1
    assert torch.equal(target_of_noisy, crops(patches, batch=64).draw(1)[1])


def test_scale_averages_larger_squares(patches: Path) -> None:
    source = crops(patches, batch=64, augment=["scale"])
    image, target = source.draw(0)
    sides = source.corners[:, 3]
    assert image.shape == target.shape == (64, 3, 32, 32)
    assert 16 <= int((sides > 32).sum()) <= 48 and sides.max() <= round(32 / 0.7)
    position, y, x, side = source.corners[int(np.argmax(sides))]
    window = whole_images(patches)[position][y : y + side, x : x + side]
    found = image[int(np.argmax(sides))].mean((1, 2)).numpy()
    np.testing.assert_allclose(found, window.mean((0, 1)), atol=0.02)


def test_crops_larger_than_an_image_are_one_line(patches: Path) -> None:
    with pytest.raises(DDNetError, match=r"training.crop: 96 px do not fit into .* of 64 x 64 px; lower it"):
        crops(patches, crop=96)
