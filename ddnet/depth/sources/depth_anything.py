"""Depth estimated by Depth Anything (Yang et al. 2024) with its published weights, a newer source than the paper's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddnet.depth.sources._base import (
    NOTHING,
    DepthSource,
    Given,
    full_precision,
    inference_device,
    resize_depth,
    resize_image,
)
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray
from ddnet.io.tensors import to_array, to_tensor
from ddnet.runtime.paths import install_command

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")

# Read by `transformers` when first imported: it must ask no hub for anything, and report to none.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Preprocessing:
    """How the network wants its input, by its `preprocessor_config.json`.

    Attributes:
        size: (height, width) that the input is brought to.
        keep_aspect: the shorter side is brought there and the other follows.
        multiple: both sides are rounded to multiples of it.
        mean, std: subtracted from RGB in [0, 1], and divided by.
    """

    size: tuple[int, int]
    keep_aspect: bool
    multiple: int
    mean: FloatArray
    std: FloatArray

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (h, w) of the network's input for an image.

        As the authors' own code: `transformers` would bring the longer side of an image smaller than `size` there.
        """
        scales = self.size[0] / height, self.size[1] / width
        if self.keep_aspect:
            scales = max(scales), max(scales)
        high, wide = (max(1, round(side / self.multiple)) for side in (height * scales[0], width * scales[1]))
        return high * self.multiple, wide * self.multiple


class DepthAnything(DepthSource):
    """Relative inverse depth by Depth Anything, scaled to [0, 1] by each image's own minimum and maximum.

    The scale is therefore another one for every image. The whole image is resized in float (bicubic) as the model's
    preprocessor says, and the map back to the image (bilinear, `align_corners=False`); a map without any relief
    becomes 0.5. Needs the package `transformers`, which gets no network access.

    Args:
        model_path: a folder with `config.json`, `preprocessor_config.json` and `model.safetensors`.

    Raises:
        DDNetError: `transformers` is missing, or a file is, or is not what it must be.
    """

    needs = frozenset({"model"})

    def __init__(self, model_path: str | Path) -> None:
        folder = Path(model_path)
        for name in FILES:
            if not (folder / name).is_file():
                raise DDNetError(f"{folder / name}: no such file; 'ddnet data status' says where it comes from")
        self.preprocessing = read_preprocessing(folder / "preprocessor_config.json")
        self.device = inference_device()
        self.network = _load_network(folder).to(self.device)

    def predict(self, image: FloatArray, given: Given = NOTHING) -> FloatArray:
        """Inverse depth of the whole image, (H, W), from 0 (its farthest point) to 1 (its nearest)."""
        return self._estimate([image])[0]

    def predict_patches(self, patches: Tensor, given: Given = NOTHING) -> FloatArray:
        """Inverse depth of each patch, (B, S, S), resized and scaled as if it were a whole image."""
        return self._estimate([to_array(patch[None]) for patch in patches])

    @torch.inference_mode()
    def _estimate(self, images: Sequence[FloatArray]) -> FloatArray:
        """(B, H, W) in [0, 1] for images (H, W, 3) of one size."""
        height, width = images[0].shape[:2]
        size = self.preprocessing.input_size(height, width)
        mean, std = self.preprocessing.mean, self.preprocessing.std
        inputs = torch.cat([to_tensor((resize_image(image, size, "bicubic") - mean) / std) for image in images])
        with full_precision():
            relative = self.network(pixel_values=inputs.to(self.device)).predicted_depth.cpu().numpy()
        return np.stack([_to_unit_range(resize_depth(one, (height, width))) for one in relative])


def _to_unit_range(depth: FloatArray) -> FloatArray:
    low, high = depth.min(), depth.max()
    if not np.isfinite(high - low):
        raise DDNetError("depth source 'depth_anything': its network returns no finite depth; fetch its weights again")
    if high == low:
        return np.full_like(depth, 0.5)
    return np.clip((depth - low) / (high - low), 0.0, 1.0).astype(np.float32)


def read_preprocessing(path: Path) -> Preprocessing:
    """Read `preprocessor_config.json`.

    Raises:
        DDNetError: not JSON, or without an entry that is needed.
    """
    values = _read_json(path)
    try:
        preprocessing = Preprocessing(
            (int(values["size"]["height"]), int(values["size"]["width"])),
            bool(values["keep_aspect_ratio"]),
            int(values["ensure_multiple_of"]),
            np.asarray(values["image_mean"], np.float32).reshape(3),
            np.asarray(values["image_std"], np.float32).reshape(3),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DDNetError(f"{path}: not the preprocessor of Depth Anything ({error!r}); fetch it again") from None
    if min(*preprocessing.size, preprocessing.multiple) < 1 or not (preprocessing.std > 0).all():
        raise DDNetError(f"{path}: sizes and image_std must be positive; fetch it again")
    return preprocessing


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DDNetError(f"{path}: not JSON ({error}); move it aside and fetch it again") from None
    if not isinstance(values, dict):
        raise DDNetError(f"{path}: holds no JSON object; move it aside and fetch it again")
    return values


def _load_network(folder: Path) -> torch.nn.Module:
    """The network in evaluation mode, every weight of it from `model.safetensors`."""
    config = _read_json(folder / "config.json")
    kind = config.get("model_type"), config.get("depth_estimation_type", "relative")
    if kind != ("depth_anything", "relative"):
        raise DDNetError(
            f"{folder / 'config.json'}: describes {kind[0]}, {kind[1]} depth; needed is depth_anything, relative depth"
        )
    os.environ.update(OFFLINE)
    try:
        from transformers import DepthAnythingForDepthEstimation, logging
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise DDNetError(
            f"depth source 'depth_anything' needs the package transformers ({reason}); "
            f"install it: {install_command('depth-anything')}"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    weights = folder / "model.safetensors"
    try:
        loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # another package reading a file of unknown origin: its errors are of any kind
        reason = " ".join(str(error).split())[:200]
        raise DDNetError(f"{weights}: cannot be loaded ({type(error).__name__}: {reason}); fetch it again") from None
    network, found = loaded
    for key in sorted(found["missing_keys"]):
        raise DDNetError(f"{weights}: lacks '{key}'; not the weights that config.json beside it describes")
    for key, *shapes in sorted(found["mismatched_keys"]):
        got, expected = (tuple(shape) for shape in shapes)
        raise DDNetError(f"{weights}: '{key}' is {got}, but {expected} by config.json beside it; fetch both again")
    return network.eval().requires_grad_(False)
