"""Which files the published depth networks consist of, for the fetcher; free of torch, so that listing them is fast."""

from __future__ import annotations

from ddnet.fetch import Wanted, by_name

MONODEPTH2_FILES = ("encoder.pth", "depth.pth")
DEPTH_ANYTHING_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def wanted_monodepth2() -> Wanted:
    """Monodepth2's encoder and depth decoder, at whatever depth of the zip; its pose networks are left out."""
    return by_name(*MONODEPTH2_FILES)


def wanted_depth_anything() -> Wanted:
    """Depth Anything's weights (safetensors only) and the two files that describe the network and its input."""
    return by_name(*DEPTH_ANYTHING_FILES)
