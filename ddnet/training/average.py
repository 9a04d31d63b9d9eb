"""A moving average of a network's weights while it trains, less noisy than the last ones (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

WARM_UP = 10  # steps; the first weights, which are random, are soon forgotten


class WeightAverage:
    """Exponential moving average over steps of a network's weights and buffers.

    Args:
        network: what trains; it is not changed but by `in_use`.
        decay: per step, in (0, 1); smaller in the first steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def towards(averaged: Any, current: Any, steps: Any) -> None:
            weight = 1.0 - min(decay, (1.0 + int(steps)) / (WARM_UP + int(steps)))
            for old, new in zip(averaged, current, strict=True):
                old.lerp_(new, weight) if old.is_floating_point() else old.copy_(new)

        self.network, self._averaged = network, AveragedModel(network, multi_avg_fn=towards, use_buffers=True)

    def update(self) -> None:
        """Take in the network's weights after a step."""
        self._averaged.update_parameters(self.network)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The network has the averaged weights inside, and those that train afterwards."""
        trained = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self._averaged.module.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(trained)

    def state_dict(self) -> dict[str, Tensor]:
        """For the state that an interrupted training resumes from."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._averaged.load_state_dict(state)
