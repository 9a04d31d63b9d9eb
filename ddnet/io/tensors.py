"""Between (H, W, C) arrays and (B, C, H, W) tensors, and the padding that a 16-fold pyramid needs."""

from __future__ import annotations

import logging
from functools import cache
from typing import TypeVar

import numpy as np
import torch

from ddnet.io.images import FloatArray

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=torch.nn.Module)


def best_device() -> torch.device:
    """The NVIDIA GPU where there is one, else the CPU; an empty CUDA_VISIBLE_DEVICES hides the GPU.

    An Apple GPU (MPS) is left alone, which a line says once: it has no float64, in which validation adds up.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        _say_no_mps()
    return torch.device("cpu")


@cache
def _say_no_mps() -> None:
    log.warning("the Apple GPU (MPS) is not used, as it has no float64 and was never tried; this runs on the processor")


def to_tensor(image: FloatArray) -> torch.Tensor:
    """(H, W, 3) or (H, W) array to a (1, C, H, W) tensor."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(planes))[None]


def to_array(tensor: torch.Tensor) -> FloatArray:
    """(1, 3, H, W) tensor to an (H, W, 3) float32 array."""
    return tensor[0].detach().float().cpu().permute(1, 2, 0).contiguous().numpy()


def channels_last(module: Module) -> Module:
    """The module with its weights in channels-last order, in which CPU and GPU convolutions run faster."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pad_to_multiple(x: torch.Tensor, multiple: int = 16) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pad (B, C, H, W) at the bottom and right so that both sides are multiples of `multiple`.

    Reflection where the side is longer than the padding, repetition of the border otherwise (tiny images).

    Returns:
        The padded tensor and the original (H, W) for `crop_to`.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom or right:
        mode = "reflect" if bottom < height and right < width else "replicate"
        x = torch.nn.functional.pad(x, (0, right, 0, bottom), mode=mode)
    return x, (height, width)


def crop_to(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Undo `pad_to_multiple`."""
    return x[..., : size[0], : size[1]]
