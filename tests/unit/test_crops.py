from collections.abc import Sequence
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


def crops(patches: Path, view_terms: Sequence[str] = (), **changes: object) -> Crops:
    values = {"loss": {"mse": 1}, "lr": 1e-3, "batch": 6, "steps": 10, "crop": 32, **changes}
    return Crops(patches, Recipe.model_validate(values), "disk", CPU, view_terms)


def whole_images(patches: Path) -> list[np.ndarray]:
    root = patches.parent
    return [read_image(scene.image) for scene in index_benchmark(root)]


def holds(image: np.ndarray, crop: np.ndarray) -> bool:
    """Whether a crop stands somewhere in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)[..., 0, :, :, :]
    return bool((np.abs(windows - crop).max(axis=(2, 3, 4)) < 1e-6).any())


@pytest.mark.parametrize("crop", [32, None])
def test_a_step_draws_the_same_crops_each_time_and_image_and_target_of_one_place(patches: Path, crop: object) -> None:
    image, target, views = crops(patches, crop=crop).draw(3)
    again, *_ = crops(patches, crop=crop).draw(3)
    assert views is None
    assert image.shape == target.shape == (6, 3, 32, 32)
    assert torch.equal(image, again) and not torch.equal(image, crops(patches, crop=crop).draw(4)[0])
    assert not torch.equal(image, crops(patches, crop=crop, seed=1).draw(3)[0])
    blurred = [read_image(scene.image) for scene in index_benchmark(patches.parent)]
    sharp = [read_image(scene.target) for scene in index_benchmark(patches.parent)]
    for one, other in zip(image, target, strict=True):
        found = [holds(whole, one.permute(1, 2, 0).numpy()) for whole in blurred]
        assert found == [holds(whole, other.permute(1, 2, 0).numpy()) for whole in sharp] and sum(found) == 1


def test_crops_of_one_image_stay_in_it(patches: Path) -> None:
    image, *_ = crops(patches, one_image=True).draw(0)
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

    image, target, _ = crops(patches, batch=64, augment=["grey"]).draw(0)
    assert torch.equal(grey(image), grey(target)) and 8 <= int(grey(image).sum()) <= 32
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    plain = crops(patches, batch=64).draw(0)[0]
    first = int(grey(image).nonzero()[0])
    torch.testing.assert_close(image[first, 0], (plain[first] * weights).sum(0))

    plain = crops(patches, batch=64).draw(1)[0]
    noisy, target_of_noisy, _ = crops(patches, batch=64, augment=["noise"]).draw(1)
    changed = (noisy != plain).flatten(1).any(1)
    assert 1 <= int(changed.sum()) <= 12 and float(noisy.min()) >= 0 and float(noisy.max()) <= 1
    assert torch.equal(target_of_noisy, crops(patches, batch=64).draw(1)[1])


def test_scale_averages_larger_squares(patches: Path) -> None:
    source = crops(patches, batch=64, augment=["scale"])
    image, target, _ = source.draw(0)
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


@pytest.mark.parametrize("crop", [32, None])
def test_views_are_drawn_from_the_place_of_the_image_and_change_nothing_else(patches: Path, crop: object) -> None:
    source = crops(patches, ["views"], crop=crop)
    image, target, views = source.draw(3)
    assert views is not None and views.shape == (6, 6, 32, 32)
    plain = crops(patches, crop=crop).draw(3)
    assert torch.equal(image, plain[0]) and torch.equal(target, plain[1])
    scenes = index_benchmark(patches.parent)
    for picture, *both in zip(image, *views.chunk(2, dim=1), strict=True):
        [scene] = [s for s in scenes if holds(read_image(s.image), picture.permute(1, 2, 0).numpy())]
        windows = np.lib.stride_tricks.sliding_window_view(read_image(scene.image), (32, 32, 3))[:, :, 0]
        y, x = np.argwhere(np.abs(windows - picture.permute(1, 2, 0).numpy()).max(axis=(2, 3, 4)) < 1e-6)[0]
        for path, view in zip(scene.views or (), both, strict=True):
            expected = read_image(path)[y : y + 32, x : x + 32]
            np.testing.assert_allclose(view.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_grey_and_scale_are_the_views_too_and_noise_is_the_images_alone(patches: Path) -> None:
    def drawn(*augment: str) -> tuple[torch.Tensor, torch.Tensor]:
        image, _, views = crops(patches, ["disparity"], batch=64, augment=augment).draw(1)
        assert views is not None
        return image, views

    image, views = drawn("grey", "scale")
    grey = (image[:, :1] == image).flatten(1).all(1)
    for view in views.chunk(2, dim=1):
        assert torch.equal((view[:, :1] == view).flatten(1).all(1), grey) and 0 < int(grey.sum()) < 64
        assert view.shape == (64, 3, 32, 32)
        # The curve of sRGB apart, the image is the mean of both: another place or scale would be far off.
    assert float((views[:, :3] / 2 + views[:, 3:] / 2 - image).abs().mean()) < 0.005
    assert torch.equal(drawn("noise")[1], drawn()[1]) and not torch.equal(drawn("noise")[0], drawn()[0])


def test_a_turned_picture_has_no_views(patches: Path) -> None:
    with pytest.raises(DDNetError) as caught:
        crops(patches, ["difference", "views"], augment=["turns"])
    assert str(caught.value) == (
        "training.augment: a turned picture has no left and right view, which training.loss.difference compares with; "
        "leave turns out, or write difference: 0, views: 0"
    )
