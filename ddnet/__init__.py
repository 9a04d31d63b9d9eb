"""DDNet Bench: a reproducible benchmark of depth-guided single-image defocus deblurring."""

from __future__ import annotations

from ddnet._torchvision_shim import install as _install_torchvision_shim

__version__ = "0.1.0"

# Must be in place before anything imports torchvision; costs nothing until then.
_install_torchvision_shim()
