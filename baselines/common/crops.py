"""Training crops of the compared networks: the extracted patches, or squares anywhere in the training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.common.bit_depth import eight_bits
from ddnet.config import Recipe
from ddnet.data.patch_set import PatchSet, Place
from ddnet.data.photometric import augment_photometric
from ddnet.errors import DDNetError

# IFAN's augmentation, by its published code: how often, and how much.
NOISE_SHARE, NOISE_SIGMA = 0.05, (0.001, 0.0707)
GREY_SHARE, GREY_WEIGHTS = 0.3, (0.2126, 0.7152, 0.0722)
SCALE_SHARE, SCALE = 0.5, (0.7, 1.0)


class Crops(PatchSet):
    """Batches of a recipe, the same for the same seed and step: a resumed training needs no state of them.

    Args:
        folder: what `extract_patches` wrote; it holds the whole images.
        place, device: see `PatchSet`.
        view_terms: terms of the loss that compare with an image's left and right view; these are drawn where there are
            such terms.
        bits: of the images as they are read: 8 cuts them to 256 levels, before anything is done to them.

    Raises:
        DDNetError: an image that is smaller than the crops, no views where there must be some, or turns of them.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        place: Place,
        device: torch.device,
        view_terms: Sequence[str] = (),
        bits: int = 16,
    ) -> None:
        if view_terms and "turns" in recipe.augment:
            raise DDNetError(
                f"training.augment: a turned picture has no left and right view, which training.loss.{view_terms[0]} "
                f"compares with; leave turns out, or write {': 0, '.join(view_terms)}: 0"
            )
        super().__init__(folder, None, place, device, views=bool(view_terms))
        self.recipe, self.with_views, self.bits = recipe, bool(view_terms), bits
        if recipe.crop is not None:
            keys = self.scene_keys(folder)
            for key, (height, width) in zip(keys, self.sizes, strict=True):
                if min(height, width) < recipe.crop:
                    raise DDNetError(
                        f"training.crop: {recipe.crop} px do not fit into {key} of {width} x {height} px; lower it"
                    )

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image and target, (B, 3, S, S) RGB in [0, 1], of one step; left and right view, (B, 6, S, S), if wanted.

        In the order of IFAN's published code: noise, the same for the image and its views but not for the target; then
        grey, and then the average over larger squares, both for all of them.
        """
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step, 1])
        if recipe.crop is not None:
            self.corners = self._windows(rng, recipe.crop)
        turns = rng.integers(0, 8, recipe.batch) if "turns" in recipe.augment else None
        grey, sigma = np.zeros(recipe.batch, bool), np.zeros(recipe.batch, np.float32)
        if "grey" in recipe.augment:
            grey = rng.random(recipe.batch) < GREY_SHARE
        if "noise" in recipe.augment:
            sigma = (rng.uniform(*NOISE_SIGMA, recipe.batch) * (rng.random(recipe.batch) < NOISE_SHARE)).astype("f4")
        if recipe.crop is None:
            pictures = self._cut(self.order(recipe.seed, step, recipe.batch), turns)
            pictures = _augmented(pictures, sigma, grey, rng)
        else:
            size = (recipe.crop, recipe.crop)
            crops = []
            for number in range(recipe.batch):
                one = slice(number, number + 1)
                crop = self._cut(np.array([number]), None if turns is None else turns[one])
                crops.append(_augmented(crop, sigma[one], grey[one], rng))
            pictures = [
                torch.cat([F.interpolate(part, size=size, mode="area") for part in parts]) for parts in zip(*crops)
            ]
        pictures = augment_photometric(pictures, recipe.photometric, [recipe.seed, step, 2], recipe.batch)
        image, target, *views = pictures
        return image, target, torch.cat(views, dim=1) if views else None

    def _cut(self, numbers: np.ndarray, turns: np.ndarray | None) -> list[Tensor]:
        """Image and target, and where they are wanted the left and the right view: (B, 3, S, S) each."""
        image, target, _ = self.batch(numbers, turns)
        pictures = [image, target, *(self.views(numbers).chunk(2, dim=1) if self.with_views else ())]
        return [eight_bits(pixels) for pixels in pictures] if self.bits == 8 else pictures

    def _windows(self, rng: np.random.Generator, crop: int) -> np.ndarray:
        """(B, 4): position of the image, y, x and side of a square in it, which `scale` makes larger than the crop."""
        batch = self.recipe.batch
        images = rng.integers(len(self.sizes), size=1 if self.recipe.one_image else batch)
        windows = []
        for position in np.resize(images, batch).tolist():
            height, width = self.sizes[position]
            side = crop
            if "scale" in self.recipe.augment and rng.random() < SCALE_SHARE:
                side = min(round(crop / rng.uniform(*SCALE)), height, width)
            windows.append((position, rng.integers(height - side + 1), rng.integers(width - side + 1), side))
        return np.array(windows, np.int64)


def _augmented(pictures: list[Tensor], sigma: np.ndarray, grey: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
    """Noise of `sigma` (B,) for all but the second of `pictures`, the target; grey where `grey` (B,) says so, for all.

    Args:
        pictures: image, target, and views if there are any: (B, 3, S, S) each.
    """
    if sigma.any():
        drawn = rng.standard_normal(pictures[0].shape, np.float32) * sigma[:, None, None, None]
        noise = torch.from_numpy(drawn).to(pictures[0].device)
        image, target, *views = pictures
        image, *views = ((pixels + noise).clamp(0.0, 1.0) for pixels in (image, *views))
        pictures = [image, target, *views]
    if grey.any():
        chosen = torch.from_numpy(grey).to(pictures[0].device)[:, None, None, None]
        pictures = [torch.where(chosen, _grey(pixels), pixels) for pixels in pictures]
    return pictures


def _grey(pixels: Tensor) -> Tensor:
    """Luminance of BT.709, and then sRGB's curve, although the pixels have been through it: as published."""
    weights = torch.tensor(GREY_WEIGHTS, device=pixels.device)[None, :, None, None]
    light = (pixels * weights).sum(1, keepdim=True)
    encoded = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
    return encoded.clamp(0.0, 1.0).expand_as(pixels)
