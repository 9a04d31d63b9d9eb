"""Settings of a preset, checked before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from ddnet.config._base import Distinct, Seed, Strict, brief, explain, merge, read_yaml
from ddnet.errors import DDNetError
from ddnet.io.files import expanded, listable

PAPER_WIDTH = 64
_ROLES = ("source", "target")
MOST_SEEDS = 1000

Fraction = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=16)]  # pixels


class EmbeddedData(Strict):
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
    seed: Seed = 0


class Trial(Strict):
    """The first scenes of each split, by name: for trying the graph out, never for numbers to cite."""

    train: int = Field(ge=2, le=350)
    val: int = Field(ge=1, le=74)
    test: int = Field(ge=1, le=76)
    realdof: int = Field(ge=1, le=50)


class DpddData(Strict):
    """DPDD for training and test, RealDOF as second test set."""

    kind: Literal["dpdd"]
    dpdd: Path | None = Field(None, description="a copy at hand, folder or zip; null: fetched (sources.yaml)")
    realdof: Path | None = Field(None, description="a copy at hand, folder or zip; null: fetched (sources.yaml)")
    size: tuple[Side, Side] = Field((1120, 1680), description="height and width that every image of DPDD must have")
    trial: Trial | None = Field(None, description="a few scenes of each split; null: all 350, 74, 76 and 50")
    views: bool = Field(
        False, description="also the left and right views of the training scenes, for systems that learn from them"
    )


class FolderData(Strict):
    """Anyone's own pairs: `source/` holds the defocused images, `target/` the all-in-focus ones."""

    kind: Literal["folder"]
    path: Path = Field(description="with source/ and target/, or with train/, val/ and test/ that each have both")
    second: Path | None = Field(None, description="source/ and target/ of a second test set, for Table 1")
    name: str = Field("photos", pattern=r"^[a-z][a-z0-9_]*$", description="what tables call this dataset")
    val: float = Field(0.1, gt=0, lt=0.5, description="share of the pairs for validation, where path has no splits")
    test: float = Field(0.2, gt=0, lt=0.8, description="share of the pairs for test, where path has no splits")
    seed: Seed = Field(0, description="of the draw of validation and test pairs")

    @field_validator("name")
    @classmethod
    def _not_taken(cls, name: str) -> str:
        if name.startswith(("embedded", "dpdd", "realdof")):
            raise ValueError("that name belongs to another dataset; choose one of your own")
        return name

    def pictures(self) -> list[str]:
        """All files that the index is made of, so that a changed picture makes it anew.

        Raises:
            DDNetError: no such folder, nothing in it, or a name that the workflow cannot carry.
        """
        found = []
        for key, folder in (("path", self.path), ("second", self.second)):
            if folder is not None:
                places = [folder / split / role for split in ("", "train", "val", "test") for role in _ROLES]
                found += files_in(places, folder, f"data.{key}", "name a folder that holds source/ and target/")
        return sorted(found)


def files_in(places: Iterable[Path], folder: Path, key: str, fix: str) -> list[str]:
    """All files of folders, which may be links, sorted; hidden ones and folders in them aside: inputs of a job.

    Args:
        places: the folders; one that is not there counts for nothing.
        folder: the one that holds them, for messages.
        key: the setting that names it.
        fix: what to name there instead.

    Raises:
        DDNetError: nothing is in them, one cannot be read, or a name that the workflow cannot carry.
    """
    try:
        there = [file for place in map(expanded, places) if place.is_dir() for file in place.iterdir()]
        inside = sorted(str(file) for file in there if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise DDNetError(f"{key}: {error.filename}: {error.strerror}; make it readable for this user") from None
    if not inside:
        raise DDNetError(f"{key}: no pictures in {folder}; {fix}")
    for name in inside:
        if not listable(name) or {"{", "}"} & {*name}:
            raise DDNetError(
                f"{key}: {name}: braces (Snakemake's wildcards), control characters and names that are not "
                "UTF-8 cannot be used; rename it"
            )
    return inside


class Patches(Strict):
    """Training patches on a regular grid, the least sharp ones dropped (the protocol of the paper's lineage)."""

    size: int = Field(512, ge=32, multiple_of=16, description="side, pixels")
    stride: float = Field(0.4, gt=0, le=1, description="fraction of the side")
    drop: float = Field(0.3, ge=0, lt=1, description="fraction of an image's patches, the least sharp, left out")


class FitDepth(Strict):
    """Fitting the depth network on the training scenes' true disparity, where published weights are not at hand."""

    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    folds: int = Field(1, ge=1, le=2, description="> 1: a training scene's estimate comes from a fold not fitted on it")
    seed: Seed = 0


class Depth(Strict):
    """Where depth comes from; estimated once per whole image, only ever from the defocused image."""

    source: str = Field("monodepth2", description="a name of the depth registry, e.g. monodepth2 or noisy(0.1)")
    height: int = Field(192, multiple_of=32, ge=32)
    width: int = Field(640, multiple_of=32, ge=32)
    fit: FitDepth | None = Field(None, description="fit the network on this data; null: published weights")
    training: Literal["image", "patch"] = Field(
        "image", description="training patches' depth: cut from the image's map, or of the patch alone (released code)"
    )


class Model(Strict):
    """Network settings that all variants of a preset share."""

    width: int = Field(PAPER_WIDTH, ge=4, multiple_of=4, description="channels C1; 64 in the paper")
    output: Literal["sigmoid", "residual"] = "sigmoid"


class Perceptual(Strict):
    """Perceptual loss: MSE between trunk features of conv3_3 before its ReLU (paper section 2.5)."""

    weight: float = Field(0.012, ge=0, description="alpha; 0 switches the loss off")
    trunk: Literal["vgg16", "vgg19"] = "vgg19"
    crops: int | None = Field(None, ge=1, description="crops of a batch it is taken on; null: all of them")
    channel_order: Literal["rgb", "bgr"] = Field("rgb", description="the released code feeds bgr")


class Photometric(Strict):
    """What cameras and files do to images, drawn anew for each training crop; rendered scenes know none of it."""

    exposure: float = Field(
        0.0, ge=0, le=4, description="input and target alike: stops more or less, at most, of sRGB values"
    )
    contrast: float = Field(
        0.0, ge=0, lt=1, description="input and target alike: differences to the crop's mean times 1 ± this, at most"
    )
    noise: float = Field(0.0, ge=0, le=0.5, description="input alone: largest sigma of Gaussian noise, in [0, 1]")
    jpeg: int | None = Field(
        None, ge=1, le=100, description="lowest quality of the JPEG that half of the inputs pass through; null: none"
    )


Decay = Annotated[
    float,
    Field(
        gt=0, lt=1, description="per step, of a moving average of the weights that is validated and kept; null: none"
    ),
]


class Training(Strict):
    """Optimisation, the same for every variant of a preset."""

    patches: Patches = Patches()
    batch: int = Field(4, ge=1)
    lr: float = Field(2e-4, gt=0, description="Adam, betas (0.9, 0.999)")
    steps: int | None = Field(None, ge=1, description="optimiser steps; null: `epochs` decides")
    epochs: int = Field(45, ge=1)
    milestones: tuple[Fraction, ...] = Field((30 / 45,), description="fractions of the training at which lr is halved")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    perceptual: Perceptual = Perceptual()
    augment: bool = Field(False, description="random flips and quarter turns")
    photometric: Photometric = Photometric()
    average: Decay | None = None
    validate_every: float = Field(1 / 45, gt=0, le=1, description="fraction of the training between validations")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = Field(
        False,
        description="torch.compile of the network: for long trainings on a GPU; the first steps take a minute more",
    )


class Evaluation(Strict):
    """What is measured on every test image, and which pictures are kept."""

    metrics: Annotated[tuple[str, ...], Distinct] = Field(
        ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze"),
        description="names of the metric registry, psnr among them; a column of one left out shows no value",
    )
    save: Literal["all", "panels"] = "all"
    panels: int = Field(4, ge=1, description="test scenes per dataset shown in the panel figures")


class Page(Strict):
    """The page of results, `results/report/<preset>/index.html`, with pictures that `evaluation.save` keeps."""

    scenes: int = Field(24, ge=1, description="test scenes per dataset to compare, evenly spaced where there are more")
    width: int = Field(840, ge=64, description="pictures at least twice as wide are reduced, to no less than this")


class Complexity(Strict):
    """Parameters and MACs are always those of the paper's width, whatever width is trained."""

    width: int = Field(PAPER_WIDTH, ge=4, multiple_of=4)
    size: int = Field(512, ge=32, multiple_of=16)


class LearnedSystem(Strict):
    """Where a compared system that needs weights has them from."""

    weights: Literal["train", "official", "none"] = Field(
        description="learned on this preset's training scenes; its authors' file, fetched; or left out of Table 2"
    )
    recipe: Literal["own", "common"] = Field(
        "own", description="a network's training: its authors' (baselines.yaml), or this preset's `training`"
    )
    training: dict[str, Any] = Field(
        {}, description="for `weights: train`: what differs from the recipe, or arguments of a system without one"
    )


def _seeds(value: Any) -> Any:
    """`seeds: 3` means [0, 1, 2]."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"a number of seeds is from 1 to {MOST_SEEDS}; or list them, such as [0, 1]")
    return list(range(value))


Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_seeds), Field(min_length=1), Distinct]


class Settings(Strict):
    """One preset: everything that the numbers depend on, and nothing about the machine."""

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seeds: Seeds
    seeds_of: dict[str, Seeds] = Field(
        {}, description="variants with seeds of their own, such as more of them for the headline pair"
    )
    studies: Annotated[tuple[str, ...], Distinct] = Field(("modules", "fusion", "depth"), min_length=1)
    data: EmbeddedData | DpddData | FolderData = Field(discriminator="kind")
    depth: Depth = Depth()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    page: Page = Page()
    complexity: Complexity = Complexity()
    systems: dict[str, LearnedSystem] = Field(
        {}, description="compared systems that need weights, by folder of baselines/"
    )


def validate_settings(values: dict[str, Any], where: str) -> Settings:
    """Check a preset.

    Raises:
        DDNetError: one line naming every bad key and the nearest allowed one.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise explain(error, Settings, where) from None


def named_files(values: dict[str, Any], folder: Path) -> tuple[Path, Path, Path]:
    """Take `sources_file`, `variants_file` and `baselines_file` out of what was given; default: those of `folder`.

    Raises:
        DDNetError: one is no text, or a key is all but one of these.
    """
    keys = ("sources_file", "variants_file", "baselines_file")
    for key in values.keys() - {*keys, *Settings.model_fields}:
        if near := difflib.get_close_matches(str(key), keys, n=1, cutoff=0.8):
            raise DDNetError(f"configuration: unknown key '{key}'; did you mean '{near[0]}'?")
    found = []
    for key in keys:
        value = values.pop(key, None)
        if value is not None and not isinstance(value, str):
            raise DDNetError(f"configuration: '{key}' is {brief(value)}; give the path of a YAML file")
        found.append(Path(value).expanduser() if value else folder / f"{key.removesuffix('_file')}.yaml")
    return found[0], found[1], found[2]


def load_settings(path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read a preset file and apply overrides.

    Raises:
        DDNetError: the file is missing, is not YAML, or has a bad key or value.
    """
    return validate_settings(merge(read_yaml(path), overrides or {}), str(path))
