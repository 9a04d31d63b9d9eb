"""What IFAN's training minimises besides the picture's own error: its filters, turned round, must blur again.

Lee et al., CVPR 2021; written from a description of its published code. That has one term more, of the disparity
between the two views of a dual-pixel sensor; it is not built, because no data of this suite's index has such views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ifan_network import FILTERS, TAPS, WIDTH, Network, Residual, adapt_in_turn, conv
from baselines.objective import Objective

SCALE = 8  # the filters' pixels are so many of the picture's wide
CHANNELS = 3


class Reblur(nn.Module):
    """Blurs a sharp picture with 17 filters of its own, made of those that the network deblurred with.

    19,139,685 parameters at width 32 with the network's 17 filters.

    Args:
        width, filters, both_kernels: of the network.
    """

    def __init__(self, width: int = WIDTH, filters: int = FILTERS, both_kernels: bool = False) -> None:
        super().__init__()
        self.both_kernels = both_kernels
        w = 4 * width
        self.read = conv(filters * w * (2 * TAPS + 1), w)
        self.refine = nn.Sequential(Residual(w, 2), Residual(w, 2))
        self.predict = nn.Conv2d(w, FILTERS * CHANNELS * (2 * TAPS + 1), 3, padding=1)

    def forward(self, sharp: Tensor, filters: Tensor) -> Tensor:
        """(B, 3, h, w) and what the network's `F` predicted, of as many pixels, to (B, 3, h, w)."""
        own = self.predict(self.refine(self.read(filters)))
        return sharp + adapt_in_turn(
            sharp, lambda start, count: own.narrow(1, start, count), FILTERS, self.both_kernels, activate_last=False
        )


class IfanObjective(Objective):
    """Adds `reblur`: mean squared error of the sharp picture, blurred again, to the blurred one.

    Both are means over squares of 8 pixels here; the published code takes single pixels of the sharp one.
    """

    own_terms = frozenset({"reblur"})
    network: Network

    def __init__(
        self,
        network: nn.Module,
        loss: Mapping[str, float],
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
        to_rgb: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(network, loss, perceptual, to_rgb)
        self.reblur: Reblur | None = None
        if "reblur" in self.weights:
            self.reblur = Reblur(self.network.width, self.network.filters, self.network.both_kernels)
            for module in self.reblur.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)
                    assert module.bias is not None
                    nn.init.zeros_(module.bias)

    def learned(self) -> Iterator[nn.Parameter]:
        """The network's parameters, and those of the reblurring where it is used."""
        yield from self.network.parameters()
        if self.reblur is not None:
            yield from self.reblur.parameters()

    def terms(self, image: Tensor, target: Tensor, progress: float) -> dict[str, Tensor]:
        """`reblur`, and those of every picture."""
        if self.reblur is None:
            return super().terms(image, target, progress)
        restored, filters = self.network.with_filters(image)
        small, blurred = (F.avg_pool2d(pixels, SCALE) for pixels in (target, image))
        return {**self.picture_terms(restored, target), "reblur": F.mse_loss(self.reblur(small, filters), blurred)}
