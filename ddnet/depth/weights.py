"""Depth network weights on disk: the published pair of files, and the one file that `fit_depth` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddnet.depth.network import DepthNetwork
from ddnet.errors import DDNetError
from ddnet.io.state_dicts import find_state
from ddnet.io.torch_files import check_state, load_torch, save_torch

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class DepthWeights:
    """Networks of one architecture, ready to estimate.

    Attributes:
        networks: one, or one per fold; in evaluation mode.
        size: (height, width) of the input they were made for.
        fitted_on: per network, the keys of the scenes it was fitted on; empty for published weights.
    """

    networks: tuple[DepthNetwork, ...]
    size: tuple[int, int]
    fitted_on: tuple[frozenset[str], ...]

    def networks_for(self, scene: str | None) -> list[DepthNetwork]:
        """The networks not fitted on `scene`; all of them if every one was, or if the scene is unnamed."""
        pairs = zip(self.networks, self.fitted_on, strict=True)
        unseen = [network for network, seen in pairs if scene not in seen]
        return unseen or list(self.networks)


def load_weights(path: str | Path) -> DepthWeights:
    """Load a fitted file, or a folder that holds the published `encoder.pth` and `depth.pth`, whatever else it holds.

    Raises:
        DDNetError: nothing there, not a weights file, or weights that do not fit (by key name and shape).
    """
    path = Path(path)
    if path.is_dir():
        network, size = load_published(path / "encoder.pth", path / "depth.pth")
        return DepthWeights((network,), size, (frozenset(),))
    return load_fitted(path)


def load_published(encoder_path: str | Path, depth_path: str | Path) -> tuple[DepthNetwork, tuple[int, int]]:
    """Load Monodepth2's released pair of files.

    `encoder.pth` also holds the classifier, which is dropped, and the input size (`height`, `width`).

    Returns:
        The network in evaluation mode, and its input size (height, width).
    """
    encoder, network = _read(encoder_path), DepthNetwork()
    size = _size(_size_entries(encoder), encoder_path)
    for module, content, path in (
        (network.encoder, encoder, encoder_path),
        (network.depth, _read(depth_path), depth_path),
    ):
        expected = {name for name in module.state_dict() if not name.endswith(COUNTER)}  # which training alone uses
        found = find_state(content, expected.__contains__, str(path), "Monodepth2's ResNet-18", _is_classifier)
        _load_checked(module, {name[len(found.prefix) :]: value for name, value in found.entries.items()}, path)
        found.tell(f"Monodepth2, {Path(path).name}")
    return _ready(network), size


def _size_entries(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """`height` and `width` from wherever they stand in a checkpoint, with what stands before the tensors' names."""
    for one in (content, *(value for value in content.values() if isinstance(value, Mapping))):
        for name in one:
            if isinstance(name, str) and (name == "height" or name.endswith(".height")):
                return {"height": one[name], "width": one.get(f"{name.removesuffix('height')}width")}
    return content


def _is_classifier(name: str) -> bool:
    return name.startswith("encoder.fc.")


def load_fitted(path: str | Path) -> DepthWeights:
    """Load the file that `save_fitted` writes: one network, or one per fold."""
    content = _read(path)
    folds = content.get("folds", [content])
    networks, fitted_on = [], []
    for fold in folds:
        if not isinstance(fold, Mapping) or not {"encoder", "depth"} <= fold.keys():
            raise DDNetError(
                f"{path}: lacks 'encoder' and 'depth'; give a file that fit_depth wrote, or a folder "
                "with the published encoder.pth and depth.pth"
            )
        network = DepthNetwork()
        _load_checked(network.encoder, fold["encoder"], path)
        _load_checked(network.depth, fold["depth"], path)
        networks.append(_ready(network))
        seen = fold.get("fitted_on", [])
        if not isinstance(seen, list) or not all(isinstance(key, str) for key in seen):
            raise DDNetError(f"{path}: 'fitted_on' must be a list of scenes; fit the network again")
        fitted_on.append(frozenset(seen))
    return DepthWeights(tuple(networks), _size(content, path), tuple(fitted_on))


def save_fitted(
    path: str | Path,
    networks: Sequence[DepthNetwork],
    size: tuple[int, int],
    fitted_on: Sequence[Sequence[str]],
) -> None:
    """Write fitted networks under the published key names: a single one plainly, several under `folds`."""
    folds = [
        {
            "encoder": network.encoder.state_dict(),
            "depth": network.depth.state_dict(),
            "fitted_on": sorted(scenes),
        }
        for network, scenes in zip(networks, fitted_on, strict=True)
    ]
    content: dict[str, Any] = dict(folds[0]) if len(folds) == 1 else {"folds": folds}
    save_torch(path, {**content, "height": size[0], "width": size[1]})


def _ready(network: DepthNetwork) -> DepthNetwork:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
    return network.eval().requires_grad_(False)


def _read(path: str | Path) -> Mapping[str, Any]:
    if not Path(path).is_file():
        raise DDNetError(f"{path}: no such depth weights; 'ddnet data status' says where they come from")
    content = load_torch(path, "move it aside and fetch or fit it again")
    if not isinstance(content, Mapping):
        raise DDNetError(f"{path}: holds a {type(content).__name__}; expected a dictionary of weights")
    return content


def _size(content: Mapping[str, Any], path: str | Path) -> tuple[int, int]:
    try:
        return int(content["height"]), int(content["width"])
    except (KeyError, TypeError, ValueError):
        raise DDNetError(
            f"{path}: lacks the integers 'height' and 'width' of the network input; fetch it again"
        ) from None


def _load_checked(module: nn.Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Strict loading whose error names the first key that does not fit."""
    expected = module.state_dict()
    counters = {key for key in expected if key.endswith(COUNTER)}  # absent before PyTorch 0.4.1
    for key in sorted(expected.keys() - state.keys() - counters):
        raise DDNetError(f"{path}: lacks '{key}' {tuple(expected[key].shape)}; not weights of Monodepth2's ResNet-18")
    for key in sorted(state.keys() - expected.keys()):
        raise DDNetError(f"{path}: unknown key '{key}'; not weights of Monodepth2's ResNet-18")
    check_state({name: expected[name] for name in state}, state, str(path), "not weights of Monodepth2's ResNet-18")
    module.load_state_dict({**expected, **state})
