"""Random scenes of textured planes: a room or a street, cards in it, and the lens that looks at them.

The camera is at the origin, z points forward, y down; lengths are metres. Painter's order is right by
construction: the backdrop is endless and first; side walls, which reach it, go on below the floor and above
the ceiling, which are painted over them; cards hang inside that shell, and two cards whose images come near
each other never overlap in depth, so their centre depths sort them.
"""

from __future__ import annotations

import math

import numpy as np

from ddnet.data.embedded.optics import Lens, circle_of_confusion_px, inverse_depth_of_plane
from ddnet.data.embedded.room import Builder, card, place_cards, rotation, shell
from ddnet.data.embedded.surfaces import SceneSpec, Surface, Vector
from ddnet.data.embedded.textures import photograph_names
from ddnet.errors import DDNetError

LOCATIONS = ("indoor", "outdoor")
LENSES: dict[str, dict[str, tuple[float, ...]]] = {
    "disc": {"focal_mm": (35.0, 50.0, 50.0, 85.0, 85.0), "f_number": (1.8, 2.0, 2.8, 4.0, 5.6, 8.0)},
    "hexagon": {"focal_mm": (28.0, 60.0, 60.0, 105.0, 105.0), "f_number": (1.8, 2.2, 3.2, 4.5, 6.3)},
}
REFERENCE_PX = 192  # the circle of confusion is bounded in pixels of an image this wide, whatever the size
FOREGROUND, FOREGROUND_SHARE = 0.3, 0.85  # nearest part of the frame; share of scenes focused there
BLUR_LIMITS = (3.5, 12.5)  # wanted widest circle of confusion in view, pixels


def _visible_depths(surfaces: list[Surface], tan_half: float, cells: int = 48) -> Vector:
    """Depths seen by a coarse grid of rays, outlines filled."""
    ticks = (np.arange(cells) + 0.5) / cells * 2 * tan_half - tan_half
    rays = np.stack([*np.meshgrid(ticks, ticks), np.ones((cells, cells))], axis=-1)
    depth = np.full((cells, cells), np.inf)
    for surface in surfaces:
        inverse = rays @ inverse_depth_of_plane(surface.origin, surface.axis_s, surface.axis_t)
        hit = inverse > 0
        if surface.outline is not None:
            corners = surface.corners()
            image = corners[:, :2] / corners[:, 2:]
            sides = [
                (q[0] - p[0]) * (rays[..., 1] - p[1]) - (q[1] - p[1]) * (rays[..., 0] - p[0])
                for p, q in zip(image, np.roll(image, -1, axis=0), strict=True)
            ]
            hit &= np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
        depth[hit] = 1.0 / inverse[hit]
    return depth


def _draw_lens(focal_mm: float, aperture: str, depth: Vector, rng: np.random.Generator) -> Lens:
    """A real lens focused on something in view; how much it blurs at most differs from scene to scene.

    The wanted widest circle of confusion is drawn from BLUR_LIMITS, small ones more often: like photographs, most
    scenes are moderately defocused and some beyond repair.
    """
    seen = depth[np.isfinite(depth)]
    best, miss = None, math.inf
    # Photographs are mostly focused on something near, so that blur grows with distance.
    subject = np.sort(seen)[: math.ceil(FOREGROUND * seen.size)] if rng.random() < FOREGROUND_SHARE else seen
    widest_wanted = BLUR_LIMITS[0] + (BLUR_LIMITS[1] - BLUR_LIMITS[0]) * rng.random() ** 2
    for _ in range(300):
        focus = float(np.clip(subject[int(rng.integers(subject.size))], 1.0, 10.0))
        lens = Lens(focal_mm, float(rng.choice(LENSES[aperture]["f_number"])), round(focus, 3), aperture=aperture)
        blur = np.abs(circle_of_confusion_px(seen, lens, REFERENCE_PX))
        widest, sharp = float(blur.max()), float((blur < 1.0).mean())
        # Distance from the wanted: widest blur near its draw, 4 % of the frame or more in focus, a third blurred.
        short = max(0.0, 0.7 * widest_wanted - widest) + max(0.0, widest - widest_wanted)
        short += 20 * max(0.0, 0.04 - sharp) + 5 * max(0.0, 0.33 - float((blur > 1.5).mean()))
        if short < miss:
            best, miss = lens, short
        if not short:
            break
    if best is None:
        raise DDNetError("scene: nothing is in view to focus on; use another seed")
    return best


def make_scene(pool: str, location: str, seed: int, size: int) -> SceneSpec:
    """Draw a scene; everything follows from the arguments.

    Args:
        pool: photographs to use: "train", "val", "test", or "ood", which also changes the lenses (28, 60 and
            105 mm) and the aperture (a hexagon).
        location: "indoor" (0.6 to 6 m) or "outdoor" (1 to 40 m).
        seed: 0 or more.
        size: width and height of the image in pixels; the geometry and the lens do not depend on it.

    Raises:
        DDNetError: an argument is not allowed.
    """
    names = photograph_names(pool)
    if location not in LOCATIONS:
        raise DDNetError(f"location is {location!r}; allowed are {', '.join(LOCATIONS)}")
    if seed < 0:
        raise DDNetError(f"seed is {seed}; it must be 0 or more")
    if size < 32:
        raise DDNetError(f"size is {size}; a scene is at least 32 pixels wide")
    aperture = "hexagon" if pool == "ood" else "disc"
    rng, paint = (np.random.default_rng([seed, stream]) for stream in (0, 2))
    focal_mm = float(rng.choice(LENSES[aperture]["focal_mm"]))
    tan_half = 36.0 / 2 / focal_mm
    pitch = math.degrees(math.atan(tan_half)) * rng.uniform(-0.2, 0.35)
    turn = rotation(0.0, pitch, rng.uniform(-4, 4))
    build = Builder(location, rng, paint, size, tan_half, pitch, turn, names)
    room, surfaces = shell(build)
    surfaces += [card(build, corners) for corners in place_cards(build, room)]
    lens = _draw_lens(focal_mm, aperture, _visible_depths(surfaces, tan_half), rng)
    return SceneSpec(location, seed, size, lens, tuple(surfaces))
