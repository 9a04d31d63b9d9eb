"""What a step of a compared network's training minimises: weighted terms, some of which a system brings itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnet.errors import DDNetError


class Objective(nn.Module):
    """A network with its loss: a weighted sum of `l1`, `mse`, `perceptual` and of the terms that a system adds.

    What else training needs, heads and critics, is a submodule too, so that the state dict of this module is all that
    a resumed training has to read back, along with the optimiser of `learned`.

    Attributes:
        own_terms: names of the terms that a system adds.
        view_terms: those of them that compare with the two views of a dual-pixel sensor.

    Args:
        network: in training mode; takes and gives pictures in its own convention.
        loss: weight by term; a term that is not named is not computed.
        perceptual: the perceptual term of restored and target (B, 3, H, W) RGB in [0, 1]; None where it is not used.
        to_rgb: the network's convention to RGB in [0, 1]; losses are taken there. Not clipped.

    Raises:
        DDNetError: an unknown term, none at all, or a perceptual one that is not given.
    """

    own_terms: ClassVar[frozenset[str]] = frozenset()
    view_terms: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        network: nn.Module,
        loss: Mapping[str, float],
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
        to_rgb: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        known = {"l1", "mse", "perceptual"} | self.own_terms
        if unknown := sorted(loss.keys() - known):
            raise DDNetError(f"training.loss: unknown term '{unknown[0]}'; allowed: {', '.join(sorted(known))}")
        self.weights = {name: float(weight) for name, weight in loss.items() if weight}
        if not self.weights:
            raise DDNetError("training.loss: no term has a weight; name some, such as mse: 1")
        if perceptual is None and "perceptual" in self.weights:
            raise DDNetError("training.loss: 'perceptual' needs a pretrained trunk; fetch it, or leave the term out")
        self.network, self.to_rgb = network, to_rgb
        self._perceptual = (perceptual,)  # not a submodule: frozen, and no part of what is saved

    def learned(self) -> Iterator[nn.Parameter]:
        """The parameters that the loss teaches: the network's, and a head's where a system has one."""
        return self.network.parameters()

    def before_step(self, image: Tensor, target: Tensor, progress: float) -> None:
        """Called before each step's loss, `progress` being the share of the training done: a critic learns here."""

    def terms(self, image: Tensor, target: Tensor, progress: float, views: Tensor | None = None) -> dict[str, Tensor]:
        """Unweighted terms of a batch, those that have a weight.

        Args:
            image, target: (B, 3, H, W) in the network's convention.
            progress: share of the training done, in [0, 1).
            views: (B, 6, H, W), left and right, in the network's convention; needed where one of `view_terms` has a
                weight.
        """
        return self.picture_terms(self.network(image), target)

    def picture_terms(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """`l1`, `mse` and `perceptual` of a restored picture, those that have a weight."""
        restored, target = self.to_rgb(restored), self.to_rgb(target)
        found: dict[str, Tensor] = {}
        if "l1" in self.weights:
            found["l1"] = F.l1_loss(restored, target)
        if "mse" in self.weights:
            found["mse"] = F.mse_loss(restored, target)
        if "perceptual" in self.weights:
            [perceptual] = self._perceptual
            assert perceptual is not None
            found["perceptual"] = perceptual(restored, target)
        return found

    def forward(self, image: Tensor, target: Tensor, progress: float = 0.0, views: Tensor | None = None) -> Tensor:
        """The weighted sum of `terms`."""
        found = self.terms(image, target, progress, views)
        return torch.stack([self.weights[name] * value for name, value in found.items()]).sum()
