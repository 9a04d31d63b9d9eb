"""Scenes on which two renderers are compared: each isolates one thing that defocus has to get right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddnet.data.embedded.optics import Lens
from ddnet.data.embedded.room import rotation
from ddnet.data.embedded.scenes import make_scene
from ddnet.data.embedded.surfaces import SceneSpec, Surface, Vector
from ddnet.data.embedded.textures import FloatArray, cut_texture, shape_mask

SIZE = 128  # pixels
FOCAL_MM, F_NUMBER = 50.0, 1.0
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


@dataclass(frozen=True)
class Case:
    """A scene and what it puts to the test."""

    name: str
    about: str
    spec: SceneSpec


def _card(
    photo: str, z: float, side: float, seed: int, *, at: tuple[float, float] = (0, 0), yaw: float = 0, shape: str = ""
) -> Surface:
    """A square print of `side` metres at (x, y) metres and depth z, turned about its vertical axis (degrees)."""
    rng = np.random.default_rng(seed)
    texels = int(np.clip(side / z * FOCAL_MM / 36 * SIZE * 2, 16, 1024))
    colour = cut_texture(photo, texels, texels, rng)
    alpha = (shape_mask(shape, texels, texels, rng) if shape else np.ones((texels, texels), np.float32))[..., None]
    turn = rotation(yaw, 0, 0)
    along, down = turn @ np.array([side, 0.0, 0.0]), turn @ np.array([0.0, side, 0.0])
    origin = np.array([*at, z]) - (along + down) / 2
    texture = np.concatenate([colour * alpha, alpha], axis=2).astype(np.float32)
    return Surface(f"{photo} at {z} m", texture, origin, along, down, False, SQUARE, photo)


def _tile(photo: str, seed: int) -> FloatArray:
    """An opaque texture to be continued by mirror images."""
    colour = cut_texture(photo, SIZE, SIZE, np.random.default_rng(seed))
    return np.concatenate([colour, np.ones((SIZE, SIZE, 1))], axis=2).astype(np.float32)


def _wall(photo: str, z: float, seed: int) -> Surface:
    """An endless wall at depth z, one tile of which fills half of the frame."""
    tile = 0.5 * 36 / FOCAL_MM * z
    origin, along, down = np.array([0.0, 0.0, z]), np.array([tile, 0.0, 0.0]), np.array([0.0, tile, 0.0])
    return Surface(f"wall at {z} m", _tile(photo, seed), origin, along, down, True, None, photo)


def _floor(photo: str, below: float, far: float, seed: int) -> Surface:
    """A floor `below` metres under the lens that ends at depth `far`."""
    corners = np.array([[-far, below, 0.4], [far, below, 0.4], [far, below, far], [-far, below, far]])
    origin: Vector = np.array([0.0, below, 0.4])
    outline = (corners - origin)[:, [0, 2]]
    along, down = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    return Surface("floor", _tile(photo, seed), origin, along, down, True, outline, photo)


def cases() -> list[Case]:
    """Six built by hand, and one generated scene of either kind, as the benchmark has them."""

    def case(name: str, about: str, focus_m: float, *surfaces: Surface) -> Case:
        lens = Lens(FOCAL_MM, F_NUMBER, focus_m)
        return Case(name, about, SceneSpec("indoor", len(name), SIZE, lens, surfaces))

    generated = [
        Case(
            f"generated_{kind}",
            f"a scene of the benchmark's generator ({kind}, seed 2)",
            make_scene("test", kind, 2, SIZE),
        )
        for kind in ("indoor", "outdoor")
    ]
    return [
        case("plane", "one plane, out of focus everywhere", 1.5, _wall("coffee", 4.0, 0)),
        case(
            "tilted", "a tilted plane through the focus", 1.4,
            _wall("brick", 8.0, 1), _card("chelsea", 1.4, 1.9, 2, yaw=58),
        ),
        case(
            "sharp_edge", "a card in focus before a blurred wall", 1.2,
            _wall("rocket", 6.0, 3), _card("coffee", 1.2, 0.45, 4, at=(0.12, 0.05)),
        ),
        case(
            "blurred_edge", "a blurred card that partly hides a wall in focus", 4.0,
            _wall("brick", 4.0, 5), _card("chelsea", 1.1, 0.4, 6, at=(-0.1, 0.02)),
        ),
        case(
            "shapes", "cut-out cards at three depths, seen through each other", 2.0,
            _wall("gravel", 5.0, 7), _card("coffee", 2.6, 0.9, 8, at=(0.3, 0.1), shape="ring"),
            _card("rocket", 1.5, 0.6, 9, at=(-0.15, 0.0), yaw=20, shape="slats"),
            _card("chelsea", 1.05, 0.25, 10, at=(0.12, -0.1), shape="leaf"),
        ),
        case(
            "floor", "ground from before the focus to behind it", 2.0,
            _wall("rocket", 5.0, 11), _floor("brick", 0.5, 5.0, 12),
        ),
        *generated,
    ]  # fmt: skip
