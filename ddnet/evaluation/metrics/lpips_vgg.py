"""LPIPS with VGG-16: a second opinion that shares no trunk with the other two."""

from __future__ import annotations

from ddnet.evaluation.metrics._lpips import Lpips


class LpipsVgg(Lpips):
    """LPIPS v0.1 on VGG-16 features; close to the perceptual loss, so training flatters it."""

    name = "lpips_vgg"
    net = "vgg"
    trunk = "vgg16"
    smallest_side = 16
