"""A zip like the published ones of Monodepth2, with random weights: for tests that fetch and load it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from ddnet.depth.network import DepthNetwork


def published_states(height: int = 64, width: int = 96, seed: int = 0) -> dict[str, dict[str, Any]]:
    """File name -> what `torch.load` gives: published keys, the classifier and the input size among the encoder's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DepthNetwork()
        classifier = {"encoder.fc.weight": torch.randn(1000, 512), "encoder.fc.bias": torch.randn(1000)}
        pose = {"encoder.conv1.weight": torch.randn(64, 6, 7, 7)}  # nothing reads the pose networks
    size = {"height": height, "width": width, "use_stereo": True}
    return {
        "encoder.pth": {**network.encoder.state_dict(), **classifier, **size},
        "depth.pth": dict(network.depth.state_dict()),
        "pose_encoder.pth": pose,
        "pose.pth": {"net.0.weight": pose["encoder.conv1.weight"][:1]},
    }


def write_monodepth2_zip(path: Path, height: int = 64, width: int = 96, seed: int = 0, wrapper: str = "") -> Path:
    """Write the zip: entries at its top level, or in the folder `wrapper` (e.g. `mono+stereo_640x192`).

    Args:
        height, width: the input size that `encoder.pth` names; multiples of 32, at least 64.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, state in published_states(height, width, seed).items():
            buffer = io.BytesIO()
            torch.save(state, buffer)
            entry = zipfile.ZipInfo(f"{wrapper}/{name}" if wrapper else name, date_time=(2019, 6, 4, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue())
    return path
