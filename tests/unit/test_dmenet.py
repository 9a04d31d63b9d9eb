"""DMENet as a compared system: what its two kinds of weights mean, and images that it must survive."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from baselines.common.deconvolution import deblur_with_map
from baselines.dmenet.baseline import Dmenet
from baselines.dmenet.network import Network
from baselines.dmenet.training import start
from baselines.dmenet.weights import load_weights, save_weights
from ddnet.errors import DDNetError


def weights(folder: Path, meaning: str = "trained", mean: float = 0.5, width: int = 4) -> Path:
    torch.manual_seed(0)
    network = Network(width)
    start(network, mean)
    save_weights(folder / "weights.npz", {k: v.numpy() for k, v in network.state_dict().items()}, width, meaning)
    return folder / "weights.npz"


def constant(folder: Path, meaning: str, m: float) -> Dmenet:
    """A system whose network answers m everywhere."""
    torch.manual_seed(0)
    network = Network(2)
    start(network, m)
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    save_weights(folder / "weights.npz", arrays | {"uf.c3.weight": np.zeros((1, 1, 3, 3))}, 2, meaning)
    return Dmenet(folder / "weights.npz")


@pytest.mark.parametrize(
    ("meaning", "m", "sigma"),
    [("published", 0.6, 4.0), ("published", 0.05, 0.0), ("trained", 0.6, 4.2), ("trained", 0.01, 0.07)],
)
def test_published_and_trained_maps_mean_their_own_blur(tmp_path: Path, meaning: str, m: float, sigma: float) -> None:
    found = constant(tmp_path, meaning, m).defocus_map(np.zeros((20, 30, 3), np.float32))
    np.testing.assert_allclose(found, sigma, atol=1e-5)


def pictures_of_16_bits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, what a reader of 8 bits makes of it, and another one that such a reader does not tell from it."""
    raw = np.random.default_rng(3).integers(0, 65536, (48, 48, 3), np.uint16)
    other = (raw & 0xFF00) | np.random.default_rng(4).integers(0, 256, raw.shape, np.uint16)
    image, third = (np.float32(values) / np.float32(65535) for values in (raw, other))
    return image, np.float32(raw >> 8) / np.float32(255), third


@pytest.mark.parametrize("mean", [0.03, 0.3, 0.6, 0.97])
def test_with_its_authors_weights_the_map_goes_through_an_8_bit_file(tmp_path: Path, mean: float) -> None:
    image, read, _ = pictures_of_16_bits()
    network = load_weights(weights(tmp_path, "published", mean, width=8))[0]
    with torch.inference_mode():  # not folded
        m = network(torch.from_numpy(read).permute(2, 0, 1)[None])
    m = (m[0] if isinstance(m, tuple) else m)[0, 0].double().numpy()
    Image.fromarray(np.floor(255 * m + 0.5).astype(np.uint8)).save(tmp_path / "map.png")
    stored = np.asarray(Image.open(tmp_path / "map.png"), np.float64) / 255
    sigma = np.maximum((15 * stored - 1) / 2, 0)
    found = Dmenet(tmp_path / "weights.npz").defocus_map(image)
    apart = np.abs(found - sigma)
    assert np.unique(sigma).size > 3 or mean == 0.03
    assert (apart > 1e-5).mean() < 0.01 and apart.max() < 7.5 / 255 + 1e-5  # but for ties
    levels = np.maximum((15 * np.arange(256) / 255 - 1) / 2, 0)
    assert np.abs(found.ravel()[:, None] - levels).min(axis=1).max() < 1e-5


def test_with_its_authors_weights_the_picture_has_8_bits_and_what_is_learnt_here_keeps_its_own(tmp_path: Path) -> None:
    image, read, other = pictures_of_16_bits()
    published = Dmenet(weights(tmp_path, "published", 0.3), iterations=2, method="richardson_lucy")
    restored = published.restore(image)
    np.testing.assert_array_equal(published.defocus_map(image), published.defocus_map(other))
    np.testing.assert_array_equal(restored, published.restore(other))
    sigma = published.defocus_map(read)
    np.testing.assert_array_equal(restored, deblur_with_map(read, sigma, "richardson_lucy", iterations=2))
    learnt = Dmenet(weights(tmp_path, "trained", 0.3), iterations=2, method="richardson_lucy")
    assert np.unique(learnt.defocus_map(image)).size > 256
    assert (learnt.restore(image) != learnt.restore(other)).any()


def _one_edge() -> np.ndarray:
    image = np.full((50, 90, 3), 0.2, np.float32)
    image[:, 45:] = 0.7
    return image


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 80, 3), np.float32),
        np.full((64, 80, 3), 0.3, np.float32),
        np.random.default_rng(0).random((40, 40, 3), np.float32),
        _one_edge(),
        np.random.default_rng(0).random((97, 131, 3), np.float32),
        np.random.default_rng(0).random((3, 40, 3), np.float32),
        np.full((1, 1, 3), 0.5, np.float32),
    ],
    ids=["black", "flat", "40x40", "one edge", "97x131", "three rows", "one pixel"],
)
@pytest.mark.parametrize("meaning", ["trained", "published"])
def test_the_map_is_finite_in_range_and_of_the_images_size(tmp_path: Path, image: np.ndarray, meaning: str) -> None:
    system, given = Dmenet(weights(tmp_path, meaning)), image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = system.defocus_map(image)
    assert found.dtype == np.float32 and found.shape == image.shape[:2] and found.flags.c_contiguous
    assert np.isfinite(found).all() and found.min() >= 0.0 and found.max() <= 7.0
    np.testing.assert_array_equal(image, given)
    np.testing.assert_array_equal(system.defocus_map(image), found)


def test_an_image_whose_sides_fit_is_not_changed_by_a_neighbour_that_does_not(tmp_path: Path) -> None:
    system = Dmenet(weights(tmp_path))
    image = np.random.default_rng(0).random((64, 64, 3), np.float32)
    fewer = system.defocus_map(image[:60, :55])
    mirrored = np.pad(image[:60, :55], ((0, 4), (0, 9), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(fewer, system.defocus_map(mirrored)[:60, :55])


def test_restoring_deconvolves_by_the_map(tmp_path: Path) -> None:
    sharp = gaussian_filter(np.random.default_rng(0).random((48, 64)), 2.0)
    sharp = np.repeat(((sharp - sharp.min()) / np.ptp(sharp))[..., None], 3, axis=2).astype(np.float32)
    image = gaussian_filter(sharp, (1.4, 1.4, 0.0))
    system = constant(tmp_path, "trained", 0.2)  # 1.4 pixels
    restored = system.restore(image)
    assert np.mean((restored - sharp) ** 2) < 0.8 * np.mean((image - sharp) ** 2)


def test_options_reach_the_deconvolution_and_weights_are_checked(tmp_path: Path) -> None:
    system = Dmenet(weights(tmp_path), method="richardson_lucy", iterations=3)
    assert (system.method, system.iterations, system.alpha, system.lam) == ("richardson_lucy", 3, 1.5, 16.8)
    with pytest.raises(DDNetError, match=r"none\.npz: no such weights"):
        Dmenet(tmp_path / "none.npz")
