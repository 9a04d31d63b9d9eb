"""How a network of the compared systems is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ddnet.config._base import Distinct, Seed, Strict, explain, merge
from ddnet.config.settings import Decay, Fraction, Perceptual, Photometric, Training


class Recipe(Strict):
    """One training recipe: loss, optimiser, schedule, crops, batch and augmentation."""

    loss: dict[str, Annotated[float, Field(ge=0)]] = Field(
        min_length=1, description="weight by term: l1, mse, and those of the system's own"
    )
    perceptual: Perceptual = Field(Perceptual(weight=0), description="added to the loss with its own weight")
    optimiser: Literal["adam", "radam"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0, description="decoupled from the gradient")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    milestones: tuple[Fraction, ...] = Field((), description="fractions of the training at which lr is halved")
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient; null: not clipped")
    steps: int | None = Field(None, ge=1, description="optimiser steps; null: `epochs` decides")
    epochs: int | None = Field(None, ge=1, description="passes over the extracted patches; needs crop: null")
    batch: int = Field(ge=1)
    crop: int | None = Field(
        None, ge=32, multiple_of=16,
        description="side of squares anywhere in the images, pixels; null: the preset's extracted patches",
    )  # fmt: skip
    one_image: bool = Field(False, description="all crops of a batch from one image")
    augment: Annotated[tuple[Literal["turns", "noise", "grey", "scale"], ...], Distinct] = Field(
        (), description="flips and quarter turns; IFAN's three others"
    )
    photometric: Photometric = Photometric()
    average: Decay | None = None
    width: int | None = Field(None, ge=1, description="channels at full resolution; null: the published network's")
    sizes: dict[str, int] = Field({}, description="further numbers that give the network's shape, such as levels")
    output: Literal["published", "residual"] = Field(
        "published", description="residual: the picture's difference to the input is learnt, where the network has none"
    )
    validate_every: float = Field(0.1, gt=0, le=1, description="fraction of the training between validations")
    seed: Seed = 0

    @model_validator(mode="after")
    def _length_is_known(self) -> Recipe:
        if self.steps is None and (self.epochs is None or self.crop is not None):
            raise ValueError("write steps, or epochs with crop: null")
        if self.crop is None and {"scale"} & {*self.augment}:
            raise ValueError("augment: scale needs crop to be a number of pixels")
        return self


def merged_recipe(recipe: Recipe, changes: dict[str, Any], where: str) -> Recipe:
    """A recipe with some of its values replaced.

    Raises:
        DDNetError: bad key or value; `where` is what the message calls the place of the changes.
    """
    try:
        return Recipe.model_validate(merge(recipe.model_dump(mode="json"), changes))
    except ValidationError as error:
        raise explain(error, Recipe, where) from None


def common_recipe(training: Training) -> Recipe:
    """The protocol that this suite's own variants are trained with."""
    return Recipe(
        loss={"l1": 1.0},
        perceptual=training.perceptual,
        lr=training.lr,
        warmup=training.warmup,
        milestones=training.milestones,
        steps=training.steps,
        epochs=training.epochs,
        batch=training.batch,
        augment=("turns",) if training.augment else (),
        photometric=training.photometric,
        average=training.average,
        validate_every=training.validate_every,
    )
