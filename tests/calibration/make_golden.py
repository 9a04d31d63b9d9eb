"""Measure the photograph cases of golden.csv with other people's code, and print the rows.

    pip install --no-deps --target other torchmetrics==1.9.0 lightning-utilities==0.15.3 pytorch-msssim==1.0.0
    PYTHONPATH=.:other python tests/calibration/make_golden.py data/weights

None of the three is a dependency. Shared with this suite are only the pictures and, for LPIPS, the pretrained trunks;
torchmetrics has its own implementation and brings its own copy of the linear heads.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_golden import CASES, PHOTOGRAPHS


def _planes(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))[None]


def _psnr(restored: Any, target: Any) -> tuple[float, str]:
    eight_bits = [np.round(np.asarray(image, np.float64) * 255).astype(np.uint8) for image in (restored, target)]
    return cv2.PSNR(*eight_bits), f"cv2.PSNR of OpenCV {cv2.__version__}; the pictures have 8 bits"


def _mae(restored: Any, target: Any) -> tuple[float, str]:
    from torchmetrics.functional import mean_absolute_error

    value = mean_absolute_error(_planes(restored).double(), _planes(target).double())
    return float(value), "mean_absolute_error of torchmetrics 1.9.0"


def _ssim(restored: Any, target: Any) -> tuple[float, str]:
    from pytorch_msssim import ssim

    # It divides covariances by 49, scikit-image by 48: the same as a second constant scaled by 48/49.
    window = torch.full((3, 1, 1, 7), 1 / 7, dtype=torch.float64)
    constants = (0.01, 0.03 * math.sqrt(48 / 49))
    value = ssim(_planes(restored).double(), _planes(target).double(), data_range=1, win=window, K=constants)
    return float(value), "ssim of pytorch-msssim 1.0.0 with a uniform window and K2 = 0.03 sqrt(48/49) for 1/48"


def _lpips(net: str, weights: Path, restored: Any, target: Any) -> tuple[float, str]:
    import torchvision
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchmetrics.functional.image import lpips as theirs

    trunk = {"alex": "alexnet", "vgg": "vgg16"}[net]
    state = torch.load(weights / f"{trunk}.pt", weights_only=True)

    def features(name: str, pretrained: bool) -> Any:
        layers = getattr(torchvision.models, name)(weights=None).features
        layers.load_state_dict({key.removeprefix("features."): state[key] for key in state if "features." in key})
        return layers

    theirs._get_tv_model_features = features  # instead of a download; the weights are the same
    value = learned_perceptual_image_patch_similarity(
        _planes(restored).float(), _planes(target).float(), net_type=net, normalize=True
    )
    return float(value), f"torchmetrics 1.9.0 with its own linear heads, on the trunk {trunk} of this suite"


def main(weights: Path) -> None:
    """Print the rows."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for case in PHOTOGRAPHS:
        pair = CASES[case]()
        measured = {"psnr": (_psnr(*pair), 1e-4), "ssim": (_ssim(*pair), 1e-6), "mae": (_mae(*pair), 1e-7)}
        measured |= {f"lpips_{net}": (_lpips(net, weights, *pair), 1e-4) for net in ("alex", "vgg")}
        for metric, ((value, origin), tolerance) in measured.items():
            writer.writerow([metric, case, f"{value:.7f}", f"{tolerance:.7f}", f"{origin} (make_golden.py)"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
