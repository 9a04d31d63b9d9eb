"""What every depth source is: one class, one method, and a declaration of what it needs besides the image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray
from ddnet.io.tensors import best_device, to_array

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
    `model` (constructor argument `model_path`), `true_depth`, `other` (attributes of `Given`). `takes_size` says
    that a source which needs a model lets the config choose the size of its network's input (constructor argument
    `size`); without it, the model's own files do. `ranges` are those of its numbers, for a check before a run.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    takes_size: ClassVar[bool] = False
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

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

    def predict_patches(self, patches: Tensor, given: Given = NOTHING) -> FloatArray:
        """Depth of patches of one image, each estimated as if it were a whole image.

        Args:
            patches: (B, 3, S, S) float32 RGB in [0, 1].
            given: what is known besides the patches; nothing in it may depend on where they lie.

        Returns:
            (B, S, S) float32 in [0, 1].

        Raises:
            DDNetError: as `predict`.
        """
        return np.stack([self.predict(to_array(patch[None]), given) for patch in patches])


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


def resize_image(
    image: FloatArray, size: tuple[int, int], method: Literal["lanczos", "bicubic"] = "lanczos"
) -> FloatArray:
    """Antialiased resize of an (H, W, 3) image in [0, 1] to `size` = (h, w), clipped to [0, 1].

    The networks' own pre-processing, but in float: its 8 bits would drop half of a 16-bit photograph.
    """
    if image.shape[:2] == size:
        return image
    from PIL import Image

    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], dtype=np.float32)).resize(
            (size[1], size[0]), Image.Resampling[method.upper()]
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0.0, 1.0).astype(np.float32)


def inference_device() -> torch.device:
    """Where depth networks run: the GPU if there is one."""
    return best_device()


def full_precision() -> AbstractContextManager[None]:
    """Convolutions on a GPU without TF32 and by deterministic algorithms, so that its depth agrees with the CPU's.

    Depth is estimated once; its time does not matter.
    """
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
