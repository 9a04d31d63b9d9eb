"""LPIPS with AlexNet: the column that the literature reports."""

from __future__ import annotations

from ddnet.evaluation.metrics._lpips import Lpips


class LpipsAlex(Lpips):
    """LPIPS v0.1 on AlexNet features."""

    name = "lpips_alex"
    net = "alex"
    trunk = "alexnet"
    smallest_side = 31  # AlexNet's strides leave nothing of less
