"""What every depth source is: one class, one method, and a declaration of what it needs besides the image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from ddnet.errors import DDNetError
from ddnet.images import FloatArray

NEEDS = frozenset({"model", "true_depth", "other"})


@dataclass(frozen=True)
class Given:
    """What may be known besides the image.

    Attributes:
        scene: the scene's key, for sources that treat the scenes they were fitted on differently.
        true_depth: (H, W) true normalised inverse depth, for sources that need `true_depth`.
        other: (h, w) depth of another scene, any size, for sources that need `other`.
        rng: source of randomness; without it, random sources start from seed 0.
    """

    scene: str | None = None
    true_depth: FloatArray | None = None
    other: FloatArray | None = None
    rng: np.random.Generator | None = None


NOTHING = Given()


class DepthSource(ABC):
    """A way to get the depth that accompanies a defocused image.

    Depth is normalised inverse depth in [0, 1], 1 nearest. `needs` says what must be given besides the image:
    `model` (constructor arguments `model_path` and `size`), `true_depth`, `other` (attributes of `Given`).
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """Depth of one whole image.

        Args:
            image: (H, W, 3) float32 RGB in [0, 1], the defocused image.
            given: what is known besides the image; holds at least what `needs` names.

        Returns:
            (H, W) float32 in [0, 1].

        Raises:
            DDNetError: something named in `needs` was not given, or does not fit the image.
        """


def required(value: FloatArray | None, what: str, source: str) -> FloatArray:
    """`value`, or an error that says which source misses what."""
    if value is None:
        raise DDNetError(
            f"depth source '{source}' needs {what}, which this scene does not have; "
            "use a source without that need: monodepth2 or constant"
        )
    return value


def matching(depth: FloatArray, image: FloatArray, source: str) -> FloatArray:
    """`depth` as float32, after checking that its size is the image's and its values lie in [0, 1]."""
    if depth.shape != image.shape[:2]:
        raise DDNetError(
            f"depth source '{source}': depth is {depth.shape}, the image {image.shape[:2]}; sizes must agree"
        )
    if not np.isfinite(depth).all() or depth.min() < 0 or depth.max() > 1:
        raise DDNetError(
            f"depth source '{source}': depth spans {depth.min():.4g} to {depth.max():.4g}; "
            "allowed is normalised inverse depth in [0, 1]"
        )
    return depth.astype(np.float32)


def resize_depth(depth: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bilinear (`align_corners=False`) resize of an (h, w) map to `size` = (H, W)."""
    if depth.shape == size:
        return depth
    tensor = torch.from_numpy(np.ascontiguousarray(depth, dtype=np.float32))[None, None]
    return F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def resize_image(image: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Lanczos resize of an (H, W, 3) image in [0, 1] to `size` = (h, w), clipped to [0, 1].

    Monodepth2's own pre-processing, but in float: its 8 bits would drop half of a 16-bit photograph.
    """
    if image.shape[:2] == size:
        return image
    from PIL import Image

    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], dtype=np.float32)).resize(
            (size[1], size[0]), Image.Resampling.LANCZOS
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0.0, 1.0).astype(np.float32)
