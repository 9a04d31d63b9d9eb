"""Which files the published depth networks consist of, for the fetcher; free of torch, so that listing them is fast."""

from __future__ import annotations

from pathlib import PurePosixPath

from ddnet.fetch import Wanted

MONODEPTH2_FILES = ("encoder.pth", "depth.pth")
DEPTH_ANYTHING_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def wanted_monodepth2() -> Wanted:
    """Monodepth2's encoder and depth decoder, at whatever depth of the zip; its pose networks are left out."""
    return _by_name(MONODEPTH2_FILES)


def wanted_depth_anything() -> Wanted:
    """Depth Anything's weights (safetensors only) and the two files that describe the network and its input."""
    return _by_name(DEPTH_ANYTHING_FILES)


def _by_name(names: tuple[str, ...]) -> Wanted:
    """Files known by their names alone, in any folder."""

    def canonical(path: str) -> str | None:
        name = PurePosixPath(path).name
        return name if name in names else None

    return Wanted(canonical, names)
