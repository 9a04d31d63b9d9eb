"""What MDPNet's training minimises besides the picture's own error: its two views are those of a dual-pixel sensor.

Abuolaim, Afifi and Brown, WACV 2022; written from a description of its published code. The published weight of all
terms but the sharp picture's is 0.2 in the second phase.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.common.objective import Objective
from baselines.mdpnet.network import DECODERS


class MdpnetObjective(Objective):
    """Adds three terms, all mean squared errors.

    `views` is that of the left and the right view to the sensor's, `difference` that of left minus right to the
    sensor's, `centre` that of the mean of both to the blurred picture. The network is one with views, (B, 9, H, W):
    left, right, sharp. Views average to the picture in linear light; of encoded values, as here and in the published
    code, that is true but for some thousandths.
    """

    own_terms = frozenset({"centre", "difference", "views"})
    view_terms = frozenset({"difference", "views"})

    def terms(self, image: Tensor, target: Tensor, progress: float, views: Tensor | None = None) -> dict[str, Tensor]:
        """`centre`, `difference` and `views`, and those of every picture for the sharp one."""
        left, right, sharp = self.network(image).chunk(len(DECODERS), dim=1)
        found = self.picture_terms(sharp, target)
        if "centre" in self.weights:
            found["centre"] = F.mse_loss((left + right) / 2.0, image)
        if self.view_terms & self.weights.keys():
            assert views is not None
            true_left, true_right = views.chunk(2, dim=1)
            if "views" in self.weights:
                found["views"] = F.mse_loss(torch.cat([left, right], dim=1), views)
            if "difference" in self.weights:
                found["difference"] = F.mse_loss(left - right, true_left - true_right)
        return found
