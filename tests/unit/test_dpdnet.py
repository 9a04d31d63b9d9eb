from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from keras_file import Array, Layer, double, pool, random_layers, relu, same, sigmoid, write_keras

from baselines.common.network_system import load_weights
from baselines.dpdnet.baseline import Dpdnet
from baselines.dpdnet.network import Network, Up
from ddnet.errors import DDNetError
from ddnet.models import count_parameters


class Narrow(Dpdnet):
    width = 4


def shapes(w: int, channels: int = 3) -> list[tuple[int, int, int, int]]:
    """Kernels in the order in which Keras made them."""
    made, inputs = [], channels
    for outputs in (w, 2 * w, 4 * w, 8 * w, 16 * w):
        made += [(3, 3, inputs, outputs), (3, 3, outputs, outputs)]
        inputs = outputs
    for outputs in (8 * w, 4 * w, 2 * w, w):
        made += [(2, 2, 2 * outputs, outputs), (3, 3, 2 * outputs, outputs), (3, 3, outputs, outputs)]
    return [*made, (3, 3, w, 3), (1, 1, 3, 3)]


def in_numpy(x: Array, layers: list[Layer]) -> Array:
    """The U-Net on (H, W, C), layer by layer."""
    number, skips = count(), []
    for level in range(5):
        x = pool(x) if level else x
        x = relu(relu(x, layers[next(number)]), layers[next(number)])
        skips.append(x)
    for skip in skips[3::-1]:
        x = relu(double(x), layers[next(number)])
        x = np.concatenate([skip, x], axis=2)
        x = relu(relu(x, layers[next(number)]), layers[next(number)])
    x = sigmoid(relu(x, layers[next(number)]), layers[next(number)])
    assert next(number) == len(layers) == 24
    return x


def convert(folder: Path, layers: list[Layer], **how: int) -> Path:
    write_keras(folder / "published.hdf5", layers, **how)
    Narrow.convert(folder, folder / "weights.npz")
    return folder / "weights.npz"


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).random((height, width, 3), np.float32)


def test_parameters_are_as_published() -> None:
    assert Dpdnet.parameters() == 31_033_423
    with torch.device("meta"):
        assert count_parameters(Network(channels=6)) == 31_035_151
    assert sum(np.prod(shape) + shape[3] for shape in shapes(64)) == 31_033_423


def test_an_even_kernel_sees_the_pixels_below_and_on_the_right() -> None:
    layer = random_layers([(2, 2, 2, 3)])[0]
    up = Up(2, 3)
    up.conv.weight.data = torch.from_numpy(layer[0].transpose(3, 2, 0, 1).copy())
    up.conv.bias.data = torch.from_numpy(layer[1])
    x = np.random.default_rng(0).random((3, 4, 2))
    expected = np.maximum(same(double(x), layer), 0)
    found = up(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0].permute(1, 2, 0).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # By hand, at the last pixel: zeros below and on the right leave one of the four taps.
    last = np.maximum(x[-1, -1] @ layer[0][0, 0] + layer[1], 0)
    np.testing.assert_allclose(found[-1, -1], last, atol=1e-6)
    assert np.abs(found[0, 0] - np.maximum(x[0, 0] @ layer[0].sum((0, 1)) + layer[1], 0)).max() < 1e-6


@pytest.mark.parametrize("how", [{"whole": True, "first": 1}, {"whole": False}, {"whole": True, "first": 73}])
def test_a_converted_file_computes_what_its_formulas_say(how: dict[str, int], tmp_path: Path) -> None:
    layers = random_layers(shapes(4))
    system = Narrow(convert(tmp_path, layers, **how))
    image = picture(32, 48)
    expected = in_numpy(image[:, :, ::-1].astype(np.float64), layers)[:, :, ::-1]
    assert expected.std() > 0.02 and expected.min() > 0.02 and expected.max() < 0.98
    np.testing.assert_allclose(system.restore(image), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 32), (32, 16), (16, 16), (16, 48)])
def test_a_portrait_picture_goes_through_turned_counter_clockwise(size: tuple[int, int], tmp_path: Path) -> None:
    layers, image = random_layers(shapes(4)), picture(*size)
    bgr = image[:, :, ::-1].astype(np.float64)
    if size[0] > size[1]:  # counter-clockwise: the last column becomes the first row
        expected = in_numpy(bgr.transpose(1, 0, 2)[::-1], layers)[::-1].transpose(1, 0, 2)
        assert np.abs(expected - in_numpy(bgr, layers)).max() > 1e-3
    else:
        expected = in_numpy(bgr, layers)
    restored = Narrow(convert(tmp_path, layers)).restore(image)
    np.testing.assert_allclose(restored, expected[:, :, ::-1], atol=1e-5)


def test_nothing_is_lost_on_the_way_to_our_file(tmp_path: Path) -> None:
    layers = random_layers(shapes(4))
    network = load_weights(convert(tmp_path, layers, whole=True), Narrow)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    for module, (kernel, bias) in zip(convolutions, layers, strict=True):
        assert module.bias is not None
        np.testing.assert_array_equal(module.weight.permute(2, 3, 1, 0).numpy(), kernel)
        np.testing.assert_array_equal(module.bias.numpy(), bias)


@pytest.mark.parametrize("size", [(8, 8), (97, 131)])
def test_any_size_comes_back_in_range_and_the_same_each_time(size: tuple[int, int], tmp_path: Path) -> None:
    system = Narrow(convert(tmp_path, random_layers(shapes(4))))
    restored = system.restore(picture(*size))
    assert restored.shape == (*size, 3) and restored.dtype == np.float32
    assert restored.min() >= 0 and restored.max() <= 1
    np.testing.assert_array_equal(system.restore(picture(*size)), restored)


def test_dropout_concerns_training_only(tmp_path: Path) -> None:
    network = load_weights(convert(tmp_path, random_layers(shapes(4))), Narrow)
    x = torch.full((1, 3, 16, 16), 0.5)
    torch.manual_seed(0)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_the_form_for_two_views_is_named(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"conv2d_1/kernel' has 6 input channels, expected 3: .* a single picture$"):
        convert(tmp_path, random_layers(shapes(4, channels=6)), first=1)
    assert not (tmp_path / "weights.npz").exists()


def test_another_width_than_the_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"'conv2d/kernel' is float32 \(3, 3, 3, 8\); expected .*\(3, 3, 3, 4\)$"):
        convert(tmp_path, random_layers(shapes(8)))
    with pytest.raises(DDNetError, match="width is 0; it must be 1 to 256"):
        Network(0)
