"""Files of `torch.save`: the same content gives the same bytes, and reading one executes nothing."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ddnet.errors import DDNetError
from ddnet.files import atomic_path

UNPACKED_FACTOR, UNPACKED_SLACK = 8, 2**24  # `torch.save` does not compress; what grows much more is no weights file


def save_torch(path: str | os.PathLike[str], content: Any) -> None:
    """Write tensors and plain containers, atomically, and on the disk before the name changes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)  # to a path, the name of the temporary file would be among the bytes
    with atomic_path(path, durable=True) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: str | os.PathLike[str], fix: str) -> Any:
    """What a file of tensors and plain containers holds, on the CPU; anything else in it is refused, unexecuted.

    Args:
        fix: what to do about an unreadable file; ends the message.

    Raises:
        DDNetError: no such file, a damaged or foreign one, or one that unpacks to many times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise DDNetError(f"{path}: no such file; {fix}")
    try:
        _require_modest(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except DDNetError:
        raise
    except Exception as error:  # torch raises many types for damaged files; all mean the same to the reader
        raise DDNetError(f"{path}: not a readable PyTorch file of tensors ({type(error).__name__}); {fix}") from None


def _require_modest(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return  # the format before PyTorch 1.6, which knows no compression
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    size = path.stat().st_size
    if unpacked > UNPACKED_FACTOR * size + UNPACKED_SLACK:
        raise DDNetError(f"{path}: {size} bytes that claim to unpack to {unpacked}; this is no file of weights")


def check_state(expected: Mapping[str, torch.Tensor], state: Any, where: str, fix: str) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, if they are those of a network: finite numbers of its names and shapes.

    Args:
        expected: the network's own; tensors on the `meta` device will do.
        where: file, and what of it; begins the message.
        fix: ends it.

    Raises:
        DDNetError: they are not; names the first that is missing, unknown or of another kind or shape.
    """
    if not isinstance(state, Mapping):
        raise DDNetError(f"{where}: a {type(state).__name__} where named tensors belong; {fix}")
    if missing := sorted(expected.keys() - state.keys()):
        raise DDNetError(f"{where}: weights do not fit: {len(missing)} are missing, the first is {missing[0]}; {fix}")
    if unknown := sorted(str(name) for name in state.keys() - expected.keys()):
        first = unknown[0][:60]
        raise DDNetError(f"{where}: weights do not fit: {len(unknown)} are unknown, the first is {first}; {fix}")
    for name, wanted in expected.items():
        value = state[name]
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_complex():
            raise DDNetError(f"{where}: '{name}' is no plain tensor; {fix}")
        if value.shape != wanted.shape or value.is_floating_point() != wanted.is_floating_point():
            same = value.is_floating_point() == wanted.is_floating_point()
            kinds = ["" if same else f"{tensor.dtype} ".removeprefix("torch.") for tensor in (value, wanted)]
            sizes = [f"{kind}{tuple(tensor.shape)}" for kind, tensor in zip(kinds, (value, wanted), strict=True)]
            raise DDNetError(f"{where}: '{name}' is {sizes[0]}, expected {sizes[1]}; {fix}")
        if not torch.isfinite(value).all():
            raise DDNetError(f"{where}: '{name}' has values that are not finite; {fix}")
    return dict(state)
