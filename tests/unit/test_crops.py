from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.common.crops import Crops, _grey
from ddnet.config import Patches, Recipe
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.patches import extract_patches
from ddnet.errors import DDNetError
from ddnet.io.images import read_image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of 64 x 64; crops of 32."""
    root = tmp_path_factory.mktemp("scenes")
    render_split("embedded", "train", 4, 64, 8, 0, root)
    extract_patches(index_benchmark(root), root / "patches", Patches(size=32))
    return root / "patches"


def recipe(**changes: object) -> Recipe:
    values = {"loss": {"mse": 1}, "lr": 1e-3, "batch": 6, "steps": 10, "crop": 32, **changes}
    return Recipe.model_validate(values)


def crops(patches: Path, view_terms: Sequence[str] = (), **changes: object) -> Crops:
    return Crops(patches, recipe(**changes), "disk", CPU, view_terms)


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


def luminance_encoded(pixels: np.ndarray) -> np.ndarray:
    """(B, 3, H, W) to (B, H, W): .2126 R + .7152 G + .0722 B, then sRGB's curve."""
    light = np.einsum("bchw,c->bhw", pixels.astype(np.float64), [0.2126, 0.7152, 0.0722])
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def test_grey_keeps_black_and_white_and_joins_the_two_parts_of_the_curve() -> None:
    levels = torch.tensor([0.0, 0.002, 0.0031308, 0.0031309, 0.2, 0.5, 1.0])
    pixels = torch.stack([levels, levels.flip(0), levels.roll(3)])[None, :, None]
    found = _grey(pixels)
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])
    np.testing.assert_allclose(found[:, 0].numpy(), luminance_encoded(pixels.numpy()), atol=1e-6)
    ends = _grey(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2))
    torch.testing.assert_close(ends[0, 0, 0], torch.tensor([0.0, 1.0]))


def test_grey_turns_some_pairs_and_noise_some_images(patches: Path) -> None:
    def grey(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels[:, :1] == pixels).flatten(1).all(1)

    image, target, _ = crops(patches, batch=64, augment=["grey"]).draw(0)
    assert torch.equal(grey(image), grey(target)) and 8 <= int(grey(image).sum()) <= 32
    plain = crops(patches, batch=64).draw(0)[0]
    chosen = grey(image)
    np.testing.assert_allclose(image[chosen, 0].numpy(), luminance_encoded(plain[chosen].numpy()), atol=1e-6)
    assert torch.equal(image[~chosen], plain[~chosen])

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


def test_grey_and_scale_are_the_views_too(patches: Path) -> None:
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


@pytest.mark.parametrize("crop", [32, None])
def test_noise_is_the_same_for_the_image_and_its_views_and_not_for_the_target(patches: Path, crop: object) -> None:
    def drawn(*augment: str) -> tuple[torch.Tensor, ...]:
        image, target, views = crops(patches, ["disparity"], batch=64, crop=crop, augment=augment).draw(1)
        assert views is not None
        return image, *views.chunk(2, dim=1), target

    *noisy, target = drawn("noise")
    *plain, same = drawn()
    assert torch.equal(target, same)
    noise = [one - other for one, other in zip(noisy, plain, strict=True)]
    inside = torch.stack([(one > 0) & (one < 1) for one in noisy]).all(0)  # not clipped
    changed = (noise[0] != 0).flatten(1).any(1)
    assert 1 <= int(changed.sum()) <= 12 and inside[changed].float().mean() > 0.5
    for other in noise[1:]:
        torch.testing.assert_close(noise[0][inside], other[inside], rtol=0, atol=1e-6)
    for one in noise[0][changed]:
        assert 0.0005 < float(one.std()) < 0.08
        assert float(one.mean((1, 2)).abs().max()) < 0.02 and not torch.equal(one[0], one[1])


def test_noise_comes_before_grey_and_grey_before_scale(patches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.common.crops.NOISE_SHARE", 1.0)
    monkeypatch.setattr("baselines.common.crops.GREY_SHARE", 1.0)
    monkeypatch.setattr("baselines.common.crops.NOISE_SIGMA", (0.05, 0.05))
    # Grey: all channels have the same noise, which they had not if it came after.
    image, target, views = crops(patches, ["disparity"], batch=16, augment=["noise", "grey"]).draw(2)
    assert views is not None
    for pixels in (image, target, *views.chunk(2, dim=1)):
        assert torch.equal(pixels[:, :1].expand_as(pixels), pixels)
    # Scale: noise is averaged along, and most of it goes.
    monkeypatch.setattr("baselines.common.crops.SCALE_SHARE", 1.0)
    monkeypatch.setattr("baselines.common.crops.SCALE", (0.5, 0.5))  # every crop is the mean over squares of 2 pixels
    plain = crops(patches, batch=16, augment=["scale"]).draw(2)[0]
    noisy = crops(patches, batch=16, augment=["noise", "scale"]).draw(2)[0]
    inside = (noisy > 0.15) & (noisy < 0.85)
    assert float((noisy - plain)[inside].std()) == pytest.approx(0.025, rel=0.1)
    # Grey of the large square, then its mean: the curve is not that of the mean.
    source = crops(patches, batch=16, augment=["grey", "scale"])
    grey = source.draw(2)[0]
    for (position, y, x, side), found in zip(source.corners.tolist(), grey.numpy(), strict=True):
        window = whole_images(patches)[position][y : y + side, x : x + side]
        encoded = luminance_encoded(window.transpose(2, 0, 1)[None])[0].reshape(32, 2, 32, 2).mean((1, 3))
        np.testing.assert_allclose(found[0], encoded, atol=1e-5)


@pytest.mark.parametrize("crop", [32, None])
def test_pictures_are_read_in_8_bits_before_anything_else(patches: Path, crop: object) -> None:
    plain, again = (Crops(patches, recipe(crop=crop), "disk", CPU, ["views"], bits).draw(3) for bits in (16, 8))
    for one, other in zip(plain, again, strict=True):
        assert one is not None and other is not None
        upper = (np.rint(one.numpy() * 65535).astype(np.uint16) >> 8) / np.float32(255)
        np.testing.assert_allclose(other.numpy(), upper, atol=1e-7)
        assert not torch.equal(one, other)
    noisy = Crops(patches, recipe(crop=crop, batch=64, augment=["noise"]), "disk", CPU, [], 8).draw(1)[0]
    plain8 = Crops(patches, recipe(crop=crop, batch=64), "disk", CPU, [], 8).draw(1)[0]
    changed = (noisy != plain8).flatten(1).any(1)
    levels = noisy[changed] * 255
    assert changed.any() and float((levels - levels.round()).abs().mean()) > 0.1  # noise is not rounded again


def test_a_turned_picture_has_no_views(patches: Path) -> None:
    with pytest.raises(DDNetError) as caught:
        crops(patches, ["difference", "views"], augment=["turns"])
    assert str(caught.value) == (
        "training.augment: a turned picture has no left and right view, which training.loss.difference compares with; "
        "leave turns out, or write difference: 0, views: 0"
    )
