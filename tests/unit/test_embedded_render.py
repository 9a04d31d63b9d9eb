"""Rendered scenes proved against closed formulas: blur size, focus, energy, half views, depth, occlusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddnet.data.embedded.optics import Lens, circle_of_confusion_px
from ddnet.data.embedded.render import develop, render
from ddnet.data.embedded.scenes import make_scene
from ddnet.data.embedded.surfaces import SceneSpec, Surface
from ddnet.data.embedded.textures import srgb_to_linear
from ddnet.errors import DDNetError

SIZE = 96
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def _constant(value: float, alpha: float = 1.0, side: int = 16) -> np.ndarray:
    texture = np.full((side, side, 4), value * alpha, np.float32)
    texture[..., 3] = alpha
    return texture


def _backdrop(texture: np.ndarray, z: float, width: float = 1.0) -> Surface:
    origin = np.array([-width / 2, -width / 2, z])
    return Surface("backdrop", texture, origin, np.array([width, 0, 0]), np.array([0, width, 0]), True, None, "")


def _card(texture: np.ndarray, corner: tuple[float, float, float], s: object, t: object) -> Surface:
    return Surface("card", texture, np.array(corner), np.asarray(s), np.asarray(t), False, SQUARE, "")


def _spec(lens: Lens, *surfaces: Surface, size: int = SIZE) -> SceneSpec:
    return SceneSpec("indoor", 5, size, lens, surfaces)


def _noise_texture(side: int = 256) -> np.ndarray:
    texture = np.ones((side, side, 4), np.float32)
    texture[..., :3] = np.random.default_rng(0).uniform(0.1, 0.9, (side, side, 3))
    return texture


@pytest.mark.parametrize(
    ("lens", "z"),
    [
        (Lens(50, 1.8, 1.2), 4.0),
        (Lens(50, 1.8, 1.2), 0.8),
        (Lens(85, 2.8, 1.5), 3.0),
        (Lens(85, 1.8, 4.0), 1.9),
        (Lens(35, 1.8, 1.0), 20.0),
    ],
)
def test_point_light_draws_a_disc_of_the_formulas_diameter(lens: Lens, z: float) -> None:
    size = 192
    dot = 1.0 * z / lens.focal_px(size)  # one pixel wide, off the principal point
    place = 7.3 * z / lens.focal_px(size)
    card = _card(_constant(1.0), (place - dot / 2, -place - dot / 2, z), [dot, 0, 0], [0, dot, 0])
    found = render(_spec(lens, _backdrop(_constant(0.0), z * 1.001), card, size=size), samples=256)
    y, x = np.mgrid[:size, :size]
    spread = []
    for light in (found.image[..., 0], found.target[..., 0]):
        total = light.sum(dtype=np.float64)
        mean_x, mean_y = (light * x).sum() / total, (light * y).sum() / total
        spread.append(float((light * ((x - mean_x) ** 2 + (y - mean_y) ** 2)).sum() / total))
    # A uniform disc of diameter D has second moment D²/8; the dot's own, known from the target, adds to it.
    diameter = np.sqrt(8 * (spread[0] - spread[1]))
    wanted = abs(float(circle_of_confusion_px(z, lens, size)))
    assert wanted > 2.5
    assert diameter == pytest.approx(wanted, abs=0.25)
    # Its edge is where the formula puts it, too: nothing lies outside the disc, and its middle is evenly lit.
    centre = size / 2 - 0.5 + 7.3, size / 2 - 0.5 - 7.3
    away = np.hypot(x - centre[0], y - centre[1])
    light = found.image[..., 0]
    assert light[away > wanted / 2 + 1.5].max() < 1e-4
    level = float(found.target[..., 0].sum()) / (np.pi * wanted**2 / 4)
    assert light[away < wanted / 2 - 1.25].mean() == pytest.approx(level, rel=0.12)


def test_plane_in_focus_is_unchanged_and_a_plane_behind_is_not() -> None:
    lens = Lens(85, 1.8, 2.0)
    width = 2 * SIZE / lens.focal_px(SIZE) * lens.focus_m
    sharp = render(_spec(lens, _backdrop(_noise_texture(), lens.focus_m, width)))
    np.testing.assert_allclose(sharp.image, sharp.target, atol=1e-5)
    blurred = render(_spec(lens, _backdrop(_noise_texture(), 2.6, width)))
    assert np.abs(blurred.image - blurred.target).mean() > 0.02


def test_constant_scene_keeps_its_energy_across_seams_and_tilts() -> None:
    lens = Lens(50, 1.8, 1.5)
    grey = _constant(0.37)
    floor = Surface(
        "floor", grey, np.array([-5.0, 0.3, 0.4]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), True,
        np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 2.6], [0.0, 2.6]]), "",
    )  # fmt: skip
    card = _card(grey, (-0.2, -0.2, 0.9), [0.3, 0.05, 0.2], [0.0, 0.3, -0.1])
    found = render(_spec(lens, _backdrop(grey, 3.0), floor, card))
    for view in (found.image, found.target, found.left, found.right):
        np.testing.assert_allclose(view, 0.37, atol=1e-4)


@pytest.mark.parametrize("pool", ["train", "ood"])
def test_image_is_the_mean_of_the_half_aperture_views(pool: str) -> None:
    found = render(make_scene(pool, "indoor", 11, SIZE), samples=32)
    np.testing.assert_allclose((found.left + found.right) / 2, found.image, atol=1e-6)
    assert np.abs(found.left - found.right).max() > 0.02


def test_half_aperture_views_shift_opposite_ways_on_either_side_of_the_focal_plane() -> None:
    lens = Lens(85, 1.8, 2.0)
    for z, sign in ((3.5, 1.0), (1.4, -1.0)):
        dot = z / lens.focal_px(SIZE)
        card = _card(_constant(1.0), (-dot / 2, -dot / 2, z), [dot, 0, 0], [0, dot, 0])
        found = render(_spec(lens, _backdrop(_constant(0.0), 4.0), card), samples=128)
        x = np.arange(SIZE)
        left, right = ((v[..., 0] * x).sum() / v[..., 0].sum() for v in (found.left, found.right))
        # The centroid of a half disc lies 4/(3 pi) of its radius from the middle.
        wanted = float(circle_of_confusion_px(z, lens, SIZE)) / 2 * 4 / (3 * np.pi)
        assert np.sign(wanted) == sign
        assert (right - left) / 2 == pytest.approx(wanted, abs=0.1)


def test_depth_is_that_of_the_planes() -> None:
    lens = Lens(50, 2.8, 1.5)
    focal = lens.focal_px(SIZE)
    along, down, corner = (
        np.array([0.3, 0.0, 0.25]),
        np.array([0.0, 0.3, -0.15]),
        np.array([-0.15, -0.15, 1.2]),
    )
    half_clear = _constant(0.5)
    half_clear[:, 8:] *= 0.3
    spec = _spec(lens, _backdrop(_constant(0.2), 3.0), _card(half_clear, tuple(corner), along, down))
    depth = render(spec, samples=2).depth_m
    assert depth.dtype == np.float32
    normal = np.cross(along, down)
    hits = 0
    for i in range(SIZE):
        for j in range(SIZE):
            ray = np.array([(j + 0.5 - SIZE / 2) / focal, (i + 0.5 - SIZE / 2) / focal, 1.0])
            z = float(normal @ corner) / float(normal @ ray)
            s, t = np.linalg.lstsq(np.stack([along, down], axis=1), ray * z - corner, rcond=None)[0]
            if 0.03 < s < 0.45 and 0.03 < t < 0.97:  # the opaque half, clear of its edges
                assert depth[i, j] == pytest.approx(z, rel=1e-5)
                hits += 1
            elif not (-0.03 < s < 0.55 and -0.03 < t < 1.03):  # alpha 0.3 does not count as a surface
                assert depth[i, j] == pytest.approx(3.0, rel=1e-5)
    assert hits > 100
    inside = depth[depth < 2.9]
    assert inside.max() - inside.min() > 0.1


def test_background_shows_through_the_blurred_edge_of_a_foreground() -> None:
    # A black card covers the right half; the background is white, in focus and lit evenly.
    lens, z = Lens(85, 1.8, 3.0), 1.0
    card = _card(_constant(0.0, side=512), (0.0, -0.3, z), [0.6, 0, 0], [0, 0.6, 0])
    found = render(_spec(lens, _backdrop(_constant(1.0), 3.0), card), samples=256)
    row = found.image[SIZE // 2 - 8 : SIZE // 2 + 8, :, 0].mean(axis=0)
    radius = abs(float(circle_of_confusion_px(z, lens, SIZE))) / 2
    assert radius > 2
    # Share of the aperture that passes the edge: the part of a disc to one side of a chord.
    offset = np.clip((np.arange(SIZE) + 0.5 - SIZE / 2) / radius, -1, 1)
    passed = (np.arccos(offset) - offset * np.sqrt(1 - offset**2)) / np.pi
    np.testing.assert_allclose(row, passed, atol=0.04)
    np.testing.assert_allclose(found.target[:, : SIZE // 2 - 1], 1.0, atol=1e-5)


def test_developing_adds_little_noise_and_encodes_as_srgb() -> None:
    rendered = render(_spec(Lens(50, 2.8, 3.0), _backdrop(_constant(0.2), 3.0)), samples=2)
    views = develop(rendered, np.random.default_rng(0))
    assert set(views) == {"image", "target", "left", "right"}
    light = srgb_to_linear(views["image"])
    assert light.mean() == pytest.approx(0.2, abs=1e-3)
    assert light.std() == pytest.approx(np.sqrt(1e-4 * 0.2 + 9e-8), rel=0.1)
    halves = (srgb_to_linear(views["left"]) + srgb_to_linear(views["right"])) / 2
    np.testing.assert_allclose(halves, light, atol=1e-5)


def test_surface_behind_the_camera_and_empty_scene_are_refused() -> None:
    lens = Lens(50, 2.8, 3.0)
    with pytest.raises(DDNetError, match="behind the camera"):
        render(_spec(lens, _card(_constant(0.5), (0.0, 0.0, -1.0), [1.0, 0, 0], [0, 1.0, 0])))
    with pytest.raises(DDNetError, match="no surface"):
        render(_spec(lens, _card(_constant(0.5), (90.0, 0.0, 1.0), [1.0, 0, 0], [0, 1.0, 0])))
    with pytest.raises(DDNetError, match="at least 8"):
        render(replace(_spec(lens, _backdrop(_constant(0.5), 3.0)), size=4))


def test_outline_cuts_a_tiled_surface_to_its_exact_area() -> None:
    lens = Lens(50, 2.8, 2.0)
    outline = np.array([[-0.3, -0.2], [0.35, -0.28], [0.3, 0.25], [-0.1, 0.33]])
    origin, axis_s, axis_t = np.array([0.0, 0.0, 2.0]), np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, -0.3])
    wall = Surface("wall", _constant(1.0), origin, axis_s, axis_t, True, outline, "")
    corners = wall.corners()
    x, y = (corners[:, :2] / corners[:, 2:] * lens.focal_px(SIZE)).T
    area = 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))
    found = render(_spec(lens, _backdrop(_constant(0.0), 4.0), wall))
    assert float(found.target[..., 0].sum()) == pytest.approx(area, rel=0.003)
    assert float(found.image[..., 0].sum()) == pytest.approx(area, rel=0.003)
