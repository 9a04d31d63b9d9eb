"""A folder like the published ones of Depth Anything, with a tiny network and random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SIDE = 70  # five of the backbone's 14-pixel patches
PREPROCESSOR = {
    "do_normalize": True,
    "do_pad": False,
    "do_rescale": True,
    "do_resize": True,
    "ensure_multiple_of": 14,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DPTImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "keep_aspect_ratio": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": SIDE, "width": SIDE},
}


def write_depth_anything(folder: Path, seed: int = 0) -> Path:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors` (0.2 MB) into `folder`."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14,
        out_indices=[1, 2], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, reassemble_factors=[2, 1], neck_hidden_sizes=[16, 16],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = DepthAnythingForDepthEstimation(config)
        for name, value in network.named_parameters():
            if value.ndim > 1 and not name.startswith("backbone"):  # the small initial values would give a flat map
                torch.nn.init.kaiming_normal_(value)
        network.head.conv3.weight.abs_()  # the last ReLU must not cut everything off
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder
