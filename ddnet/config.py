"""Settings of a preset and the table of variants, checked before anything runs.

Standard library, pydantic and yaml only: a dry run of the workflow must not pay for importing torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ddnet.errors import DDNetError

PAPER_WIDTH = 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EmbeddedData(_Strict):
    """The embedded benchmark: scenes rendered on the spot."""

    kind: Literal["embedded"]
    size: int = Field(192, ge=64, multiple_of=32, description="side of the square images, pixels")
    lens_samples: int = Field(64, ge=2, multiple_of=2, description="samples of the aperture per image")
    train: int = Field(ge=2, description="training scenes")
    train_depth: int = Field(
        0, ge=0, description="further scenes of the training photographs, for fitting the depth network only"
    )
    val: int = Field(ge=2, description="validation scenes")
    test: int = Field(ge=2, description="test scenes")
    embedded_ood: int = Field(ge=2, description="scenes of the second test set: other lenses and photographs")
    seed: int = 0


class Trial(_Strict):
    """The first scenes of each split, by name: for trying the graph out, never for numbers to cite."""

    train: int = Field(ge=2)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    realdof: int = Field(ge=1)


class DpddData(_Strict):
    """DPDD for training and test, RealDOF as second test set."""

    kind: Literal["dpdd"]
    dpdd: Path | None = Field(None, description="a copy at hand, folder or zip; null: fetched (sources.yaml)")
    realdof: Path | None = Field(None, description="a copy at hand, folder or zip; null: fetched (sources.yaml)")
    size: tuple[int, int] = Field((1120, 1680), description="height and width that every image of DPDD must have")
    trial: Trial | None = Field(None, description="a few scenes of each split; null: all 350, 74, 76 and 50")


class FolderData(_Strict):
    """Anyone's own pairs: `source/` holds the defocused images, `target/` the all-in-focus ones."""

    kind: Literal["folder"]
    path: Path = Field(description="with source/ and target/, or with train/, val/ and test/ that each have both")
    second: Path | None = Field(None, description="source/ and target/ of a second test set, for Table 1")
    name: str = Field("photos", pattern=r"^[a-z][a-z0-9_]*$", description="what tables call this dataset")
    val: float = Field(0.1, gt=0, lt=0.5, description="share of the pairs for validation, where path has no splits")
    test: float = Field(0.2, gt=0, lt=0.8, description="share of the pairs for test, where path has no splits")
    seed: int = Field(0, description="of the draw of validation and test pairs")

    @field_validator("name")
    @classmethod
    def _not_taken(cls, name: str) -> str:
        if name.startswith(("embedded", "dpdd", "realdof")):
            raise ValueError("that name belongs to another dataset; choose one of your own")
        return name


class Patches(_Strict):
    """Training patches on a regular grid, the least sharp ones dropped (the protocol of the paper's lineage)."""

    size: int = Field(512, ge=32, multiple_of=16, description="side, pixels")
    stride: float = Field(0.4, gt=0, le=1, description="fraction of the side")
    drop: float = Field(0.3, ge=0, lt=1, description="fraction of an image's patches, the least sharp, left out")


class FitDepth(_Strict):
    """Fitting the depth network on the training scenes' true disparity, where published weights are not at hand."""

    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    folds: int = Field(1, ge=1, le=2, description="> 1: a training scene's estimate comes from a fold not fitted on it")
    seed: int = 0


class Depth(_Strict):
    """Where depth comes from; estimated once per whole image, only ever from the defocused image."""

    source: str = Field("monodepth2", description="a name of the depth registry, e.g. monodepth2 or noisy(0.1)")
    height: int = Field(192, multiple_of=32, ge=32)
    width: int = Field(640, multiple_of=32, ge=32)
    fit: FitDepth | None = Field(None, description="fit the network on this data; null: published weights")
    training: Literal["image", "patch"] = Field(
        "image", description="training patches' depth: cut from the image's map, or of the patch alone (released code)"
    )


class Model(_Strict):
    """Network settings that all variants of a preset share."""

    width: int = Field(PAPER_WIDTH, ge=4, multiple_of=4, description="channels C1; 64 in the paper")
    output: Literal["sigmoid", "residual"] = "sigmoid"


class Perceptual(_Strict):
    """Perceptual loss: MSE between trunk features of conv3_3 before its ReLU (paper section 2.5)."""

    weight: float = Field(0.012, ge=0, description="alpha; 0 switches the loss off")
    trunk: Literal["vgg16", "vgg19"] = "vgg19"
    crops: int | None = Field(None, ge=1, description="crops of a batch it is taken on; null: all of them")
    channel_order: Literal["rgb", "bgr"] = Field("rgb", description="the released code feeds bgr")


class Training(_Strict):
    """Optimisation, the same for every variant of a preset."""

    patches: Patches = Patches()
    batch: int = Field(4, ge=1)
    lr: float = Field(2e-4, gt=0, description="Adam, betas (0.9, 0.999)")
    steps: int | None = Field(None, ge=1, description="optimiser steps; null: `epochs` decides")
    epochs: int = Field(45, ge=1)
    milestones: tuple[float, ...] = Field((30 / 45,), description="fractions of the training at which lr is halved")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    perceptual: Perceptual = Perceptual()
    augment: bool = Field(False, description="random flips and quarter turns")
    validate_every: float = Field(1 / 45, gt=0, le=1, description="fraction of the training between validations")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"


class Evaluation(_Strict):
    """What is measured on every test image, and which pictures are kept."""

    metrics: tuple[str, ...] = ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze")
    save: Literal["all", "panels"] = "all"
    panels: int = Field(4, ge=1, description="test scenes per dataset shown in the panel figures")


class Complexity(_Strict):
    """Parameters and MACs are always those of the paper's width, whatever width is trained."""

    width: int = Field(PAPER_WIDTH, ge=4, multiple_of=4)
    size: int = Field(512, ge=32, multiple_of=16)


def _seeds(value: Any) -> Any:
    """`seeds: 3` means [0, 1, 2]."""
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


class Settings(_Strict):
    """One preset: everything that the numbers depend on, and nothing about the machine."""

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds), Field(min_length=1)]
    studies: tuple[str, ...] = Field(("modules", "fusion", "depth"), min_length=1)
    data: EmbeddedData | DpddData | FolderData = Field(discriminator="kind")
    depth: Depth = Depth()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    complexity: Complexity = Complexity()


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Variant(_Strict):
    """One row of the ablation: what differs from the 1-branch DDNet."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    label: str
    study: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    arch: Literal["ddnet", "unet"] = "ddnet"
    fusion: str = Field("gru", description="none, input, or a name of the fusion registry")
    fusion_options: dict[str, Any] = {}
    branches: tuple[int, ...] = Field((3,), min_length=1, description="RCABs per residual group, one per branch")
    gru_roles: Literal["released", "paper"] = "released"
    gru_reset: bool = True
    depth_rcabs: int = Field(1, ge=1)
    depth_channels: Literal[1, 3] = 1
    output: Literal["sigmoid", "residual"] | None = Field(None, description="null: the preset's")
    depth_source: str | None = Field(None, description="null: the preset's")

    @model_validator(mode="after")
    def _unet_has_no_depth(self) -> Variant:
        if self.arch == "unet" and self.fusion != "none":
            raise ValueError("arch unet takes no depth: write fusion: none")
        return self

    @property
    def uses_depth(self) -> bool:
        """Whether the network reads a depth map."""
        return self.fusion != "none"


def _field_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed beside the last element of an error's location."""
    for part in location[:-1]:
        if not isinstance(part, str):
            continue
        field = model.model_fields.get(part)
        candidates = [] if field is None else _models_in(field.annotation)
        if field is None:  # the tag of a discriminated union, e.g. ("data", "embedded", "sise")
            continue
        if len(candidates) > 1:
            tag = location[location.index(part) + 1]
            candidates = [m for m in candidates if tag in getattr(m.model_fields["kind"].annotation, "__args__", ())]
        if candidates:
            model = candidates[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> DDNetError:
    """All problems of a validation in one line, unknown keys with the nearest allowed one."""
    problems = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in ("embedded", "dpdd", "folder"))
        if item["type"] == "extra_forbidden":
            allowed = _field_names(model, item["loc"])
            near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
            problems.append(f"unknown key '{path}'; {hint}")
        else:
            problems.append(f"'{path}' is {item['input']!r}: {item['msg']}")
    return DDNetError(f"{where}: " + " | ".join(problems))


def validate_settings(values: dict[str, Any], where: str) -> Settings:
    """Check a preset.

    Raises:
        DDNetError: one line naming every bad key and the nearest allowed one.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _explain(error, Settings, where) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DDNetError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise DDNetError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise DDNetError(f"{path}: expected 'key: value' lines at the top level")
    return values


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries merged, `changes` winning."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load_settings(path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read a preset file and apply overrides.

    Raises:
        DDNetError: the file is missing, is not YAML, or has a bad key or value.
    """
    return validate_settings(merge(_read_yaml(path), overrides or {}), str(path))


def load_variants(path: Path) -> dict[str, Variant]:
    """Read the variants table; aliases are not in the result, see `find_variant`.

    Raises:
        DDNetError: bad key or value, or a name used twice.
    """
    variants: dict[str, Variant] = {}
    for name, values in _read_yaml(path).items():
        if not isinstance(values, dict):
            raise DDNetError(f"{path}: '{name}' needs {{key: value}} after the colon, for example {{fusion: gru, ...}}")
        try:
            variants[name] = Variant.model_validate({"label": name, **values, "name": name})
        except ValidationError as error:
            raise _explain(error, Variant, f"{path}, variant '{name}'") from None
    taken = list(variants) + [alias for variant in variants.values() for alias in variant.aliases]
    if twice := {name for name in taken if taken.count(name) > 1}:
        raise DDNetError(f"{path}: name used twice: {', '.join(sorted(twice))}; rename the variant or its alias")
    return variants


class Baseline(_Strict):
    """One compared system: a class of `baselines/`, and the arguments it is built with."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    system: str = Field(pattern=r"^[a-z0-9_]+$", description="file of baselines/")
    label: str
    options: dict[str, Any] = {}


def load_baselines(path: Path) -> dict[str, Baseline]:
    """Read the table of compared systems.

    Raises:
        DDNetError: bad key or value, or the blurred input is missing, which every figure and table begins with.
    """
    baselines = {}
    for name, values in _read_yaml(path).items():
        if not isinstance(values, dict):
            raise DDNetError(f"{path}: '{name}' needs {{key: value}} after the colon: {{system: ..., label: ...}}")
        try:
            baselines[name] = Baseline.model_validate({"label": name, **values, "name": name})
        except ValidationError as error:
            raise _explain(error, Baseline, f"{path}, baseline '{name}'") from None
    if "blurred" not in baselines:
        raise DDNetError(f"{path}: lacks 'blurred: {{system: blurred, label: Blurred input}}'; write it back")
    return baselines


class Source(_Strict):
    """One place where an item can be had; exactly one of `files`, `archive` and `parquet`."""

    files: str | None = Field(None, description="URL of a folder at a pinned revision; each file is one request")
    archive: str | None = Field(None, description="URL of a zip: direct, or a Dropbox or Google Drive link")
    parquet: str | None = Field(None, description="URL of a JSON list of parquet files that hold the images")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="published digest of the archive")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="published digest of the archive")

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if sum(value is not None for value in (self.files, self.archive, self.parquet)) != 1:
            raise ValueError("give exactly one of files, archive and parquet")
        return self

    @property
    def url(self) -> str:
        """The address, whatever kind it is."""
        return self.files or self.archive or self.parquet or ""


class Item(_Strict):
    """A dataset or a set of weights that can be fetched, and where from, in the order to try."""

    about: str = Field(description="what it is, in a line")
    licence: str = Field(description="what its use is bound to, in a line or two")
    by_hand: str = Field(description="what a person downloads where every source fails, and from which page")
    gigabytes: float = Field(gt=0, description="about how much disk it takes, for the check before starting")
    sources: tuple[Source, ...] = ()


def load_sources(path: Path) -> dict[str, Item]:
    """Read the table of sources, `{item: where it can be had}`.

    Raises:
        DDNetError: bad key or value.
    """
    items = {}
    for name, values in _read_yaml(path).items():
        if not isinstance(values, dict):
            raise DDNetError(f"{path}: '{name}' needs the keys about, licence, by_hand, gigabytes and sources below it")
        try:
            items[name] = Item.model_validate(values)
        except ValidationError as error:
            raise _explain(error, Item, f"{path}, item '{name}'") from None
    return items


def source_of(item: str, sources: Mapping[str, Item]) -> Item:
    """An item's entry in the table of sources.

    Raises:
        DDNetError: it has none.
    """
    if item not in sources:
        raise DDNetError(f"the table of sources has no item '{item}'; it has {', '.join(sources)}")
    return sources[item]


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
