"""The thin-lens integral over planar scenes: one painter's-order composite per lens sample, averaged.

Every surface is rasterised once through the lens centre, at twice the resolution; between two lens samples
a plane's image moves by an affine map (`optics.plane_shift`), so each sample is a few warps of scale one.
Compositing is in linear light with premultiplied alpha. The order is the list's, far to near; `scenes`
builds scenes in which it is right everywhere (the room's shell first, cards whose depths do not interleave
where they overlap).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens, aperture_samples, inverse_depth_of_plane, plane_shift
from ddnet.data.embedded.raster import (
    OVERSAMPLING,
    Layer,
    extent,
    extreme_shift,
    inverse_depth_at,
    rasterise,
)
from ddnet.data.embedded.surfaces import SceneSpec
from ddnet.data.embedded.textures import linear_to_srgb
from ddnet.errors import DDNetError

FloatArray = NDArray[np.float32]

# Variance = SHOT_NOISE * x + READ_NOISE ** 2 in linear light: about 48 dB.
SHOT_NOISE, READ_NOISE = 1e-4, 3e-4


@dataclass(frozen=True)
class Rendered:
    """Float images in linear light, (H, W, 3), before noise and encoding, and the depth z of the centre view.

    `image` = (`left` + `right`) / 2 holds here, in linear light. `left` is what the half of the opening at x < 0 sees,
    left of the lens centre for somebody who stands behind the camera, as of two eyes: what is nearer than the focus
    lies further right in it than in `right`. `depth_m` is (H, W) float32 metres.
    """

    image: FloatArray
    target: FloatArray
    left: FloatArray
    right: FloatArray
    depth_m: FloatArray


def _paint(
    layers: Sequence[Layer],
    boxes: Sequence[tuple[int, int, int, int]],
    shifts: Sequence[NDArray[np.float64]],
    frame: FloatArray,
    half: int,
) -> None:
    """Composite the shifted layers, far to near, into `frame` (3, H, W)."""
    import cv2

    frame[:] = 0.0
    for layer, (x0, y0, x1, y1), shift in zip(layers, boxes, shifts, strict=True):
        # Destination pixel (j, i) of the box has its centre at (x0 + j + 1/2 - half, ...) from the
        # principal point.
        inverse = np.linalg.inv(np.vstack([shift, [0.0, 0.0, 1.0]]))[:2]
        start = inverse[:, :2] @ np.array([x0 + 0.5 - half, y0 + 0.5 - half]) + inverse[:, 2]
        inverse[:, 2] = start - np.array(layer.corner) - 0.5
        warped = cv2.warpAffine(
            layer.raster, inverse, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        *colours, alpha = cv2.split(warped)
        np.subtract(1.0, alpha, out=alpha)
        for channel, colour in enumerate(colours):
            region = frame[channel, y0:y1, x0:x1]
            region *= alpha
            region += colour


def _shrink(frame: FloatArray) -> FloatArray:
    """(3, rH, rW) raster to the (H, W, 3) image: box filter of one pixel."""
    _, height, width = frame.shape
    r = OVERSAMPLING
    boxes = frame.reshape(3, height // r, r, width // r, r).mean(axis=(2, 4), dtype=np.float64)
    return np.ascontiguousarray(np.moveaxis(boxes, 0, -1), dtype=np.float32)


def _centre_depth(layers: Sequence[Layer], size: int, focal_px: float) -> FloatArray:
    """Depth z of the front-most layer with alpha >= 1/2 at every pixel centre; +inf where there is none."""
    depth = np.full((size, size), np.inf, np.float64)
    centres = np.arange(size) + 0.5 - size / 2
    for layer in layers:
        h, w = layer.raster.shape[:2]
        half = size * OVERSAMPLING // 2
        x0, y0 = layer.corner[0] + half, layer.corner[1] + half
        alpha = np.zeros((size * OVERSAMPLING, size * OVERSAMPLING), np.float32)
        fx, fy = slice(max(x0, 0), max(x0 + w, 0)), slice(max(y0, 0), max(y0 + h, 0))
        target = alpha[fy, fx]
        target[:] = layer.raster[fy.start - y0 :, fx.start - x0 :, 3][: target.shape[0], : target.shape[1]]
        share = alpha.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))
        # A thousandth of slack: a pixel half covered on either side of a seam must not fall through both.
        inverse = inverse_depth_at(layer.inverse_depth, centres[None, :], centres[:, None], focal_px)
        hit = (share >= 0.5 - 1e-3) & (inverse > 0)
        depth[hit] = 1.0 / inverse[hit]
    return depth.astype(np.float32)


def render_layers(layers: Sequence[Layer], lens: Lens, size: int, samples: int, rng: np.random.Generator) -> Rendered:
    """Average the composites over the aperture; `layers` far to near, the first of them covering the frame.

    Args:
        layers: rasters with the margin that the circle of confusion needs.
        size: width and height of the square image in pixels.
        samples: lens samples, even.
        rng: jitter and rotation of the aperture samples.
    """
    import cv2

    cv2.setNumThreads(1)  # scenes are rendered in parallel, one process per core
    if size < 8:
        raise DDNetError(f"size is {size}; a scene is at least 8 pixels wide")
    focal_px = lens.focal_px(size)
    half = size * OVERSAMPLING // 2
    kept, boxes = [], []
    for layer in layers:
        (h, w), (x, y) = layer.raster.shape[:2], layer.corner
        reach = extreme_shift(layer.inverse_depth, (x, y, x + w, y + h), lens, focal_px)
        slack = math.ceil(reach * OVERSAMPLING) + 1
        low, high = half - slack, half + slack
        box = (max(x + low, 0), max(y + low, 0), min(x + w + high, 2 * half), min(y + h + high, 2 * half))
        if box[0] < box[2] and box[1] < box[3]:
            kept.append(layer)
            boxes.append(box)
    frame = np.empty((3, 2 * half, 2 * half), np.float32)
    halves = np.zeros((2, 3, 2 * half, 2 * half), np.float32)
    counts = [0, 0]

    def paint(point: NDArray[np.float64]) -> None:
        shifts = [plane_shift(layer.inverse_depth, lens, point, focal_px * OVERSAMPLING) for layer in kept]
        _paint(kept, boxes, shifts, frame, half)

    for point in aperture_samples(lens, samples, rng):
        paint(point)
        side = int(point[0] > 0)
        halves[side] += frame
        counts[side] += 1
    image = _shrink((halves[0] + halves[1]) / np.float32(samples))
    left, right = (_shrink(halves[side] / np.float32(counts[side])) for side in (0, 1))
    paint(np.zeros(2))
    return Rendered(image, _shrink(frame), left, right, _centre_depth(kept, size, focal_px))


def render(spec: SceneSpec, samples: int = 64) -> Rendered:
    """Render a scene: defocused image, all-in-focus target, half-aperture views (linear light) and depth.

    Args:
        spec: the scene; its surfaces stand far to near, the first covering every view.
        samples: lens samples, even; 64 or more for images free of visible sampling.
    """
    focal_px = spec.lens.focal_px(spec.size)
    half_px = spec.size / 2.0
    margin = 0.0
    for surface in spec.surfaces:
        seen = extent(surface, focal_px, half_px)
        if seen is not None:
            plane = inverse_depth_of_plane(surface.origin, surface.axis_s, surface.axis_t)
            margin = max(margin, extreme_shift(plane, seen.bounds, spec.lens, focal_px))
    half_px += math.ceil(1.15 * margin) + 2
    layers = [layer for s in spec.surfaces if (layer := rasterise(s, focal_px, half_px)) is not None]
    if not layers:
        raise DDNetError(f"scene {spec.location}, seed {spec.seed}: no surface lies in the frame; use another seed")
    return render_layers(layers, spec.lens, spec.size, samples, np.random.default_rng([spec.seed, 1]))


def develop(rendered: Rendered, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Add noise in linear light, clip, and encode as sRGB: {image, target, left, right}, each in [0, 1].

    The half-aperture views get independent noise of twice the variance and the image is their noisy mean,
    as on a dual-pixel sensor; so image = (left + right) / 2 holds in linear light until clipping.
    """

    def noisy(light: FloatArray, share: float) -> FloatArray:
        variance = (SHOT_NOISE * np.maximum(light, 0.0) + READ_NOISE**2) / share
        return (light + rng.standard_normal(light.shape, np.float32) * np.sqrt(variance)).astype(np.float32)

    left, right = noisy(rendered.left, 0.5), noisy(rendered.right, 0.5)
    views = {"image": (left + right) / 2, "target": noisy(rendered.target, 1.0), "left": left, "right": right}
    return {name: linear_to_srgb(np.asarray(view, np.float32)) for name, view in views.items()}
