"""What IFAN's training minimises besides the picture's own error.

Its filters, turned round, must blur again, and a map that it makes on the way must be the disparity between the two
views of a dual-pixel sensor. Lee et al., CVPR 2021; written from a description of its published code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.objective import Objective
from baselines.ifan.network import FILTERS, TAPS, WIDTH, Network, Residual, adapt_in_turn, conv

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


def warped(x: Tensor, disparity: Tensor) -> Tensor:
    """(B, C, H, W), read `disparity` (B, 1, H, W) pixels further right at each pixel: bilinear, zeros around."""
    x = F.pad(x, (1, 1))  # all that is farther out is what these two columns are
    width = x.shape[-1]
    place = (torch.arange(1, width - 1, device=x.device) + disparity).clamp(0, width - 1)
    left = place.detach().nan_to_num().long()  # of a training that diverges: its loss is to say so
    share = place - left
    below, above = (
        x.gather(3, columns.expand(-1, x.shape[1], -1, -1)) for columns in (left, (left + 1).clamp(max=width - 1))
    )
    return below + share * (above - below)


class IfanObjective(Objective):
    """Adds `reblur` and `disparity`.

    `reblur` is the mean squared error of the sharp picture, blurred again, to the blurred one. `disparity` is that of
    the right view, warped with the disparity map that the network makes of this view, to the left one; which way the
    map counts is the network's own affair. All these are means over squares of 8 pixels; the published code reblurs
    single pixels of the sharp one.
    """

    own_terms = frozenset({"disparity", "reblur"})
    view_terms = frozenset({"disparity"})
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

    def terms(self, image: Tensor, target: Tensor, progress: float, views: Tensor | None = None) -> dict[str, Tensor]:
        """`reblur` and `disparity`, and those of every picture."""
        if not self.own_terms & self.weights.keys():
            return super().terms(image, target, progress)
        restored, filters = self.network.in_parts(image)[:2]
        found = self.picture_terms(restored, target)
        if self.reblur is not None:
            small, blurred = (F.avg_pool2d(pixels, SCALE) for pixels in (target, image))
            found["reblur"] = F.mse_loss(self.reblur(small, filters), blurred)
        if "disparity" in self.weights:
            assert views is not None
            disparity = self.network.disparity(views[:, CHANNELS:])
            left, right = F.avg_pool2d(views, SCALE).chunk(2, dim=1)
            found["disparity"] = F.mse_loss(warped(right, disparity), left)
        return found
