"""Scenes drawn from a seed: what they hold, that they cover the frame, that images show depth and defocus."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from ddnet.data.embedded.optics import circle_of_confusion_px
from ddnet.data.embedded.render import render
from ddnet.data.embedded.scenes import make_scene
from ddnet.data.embedded.surfaces import SceneSpec
from ddnet.data.embedded.textures import (
    POOLS,
    cut_texture,
    linear_to_srgb,
    photograph,
    shape_mask,
    srgb_to_linear,
)
from ddnet.errors import DDNetError

IntArray = npt.NDArray[np.int_]
SIZE = 64
CASES = list(itertools.product(("train", "val", "test", "ood"), ("indoor", "outdoor"), (1, 2)))


def test_pools_share_no_photograph_and_every_photograph_is_installed() -> None:
    names = [name for pool in POOLS.values() for name in pool]
    assert len(names) == len(set(names))
    for name in names:
        photo = photograph(name)
        assert photo.ndim == 3 and photo.shape[2] == 3 and photo.dtype == np.float32
        assert 0.0 <= photo.min() < photo.max() <= 1.0
    # Not the same picture under two names either.
    assert len({photograph(name).tobytes() for name in names}) == len(names)
    assert len(POOLS["train"]) == max(map(len, POOLS.values()))


@pytest.mark.parametrize(("pool", "location", "seed"), CASES)
def test_scene_has_depth_defocus_and_something_in_focus(pool: str, location: str, seed: int) -> None:
    spec = make_scene(pool, location, seed, SIZE)
    assert set(spec.photographs) <= set(POOLS[pool])
    assert 3 <= sum(surface.name.startswith("card") for surface in spec.surfaces) <= 8
    assert spec.lens.aperture == ("hexagon" if pool == "ood" else "disc")
    assert (spec.lens.focal_mm in (35, 50, 85)) == (pool != "ood")
    found = render(spec, samples=8)
    low, high = (0.5, 6.0) if location == "indoor" else (0.9, 40.0)
    assert low <= found.depth_m.min() and found.depth_m.max() <= high
    assert found.depth_m.max() / found.depth_m.min() > 1.5
    blur = np.abs(circle_of_confusion_px(found.depth_m, spec.lens, 192))
    assert blur.max() < 13.5
    assert blur.min() < 1.0
    for view in (found.image, found.target):
        assert np.isfinite(view).all() and view.min() >= 0 and view.max() <= 1 + 1e-5
    # Visibly sharper than its defocused image even here, where blur is a third of what 192 pixels show.
    gradient = [np.abs(np.diff(linear_to_srgb(view), axis=1)).mean() for view in (found.target, found.image)]
    assert gradient[0] > 1.03 * gradient[1]


def test_no_lens_sample_leaves_a_gap() -> None:
    # White in place of every texture: light missing anywhere would show as grey.
    for (pool, location), seed in itertools.product((("train", "indoor"), ("ood", "outdoor")), range(3)):
        spec = make_scene(pool, location, seed, SIZE)
        for surface in spec.surfaces:
            surface.texture[..., :3] = surface.texture[..., 3:]
        found = render(spec, samples=16)
        np.testing.assert_allclose(found.image, 1.0, atol=1e-4)


def test_scene_follows_from_its_seed_alone() -> None:
    first, again, other = (make_scene("test", "indoor", seed, SIZE) for seed in (7, 7, 8))
    assert first.lens == again.lens and len(first.surfaces) == len(again.surfaces)
    for a, b in zip(first.surfaces, again.surfaces, strict=True):
        np.testing.assert_array_equal(a.texture, b.texture)
        np.testing.assert_array_equal(a.origin, b.origin)
    assert first.lens != other.lens or first.surfaces[0].origin[2] != other.surfaces[0].origin[2]


def test_geometry_and_lens_do_not_depend_on_the_size() -> None:
    small, large = (make_scene("train", "outdoor", 4, size) for size in (SIZE, 2 * SIZE))
    assert small.lens == large.lens
    assert [s.photograph for s in small.surfaces][:1] == [s.photograph for s in large.surfaces][:1]
    for a, b in zip(small.surfaces, large.surfaces, strict=True):
        assert (a.outline is None) == (b.outline is None)
        if a.outline is not None:
            np.testing.assert_allclose(a.corners(), b.corners(), atol=1e-9)


def test_cards_do_not_interleave_in_depth_where_they_overlap() -> None:
    for seed in range(12):
        cards = [s.corners() for s in make_scene("val", "indoor", seed, 32).surfaces if not s.tiled]
        for back, front in itertools.combinations(cards, 2):
            assert back[:, 2].mean() >= front[:, 2].mean()
            a, b = (corners[:, :2] / corners[:, 2:] for corners in (back, front))
            overlap = (a.min(0) < b.max(0)).all() and (b.min(0) < a.max(0)).all()
            assert not overlap or front[:, 2].max() < back[:, 2].min()


def _painted_and_nearest(spec: SceneSpec, eye: tuple[float, float], rays: int) -> tuple[IntArray, IntArray]:
    """Index of the surface painted last and of the nearest one, along rays from a point of the lens: (rays, rays)."""
    ticks = (np.arange(rays) + 0.5 - rays / 2) / spec.lens.focal_px(rays) * spec.lens.focus_m
    origin = np.array([*eye, 0.0])
    through = np.stack([*np.meshgrid(ticks, ticks), np.full((rays, rays), spec.lens.focus_m)], axis=-1) - origin
    painted, nearest = np.full((rays, rays), -1), np.full((rays, rays), -1)
    depth = np.full((rays, rays), np.inf)
    for index, surface in enumerate(spec.surfaces):
        normal = np.cross(surface.axis_s, surface.axis_t)
        reach = (normal @ (surface.origin - origin)) / (through @ normal)
        point = origin + reach[..., None] * through
        s, t = np.moveaxis((point - surface.origin) @ np.linalg.pinv([surface.axis_s, surface.axis_t]), -1, 0)
        hit = reach > 0
        if surface.outline is not None:
            ends = zip(surface.outline, np.roll(surface.outline, -1, axis=0), strict=True)
            sides = [(q[0] - p[0]) * (t - p[1]) - (q[1] - p[1]) * (s - p[0]) for p, q in ends]
            hit &= np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
        if not surface.tiled:  # what is cut out hides nothing
            high, wide = surface.texture.shape[:2]
            row, column = (np.clip(np.int_(at * many), 0, many - 1) for at, many in ((t, high), (s, wide)))
            hit &= surface.texture[row, column, 3] > 0.5
        painted[hit] = index
        nearer = hit & (point[..., 2] < depth - 1e-9)
        nearest[nearer], depth[nearer] = index, point[..., 2][nearer]
    return painted, nearest


@pytest.mark.parametrize("pool", ["train", "test", "ood"])
def test_what_is_painted_last_is_what_rays_meet_first(pool: str) -> None:
    ceilings = 0
    for location, seed in itertools.product(("indoor", "outdoor"), range(24)):
        spec = make_scene(pool, location, seed, 32)
        ceilings += any(surface.name == "ceiling" for surface in spec.surfaces)
        radius = spec.lens.aperture_m / 2
        for eye in ((0.0, 0.0), (0.0, radius), (0.0, -radius), (radius, 0.0), (-radius, 0.0)):
            painted, nearest = _painted_and_nearest(spec, eye, 96)
            pairs = np.stack([painted, nearest], axis=-1)[painted != nearest]
            wrong = {(spec.surfaces[over].name, spec.surfaces[under].name) for over, under in pairs}
            assert not wrong, f"{pool} {location} {seed}, seen from {eye}: painted over what is nearer: {wrong}"
    assert ceilings >= 2


def test_transfer_curve_is_srgb_and_inverts() -> None:
    values = np.linspace(0, 1, 257, dtype=np.float32)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(values)), values, atol=2e-6)
    assert float(linear_to_srgb(np.array([0.2140411], np.float32))[0]) == pytest.approx(0.5, abs=1e-5)


def test_textures_are_never_blown_up_and_masks_end_clear() -> None:
    rng = np.random.default_rng(0)
    texture = cut_texture("page", 400, 700, rng)  # larger than the photograph: mirrored, not enlarged
    assert texture.shape == (400, 700, 3) and texture.min() >= 0 and texture.max() <= 1
    # Each texel is one of the photograph's own (191 rows), so its mirror image recurs further down.
    assert any(np.allclose(texture[k], texture[k + 1]) for k in range(399))
    for shape in ("rectangle", "disc", "ring", "letter", "leaf", "slats"):
        mask = shape_mask(shape, 60, 80, rng)
        assert mask.shape == (60, 80) and mask.max() == pytest.approx(1.0, abs=0.01)
        assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
        assert 0.1 < mask.mean() < 0.99


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("holdout", "indoor", 0, 64), "holdout"),
        (("train", "moon", 0, 64), "moon"),
        (("train", "indoor", -1, 64), "-1"),
        (("train", "indoor", 0, 8), "8"),
    ],
)
def test_bad_scenes_are_refused(arguments: tuple[str, str, int, int], named: str) -> None:
    with pytest.raises(DDNetError, match=named):
        make_scene(*arguments)


def test_bad_textures_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DDNetError, match="lena"):
        photograph("lena")
    with pytest.raises(DDNetError, match="at least 2"):
        cut_texture("coffee", 1, 20, rng)
    with pytest.raises(DDNetError, match="star"):
        shape_mask("star", 20, 20, rng)
