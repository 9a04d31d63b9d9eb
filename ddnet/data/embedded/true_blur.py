"""How blurred each pixel of a rendered scene truly is, and where blur can be seen at all."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens, circle_of_confusion_px
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.arrays import read_npy
from ddnet.io.files import read_json

FloatArray = NDArray[np.float32]

# Standard deviation along any axis of light spread evenly over the opening, per diameter of the circle of confusion:
# a disc's variance is d^2/16, that of the regular hexagon with its corners on the disc 5 d^2/96.
SIGMA_PER_DIAMETER = {"disc": 1.0 / 4.0, "hexagon": math.sqrt(5.0 / 96.0)}
WINDOW, FLATTEST = 7, 0.02  # pixels; standard deviation of the luma in [0, 1]
LUMA = (0.299, 0.587, 0.114)  # BT.601


def true_sigma(scene: Scene) -> FloatArray:
    """(H, W) sigma in pixels of the Gaussian that spreads light as far (second moment) as the scene's lens does.

    From `depth_m.npy` and the lens in the scene.json beside it: the depth along the central ray of each pixel of the
    target. At an edge of depth, where the image mixes two blurs, it is that of the surface seen in the target.

    Raises:
        DDNetError: the scene has no true depth or no lens, or its depth is not that of its pixels.
    """
    diameter = circle_of_confusion_px(_depth(scene), lens := _lens(scene), scene.width)
    return (np.abs(diameter) * SIGMA_PER_DIAMETER[lens.aperture]).astype(np.float32)


def textured(target: FloatArray) -> NDArray[np.bool_]:
    """(H, W) pixels of the sharp `target`, (H, W, 3) RGB in [0, 1], around which blur leaves a trace.

    There the luma's standard deviation over 7x7 pixels (mirrored at the border) is above 0.02.
    """
    from scipy.ndimage import uniform_filter

    luma = target.astype(np.float64) @ np.array(LUMA)
    variance = uniform_filter(luma**2, WINDOW, mode="reflect") - uniform_filter(luma, WINDOW, mode="reflect") ** 2
    return np.asarray(variance > FLATTEST**2)


def _depth(scene: Scene) -> FloatArray:
    if scene.depth_m is None:
        raise DDNetError(
            f"{scene.key}: its true blur is not known, for it has no true depth; only the embedded benchmark's have"
        )
    depth = read_npy(scene.depth_m, "render the scene again")
    if depth.shape != (scene.height, scene.width) or depth.dtype.kind != "f" or not (depth > 0).all():
        raise DDNetError(
            f"{scene.depth_m}: is {depth.dtype} {depth.shape}; it must be metres above 0 of {scene.height} x "
            f"{scene.width} pixels: render the scene again"
        )
    return depth


def _lens(scene: Scene) -> Lens:
    assert scene.depth_m is not None
    path = scene.depth_m.with_name("scene.json")
    record = read_json(path, "render the scene again")
    try:
        lens = Lens(**{field.name: record["lens"][field.name] for field in fields(Lens)})
        if lens.aperture not in SIGMA_PER_DIAMETER:
            raise ValueError(lens.aperture)
        return lens
    except (ValueError, KeyError, TypeError) as error:
        raise DDNetError(f"{path}: no scene's record with its lens ({error!r}); render the scene again") from None
