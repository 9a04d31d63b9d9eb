"""Photographs that ship inside installed wheels, split into pools that never share one, cut into textures.

Nothing is downloaded: every name below is a file of the scikit-image, scikit-learn or Matplotlib wheel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddnet.errors import DDNetError

FloatArray = NDArray[np.float32]

# The split is by photograph. Training gets the most; every pool but validation holds at least three
# colourful ones, and the three dense grey ones (gravel, brick, grass) go to different pools, so that no
# pool lacks a rich ground.
POOLS: dict[str, tuple[str, ...]] = {
    "train": ("astronaut", "china", "grace_hopper", "hubble_deep_field", "camera", "gravel", "page"),
    "val": ("flower", "coins", "text"),
    "test": ("coffee", "chelsea", "immunohistochemistry", "brick"),
    "ood": ("motorcycle", "rocket", "retina", "grass"),
}
PLAIN = ("retina", "rocket", "hubble_deep_field", "china", "camera")  # too empty for a wall or a floor; cards only
# Native pixels per texel, where a photograph is soft at its own resolution (measured mean gradient below
# 0.02).
SHRINK = {"retina": 3.0, "flower": 1.6, "text": 1.3, "brick": 1.5}


def srgb_to_linear(image: FloatArray) -> FloatArray:
    """sRGB-encoded values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1), shape kept."""
    low, high = image / 12.92, ((np.maximum(image, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(image <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(image: FloatArray) -> FloatArray:
    """Linear light, clipped to [0, 1], to sRGB-encoded values in [0, 1] (IEC 61966-2-1), shape kept."""
    clipped = np.clip(image, 0.0, 1.0)
    low, high = clipped * 12.92, 1.055 * np.maximum(clipped, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(clipped <= 0.0031308, low, high).astype(np.float32)


def photograph_names(pool: str) -> tuple[str, ...]:
    """Names of the photographs of a pool: "train", "val", "test" or "ood"."""
    if pool not in POOLS:
        raise DDNetError(f"pool is {pool!r}; allowed are {', '.join(POOLS)}")
    return POOLS[pool]


def _read(name: str) -> NDArray[np.uint8]:
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image(f"{name}.jpg"))
    if name == "grace_hopper":
        import matplotlib.cbook
        from PIL import Image

        path = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    import skimage.data

    if name == "motorcycle":
        return np.asarray(skimage.data.stereo_motorcycle()[0])
    return np.asarray(getattr(skimage.data, name)())


@lru_cache(maxsize=32)
def photograph(name: str) -> FloatArray:
    """A photograph in linear light: (H, W, 3) float32 in [0, 1], read-only; grey has three equal channels.

    Raises:
        DDNetError: the name is in no pool.
    """
    import cv2

    if not any(name in names for names in POOLS.values()):
        known = ", ".join(name for names in POOLS.values() for name in names)
        raise DDNetError(f"photograph is {name!r}; allowed are {known}")
    raw = _read(name)
    raw = np.repeat(raw[..., None], 3, axis=2) if raw.ndim == 2 else raw[..., :3]
    table = srgb_to_linear(np.arange(256, dtype=np.float32) / 255.0)
    linear = table[raw]
    if name in SHRINK:  # averaged in linear light, as a lens would
        factor = 1.0 / SHRINK[name]
        reduced = cv2.resize(linear, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        linear = np.asarray(reduced, np.float32)
    linear.setflags(write=False)
    return linear


def _window(photo: FloatArray, height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """A random (height, width) window; a photograph too small for it is continued by its mirror image."""
    short_y, short_x = max(0, height - photo.shape[0]), max(0, width - photo.shape[1])
    if short_y or short_x:
        photo = np.pad(photo, ((0, short_y), (0, short_x), (0, 0)), mode="symmetric")
    y = int(rng.integers(photo.shape[0] - height + 1))
    x = int(rng.integers(photo.shape[1] - width + 1))
    return photo[y : y + height, x : x + width]


def _detail(window: FloatArray) -> float:
    """Mean absolute gradient in the emptiest quarter of 4 x 4 blocks, and a little of the whole's mean.

    The emptiest, because one textured corner does not make up for a window full of sky.
    """
    green = np.sqrt(window[::2, ::2, 1])
    slope = np.abs(np.diff(green, axis=0))[:, :-1] + np.abs(np.diff(green, axis=1))[:-1]
    if min(slope.shape) < 4:
        return float(slope.mean()) if slope.size else 0.0
    blocks = [part.mean() for rows in np.array_split(slope, 4, axis=0) for part in np.array_split(rows, 4, axis=1)]
    return float(np.quantile(blocks, 0.25) + 0.3 * np.mean(blocks))


def cut_texture(name: str, height: int, width: int, rng: np.random.Generator, candidates: int = 8) -> FloatArray:
    """Cut a texture of (height, width, 3), linear light in [0, 1], from a photograph.

    Random scale (only ever downwards, area-averaged, so that a texture is never blown up), place, mirror
    image, exposure and white balance; a grey photograph is tinted. Of several places the most detailed is
    taken, because a picture of empty sky shows no defocus.
    """
    import cv2

    if height < 2 or width < 2:
        raise DDNetError(f"texture of {height} x {width} texels; both sides must be at least 2")
    photo = photograph(name)
    room = min(photo.shape[0] / height, photo.shape[1] / width)
    scale = math.exp(rng.uniform(0.0, math.log(min(2.0, max(1.0, room)))))
    rows, columns = max(2, round(height * scale)), max(2, round(width * scale))
    windows = [_window(photo, rows, columns, rng) for _ in range(candidates)]
    window = max(windows, key=_detail)
    texture = cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        texture = texture[:, ::-1]
    grey = bool(np.array_equal(photo[::7, ::7, 0], photo[::7, ::7, 1]))
    # A tint of its own keeps grey photographs from making grey scenes; colours only drift as under another
    # lamp.
    balance = np.exp(rng.uniform(-0.45, 0.45, 3) if grey else rng.uniform(-0.15, 0.15, 3))
    gain = rng.uniform(0.18, 0.45) / max(1e-3, float(texture.mean()))
    gain = min(gain, 1.1 / max(1e-3, float(np.quantile(texture, 0.97))))  # bright parts keep their detail
    texture = texture * (balance * np.clip(gain, 0.5, 4.0)).astype(np.float32)
    return np.ascontiguousarray(np.clip(texture, 0.0, 1.0), dtype=np.float32)


def _foliage(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    mask = np.zeros((size, size), np.uint8)
    middle = size // 2
    for angle in np.linspace(0, 360, int(rng.integers(5, 9)), endpoint=False) + rng.uniform(0, 60):
        reach = rng.uniform(0.24, 0.27) * size
        centre = (
            int(middle + reach * math.cos(math.radians(angle))),
            int(middle + reach * math.sin(math.radians(angle))),
        )
        axes = (int(0.22 * size), int(rng.uniform(0.06, 0.11) * size))
        cv2.ellipse(mask, centre, axes, float(angle), 0, 360, 255, -1)
    return mask


def _letter(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    mask = np.zeros((size, size), np.uint8)
    glyph = "ABEFHKMNRSXZ"[int(rng.integers(12))]
    thick = size // 7
    (width, height), _ = cv2.getTextSize(glyph, cv2.FONT_HERSHEY_SIMPLEX, size / 28, thick)
    cv2.putText(
        mask,
        glyph,
        ((size - width) // 2, (size + height) // 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        size / 28,
        255,
        thick,
    )
    return mask


def shape_mask(shape: str, height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """Anti-aliased outline of a card, (height, width) in [0, 1], 0 on the outermost texels.

    Args:
        shape: "rectangle", "disc", "ring", "letter", "leaf" or "slats".
    """
    import cv2

    size = 512
    mask = np.zeros((size, size), np.uint8)
    if shape == "rectangle":
        mask[:] = 255
    elif shape in ("disc", "ring"):
        cv2.circle(mask, (size // 2, size // 2), size // 2 - 6, 255, -1)
        if shape == "ring":
            cv2.circle(mask, (size // 2, size // 2), int(size * rng.uniform(0.18, 0.3)), 0, -1)
    elif shape == "letter":
        mask = _letter(size, rng)
    elif shape == "leaf":
        mask = _foliage(size, rng)
    elif shape == "slats":
        period = size // int(rng.integers(4, 8))
        for start in range(0, size, period):
            mask[:, start : start + int(period * 0.55)] = 255
        mask[: size // 12], mask[-size // 12 :] = 255, 255
    else:
        raise DDNetError(f"shape is {shape!r}; allowed are rectangle, disc, ring, letter, leaf, slats")
    inner = cv2.resize(mask, (max(1, width - 2), max(1, height - 2)), interpolation=cv2.INTER_AREA)
    return np.pad(inner.astype(np.float32) / 255.0, 1)[:height, :width]
