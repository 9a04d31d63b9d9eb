"""Training loss: L1 plus a perceptual term on VGG features (paper section 2.5, equation 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ddnet.config import Perceptual
from ddnet.errors import DDNetError

# Channels of VGG's 3x3 convolutions up to conv3_3, "M" a 2x2 max pooling: the same for VGG-16 and VGG-19.
_TO_CONV3_3 = (64, 64, "M", 128, 128, "M", 256, 256, 256)


class VggFeatures(nn.Module):
    """Frozen VGG trunk up to conv3_3, before its ReLU (torchvision's `features[0..14]`).

    Args:
        state: torchvision-style state dict with `features.<n>.weight` and `.bias`.

    Raises:
        DDNetError: a tensor is missing or has another shape.
    """

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in _TO_CONV3_3:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU()]
                channels = item
        self.features = nn.Sequential(*layers[:-1])
        wanted = {name: tensor.shape for name, tensor in self.state_dict().items()}
        for name, shape in wanted.items():
            if name not in state or state[name].shape != shape:
                found = tuple(state[name].shape) if name in state else "missing"
                raise DDNetError(f"VGG weights: {name} is {found}, expected {tuple(shape)}; fetch the weights again")
        self.load_state_dict({name: state[name] for name in wanted})
        self.requires_grad_(False).eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1], without ImageNet normalisation as in the paper's code, to (B, 256, H/4, W/4)."""
        return self.features(image)


class DeblurLoss(nn.Module):
    """L1 + alpha * MSE of VGG features.

    Args:
        spec: weight alpha, channel order, and on how many crops of a batch the perceptual term is taken. The order
            of a batch is random, so its first crops are an unbiased sample of it.
        features: the trunk; may be None where alpha is 0.
    """

    def __init__(self, spec: Perceptual, features: VggFeatures | None) -> None:
        super().__init__()
        if spec.weight > 0 and features is None:
            raise DDNetError("the perceptual loss needs VGG weights: fetch them, or set training.perceptual.weight: 0")
        self.spec = spec
        self.features = features

    def forward(
        self, restored: torch.Tensor, target: torch.Tensor, first: int = 0, whole: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) RGB pairs to the scalar terms L1 and perceptual (already weighted).

        Args:
            first, whole: where these pairs begin in the whole batch, and its size, if they are one of several equal
                parts of it; the mean of each term over the parts is then the term of the whole.
        """
        content, whole = F.l1_loss(restored, target), whole or len(restored)
        wanted = whole if self.spec.crops is None else min(self.spec.crops, whole)
        count = min(max(wanted - first, 0), len(restored))
        if self.features is None or self.spec.weight == 0 or not count:
            return content, torch.zeros_like(content)
        share = count / wanted * whole / len(restored)  # 1 where these pairs are the whole batch
        restored, target = restored[:count], target[:count]
        if self.spec.channel_order == "bgr":
            restored, target = restored.flip(1), target.flip(1)
        with torch.no_grad():
            sharp = self.features(target)
        return content, share * self.spec.weight * F.mse_loss(self.features(restored), sharp)
