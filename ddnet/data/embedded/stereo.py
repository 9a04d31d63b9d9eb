"""A real photograph with measured depth, refocused: scikit-image's stereo motorcycle as thin layers.

The photograph is cut to a square and reduced once; it is the target. Each layer holds the pixels of one
slice of inverse depth, and goes on behind nearer layers as far as any lens sample can look there, filled
with its nearest visible colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens, circle_of_confusion_px
from ddnet.data.embedded.raster import OVERSAMPLING, FloatArray, Layer
from ddnet.data.embedded.render import Rendered, render_layers
from ddnet.data.embedded.textures import srgb_to_linear
from ddnet.errors import DDNetError

PHOTOGRAPH = "motorcycle"
FOCUS_DISTANCES_M = (2.3, 3.0, 4.6)
# Middlebury's calibration of this pair: baseline (m), focal length (px of the 741-pixel width), disparity
# offset.
BASELINE_M, FOCAL_PX, OFFSET_PX = 0.193001, 994.978, 31.086
F_NUMBER = 1.2
LAYERS = 48


@dataclass(frozen=True)
class StereoScene:
    """The reduced photograph, linear (H, W, 3), its depth z in metres (H, W), and the lens to use.

    `unknown` is the share of the photograph's pixels without a measured disparity; they take their nearest
    neighbour's depth on the far side, and it is with this depth that they are blurred and that `depth_m`
    records.
    """

    photo: FloatArray
    depth_m: FloatArray
    lens: Lens
    layers: int
    unknown: float


def disparity_to_depth(disparity: NDArray[Any]) -> FloatArray:
    """Depth z in metres of a disparity in pixels of the original pair; unknown (+inf) stays +inf."""
    known = np.isfinite(disparity)
    depth = BASELINE_M * FOCAL_PX / (np.where(known, disparity, 0.0) + OFFSET_PX)
    return np.where(known, depth, np.inf).astype(np.float32)


def _nearest(values: NDArray[np.generic], known: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Fill unknown pixels with the value of the nearest known one."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[rows, columns])


def _fill_unknown(disparity: FloatArray) -> FloatArray:
    """Along each row, the smaller of the two known neighbours: what is unseen by one camera lies behind."""
    columns = disparity.shape[1]
    known = np.isfinite(disparity)
    index = np.where(known, np.arange(columns), -1)
    before = np.maximum.accumulate(index, axis=1)
    index = np.where(known, np.arange(columns), columns)
    after = np.minimum.accumulate(index[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(disparity.shape[0])[:, None]
    first = np.where(before >= 0, disparity[rows, np.maximum(before, 0)], np.inf)
    second = np.where(after < columns, disparity[rows, np.minimum(after, columns - 1)], np.inf)
    filled = np.minimum(first, second)
    return np.asarray(_nearest(filled, np.isfinite(filled)), np.float32)


def make_stereo(size: int, focus_m: float, layers: int = LAYERS) -> StereoScene:
    """Reduce the photograph to size x size and choose the lens: the camera's own field of view, f/1.2.

    Raises:
        DDNetError: `size` is below 32 or above the photograph's height of 500 (it is never enlarged).
    """
    import cv2
    import skimage.data

    if not 32 <= size <= 500:
        raise DDNetError(f"stereo scene: size is {size}; allowed are 32 to 500, the photograph is never enlarged")
    photo, _, disparity = skimage.data.stereo_motorcycle()
    side = photo.shape[0]
    start = (photo.shape[1] - side) // 2
    window = np.s_[:, start : start + side]
    linear = srgb_to_linear(photo[window].astype(np.float32) / 255.0)
    unknown = float(np.mean(~np.isfinite(disparity[window])))
    filled = _fill_unknown(disparity)[window]
    reduced = np.asarray(cv2.resize(linear, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    reduced = np.clip(reduced, 0.0, 1.0)
    # Disparities are not averaged across edges: a mean would put a pixel where nothing is.
    depth = disparity_to_depth(cv2.resize(filled, (size, size), interpolation=cv2.INTER_NEAREST_EXACT))
    # The lens whose image distance gives the photograph's own pixels per unit of X/Z at this focus.
    distance_mm = FOCAL_PX / side * 36.0
    focal_mm = distance_mm * focus_m * 1000 / (distance_mm + focus_m * 1000)
    return StereoScene(reduced, depth, Lens(focal_mm, F_NUMBER, focus_m), layers, unknown)


def stereo_layers(scene: StereoScene) -> list[Layer]:
    """Slices of equal steps of inverse depth, far to near, each continued behind the nearer ones."""
    import cv2

    size = scene.photo.shape[0]
    blur = float(np.abs(circle_of_confusion_px(scene.depth_m, scene.lens, size)).max())
    margin = math.ceil(blur / 2) + 2
    photo = np.pad(scene.photo, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    inverse = np.pad(1.0 / scene.depth_m, margin, mode="symmetric")
    edges = np.linspace(inverse.min(), inverse.max(), scene.layers + 1)
    index = np.clip(np.digitize(inverse, edges) - 1, 0, scene.layers - 1)
    reach = 2 * math.ceil(blur / 2) + 3  # how far behind an edge two opposite lens samples can look
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    layers: list[Layer] = []
    for k in range(scene.layers):
        own = index == k
        if not own.any():
            continue
        wide = cv2.dilate(own.astype(np.uint8), around) > 0 if layers else np.ones_like(own)
        alpha = (wide & (index >= k)).astype(np.float32)
        colour = _nearest(photo, own) * alpha[..., None]
        raster = np.concatenate([colour, alpha[..., None]], axis=2).astype(np.float32)
        raster = raster.repeat(OVERSAMPLING, axis=0).repeat(OVERSAMPLING, axis=1)
        corner = -round((size / 2 + margin) * OVERSAMPLING)
        plane = np.array([0.0, 0.0, float(inverse[own].mean())])
        layers.append(Layer(raster, (corner, corner), plane))
    return layers


def render_stereo(scene: StereoScene, samples: int, seed: int) -> Rendered:
    """Refocus: `target` is the photograph, `depth_m` its measured depth rather than the layers' steps."""
    size = scene.photo.shape[0]
    found = render_layers(stereo_layers(scene), scene.lens, size, samples, np.random.default_rng([seed, 1]))
    return Rendered(found.image, scene.photo, found.left, found.right, scene.depth_m)
