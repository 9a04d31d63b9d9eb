"""The parts of a random scene: the shell of a room or a street, and the cards in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ddnet.data.embedded.surfaces import Surface, Vector
from ddnet.data.embedded.textures import PLAIN, FloatArray, cut_texture, shape_mask
from ddnet.errors import DDNetError

# Metres. `near` is where the lower edge of the frame meets the floor.
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "indoor": {"near": (0.65, 1.1), "far": (2.6, 4.4), "cards": (0.62, 4.0)},
    "outdoor": {"near": (1.2, 2.4), "far": (12.0, 29.0), "cards": (1.1, 22.0)},
}
SHAPES = ("rectangle", "rectangle", "rectangle", "disc", "ring", "letter", "leaf", "leaf", "slats")
TEXELS_PER_PIXEL = 2.0  # as fine as the renderer's raster, so that targets are sharp without aliasing
CLEARANCE = 12.5 / 192  # of the frame: cards nearer than this count as overlapping, as blur can make them


def rotation(yaw: float, pitch: float, roll: float) -> Vector:
    """Rotation about y, then x, then z (degrees)."""
    a, b, c = (math.radians(angle) for angle in (yaw, pitch, roll))
    about_y = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def _opaque(colour: FloatArray) -> FloatArray:
    return np.concatenate([colour, np.ones((*colour.shape[:2], 1), np.float32)], axis=2)


@dataclass
class Builder:
    """What the parts of one scene share while it is drawn."""

    location: str
    rng: np.random.Generator  # geometry and lens: what must not depend on the size
    paint: np.random.Generator  # textures and masks
    size: int
    tan_half: float
    pitch: float  # degrees, downwards
    turn: Vector  # world to camera
    names: tuple[str, ...]
    deck: list[str] = field(default_factory=list)

    def photograph(self, wide: bool) -> str:
        """The pool's photographs in turn, reshuffled after each round; `wide` surfaces take none of PLAIN."""
        while True:
            if not self.deck:
                self.deck = [str(name) for name in self.paint.permutation(self.names)]
            name = self.deck.pop()
            if not (wide and name in PLAIN):
                return name

    def plane(
        self, name: str, origin: Vector, along: Vector, down: Vector, corners: Vector | None, at_m: float
    ) -> Surface:
        """A tiled wall or floor, given in the world, whose texture has its full density at `at_m` metres."""
        photo = self.photograph(wide=True)
        share = self.rng.uniform(0.5, 0.9)  # of the frame's width that one tile fills at that distance
        texels = round(share * TEXELS_PER_PIXEL * self.size)
        texture = _opaque(cut_texture(photo, texels, texels, self.paint))
        tile = share * 2 * self.tan_half * at_m
        axis_s, axis_t = along * tile, down * tile
        outline = None
        if corners is not None:
            relative = corners - origin
            outline = np.stack([relative @ along, relative @ down], axis=1) / tile
        return Surface(name, texture, self.turn @ origin, self.turn @ axis_s, self.turn @ axis_t, True, outline, photo)


def _full_density(near: float, far: float) -> float:
    """Distance at which ground and walls get their full texel density: towards the near end."""
    return float(near**0.7 * far**0.3)


@dataclass(frozen=True)
class Room:
    """The shell in the world: floor and ceiling y, backdrop z = far + slope·x, side walls' x (±inf where absent)."""

    floor: float
    ceiling: float
    far: float
    slope: float
    left: float
    right: float

    def holds(self, corners: Vector) -> bool:
        """Whether a card with these world corners hangs clear of every wall."""
        x, y, z = corners.T
        inside = x.min() > 0.97 * self.left and x.max() < 0.97 * self.right
        inside &= y.min() >= self.ceiling and y.max() <= self.floor
        return bool(inside and (z < 0.93 * (self.far + self.slope * x)).all())


def shell(build: Builder) -> tuple[Room, list[Surface]]:
    """Backdrop, side walls, floor and ceiling, in painting order."""
    rng, tan = build.rng, build.tan_half
    indoor = build.location == "indoor"
    near, far = (float(rng.uniform(*RANGES[build.location][name])) for name in ("near", "far"))
    floor = near * math.tan(math.atan(tan) + math.radians(build.pitch))
    slope = math.tan(math.radians(rng.uniform(-22, 22)))
    sides = [rng.uniform(0.45, 0.95) * tan * far if rng.random() < (0.8 if indoor else 0.5) else math.inf for _ in "lr"]
    left, right = -sides[0], sides[1]
    x_axis, y_axis, z_axis = np.eye(3)
    across = np.array([1.0, 0.0, slope]) / math.hypot(1.0, slope)
    surfaces = [build.plane("backdrop", np.array([0.0, 0.0, far]), across, y_axis, None, far)]
    start = 0.4 * near  # nearer than anything the frame shows of these planes
    for name, x in (("left wall", left), ("right wall", right)):
        if math.isfinite(x):
            end = far + slope * x
            # Taller than the view at either end, and in proportion to z so that no corner tilts behind the
            # camera.
            low, high = 3 * tan * start, 3 * tan * end
            corners = np.array([[x, -low, start], [x, -high, end], [x, high, end], [x, low, start]])
            surfaces.append(
                build.plane(name, np.array([x, 0.0, start]), z_axis, y_axis, corners, _full_density(abs(x) / tan, end))
            )
    x0, x1 = max(left, -3 * far * tan), min(right, 3 * far * tan)
    levels = {"floor": floor}
    if indoor and rng.random() < 0.35:
        levels["ceiling"] = -rng.uniform(0.3, 0.8) * tan * far
    for name, y in levels.items():
        corners = np.array([[x0, y, start], [x1, y, start], [x1, y, far + slope * x1], [x0, y, far + slope * x0]])
        at_m = _full_density(abs(y) / tan, far)
        surfaces.append(build.plane(name, np.array([0.0, y, start]), x_axis, z_axis, corners, at_m))
    return Room(floor, levels.get("ceiling", -math.inf), far, slope, left, right), surfaces


def _card_corners(build: Builder, shrink: float, close: bool) -> Vector:
    """Corners of a random card in the camera's frame: (4, 3), clockwise from the upper left."""
    rng, tan = build.rng, build.tan_half
    low, high = RANGES[build.location]["cards"]
    high = 1.5 * low if close else high
    depth = math.exp(rng.uniform(math.log(low), math.log(high)))
    width = 2 * tan * depth * rng.uniform(0.22, 0.5) * shrink
    height = width * math.exp(rng.uniform(-0.4, 0.4))
    centre = depth * np.array([rng.uniform(-0.85, 0.85) * tan, rng.uniform(-0.85, 0.7) * tan, 1.0])
    turn = rotation(rng.uniform(-50, 50), rng.uniform(-25, 25), rng.uniform(-15, 15))
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) / 2.0
    return np.asarray(centre + (square * [width, height, 0.0]) @ turn.T)


def _clear(corners: Vector, others: list[Vector], tan_half: float) -> bool:
    """Whether a card's depths do not interleave with those of any card whose image comes near its own."""
    gap = 2.0 * tan_half * CLEARANCE
    image, z = corners[:, :2] / corners[:, 2:], corners[:, 2]
    for other in others:
        beside = other[:, :2] / other[:, 2:]
        apart = (image.min(axis=0) > beside.max(axis=0) + gap).any()
        apart |= (image.max(axis=0) < beside.min(axis=0) - gap).any()
        if not apart and z.min() < 1.03 * other[:, 2].max() and other[:, 2].min() < 1.03 * z.max():
            return False
    return True


def place_cards(build: Builder, room: Room) -> list[Vector]:
    """Corners of 3 to 8 cards in the camera's frame, far to near by centre depth."""
    wanted = int(build.rng.integers(4, 9))
    nearest = 0.85 * RANGES[build.location]["cards"][0]
    placed: list[Vector] = []
    for attempt in range(600):
        if len(placed) == wanted:
            break
        # Short lenses blur little but what is close, so their scenes always hold something close.
        close = not placed and build.tan_half > 0.25
        corners = _card_corners(build, 0.996**attempt, close)
        if corners[:, 2].min() < nearest or not room.holds(corners @ build.turn):
            continue
        if _clear(corners, placed, build.tan_half):
            placed.append(corners)
    if len(placed) < 3:
        raise DDNetError(f"scene: only {len(placed)} cards found room; this seed cannot be drawn, take another")
    return sorted(placed, key=lambda corners: -float(corners[:, 2].mean()))


def card(build: Builder, corners: Vector) -> Surface:
    """A print with an outline of its own on the rectangle with these corners (4, 3), as `place_cards` gives them."""
    import cv2

    rng = build.paint
    photo = build.photograph(wide=False)
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    depth = float(corners[:, 2].mean())
    per_metre = TEXELS_PER_PIXEL * build.size / (2 * build.tan_half * depth)
    rows, columns = (max(8, round(float(np.linalg.norm(axis)) * per_metre)) for axis in (down, along))
    colour = cut_texture(photo, rows, columns, rng)
    if rng.random() < 0.2:  # print that is soft in itself: sharpness alone does not tell focus, depth does
        sigma = rng.uniform(0.6, 1.3) * TEXELS_PER_PIXEL
        soft = cv2.GaussianBlur(colour, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        colour = np.asarray(soft, np.float32)
    alpha = shape_mask(SHAPES[int(rng.integers(len(SHAPES)))], rows, columns, rng)[..., None]
    texture = np.concatenate([colour * alpha, alpha], axis=2)
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return Surface(f"card at {depth:.2f} m", texture, corners[0], along, down, False, square, photo)
