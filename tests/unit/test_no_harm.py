"""The network that the package carries does not make photographs worse that it never learned from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import ddnet
from ddnet.data.embedded.textures import POOLS, linear_to_srgb, photograph

SIDE = 192
UNSEEN = ("coffee", "chelsea", "motorcycle", "rocket", "brick")
FOUND = [
    (0.0, 100),
    (0.01, 100),
    (0.02, 100),
    (0.0, 85),
    (0.01, 75),
]  # noise's sigma and JPEG's quality, as cameras have


def sharp(name: str) -> np.ndarray:
    """The middle of a photograph, reduced to be sharp, in linear light."""
    whole = photograph(name)
    if min(whole.shape[:2]) >= 2 * SIDE:
        whole = cv2.resize(whole, (whole.shape[1] // 2, whole.shape[0] // 2), interpolation=cv2.INTER_AREA)
    y, x = ((side - SIDE) // 2 for side in whole.shape[:2])
    return whole[y : y + SIDE, x : x + SIDE]


def disc(radius: float) -> np.ndarray:
    """The blur of an open lens, each pixel the mean of 9 x 9 points."""
    side = 2 * int(np.ceil(radius)) + 1
    places = (np.arange(9 * side) + 0.5) / 9 - side / 2
    inside = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float32)
    kernel = inside.reshape(side, 9, side, 9).mean((1, 3))
    return kernel / kernel.sum()


def as_a_camera_writes(image: np.ndarray, sigma: float, quality: int, seed: int) -> np.ndarray:
    noisy = np.clip(image + sigma * np.random.default_rng(seed).standard_normal(image.shape), 0, 1)
    levels = np.round(255 * noisy).astype(np.uint8)
    if quality < 100:
        coded = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        levels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
    return levels.astype(np.float32) / 255


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((image - target) ** 2, dtype=np.float64)))


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_blurred_photographs_with_noise_and_jpeg_get_better_and_none_much_worse(radius: float) -> None:
    assert not {*UNSEEN} & {*POOLS["train"], *POOLS["val"]}
    network, gains = ddnet.load("default"), {}
    for seed, name in enumerate(UNSEEN):
        target = linear_to_srgb(sharp(name))
        blurred = linear_to_srgb(cv2.filter2D(sharp(name), -1, disc(radius), borderType=cv2.BORDER_REFLECT))
        for sigma, quality in FOUND:
            image = as_a_camera_writes(blurred, sigma, quality, seed)
            gains[name, sigma, quality] = psnr(network.restore(image), target) - psnr(image, target)
    assert min(gains.values()) > -0.5, min(gains, key=gains.__getitem__)
    assert np.mean(list(gains.values())) > 0.75
