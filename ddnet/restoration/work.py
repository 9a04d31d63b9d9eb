"""How far the restoration of one large photograph is: its convolutions, counted as they are computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ddnet.evaluation.evaluate import ModelRestorer
from ddnet.io.images import FloatArray
from ddnet.models.ddnet import DDNet
from ddnet.restoration.tiles import pixels_in_tiles
from ddnet.runtime.log import Progress

if TYPE_CHECKING:
    from ddnet.restoration.load import Loaded

SIDE = 64  # of the picture that the work per pixel is counted on
BANDS = 1.15  # so much of a DDNet's work bands cost, which compute their borders twice; counted at 1200 x 1800


class _Convolutions(TorchFunctionMode):
    """Calls `counted` with the multiply-accumulates of every convolution in the block; computes nothing itself."""

    def __init__(self, counted: Callable[[int], None]) -> None:
        super().__init__()
        self._counted = counted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            self._counted(out.numel() * args[1][0].numel())
        return out


@contextmanager
def shown_work(network: Loaded, image: FloatArray, tile: int | None, what: str) -> Iterator[None]:
    """Log how much of an image is restored, in percent and with the time to go, while the block restores it.

    Args:
        image: (H, W, 3).
        tile: side of the tiles that it is restored in, in pixels; None: as a whole.
        what: what the lines begin with.
    """
    if not (logging.getLogger("ddnet").isEnabledFor(logging.INFO) and isinstance(network.restorer, ModelRestorer)):
        yield
        return
    small = 0

    def count_small(macs: int) -> None:
        nonlocal small
        small += macs

    with _Convolutions(count_small):
        network.restorer.restore(np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), np.float32))
    height, width = image.shape[:2]
    whole = small * (pixels_in_tiles(height, width, tile) if tile else height * width) / SIDE**2
    if tile is None and isinstance(network.restorer.model, DDNet):
        whole *= BANDS
    progress, done = Progress(what, 100, "%"), 0

    def count(macs: int) -> None:
        nonlocal done
        done += macs
        progress.advance(min(99, int(100 * done / whole)) - progress.done)

    with _Convolutions(count):
        yield
