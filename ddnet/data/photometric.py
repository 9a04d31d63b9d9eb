"""Photometric augmentation of training crops: exposure, contrast, noise and JPEG, which rendered scenes do not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddnet.config import Photometric

JPEG_SHARE = 0.5  # of the crops; the others are as a PNG or a camera's raw file gives them
GAMMA = 2.2  # a stop of light is a factor of 2 ** (1 / 2.2) on sRGB values, nearly


def augment_photometric(
    images: Sequence[Tensor], spec: Photometric, seed: Sequence[int], batch: int, part: slice = slice(None)
) -> list[Tensor]:
    """Augment a batch of crops, or a part of it.

    Exposure and contrast are the same for all images of a crop; noise and JPEG, in this order, are the input's alone.
    What a crop gets depends on the seed and its place in the batch, not on the part that it comes in.

    Args:
        images: (B, 3, S, S) RGB in [0, 1] each, the input first; then its target, and views where there are any.
        seed: of this step's draw.
        batch: crops of the whole batch.
        part: which of them `images` are.

    Returns:
        Tensors like `images`; the very ones where `spec` asks for nothing.
    """
    if spec == Photometric():
        return list(images)
    rng = np.random.default_rng([*seed])
    stops, contrast = rng.uniform(-spec.exposure, spec.exposure, batch), rng.uniform(-1, 1, batch) * spec.contrast
    sigma, chosen = rng.uniform(0, spec.noise, batch), rng.random(batch) < JPEG_SHARE
    quality = rng.integers(spec.jpeg, 101, batch) if spec.jpeg else np.full(batch, 100)
    seeds = rng.integers(2**62, size=batch)
    gain, slope = (
        torch.from_numpy(values[part].astype(np.float32)).to(images[0].device)[:, None, None, None]
        for values in (2.0 ** (stops / GAMMA), 1.0 + contrast)
    )
    exposed = [image * gain for image in images]
    mean = exposed[0].mean((1, 2, 3), keepdim=True)
    first, *others = [((image - mean) * slope + mean).clamp(0.0, 1.0) for image in exposed]
    if spec.noise:
        first = torch.stack([_noisy(*crop) for crop in zip(first, sigma[part].tolist(), seeds[part].tolist())])
    if spec.jpeg:
        jpegs = [_jpeg(crop, q) if is_jpeg else crop for crop, q, is_jpeg in zip(first, quality[part], chosen[part])]
        first = torch.stack(jpegs)
    return [first, *others]


def _noisy(crop: Tensor, sigma: float, seed: int) -> Tensor:
    generator = torch.Generator(crop.device).manual_seed(seed)
    noise = torch.randn(crop.shape, generator=generator, device=crop.device)
    return (crop + sigma * noise).clamp(0.0, 1.0)


def _jpeg(crop: Tensor, quality: int) -> Tensor:
    """(3, S, S) in [0, 1] through a JPEG of 8 bits, with the encoder's usual halved colour."""
    import cv2

    pixels = (crop * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    coded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1].copy()
    return torch.from_numpy(decoded).to(crop.device).permute(2, 0, 1).float() / 255.0
