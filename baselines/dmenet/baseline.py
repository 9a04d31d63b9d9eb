"""DMENet: a convolutional network's defocus map, then non-blind deconvolution.

Lee, Lee, Cho and Lee, "Deep Defocus Map Estimation Using Domain Adaptation", CVPR 2019. Its published weights give the
map that the paper's successors compare with; weights trained here say how blurred a rendered scene is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.common.bit_depth import eight_bits
from baselines.common.deconvolution import ALPHA, ITERATIONS, LAMBDA
from baselines.common.map_based import MapBased
from baselines.dmenet.inference import fold, sigma_map
from baselines.dmenet.network import WIDTH, Network
from baselines.dmenet.training import train
from baselines.dmenet.weights import MAPS, convert_published, load_weights
from ddnet.data.index import Scene
from ddnet.io.tensors import to_tensor

FloatArray = NDArray[np.float32]


class Dmenet(MapBased):
    """A network's defocus map, then deconvolution with the Gaussian of every pixel.

    The image's sides are extended to multiples of 16 by reflection, where the published code crops them. With its
    authors' weights all else is as they ran it: the picture has 8 bits, and the map goes through an 8-bit file before
    it is a sigma, so that there are 256 of those at most. What is learnt here is used as it was learnt: nothing is
    rounded.

    Args:
        weights: a file of `train` or `convert`.
        method, alpha, lam, iterations: see `deblur_with_map`; the defaults are how the field ran it on DPDD.

    Raises:
        DDNetError: no such weights, or they do not fit.
    """

    needs = frozenset({"weights", "official", "true_defocus"})

    def __init__(
        self,
        weights: Path,
        method: str = "hyper_laplacian",
        alpha: float = ALPHA,
        lam: float = LAMBDA,
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(method=method, alpha=alpha, lam=lam, iterations=iterations)
        network, meaning = load_weights(Path(weights))
        self.layers, (self.slope, self.offset) = fold(network), MAPS[meaning]
        self.published = meaning == "published"

    def defocus_map(self, image: FloatArray) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] to (H, W) sigma of the Gaussian blur in pixels, in [0, 7]."""
        return sigma_map(self.layers, to_tensor(self._read(image)), self.slope, self.offset, stored=self.published)

    def restore(self, image: FloatArray, depth: FloatArray | None = None) -> FloatArray:
        """See `MapBased.restore`."""
        return super().restore(self._read(image), depth)

    def _read(self, image: FloatArray) -> FloatArray:
        """As the published code reads a picture, for its authors' weights."""
        return eight_bits(torch.from_numpy(np.ascontiguousarray(image))).numpy() if self.published else image

    @staticmethod
    def train(
        scenes_train: Sequence[Scene],
        scenes_val: Sequence[Scene],
        out: Path,
        stamp: str = "",
        *,
        seed: int = 0,
        width: int = WIDTH,
        steps: int = 20_000,
        batch: int = 3,
        crop: int = 240,
        lr: float = 1e-4,
        decay_every: float = 0.05,
        photometric: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """See `baselines.dmenet.training.train`."""
        return train(
            scenes_train, scenes_val, Path(out), stamp,
            seed=seed, width=width, steps=steps, batch=batch, crop=crop, lr=lr, decay_every=decay_every,
            photometric=photometric,
        )  # fmt: skip

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        """See `baselines.dmenet.weights.convert_published`."""
        convert_published(Path(folder), Path(out))

    @staticmethod
    def parameters() -> int:
        """Of the published network, its auxiliary heads included, as its authors count them."""
        with torch.device("meta"):
            return sum(value.numel() for value in Network(WIDTH).parameters())
