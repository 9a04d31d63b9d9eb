"""LPIPS v0.1 (Zhang et al., CVPR 2018): trunks from `ddnet.weights`, linear heads from `lpips`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ddnet.errors import DDNetError
from ddnet.metrics._base import FloatArray, Metric, Unavailable
from ddnet.weights import load_trunk, read_manifest


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
        self.network = build_network(self.net, trunk).to(self.device)

    def measure(self, restored: FloatArray, target: FloatArray) -> float:
        """LPIPS of the pair."""
        with torch.inference_mode():
            return float(self.network(self._to_input(restored), self._to_input(target)))

    def _to_input(self, image: FloatArray) -> torch.Tensor:
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=np.float32)
        return torch.from_numpy(planes)[None].to(self.device) * 2.0 - 1.0
