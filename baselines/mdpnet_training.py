"""What MDPNet's training minimises besides the picture's own error: its two views together are the blurred picture.

Abuolaim, Afifi and Brown, WACV 2022; written from a description of its published code. That compares each view, and
the difference between both, with those of a dual-pixel sensor; this is not built, because no data of this suite's
index has such views. The published weight of all terms but the sharp picture's is 0.2 in the second phase.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from baselines.mdpnet_network import DECODERS
from baselines.objective import Objective


class MdpnetObjective(Objective):
    """Adds `centre`: mean squared error of the mean of the left and the right view to the blurred picture.

    The network is one with views, (B, 9, H, W): left, right, sharp.
    """

    own_terms = frozenset({"centre"})

    def terms(self, image: Tensor, target: Tensor, progress: float) -> dict[str, Tensor]:
        """`centre`, and those of every picture for the sharp one."""
        left, right, sharp = self.network(image).chunk(len(DECODERS), dim=1)
        found = self.picture_terms(sharp, target)
        if "centre" in self.weights:
            found["centre"] = F.mse_loss((left + right) / 2.0, image)
        return found
