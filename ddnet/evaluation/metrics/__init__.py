"""Image quality metrics, one file each, all on (H, W, 3) RGB float arrays in [0, 1].

Add a metric by adding `<name>.py` with a class of that name; see `_base.Metric`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddnet.evaluation.metrics._base import Metric


def build_metrics(
    names: Iterable[str], weights_folder: str | Path, device: str = "cpu"
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Build metrics by registry name; one that lacks its weights is reported, not fatal.

    Args:
        names: registry names, e.g. `psnr`, `lpips_alex`.
        weights_folder: folder filled by `ddnet.models.pretrained.fetch_weights`.
        device: torch device of the learned metrics.

    Returns:
        `({name: metric}, {name: reason})`; each name is in exactly one of the two.

    Raises:
        DDNetError: unknown name.
    """
    from ddnet.evaluation.metrics._base import Unavailable
    from ddnet.registry import resolve

    metrics: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        kind = resolve("metric", name)
        try:
            metrics[name] = kind(weights_folder, device) if kind.needs_weights else kind()
        except Unavailable as reason:
            unavailable[name] = str(reason)
    return metrics, unavailable
