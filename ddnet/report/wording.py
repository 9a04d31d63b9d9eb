"""What readers are told: the same words and forms of numbers in tables, figures and model cards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "—"
DISPLAY_NAMES = {"dpdd": "DPDD", "realdof": "RealDOF"}
TRIAL_NOTE = (
    "A trial on a few scenes of each split: these numbers mean nothing. For numbers, leave data.trial out and run all "
    "350 training, 74 validation and 76 test scenes of DPDD and the 50 of RealDOF."
)
NOT_FINITE = "the PSNR of an image is not a finite number, as of one that equals its target"
NO_TRUE_DEPTH = "There is no row with true depth: it is not known for photographs."
_MONODEPTH2_PUBLISHED = (
    "The depth maps come from Monodepth2's published weights (Niantic), which are licensed for non-commercial use "
    "only; that limit holds for this model's results too."
)
_MONODEPTH2_FITTED = (
    "The depth maps come from a network of Monodepth2's architecture that was fitted on this benchmark from scratch; "
    "its published weights were not used."
)
_DEPTH_ANYTHING = "The depth maps come from Depth Anything V2 Small, whose weights are under the Apache-2.0 licence."


def format_number(value: float, decimals: int, signed: bool = False) -> str:
    """A number with fixed decimals and a typographic minus; `—` for NaN, `∞` for infinity, no sign on zero."""
    if value is None or math.isnan(value):
        return MISSING
    text = "∞" if math.isinf(value) else f"{abs(value):.{decimals}f}"
    if not text.strip("0."):
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def display_name(dataset: str) -> str:
    """A dataset as its authors write it; an own one by the name it was given."""
    return DISPLAY_NAMES.get(dataset, dataset)


def is_rendered(dataset: str) -> bool:
    """Whether a dataset is the embedded benchmark's, whose true depth is known, and not photographs."""
    return dataset.startswith("embedded")


def depth_weights(source: str, fitted: bool) -> str:
    """Where the weights behind a depth source come from and what they bind to; empty for a source without a network.

    Args:
        source: a depth source, such as `monodepth2` or `constant`.
        fitted: whether Monodepth2's network was fitted on the preset's own scenes.
    """
    network = source.split("(")[0].strip()
    if network == "monodepth2":
        return _MONODEPTH2_FITTED if fitted else _MONODEPTH2_PUBLISHED
    return _DEPTH_ANYTHING if network == "depth_anything" else ""


def learned_from(system: Mapping[str, Any]) -> str:
    """Where a compared system's weights come from; `system` is an entry of `Plan.learned_systems`."""
    if system["weights"] == "official":
        return "its authors' published weights"
    options = ", ".join(f"{name} {_plain(value)}" for name, value in system["training"].items())
    if not system.get("recipe"):
        settings = f" ({options})" if options else ""
        return f"learned here on this preset's training scenes{settings}; nothing of its authors' files"
    recipe = "its authors' recipe as far as that is public" if system["recipe"] == "own" else "this preset's own recipe"
    return f"trained here on this preset's training scenes by {recipe}{f', changed: {options}' if options else ''}"


def _plain(value: Any) -> str:
    """A value in words: `{l1: 1}` as "l1 1", a list joined by slashes."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "/".join(map(_plain, value)) or "none"
    return "none" if value is None else str(value)
