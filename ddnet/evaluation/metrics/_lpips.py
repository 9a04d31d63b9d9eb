"""LPIPS v0.1 (Zhang et al., CVPR 2018): trunks from `ddnet.models.pretrained`, linear heads from `lpips`.

The package's own `forward` is not used: it runs the two images one after the other in PyTorch's default layout and
holds several copies of all features. Here both pass as one batch, channels last, and each layer's distances are summed
over as many pixels at a time as the cache holds.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ddnet.errors import DDNetError
from ddnet.evaluation.metrics._base import FloatArray, Metric, Unavailable
from ddnet.io.tensors import channels_last
from ddnet.models.pretrained import load_trunk, read_manifest

CACHED = 1 << 18  # values of one image's features at a time: 1 MiB
EPSILON = 1e-10  # LPIPS adds it to the length of a feature vector


def build_network(net: str, trunk: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The `lpips` module (`net` is alex, squeeze or vgg) with `trunk` in place of a download.

    Raises:
        Unavailable: the package `lpips` is not installed.
    """
    try:
        import lpips
    except ImportError as error:
        raise Unavailable(f"the package lpips cannot be imported ({error}); install lpips==0.1.4") from None
    # The package first fills the trunk with random numbers; they must not move the caller's random state.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        model: torch.nn.Module = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    features: Any = model.net
    # The package cuts torchvision's `features` into slices and keeps the positions: slice2.3 is features.3.
    names = {key: f"features.{key.split('.', 1)[1]}" for key in features.state_dict()}
    features.load_state_dict({key: trunk[name] for key, name in names.items()})
    return model.eval().requires_grad_(False)


class Lpips(Metric):
    """Distance of deep features, RGB scaled to [-1, 1]; 0 is equal, larger is worse."""

    lower_better = True
    unit = ""
    decimals = 3
    best = 0.0
    needs_weights = True
    net: ClassVar[str]
    trunk: ClassVar[str]

    def __init__(self, weights_folder: str | Path, device: str = "cpu") -> None:
        """Build the network on `device`.

        Raises:
            Unavailable: weights or package missing, with the reason.
            DDNetError: the weights file is not the one that was fetched.
        """
        try:
            trunk = load_trunk(self.trunk, weights_folder)
        except DDNetError as error:
            if read_manifest(weights_folder).get(self.trunk, {}).get("status") == "ok":
                raise  # a changed file is damage, not absence, and must not end as an empty column
            raise Unavailable(str(error)) from None
        self.device = torch.device(device)
        self.network = channels_last(build_network(self.net, trunk).to(self.device))

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """LPIPS of the pair."""
        network: Any = self.network
        pair = np.stack([restored, target]).astype(np.float32, copy=False)
        with torch.inference_mode():
            features = network.scaling_layer(torch.from_numpy(pair).to(self.device).permute(0, 3, 1, 2) * 2.0 - 1.0)
            total = torch.zeros((), dtype=torch.float64, device=self.device)
            for number, head in enumerate(network.lins, 1):
                features = getattr(network.net, f"slice{number}")(features)
                total += _distance(features, head.model[-1].weight.flatten())
        return float(total)


def _distance(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean over pixels of the weighted squared difference of unit feature vectors.

    Args:
        features: (2, C, h, w) of the two images, channels last.
        weight: (C,) of the layer's linear head.

    Returns:
        A float64 scalar.
    """
    pixels = features.permute(0, 2, 3, 1).flatten(1, 2)
    total = torch.zeros((), dtype=torch.float64, device=features.device)
    for some in pixels.split(max(1, CACHED // len(weight)), dim=1):
        unit = some / (torch.linalg.vector_norm(some, dim=2, keepdim=True) + EPSILON)
        total += ((unit[0] - unit[1]).square_() @ weight).sum(dtype=torch.float64)
    return total / pixels.shape[1]
