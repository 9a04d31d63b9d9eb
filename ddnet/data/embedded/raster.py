"""A textured plane's image through the lens centre, anti-aliased, at twice the image's resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens, inverse_depth_of_plane
from ddnet.data.embedded.surfaces import Surface
from ddnet.errors import DDNetError

FloatArray = NDArray[np.float32]

OVERSAMPLING = 2  # raster pixels per image pixel and axis


@dataclass(frozen=True)
class Layer:
    """A plane's image through the lens centre.

    `raster` is (h, w, 4) premultiplied linear RGBA, OVERSAMPLING raster pixels per pixel; its corner lies
    at `corner` = (x, y) raster pixels from the principal point. `inverse_depth` are the plane's
    coefficients (a, b, c).
    """

    raster: FloatArray
    corner: tuple[int, int]
    inverse_depth: NDArray[np.float64]


def inverse_depth_at(
    plane: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any], focal_px: float
) -> NDArray[np.float64]:
    """1/Z of a plane at (x, y) pixels from the principal point; the two broadcast."""
    return np.asarray((plane[0] * x + plane[1] * y) / focal_px + plane[2])


def _triangle_wave(position: FloatArray, length: int) -> FloatArray:
    """Fold texel coordinates into [0, length] by mirror images: endless texture without a seam."""
    folded = np.mod(position, np.float32(2 * length))
    return np.minimum(folded, np.float32(2 * length) - folded)


def _sample_mipmapped(
    texture: FloatArray, s: FloatArray, t: FloatArray, footprint: FloatArray, tiled: bool
) -> FloatArray:
    """Look (s, t) in [0, 1] up in the texture; `footprint` is how many texels one raster pixel covers."""
    import cv2

    level = np.log2(np.maximum(footprint, 1.0))
    top = int(min(math.ceil(float(level.max()) - 0.25), math.log2(min(texture.shape[:2])) - 1))
    border = cv2.BORDER_REPLICATE if tiled else cv2.BORDER_CONSTANT
    out = np.zeros((*s.shape, 4), np.float32)
    image = texture
    for index in range(max(top, 0) + 1):
        if index:
            size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
        weight = np.clip(1.0 - np.abs(level - index), 0.0, 1.0)
        if index == max(top, 0):
            weight = np.where(level > index, np.float32(1.0), weight)
        rows = np.flatnonzero(weight.any(axis=1))
        if not rows.size:
            continue
        part = slice(rows[0], rows[-1] + 1)
        height, width = image.shape[:2]
        x, y = s[part] * np.float32(width), t[part] * np.float32(height)
        if tiled:
            x, y = _triangle_wave(x, width), _triangle_wave(y, height)
        found = cv2.remap(image, x - np.float32(0.5), y - np.float32(0.5), cv2.INTER_LINEAR, borderMode=border)
        if top <= 0:
            return np.asarray(found, np.float32)
        out[part] += found * weight[part, :, None]
    return out


def _coverage(corners: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any]) -> FloatArray:
    """Share of each raster pixel inside a convex polygon: (len(y), len(x)), from distances to its edges."""
    area = sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True))
    sign = 1.0 if area > 0 else -1.0
    cover = np.ones((y.size, x.size), np.float32)
    for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge = (q - p) / max(1e-12, float(np.hypot(*(q - p))))
        inside = sign * (edge[0] * (y - p[1])[:, None] - edge[1] * (x - p[0])[None, :])
        np.minimum(cover, np.clip(inside + 0.5, 0.0, 1.0), out=cover, casting="same_kind")
    return cover


@dataclass(frozen=True)
class Extent:
    """A surface's image, from the principal point: raster bounds (x0, y0, x1, y1) and outline (K, 2)."""

    bounds: tuple[int, int, int, int]
    corners: NDArray[np.float64] | None


def extent(surface: Surface, focal_px: float, half_px: float) -> Extent | None:
    """Bounding box of a surface's image within ±half_px of the principal point; None where they do not meet.

    Raises:
        DDNetError: part of the surface's outline lies behind the camera.
    """
    limit = math.ceil(half_px * OVERSAMPLING)
    if surface.outline is None:
        return Extent((-limit, -limit, limit, limit), None)
    points = surface.corners()
    if points[:, 2].min() <= 1e-6:
        raise DDNetError(f"surface {surface.name!r}: part of its outline lies behind the camera; move it to z > 0")
    corners = points[:, :2] / points[:, 2:] * focal_px * OVERSAMPLING
    x0, y0 = np.clip(np.floor(corners.min(axis=0)) - 1, -limit, limit).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)) + 1, -limit, limit).astype(int)
    return Extent((int(x0), int(y0), int(x1), int(y1)), corners) if x0 < x1 and y0 < y1 else None


def rasterise(surface: Surface, focal_px: float, half_px: float) -> Layer | None:
    """Image of a surface through the lens centre on the square ±half_px around the principal point.

    Returns:
        The layer, cut to its bounding box, or None where nothing of it lies in the square.

    Raises:
        DDNetError: part of the surface's outline lies behind the camera.
    """
    seen = extent(surface, focal_px, half_px)
    if seen is None:
        return None
    (x0, y0, x1, y1), corners = seen.bounds, seen.corners
    scale = focal_px * OVERSAMPLING
    axes = np.stack([surface.axis_s, surface.axis_t, surface.origin], axis=1)
    plane = inverse_depth_of_plane(surface.origin, surface.axis_s, surface.axis_t)
    x, y = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
    to_texture = np.linalg.inv(np.diag([scale, scale, 1.0]) @ axes)
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    m = to_texture.astype(np.float32)
    w = m[2, 0] * grid_x + m[2, 1] * grid_y + m[2, 2]
    w = np.where(np.abs(w) < 1e-9, np.float32(1e-9), w)
    s = (m[0, 0] * grid_x + m[0, 1] * grid_y + m[0, 2]) / w
    t = (m[1, 0] * grid_x + m[1, 1] * grid_y + m[1, 2]) / w
    rows, columns = surface.texture.shape[:2]
    # Texels per raster pixel along x and y, from the quotient rule.
    along_x = np.hypot((m[0, 0] - s * m[2, 0]) / w * columns, (m[1, 0] - t * m[2, 0]) / w * rows)
    along_y = np.hypot((m[0, 1] - s * m[2, 1]) / w * columns, (m[1, 1] - t * m[2, 1]) / w * rows)
    # The geometric mean keeps slanted ground crisp; a third of the longer side bounds its aliasing.
    footprint = np.maximum(np.sqrt(along_x * along_y), np.maximum(along_x, along_y) / 3.0)
    cover = None if corners is None or not surface.tiled else _coverage(corners, x, y)
    if cover is not None:
        footprint = np.where(cover > 0, footprint, np.float32(1.0))
    raster = _sample_mipmapped(surface.texture, s, t, footprint.astype(np.float32), surface.tiled)
    if cover is not None:
        raster *= cover[..., None]
    return Layer(raster, (x0, y0), plane)


def extreme_shift(plane: NDArray[np.float64], bounds: tuple[int, int, int, int], lens: Lens, focal_px: float) -> float:
    """Longest way, in pixels, that a plane's points within raster bounds move between lens centre and rim."""
    x0, y0, x1, y1 = bounds
    x = np.array([x0, x1, x0, x1]) / OVERSAMPLING
    y = np.array([y0, y0, y1, y1]) / OVERSAMPLING
    inverse = inverse_depth_at(plane, x, y, focal_px)
    return float(np.abs(1.0 / lens.focus_m - inverse).max()) * focal_px * lens.aperture_m / 2.0
