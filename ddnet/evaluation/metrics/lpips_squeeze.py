"""LPIPS with SqueezeNet 1.1: the backbone behind the DDNet paper's numbers."""

from __future__ import annotations

from ddnet.evaluation.metrics._lpips import Lpips


class LpipsSqueeze(Lpips):
    """LPIPS v0.1 on SqueezeNet 1.1 features.

    The paper's code feeds BGR; RGB is used here as LPIPS was trained, so small differences to its printed
    values remain even for equal images.
    """

    name = "lpips_squeeze"
    net = "squeeze"
    trunk = "squeezenet1_1"
    smallest_side = 17
