"""The thin lens of the embedded benchmark, proved against closed formulas."""

from __future__ import annotations

import numpy as np
import pytest

from ddnet.data.embedded.optics import (
    Lens,
    aperture_samples,
    circle_of_confusion_px,
    inverse_depth_of_plane,
    plane_shift,
)
from ddnet.errors import DDNetError


def test_check_value_of_the_circle_of_confusion() -> None:
    lens = Lens(50, 4, 2.0)
    assert float(circle_of_confusion_px(np.inf, lens, 1680)) == pytest.approx(15.0, abs=0.05)


def test_circle_of_confusion_is_signed_and_zero_in_focus() -> None:
    near, focused, far = circle_of_confusion_px([1.0, 2.0, 4.0], Lens(85, 2.8, 2.0), 192)
    assert near < 0 < far
    assert focused == pytest.approx(0.0, abs=1e-9)
    # (f/N) |z - z_f|/z f/(z_f - f), computed here in millimetres.
    assert far == pytest.approx(85 / 2.8 * 0.5 * 85 / (2000 - 85) * 192 / 36)
    assert near == pytest.approx(-85 / 2.8 * 1.0 * 85 / (2000 - 85) * 192 / 36)


@pytest.mark.parametrize("aperture", ["disc", "hexagon"])
@pytest.mark.parametrize("count", [64, 90])
def test_aperture_samples_are_balanced_and_fill_the_opening(aperture: str, count: int) -> None:
    lens = Lens(50, 2, 2.0, aperture=aperture)
    points = aperture_samples(lens, count, np.random.default_rng(3))
    assert (points[:, 0] > 0).sum() == (points[:, 0] < 0).sum() == count // 2
    assert (points[count // 2 :, 0] > 0).all()
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=1e-12)
    radius = np.hypot(*points.T) / (lens.aperture_m / 2)
    assert radius.max() <= 1.0
    # Second moment of a uniform disc of radius 1 is 1/2, of a hexagon with corners at 1 is 5/12.
    assert np.mean(radius**2) == pytest.approx(0.5 if aperture == "disc" else 5 / 12, rel=0.03)


def test_aperture_samples_turn_from_scene_to_scene() -> None:
    lens = Lens(50, 2, 2.0)
    first, again, other = (aperture_samples(lens, 64, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_plane_shift_moves_points_as_the_projection_says() -> None:
    rng = np.random.default_rng(0)
    lens, focal_px, point = Lens(85, 1.8, 1.7), 912.0, np.array([0.011, -0.007])
    origin, axis_s, axis_t = np.array([0.2, -0.1, 2.5]), np.array([1.0, 0.1, 0.6]), np.array([0.0, 1.0, -0.4])
    shift = plane_shift(inverse_depth_of_plane(origin, axis_s, axis_t), lens, point, focal_px)
    for s, t in rng.uniform(-0.5, 0.5, (20, 2)):
        place = origin + s * axis_s + t * axis_t
        seen = focal_px * place[:2] / place[2]
        moved = focal_px * (place[:2] - point) / place[2] + focal_px * point / lens.focus_m
        np.testing.assert_allclose(shift @ [*seen, 1.0], moved, atol=1e-9)


@pytest.mark.parametrize(
    "changed",
    [
        {"focal_mm": 0.0},
        {"f_number": -1.0},
        {"focus_m": float("inf")},
        {"focus_m": 0.04},
        {"aperture": "star"},
    ],
)
def test_impossible_lenses_are_refused(changed: dict[str, float | str]) -> None:
    with pytest.raises(DDNetError, match=next(iter(changed))):
        Lens(**{"focal_mm": 50.0, "f_number": 2.0, "focus_m": 2.0, **changed})  # type: ignore[arg-type]


def test_bad_samples_depths_and_planes_are_refused() -> None:
    with pytest.raises(DDNetError, match="63"):
        aperture_samples(Lens(50, 2, 2.0), 63, np.random.default_rng(0))
    with pytest.raises(DDNetError, match="above 0"):
        circle_of_confusion_px([1.0, 0.0], Lens(50, 2, 2.0), 192)
    with pytest.raises(DDNetError, match="lens centre"):
        inverse_depth_of_plane([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
