"""What a scene is made of: textured planes, and the lens that looks at them.

The camera is at the origin, z points forward, y down; lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens
from ddnet.data.embedded.textures import FloatArray
from ddnet.errors import DDNetError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """A textured plane: point(s, t) = origin + s·axis_s + t·axis_t metres, s right and t down the texture.

    `texture` is (h, w, 4) premultiplied linear RGBA over (s, t) in [0, 1]²; `tiled` continues it by mirror
    images, otherwise it ends there. `outline`, (K, 2) in (s, t), is the convex polygon a tiled surface is
    cut to, or the unit square of a card; None is the endless plane.
    """

    name: str
    texture: FloatArray
    origin: Vector
    axis_s: Vector
    axis_t: Vector
    tiled: bool
    outline: Vector | None
    photograph: str

    def corners(self) -> Vector:
        """The outline in metres, (K, 3)."""
        if self.outline is None:
            raise DDNetError(f"surface {self.name!r} is endless and has no corners; ask a card")
        s, t = self.outline.T
        return np.asarray(self.origin + s[:, None] * self.axis_s + t[:, None] * self.axis_t)


@dataclass(frozen=True)
class SceneSpec:
    """A scene ready to render: surfaces far to near, in painting order; the image is `size` x `size`."""

    location: str
    seed: int
    size: int
    lens: Lens
    surfaces: tuple[Surface, ...]

    @property
    def photographs(self) -> tuple[str, ...]:
        """Names of the photographs in use, sorted."""
        return tuple(sorted({surface.photograph for surface in self.surfaces}))
