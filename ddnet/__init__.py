"""DDNet Bench: a reproducible benchmark of depth-guided single-image defocus deblurring.

`ddnet.load` gives anything that was trained or imported here, ready to restore pictures.
"""

from __future__ import annotations

import os
from typing import Any

from ddnet.io.limits import MOST_PIXELS
from ddnet.runtime.torchvision_shim import install as _install_torchvision_shim

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# OpenCV, whose own limit is six times as high, asks the environment once, when it is first imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))

# Must be in place before anything imports torchvision; costs nothing until then.
_install_torchvision_shim()


def __getattr__(name: str) -> Any:
    """`load`, imported when it is asked for: `import ddnet` alone needs neither torch nor anything else heavy."""
    if name == "load":
        from importlib import import_module

        return import_module("ddnet.restoration.load").load
    raise AttributeError(f"module 'ddnet' has no attribute '{name}'")
