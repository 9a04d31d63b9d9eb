"""Files of tensors, `torch.save`'s and safetensors: the same content gives the same bytes; reading executes nothing."""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path

CONVERT = "convert it where its code is"  # what a file that would execute code needs
UNPACKED_FACTOR, UNPACKED_SLACK = 8, 2**24  # `torch.save` does not compress; what grows much more is no weights file


def save_torch(path: str | os.PathLike[str], content: Any) -> None:
    """Write tensors and plain containers, atomically, and on the disk before the name changes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)  # to a path, the name of the temporary file would be among the bytes
    with atomic_path(path, durable=True) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: str | os.PathLike[str], fix: str) -> Any:
    """What a file of tensors and plain containers holds, on the CPU; anything else in it is refused, unexecuted.

    The format is found by the content, whatever the file is called: either of `torch.save`'s, or safetensors.

    Args:
        fix: what to do about an unreadable file; ends the message.

    Raises:
        DDNetError: no such file, a damaged or foreign one, or one that unpacks to many times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise DDNetError(f"{path}: no such file; {fix}")
    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        _require_modest(path)
        plain, quiet = torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings(action="ignore")
        with plain, quiet, path.open("rb") as stream:  # given a path, torch goes by how the file is called
            return torch.load(stream, map_location="cpu", weights_only=True)
    except DDNetError:
        raise
    except Exception as error:  # torch raises many types for damaged files; all mean the same to the reader
        why = f"{type(error).__name__}{_code_in(str(error), path.name)}"
        raise DDNetError(f"{path}: not a readable PyTorch file of tensors ({why}); {fix}") from None


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, at most 100 MB, and that object."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000


def _plain_types() -> list[Any]:
    """What training programs write beside tensors: numbers of NumPy's, options and paths; making them runs no code."""
    scalar, rebuild = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    numpy = [(scalar, "multiarray.scalar"), (rebuild, "multiarray._reconstruct")]
    # NumPy 1, with which most of them were written, called its module by another name.
    named = [(kind, f"numpy.{core}.{name}") for kind, name in numpy for core in ("core", "_core")]
    kinds = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    pure = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}  # no file is looked at
    paths = [(kind, f"{module}.{name}") for name, kind in pure.items() for module in ("pathlib", "pathlib._local")]
    return [*named, np.ndarray, np.dtype, *kinds, argparse.Namespace, *paths]


def _code_in(error: str, name: str) -> str:
    """Why a file whose reading would execute code is refused, and the way to convert it; empty for any other error."""
    if found := re.search(r"GLOBAL ([\w.]+)", error):
        what = f"it holds {found[1][:80]}, and making that would execute code, so nothing of it was read"
        load = "torch.load(FILE, weights_only=False)"
    elif "TorchScript" in error:
        what, load = "it is a TorchScript program, whose code would be executed", "torch.jit.load(FILE)"
    else:
        return ""
    return (
        f": {what}; if it is a whole model from somebody whom you trust, {CONVERT}: "
        f"`model = {load.replace('FILE', repr(name))}`, `torch.save(model.state_dict(), 'weights.pth')`"
    )


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
        if not torch.isfinite(value.float()).all():  # as the network holds it
            raise DDNetError(f"{where}: '{name}' has values that are not finite; {fix}")
    return dict(state)
