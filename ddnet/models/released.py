"""Importer for the weights that the paper's authors published.

Their checkpoint is a dictionary with `state_dict`, or any other form that `ddnet.io.state_dicts` knows; its network
works on BGR in [0, 1]. The importer maps the keys onto `DDNet`, swaps the colour channels of the first and the last
convolution once, so that the model speaks RGB, and refuses anything that does not fit, by name and shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ddnet.errors import DDNetError
from ddnet.io.state_dicts import find_state
from ddnet.io.torch_files import check_state, load_torch
from ddnet.models.ddnet import DDNet

_CELLS = {"64": 0, "128": 1, "256": 2, "512": 3}  # named after the feature size at 512 px: 1/8 to full
_CONVS = {"0": "conv1", "2": "conv2", "3.conv_du.0": "attention.squeeze", "3.conv_du.2": "attention.excite"}

_GROUP = re.compile(r"body\.(\d+)\.body\.(0|2|3\.conv_du\.0|3\.conv_du\.2)\.(weight|bias)")
_GROUP_TAIL = re.compile(r"body\.(\d+)\.(weight|bias)")


def _group_key(key: str) -> str | None:
    """A key inside a residual group."""
    if match := _GROUP.fullmatch(key):
        return f"blocks.{match[1]}.{_CONVS[match[2]]}.{match[3]}"
    if match := _GROUP_TAIL.fullmatch(key):
        return f"conv.{match[2]}"
    return None


def translate(key: str) -> str | None:
    """The name in `DDNet` of a published key; None for a key that the network has no place for."""
    if match := re.fullmatch(r"(head|tail_hard)\.0\.(weight|bias)", key):
        return f"{'head' if match[1] == 'head' else 'tail'}.{match[2]}"
    if match := re.fullmatch(r"headdepth\.0\.0\.(weight|bias)", key):
        return f"depth_encoder.conv.{match[1]}"
    if match := re.fullmatch(r"headdepth\.1\.0\.(.*)", key):
        inner = _group_key(match[1])
        return f"depth_encoder.group.{inner}" if inner else None
    if match := re.fullmatch(r"layer([1-8])\.(\d+)\.0\.(.*)", key):
        stage, inner = int(match[1]) - 1, _group_key(match[3])
        part = f"encoder.{stage}" if stage < 4 else f"decoder.{stage - 4}"
        return f"branches.{match[2]}.{part}.{inner}" if inner else None
    if match := re.fullmatch(r"layerGRU(64|128|256|512)\.(\d+)\.(conv[zrq])\.(weight|bias)", key):
        return f"branches.{match[2]}.cells.{_CELLS[match[1]]}.cell.{match[3]}.{match[4]}"
    return None


def branches_of(state: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """RCABs per group of every branch, read off the keys."""
    blocks: dict[int, set[int]] = {}
    for key in state:
        if match := re.fullmatch(r"layer1\.(\d+)\.0\.body\.(\d+)\.body\..*", key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    if sorted(blocks) != list(range(len(blocks))) or not blocks:
        raise DDNetError(f"published weights: branches {sorted(blocks)} in `layer1.<branch>...`; expected 0, 1, ...")
    return tuple(len(blocks[branch]) for branch in sorted(blocks))


def load_released(path: Path) -> DDNet:
    """Network with the published weights, in evaluation mode, taking and giving RGB.

    Raises:
        DDNetError: unreadable file, unknown or missing keys, or shapes that do not fit; names the first of them.
    """
    content = load_torch(path, "download it again")
    found = find_state(content, lambda key: translate(key) is not None, str(path), "DDNet")
    published = {key[len(found.prefix) :]: value for key, value in found.entries.items()}
    model = DDNet(branches=branches_of(published))
    wanted = model.state_dict()
    state: dict[str, torch.Tensor] = {}
    for key, tensor in published.items():
        name = translate(key)
        if name not in wanted:
            raise DDNetError(f"{path}: unknown key '{key[:60]}'; download the published file again")
        if not isinstance(tensor, torch.Tensor) or tensor.shape != wanted[name].shape:
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise DDNetError(f"{path}: '{key}' is {shape}, expected {tuple(wanted[name].shape)}")
        state[name] = tensor
    state = check_state(wanted, state, str(path), "download the published file again")
    state["head.weight"] = state["head.weight"].flip(1)
    state["tail.weight"], state["tail.bias"] = state["tail.weight"].flip(0), state["tail.bias"].flip(0)
    model.load_state_dict(state)
    found.tell("DDNet")
    return model.eval()
