"""DMENet's network: its published counts, its normalisation, and the form for whole images against the plain one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.dmenet.inference import Layer, Source, _convolve, estimate, fold
from baselines.dmenet.network import MEAN_BGR, STAGES, Network, Shift
from baselines.dmenet.training import start
from ddnet.errors import DDNetError


def awake(width: int, seed: int = 0) -> Network:
    """A network whose maps vary: He's weights, shifts at random, statistics of one batch of noise."""
    torch.manual_seed(seed)
    network = Network(width).train()
    start(network, 0.3)
    for module in network.modules():
        if isinstance(module, Shift):
            module.momentum = 1.0
            torch.nn.init.normal_(module.beta, 0.0, 0.3)
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))
    return network.eval().requires_grad_(False)


def counts(width: int = 64, auxiliary: bool = True) -> dict[str, int]:
    with torch.device("meta"):
        network = Network(width, auxiliary)
    parameters = dict(network.named_parameters())
    return {
        "all": sum(value.numel() for value in parameters.values()),
        "encoder": sum(value.numel() for name, value in parameters.items() if name.startswith("encoder.")),
        "heads": sum(v.numel() for name, v in parameters.items() if "_aux." in name and not name.endswith("beta")),
        "beta": sum(value.numel() for name, value in parameters.items() if name.endswith("beta")),
        "moving": sum(value.numel() for value in network.buffers()),
    }


def test_the_published_network_has_26939819_parameters() -> None:
    expected = {"all": 26_939_819, "encoder": 20_024_384, "heads": 1_590_277, "beta": 3_365, "moving": 6_730}
    assert counts() == expected


def test_without_auxiliary_heads_25349025_are_left() -> None:
    found = counts(auxiliary=False)
    assert (found["all"], found["heads"]) == (25_349_025, 0)
    assert found["all"] == 26_939_819 - 1_590_277 - (256 + 128 + 64 + 32 + 32 + 5)  # less the heads and their shifts


def test_every_number_of_channels_follows_the_width() -> None:
    with torch.device("meta"):
        wide, narrow = (Network(width).state_dict() for width in (64, 8))
    assert wide.keys() == narrow.keys()
    fixed = {1, 3}  # colours, maps, sides of kernels
    for name, value in wide.items():
        assert narrow[name].shape == tuple(n if n in fixed else n // 8 for n in value.shape), name


@pytest.mark.parametrize("width", [0, 1, 7, 514, -2])
def test_a_width_that_cannot_be_is_refused(width: int) -> None:
    with pytest.raises(DDNetError, match=rf"width is {width}; it must be an even number from 2 to 512"):
        Network(width)


def test_maps_and_auxiliary_maps_have_the_sizes_of_their_features() -> None:
    final, helped = awake(4)(torch.rand(2, 3, 48, 80))
    assert final.shape == (2, 1, 48, 80)
    assert [tuple(y.shape[2:]) for y in helped] == [(3, 5), (6, 10), (12, 20), (24, 40), (48, 80)]
    assert all(y.min() > 0 and y.max() < 1 for y in (final, *helped))


def test_the_encoder_sees_bgr_in_0_to_255_less_the_mean() -> None:
    network, seen = awake(4), []
    network.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network(torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16))
    expected = torch.tensor([0.0 - MEAN_BGR[0], 127.5 - MEAN_BGR[1], 255.0 - MEAN_BGR[2]])
    torch.testing.assert_close(seen[0][0, :, 3, 5], expected)


def test_normalisation_shifts_but_does_not_scale() -> None:
    shift = Shift(2).train()
    with torch.no_grad():
        shift.beta.copy_(torch.tensor([1.0, -2.0]))
    x = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0)) * 4.0 + 3.0
    y = shift(x)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), shift.beta.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    moved = shift.get_buffer("moving_mean")
    torch.testing.assert_close(moved, 0.1 * x.mean(dim=(0, 2, 3)))  # decay 0.9
    shift.eval()
    variance = shift.get_buffer("moving_variance")[:, None, None]
    expected = (x - moved[:, None, None]) / (variance + 1e-5).sqrt() + shift.beta.detach()[:, None, None]
    torch.testing.assert_close(shift(x).detach(), expected)


@pytest.mark.parametrize("strip", [1, 5000, 1 << 22], ids=["row by row", "strips", "whole"])
@pytest.mark.parametrize("size", [(48, 80), (96, 16), (16, 16)])
def test_the_form_for_whole_images_gives_the_networks_numbers(size: tuple[int, int], strip: int) -> None:
    network = awake(8)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    expected, _ = network(image)
    assert expected.std() > 0.05
    torch.testing.assert_close(estimate(fold(network), image, strip), expected, atol=3e-5, rtol=0)


def test_the_numbers_are_the_same_on_one_thread_and_on_two() -> None:
    layers, image = fold(awake(8)), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(estimate(layers, image, 20_000))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_estimating_leaves_the_image_and_the_layers_as_they_are() -> None:
    layers, image = fold(awake(4)), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    given = image.clone()
    assert torch.equal(estimate(layers, image), estimate(layers, image))
    assert torch.equal(image, given)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("strip", [1, 700, 1 << 20])
def test_a_convolution_by_strips_repeats_borders_and_joins_upsampled_features(strip: int) -> None:
    low, high, weight, bias = _noise(1, 5, 7, 9), _noise(1, 3, 14, 18), _noise(4, 8, 3, 3), _noise(4)
    joined = torch.cat([low.repeat_interleave(2, 2).repeat_interleave(2, 3), high], dim=1)
    expected = F.leaky_relu(F.conv2d(F.pad(joined, (1, 1, 1, 1), mode="replicate"), weight, bias), 0.2)
    found = _convolve(Layer(weight, bias, 0.2), (Source(low, doubled=True), Source(high)), strip)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strip", [1, 700, 1 << 20])
def test_a_residual_unit_adds_its_side_in_place(strip: int) -> None:
    x, inside = _noise(1, 4, 13, 18), _noise(1, 4, 13, 17)[..., :17]
    x = x[..., :17].contiguous()
    main, side = Layer(_noise(4, 4, 3, 3), _noise(4), 0.2), Layer(_noise(4, 4, 1, 1), torch.ones(4), 0.2)
    expected = F.leaky_relu(F.conv2d(F.pad(inside, (1, 1, 1, 1), mode="replicate"), main.weight, main.bias), 0.2)
    expected = expected + F.leaky_relu(F.conv2d(x, side.weight, side.bias), 0.2)
    found = _convolve(main, (Source(inside),), strip, into=x, side=side)
    assert found is x
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_layers_are_the_networks_convolutions_without_the_heads() -> None:
    names = set(fold(awake(2)))
    assert {name for name in names if "." not in name} == {
        f"conv{stage}_{place}" for stage, count in enumerate(STAGES, 1) for place in range(1, count + 1)
    }
    assert len(names) == 16 + 9 + (1 + 7 * 3) + 3


MEMORY = """
import resource, torch
from baselines.dmenet.inference import estimate, fold
from baselines.dmenet.network import Network
torch.set_num_threads(1)
layers = fold(Network(16, auxiliary=False).eval())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
estimate(layers, torch.rand(1, 3, 640, 960), 1 << 18)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (640 * 960 * 16 * 4))
"""


def test_a_whole_image_needs_the_memory_of_four_full_resolution_features() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # Two are in work and one waits for the decoder: 3.7 with what strips take; the plain form needs 10.8.
    assert float(done.stdout) < 5.0
