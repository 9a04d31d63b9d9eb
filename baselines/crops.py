"""Training crops of the compared networks: the extracted patches, or squares anywhere in the training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddnet.config import Recipe
from ddnet.data.patch_set import PatchSet, Place
from ddnet.data.photometric import augment_photometric
from ddnet.errors import DDNetError

# IFAN's augmentation, by its published code: how often, and how much.
NOISE_SHARE, NOISE_SIGMA = 0.05, (0.001, 0.0707)
GREY_SHARE, GREY_WEIGHTS = 0.3, (0.299, 0.587, 0.114)
SCALE_SHARE, SCALE = 0.5, (0.7, 1.0)


class Crops(PatchSet):
    """Batches of a recipe, the same for the same seed and step: a resumed training needs no state of them.

    Args:
        folder: what `extract_patches` wrote; it holds the whole images.
        place, device: see `PatchSet`.
        view_terms: terms of the loss that compare with an image's left and right view; these are drawn where there are
            such terms.

    Raises:
        DDNetError: an image that is smaller than the crops, no views where there must be some, or turns of them.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, place: Place, device: torch.device, view_terms: Sequence[str] = ()
    ) -> None:
        if view_terms and "turns" in recipe.augment:
            raise DDNetError(
                f"training.augment: a turned picture has no left and right view, which training.loss.{view_terms[0]} "
                f"compares with; leave turns out, or write {': 0, '.join(view_terms)}: 0"
            )
        super().__init__(folder, None, place, device, views=bool(view_terms))
        self.recipe, self.with_views = recipe, bool(view_terms)
        if recipe.crop is not None:
            keys = self.scene_keys(folder)
            for key, (height, width) in zip(keys, self.sizes, strict=True):
                if min(height, width) < recipe.crop:
                    raise DDNetError(
                        f"training.crop: {recipe.crop} px do not fit into {key} of {width} x {height} px; lower it"
                    )

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image and target, (B, 3, S, S) RGB in [0, 1], of one step; left and right view, (B, 6, S, S), if wanted.

        Noise is the image's alone; all else happens to all of them.
        """
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step, 1])
        if recipe.crop is not None:
            self.corners = self._windows(rng, recipe.crop)
        turns = rng.integers(0, 8, recipe.batch) if "turns" in recipe.augment else None
        if recipe.crop is None:
            pictures = self._cut(self.order(recipe.seed, step, recipe.batch), turns)
        else:
            size = (recipe.crop, recipe.crop)
            crops = [
                self._cut(np.array([number]), None if turns is None else turns[number : number + 1])
                for number in range(recipe.batch)
            ]
            pictures = [
                torch.cat([F.interpolate(part, size=size, mode="area") for part in parts]) for parts in zip(*crops)
            ]
        if "grey" in recipe.augment:
            chosen = torch.from_numpy(rng.random(recipe.batch) < GREY_SHARE).to(self.device)[:, None, None, None]
            pictures = [torch.where(chosen, _grey(pixels), pixels) for pixels in pictures]
        pictures = augment_photometric(pictures, recipe.photometric, [recipe.seed, step, 2], recipe.batch)
        image, target, *views = pictures
        if "noise" in recipe.augment:
            sigma = rng.uniform(*NOISE_SIGMA, recipe.batch) * (rng.random(recipe.batch) < NOISE_SHARE)
            noise = rng.standard_normal(image.shape, np.float32) * sigma.astype(np.float32)[:, None, None, None]
            image = (image + torch.from_numpy(noise).to(image.device)).clamp(0.0, 1.0)
        return image, target, torch.cat(views, dim=1) if views else None

    def _cut(self, numbers: np.ndarray, turns: np.ndarray | None) -> list[Tensor]:
        """Image and target, and where they are wanted the left and the right view: (B, 3, S, S) each."""
        image, target, _ = self.batch(numbers, turns)
        return [image, target, *(self.views(numbers).chunk(2, dim=1) if self.with_views else ())]

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


def _grey(pixels: Tensor) -> Tensor:
    weights = torch.tensor(GREY_WEIGHTS, device=pixels.device)[None, :, None, None]
    return (pixels * weights).sum(1, keepdim=True).expand_as(pixels)
