"""The thin lens: circle of confusion, aperture samples, and how a plane moves between two lens samples.

Lengths along the optical axis and in the scene are metres, the lens's own are millimetres, and images are
in pixels. The camera sits at the origin and looks along +z; x points right, y points down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnet.errors import DDNetError

APERTURES = ("disc", "hexagon")
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Lens:
    """A thin lens focused at a distance.

    `aperture` is the outline of the opening: "disc", or "hexagon", whose corners lie on that disc.
    """

    focal_mm: float
    f_number: float
    focus_m: float
    sensor_width_mm: float = 36.0
    aperture: str = "disc"

    def __post_init__(self) -> None:
        """Refuse lenses that cannot be."""
        for name in ("focal_mm", "f_number", "focus_m", "sensor_width_mm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise DDNetError(f"lens: {name} is {value}; it must be a finite number above 0")
        if self.focus_m * 1000.0 <= self.focal_mm:
            raise DDNetError(
                f"lens: focus_m is {self.focus_m}; it must lie beyond the focal length of {self.focal_mm} mm"
            )
        if self.aperture not in APERTURES:
            raise DDNetError(f"lens: aperture is {self.aperture!r}; allowed are {', '.join(APERTURES)}")

    @property
    def aperture_m(self) -> float:
        """Diameter of the opening in metres: focal length / f-number."""
        return self.focal_mm / self.f_number / 1000.0

    @property
    def image_distance_mm(self) -> float:
        """Lens to sensor, from 1/f = 1/z_f + 1/v."""
        focus_mm = self.focus_m * 1000.0
        return self.focal_mm * focus_mm / (focus_mm - self.focal_mm)

    def focal_px(self, width_px: float) -> float:
        """Pixels per unit of X/Z in an image `width_px` wide: the image distance, not the focal length.

        With the image distance the projection x = f_px (X-u)/Z + f_px u/z_f spreads a point over exactly the
        textbook circle of confusion, because v = f z_f/(z_f - f).
        """
        return self.image_distance_mm * width_px / self.sensor_width_mm


def circle_of_confusion_px(depth_m: ArrayLike, lens: Lens, width_px: float) -> NDArray[np.float64]:
    """Signed diameter, in pixels, of the disc that a point at `depth_m` (z, metres; +inf allowed) draws.

    c = (f/N) · (z - z_f)/z · f/(z_f - f) · W_px/W_sensor: negative before the focal plane, positive beyond
    it. Check value: 50 mm, f/4, focus 2 m, 1680 px on 36 mm, z -> inf gives 15.0 px.
    """
    depth = np.asarray(depth_m, np.float64)
    if not (depth > 0).all():
        raise DDNetError("circle of confusion: every depth must be above 0 m (z, in front of the camera)")
    return lens.focal_px(width_px) * lens.aperture_m * (1.0 / lens.focus_m - 1.0 / depth)


def aperture_samples(lens: Lens, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` points (u, v) in metres spread evenly over the opening: (count, 2), u > 0 in the second half.

    Half of them is a jittered Fibonacci lattice (the Vogel spiral's) on half the opening, the other half
    its mirror image through the centre. So both half-apertures hold equally many, the mean is exactly the
    lens centre, and the set may be turned by a random angle without losing either.

    Raises:
        DDNetError: `count` is odd or below 2.
    """
    if count < 2 or count % 2:
        raise DDNetError(f"aperture samples: {count}; it must be even and at least 2 (left and right get half each)")
    half = count // 2
    index = np.arange(half)
    radius = np.sqrt((index + rng.random(half)) / half)
    around = (index * GOLDEN + rng.random()) % 1.0  # position along half the outline
    turn = rng.random() * 2.0 * math.pi
    if lens.aperture == "disc":
        unit = np.stack([np.cos(math.pi * around), np.sin(math.pi * around)], axis=1)
    else:
        corners = np.array([[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(4)])
        side = np.minimum((around * 3).astype(int), 2)
        part = (around * 3 - side)[:, None]
        unit = (1 - part) * corners[side] + part * corners[side + 1]
    points = unit * radius[:, None] * lens.aperture_m / 2.0
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    points = points @ rotation
    right = np.where(points[:, :1] > 0, points, -points)
    return np.concatenate([-right, right])


def inverse_depth_of_plane(origin: ArrayLike, axis_s: ArrayLike, axis_t: ArrayLike) -> NDArray[np.float64]:
    """Coefficients (a, b, c) with 1/Z = a·X/Z + b·Y/Z + c on the plane origin + s·axis_s + t·axis_t (metres).

    Raises:
        DDNetError: the plane passes through the lens centre, or its axes are parallel.
    """
    normal = np.cross(np.asarray(axis_s, np.float64), np.asarray(axis_t, np.float64))
    distance = float(normal @ np.asarray(origin, np.float64))
    if abs(distance) < 1e-9:
        raise DDNetError("plane: it passes through the lens centre, or its axes are parallel; it has no image")
    return normal / distance


def plane_shift(
    inverse_depth: NDArray[np.float64], lens: Lens, point: NDArray[np.float64], focal_px: float
) -> NDArray[np.float64]:
    """The (2, 3) affine map of a plane's image: from the lens centre's view to that of `point` = (u, v).

    From x = f_px (X-u)/Z + f_px u/z_f: x' = x + f_px u (1/z_f - 1/Z), and on a plane 1/Z is affine in the
    image coordinates. So between lens samples the homography of a plane is affine, whatever its tilt.
    Coordinates are pixels from the principal point.
    """
    a, b, c = inverse_depth
    base = focal_px * (1.0 / lens.focus_m - c)
    u, v = point
    return np.array([[1.0 - u * a, -u * b, u * base], [-v * a, 1.0 - v * b, v * base]])
