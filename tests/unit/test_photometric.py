"""Photometric augmentation and averaged weights, in both training loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import state, toy_inputs
from torch import Tensor, nn

from ddnet.config import Photometric, Recipe, Training, common_recipe
from ddnet.data.photometric import augment_photometric
from ddnet.training import train as training
from ddnet.training.average import WeightAverage
from ddnet.training.train import train

EVERYTHING = {"exposure": 1.0, "contrast": 0.3, "noise": 0.03, "jpeg": 60}


def crops(count: int = 64, side: int = 32) -> list[Tensor]:
    """Smooth pictures in the middle of the range, so that no value is clipped, and their targets."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 0.2 + 0.4
    image = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return [image, image.flip(1) * 0.9, image * 0.8]


def augmented(seed: int = 0, **values: float) -> list[Tensor]:
    return augment_photometric(crops(), Photometric.model_validate(values), [seed, 1], 64)


def test_nothing_asked_for_gives_the_very_tensors() -> None:
    given = crops()
    assert all(one is other for one, other in zip(given, augment_photometric(given, Photometric(), [0], 64)))


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_part_draws_by_its_seed_and_stays_in_range(name: str) -> None:
    one, again, other = (augmented(seed, **{name: EVERYTHING[name]})[0] for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, crops()[0])
    assert one.min() >= 0 and one.max() <= 1 and one.dtype == torch.float32 and one.shape == crops()[0].shape


def test_exposure_is_stops_of_light_and_the_same_for_all_images_of_a_crop() -> None:
    factors = [(new / old).flatten(1) for new, old in zip(augmented(exposure=0.5), crops(), strict=True)]
    gains = factors[0][:, 0]
    for factor in factors:
        torch.testing.assert_close(factor, gains[:, None].expand_as(factor), rtol=1e-5, atol=1e-5)
    most = 0.5 / 2.2
    stops = gains.double().log2()
    assert -most <= stops.min() < -0.8 * most and 0.8 * most < stops.max() <= most


def test_contrast_keeps_the_inputs_mean_and_scales_differences_to_it() -> None:
    given, changed = crops(), augmented(contrast=0.3)
    mean = given[0].mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(changed[0].mean((1, 2, 3), keepdim=True), mean, rtol=0, atol=1e-5)
    slopes = [((new - mean) / (old - mean)).flatten(1).median(1).values for new, old in zip(changed, given)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0, atol=1e-3)
    assert 0.7 <= slopes[0].min() < 0.8 and 1.2 < slopes[0].max() <= 1.3


def test_noise_is_the_inputs_alone_and_of_every_size_up_to_the_largest() -> None:
    given, changed = crops(), augmented(noise=0.03)
    assert torch.equal(changed[1], given[1]) and torch.equal(changed[2], given[2])
    noise = changed[0] - given[0]
    sigma = noise.flatten(1).std(1)
    assert sigma.max() < 0.032 and sigma.max() > 0.025 and sigma.min() < 0.005
    assert abs(float(noise.mean())) < 1e-4
    correlation = np.corrcoef(noise[0].flatten().numpy(), noise[1].flatten().numpy())[0, 1]
    assert abs(correlation) < 0.1  # each crop has its own


def test_half_of_the_inputs_pass_through_a_jpeg() -> None:
    given, changed = crops(), augmented(jpeg=30)
    assert torch.equal(changed[1], given[1])
    coded = (changed[0] != given[0]).flatten(1).any(1)
    assert 0.3 < float(coded.float().mean()) < 0.7
    levels = changed[0][coded] * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    error = (changed[0] - given[0])[coded].flatten(1).std(1)
    assert error.max() < 0.05 and error.max() > 2 * error.min()  # of different qualities


def test_a_crop_gets_the_same_whatever_part_of_the_batch_it_comes_in() -> None:
    spec, given = Photometric.model_validate(EVERYTHING), crops()
    whole = augment_photometric(given, spec, [3], 64)
    for part in (slice(0, 32), slice(32, 64), slice(5, 6)):
        pieces = augment_photometric([image[part] for image in given], spec, [3], 64, part)
        assert all(torch.equal(piece, image[part]) for piece, image in zip(pieces, whole, strict=True))


def test_the_average_follows_the_weights_and_is_in_use_only_inside() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    weight = network[0].weight
    average, expected = WeightAverage(network, 0.9), None
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        weight.data.fill_(value)
        network[1].num_batches_tracked.fill_(step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    with average.in_use():
        assert weight.item() == pytest.approx(expected)
        assert network[1].num_batches_tracked.item() == 3
    assert weight.item() == 8.0
    fresh = WeightAverage(network, 0.9)
    fresh.load_state_dict(average.state_dict())
    with fresh.in_use():
        assert weight.item() == pytest.approx(expected)
    with pytest.raises(RuntimeError, match="asked"), average.in_use():
        raise RuntimeError("asked to leave")
    assert weight.item() == 8.0


def test_trained_with_both_an_interrupted_training_resumes_to_the_same_bits_and_keeps_the_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = toy_inputs(tmp_path)
    changes = {"photometric": Photometric.model_validate(EVERYTHING), "average": 0.5}
    inputs = replace(plain, training=plain.training.model_copy(update=changes))
    train(inputs, tmp_path / "whole")
    original = training.train_step

    def dies(*arguments: object) -> object:
        if arguments[-1] == 5:
            raise RuntimeError("the machine is gone")
        return original(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", dies)
        with pytest.raises(RuntimeError, match="machine is gone"):
            train(inputs, tmp_path / "cut")
    train(inputs, tmp_path / "cut")
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    for name in ("photometric", "average"):
        other = replace(plain, training=plain.training.model_copy(update={name: changes[name]}))
        train(other, tmp_path / name)
        assert any(not torch.equal(state(tmp_path / name)[key], whole[key]) for key in whole)


def test_the_common_recipe_of_the_compared_systems_has_both() -> None:
    common = common_recipe(Training.model_validate({"photometric": EVERYTHING, "average": 0.99}))
    assert common.photometric == Photometric.model_validate(EVERYTHING) and common.average == 0.99
    own = Recipe.model_validate({"loss": {"mse": 1}, "lr": 1, "batch": 1, "steps": 1})
    assert own.photometric == Photometric() and own.average is None


def test_settings_are_in_range() -> None:
    for bad in ({"noise": 2}, {"contrast": 1}, {"jpeg": 0}, {"exposure": -1}, {"hue": 1}, {"noise": math.nan}):
        with pytest.raises(ValueError):
            Photometric.model_validate(bad)
    for decay in (0, 1, -1):
        with pytest.raises(ValueError):
            Training.model_validate({"average": decay})
