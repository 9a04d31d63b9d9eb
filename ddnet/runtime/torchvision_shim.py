"""Let the registry's CUDA build of torchvision import on a CPU build of torch.

torchvision 0.28.0 cannot load its compiled operators without CUDA libraries, and then fails while registering
meta kernels of `torchvision::nms`. Declaring the two operators it asks for is enough for everything used here
(models, transforms, and the packages that import them); `torchvision.ops` stays unusable, and nothing here calls it.
Pairs that fit each other (CUDA with CUDA, CPU with CPU) are left alone.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_libraries: list[Any] = []  # torch forgets the operators when their Library object is collected


def _is_cuda_build(path: Sequence[str] | None) -> bool:
    """Whether the torchvision about to be imported was compiled for CUDA, by its own version file."""
    spec = importlib.machinery.PathFinder.find_spec("torchvision", path)
    if spec is None or spec.origin is None:
        return False
    version_file = Path(spec.origin).with_name("version.py")
    return version_file.is_file() and "+cu" in version_file.read_text(encoding="utf-8")


class _DefineOperatorsBeforeTorchvision(importlib.abc.MetaPathFinder):
    """A finder that finds nothing: it only uses the moment of torchvision's first import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and _is_cuda_build(path):
                library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _libraries.append(library)
        return None


def install() -> None:
    """Put the hook in place once, unless torchvision is already imported."""
    already = any(isinstance(finder, _DefineOperatorsBeforeTorchvision) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not already:
        sys.meta_path.insert(0, _DefineOperatorsBeforeTorchvision())
