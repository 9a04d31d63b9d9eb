from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from keras_file import Array, Layer, double, pool, random_layers, relu, sigmoid, write_keras

from baselines.common.keras_weights import read_convolutions, to_state
from baselines.common.network_system import load_weights, shapes_of
from baselines.mdpnet.baseline import Mdpnet
from baselines.mdpnet.network import Network
from ddnet.errors import DDNetError
from ddnet.models import count_parameters


class Narrow(Mdpnet):
    width = 2


def shapes(w: int) -> list[tuple[int, int, int, int]]:
    """Kernels in the order in which Keras made them."""
    encoder = [(3, 3, 3, w), (3, 3, w, w), (3, 3, w, 2 * w), (3, 3, 2 * w, 2 * w)]
    encoder += [(3, 3, 2 * w, 4 * w), (3, 3, 4 * w, 4 * w), (3, 3, 4 * w, 8 * w)]
    early = [(3, 3, 8 * w, 16 * w), (2, 2, 16 * w, 8 * w), (3, 3, 16 * w, 8 * w), (2, 2, 8 * w, 4 * w)]
    early += [(3, 3, 8 * w, 4 * w), (3, 3, 4 * w, 4 * w), (2, 2, 4 * w, 2 * w)]
    late = [(3, 3, 8 * w, 2 * w), (3, 3, 2 * w, 2 * w), (2, 2, 2 * w, w), (3, 3, 2 * w, w), (3, 3, w, w)]
    late += [(3, 3, w, 3), (1, 1, 3, 3)]
    return [*encoder, *early * 3, *late * 3]


def in_numpy(x: Array, layers: list[Layer]) -> Array:
    """The network on (H, W, 3), layer by layer: left, right, sharp in (H, W, 9)."""
    c1 = relu(relu(x, layers[0]), layers[1])
    c2 = relu(relu(pool(c1), layers[2]), layers[3])
    c3 = relu(relu(pool(c2), layers[4]), layers[5])
    c4 = relu(pool(c3), layers[6])

    def early(own: list[Layer]) -> Array:
        up = relu(double(relu(pool(c4), own[0])), own[1])
        up = relu(double(relu(np.dstack([c4, up]), own[2])), own[3])
        return relu(double(relu(relu(np.dstack([c3, up]), own[4]), own[5])), own[6])

    shared = np.dstack([c2, early(layers[7:14]), early(layers[14:21]), early(layers[21:28])])

    def late(own: list[Layer]) -> Array:
        up = relu(double(relu(relu(shared, own[0]), own[1])), own[2])
        return sigmoid(relu(relu(relu(np.dstack([c1, up]), own[3]), own[4]), own[5]), own[6])

    return np.dstack([late(layers[28:35]), late(layers[35:42]), late(layers[42:49])])


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return random_layers(shapes(2), seed=3)


@pytest.fixture
def weights(layers: list[Layer], tmp_path: Path) -> Iterator[Path]:
    write_keras(tmp_path / "published.hdf5", layers)
    Narrow.convert(tmp_path, tmp_path / "weights.npz")
    yield tmp_path / "weights.npz"


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).random((height, width, 3), np.float32)


def test_parameters_are_as_published() -> None:
    assert Mdpnet.parameters() == 46_860_397
    assert sum(np.prod(shape) + shape[3] for shape in shapes(64)) == 46_860_397
    with torch.device("meta"):
        assert count_parameters(Mdpnet.network(64)) == 45_094_735 == 46_860_397 - 2 * 882_831


def test_the_network_computes_what_its_formulas_say(layers: list[Layer], tmp_path: Path) -> None:
    path = write_keras(tmp_path / "published.hdf5", layers, first=17, whole=True)
    network = Network(2)
    state = to_state(read_convolutions(path, "MDPNet"), shapes_of(network), path, "MDPNet")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    x = np.random.default_rng(0).random((32, 48, 3))
    expected = in_numpy(x, layers)
    assert all(part.std() > 0.01 and part.min() > 0.02 and part.max() < 0.98 for part in np.dsplit(expected, 3))
    with torch.inference_mode():
        found = network(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_converted_file_gives_the_sharp_picture(layers: list[Layer], weights: Path) -> None:
    image = picture(32, 48)
    expected = in_numpy(image[:, :, ::-1].astype(np.float64), layers)[:, :, 6:9][:, :, ::-1]
    np.testing.assert_allclose(Narrow(weights).restore(image), expected, atol=1e-5)


def test_odd_sides_are_padded_by_zeros_at_the_top_and_the_left(layers: list[Layer], weights: Path) -> None:
    image = picture(25, 41)
    padded = np.pad(image, ((7, 0), (7, 0), (0, 0)))
    expected = in_numpy(padded[:, :, ::-1].astype(np.float64), layers)[7:, 7:, 6:9][:, :, ::-1]
    np.testing.assert_allclose(Narrow(weights).restore(image), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (97, 131)])
def test_any_size_comes_back_in_range_and_the_same_each_time(size: tuple[int, int], weights: Path) -> None:
    system = Narrow(weights)
    restored = system.restore(picture(*size))
    assert restored.shape == (*size, 3) and restored.dtype == np.float32
    assert restored.min() >= 0 and restored.max() <= 1
    np.testing.assert_array_equal(system.restore(picture(*size)), restored)


def test_nothing_is_lost_on_the_way_to_our_file_but_what_only_the_views_need(
    layers: list[Layer], weights: Path
) -> None:
    network = load_weights(weights, Narrow)
    assert {name.split(".")[1] for name in network.state_dict() if name.startswith("late")} == {"sharp"}
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    for module, (kernel, bias) in zip(convolutions, [*layers[:28], *layers[42:]], strict=True):
        assert module.bias is not None
        np.testing.assert_array_equal(module.weight.permute(2, 3, 1, 0).numpy(), kernel)
        np.testing.assert_array_equal(module.bias.numpy(), bias)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (6, r"'conv2d_6/kernel' is float32 \(1, 1, 1, 1\); expected floating point \(3, 3, 8, 16\)"),
        (33, r"'conv2d_33/kernel' is float32 \(1, 1, 1, 1\); expected floating point \(3, 3, 2, 3\)"),
    ],
)
def test_a_layer_that_does_not_fit_is_named_even_if_it_is_not_kept(
    place: int, said: str, layers: list[Layer], tmp_path: Path
) -> None:
    bad = [*layers]
    bad[place] = random_layers([(1, 1, 1, 1)])[0]
    write_keras(tmp_path / "published.hdf5", bad)
    with pytest.raises(DDNetError, match=said):
        Narrow.convert(tmp_path, tmp_path / "weights.npz")
    assert not (tmp_path / "weights.npz").exists()


def test_weights_of_another_network_are_refused(layers: list[Layer], tmp_path: Path) -> None:
    write_keras(tmp_path / "published.hdf5", layers[:24])
    with pytest.raises(DDNetError, match=r"24 convolutions, 'conv2d' to 'conv2d_23'; MDPNet has 49"):
        Narrow.convert(tmp_path, tmp_path / "weights.npz")
    with pytest.raises(DDNetError, match="width is 257; it must be 1 to 256"):
        Network(257)
