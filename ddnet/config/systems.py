"""The table of variants and the table of compared systems: one line per row of the paper's tables."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ddnet.config._base import Distinct, Strict, read_entries
from ddnet.config.recipe import Recipe
from ddnet.errors import DDNetError


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Variant(Strict):
    """One row of the ablation: what differs from the 1-branch DDNet."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    label: str = Field(description="what tables call it; none: its name")
    study: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Distinct] = Field(
        (), description="tables it stands in"
    )
    aliases: Annotated[tuple[str, ...], Distinct] = ()
    arch: Literal["ddnet", "unet"] = "ddnet"
    fusion: str = Field("gru", description="none, input, or a name of the fusion registry")
    fusion_options: dict[str, Any] = {}
    branches: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (3,), min_length=1, description="RCABs per residual group, one per branch"
    )
    gru_roles: Literal["released", "paper"] = "released"
    gru_reset: bool = True
    depth_rcabs: int = Field(1, ge=1)
    depth_channels: Literal[1, 3] = 1
    output: Literal["sigmoid", "residual"] | None = Field(None, description="null: the preset's")
    depth_source: str | None = Field(None, description="null: the preset's")

    @model_validator(mode="before")
    @classmethod
    def _label_is_the_name(cls, values: Any) -> Any:
        return {"label": values.get("name")} | values if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _unet_has_no_depth(self) -> Variant:
        if self.arch == "unet" and self.fusion != "none":
            raise ValueError("arch unet takes no depth: write fusion: none")
        return self

    @property
    def uses_depth(self) -> bool:
        """Whether the network reads a depth map."""
        return self.fusion != "none"

    def trained(self) -> dict[str, Any]:
        """What its training depends on, as plain values: not what it is called, nor in which tables it stands."""
        return self.model_dump(mode="json", exclude={"label", "study", "aliases"})


def load_variants(path: Path) -> dict[str, Variant]:
    """Read the variants table; aliases are not in the result, see `find_variant`.

    Raises:
        DDNetError: bad key or value, or a name used twice.
    """
    variants = read_entries(path, Variant, "variant")
    taken = list(variants) + [alias for variant in variants.values() for alias in variant.aliases]
    if twice := {name for name in taken if taken.count(name) > 1}:
        raise DDNetError(f"{path}: name used twice: {', '.join(sorted(twice))}; rename the variant or its alias")
    return variants


def find_variant(variants: dict[str, Variant], name: str) -> Variant:
    """Variant by name or alias.

    Raises:
        DDNetError: no such variant; names the nearest.
    """
    for variant in variants.values():
        if name == variant.name or name in variant.aliases:
            return variant
    names = [*variants, *(alias for variant in variants.values() for alias in variant.aliases)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(names)}"
    raise DDNetError(f"unknown variant '{name}'; {hint}")


class Baseline(Strict):
    """One compared system: a class of `baselines/`, and the arguments it is built with."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    system: str = Field(pattern=r"^[a-z0-9_]+$", description="folder of baselines/")
    label: str
    options: dict[str, Any] = {}
    per_dataset: dict[str, dict[str, Any]] = Field({}, description="options that differ on one dataset")
    datasets: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Distinct] = Field(
        (), description="only these; none: all"
    )
    recipe: Recipe | None = Field(None, description="its own training, as far as it is published; for a network")
    differs: dict[Literal["always", "official", "train"], str] = Field(
        {}, description="what its authors do otherwise, always or with such weights; a footnote, on its first line"
    )

    def measured_on(self, dataset: str) -> bool:
        """Whether it is measured on a dataset."""
        return not self.datasets or dataset in self.datasets

    def options_on(self, dataset: str) -> dict[str, Any]:
        """What the class is built with for images of a dataset."""
        return self.options | self.per_dataset.get(dataset, {})


def load_baselines(path: Path) -> dict[str, Baseline]:
    """Read the table of compared systems.

    Raises:
        DDNetError: bad key or value, or the blurred input is missing, which every figure and table begins with.
    """
    baselines = read_entries(path, Baseline, "baseline")
    if "blurred" not in baselines:
        raise DDNetError(f"{path}: lacks 'blurred: {{system: blurred, label: Blurred input}}'; write it back")
    return baselines
