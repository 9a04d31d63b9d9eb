from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_file import Layer, random_layers, write_keras

from baselines.common.keras_weights import find_hdf5, read_convolutions, to_state
from ddnet.errors import DDNetError

SHAPES = [(3, 3, 3, 4), (2, 2, 4, 2), *[(3, 3, 2, 2)] * 10, (1, 1, 2, 3)]
EXPECTED = {}
for place, (height, width, inputs, outputs) in enumerate(SHAPES):
    EXPECTED |= {f"{place}.weight": (outputs, inputs, height, width), f"{place}.bias": (outputs,)}


@pytest.fixture
def layers() -> list[Layer]:
    return random_layers(SHAPES)


@pytest.fixture
def path(layers: list[Layer], tmp_path: Path) -> Path:
    return write_keras(tmp_path / "published.hdf5", layers, first=8)


def read(path: Path) -> dict[str, np.ndarray]:
    return to_state(read_convolutions(path, "Toy"), EXPECTED, path, "Toy")


def line(path: Path) -> str:
    """What is said about a file that cannot be read."""
    with pytest.raises(DDNetError) as caught:
        read(path)
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("first", [0, 1, 8, 95])
def test_layers_are_found_in_the_order_of_their_making(
    whole: bool, first: int, layers: list[Layer], tmp_path: Path
) -> None:
    state = read(write_keras(tmp_path / "published.hdf5", layers, first=first, whole=whole))
    assert list(state) == list(EXPECTED)
    for place, (kernel, bias) in enumerate(layers):
        np.testing.assert_array_equal(state[f"{place}.weight"].transpose(2, 3, 1, 0), kernel)
        np.testing.assert_array_equal(state[f"{place}.bias"], bias)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in state.values())


def test_names_in_a_scope_without_numbers_and_in_double_precision_are_read(layers: list[Layer], tmp_path: Path) -> None:
    path = tmp_path / "published.h5"
    with h5py.File(path, "w") as file:
        for number, (kernel, bias) in enumerate(layers, 1):
            group = file.create_group(f"conv2d_{number}/model_1/conv2d_{number}")
            group["kernel"], group["bias"] = kernel.astype(np.float64), bias.astype(np.float64)
    state = read(path)
    np.testing.assert_array_equal(state["0.weight"], layers[0][0].transpose(3, 2, 0, 1))
    assert state["0.weight"].dtype == np.float32


def test_a_missing_layer_is_named(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv2d_11"]
    assert line(path) == "12 convolutions, 'conv2d_8' to 'conv2d_20', 'conv2d_11' is missing; Toy has 13"
    with h5py.File(path, "a") as file:
        for name in [name for name in file if name.startswith("conv2d")]:
            del file[name]
    assert line(path) == "no convolutions; Toy has 13"


def test_a_layer_too_many_is_said(layers: list[Layer], tmp_path: Path) -> None:
    path = write_keras(tmp_path / "published.hdf5", [*layers, layers[-1]])
    assert line(path) == "14 convolutions, 'conv2d' to 'conv2d_13'; Toy has 13"


def test_a_missing_array_is_named(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv2d_9/conv2d_9/bias:0"]
    assert line(path) == "'conv2d_9' lacks bias; a convolution has one kernel and one bias"
    with h5py.File(path, "a") as file:
        file["conv2d_9/bias:0"], file["conv2d_9/again/bias:0"] = np.zeros(2), np.zeros(2)
    assert line(path) == "'conv2d_9' has more than one bias; a convolution has one kernel and one bias"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "conv2d_9/conv2d_9/kernel:0",
            np.zeros((3, 3, 4, 2), np.float32),
            "'conv2d_9/kernel' is float32 (3, 3, 4, 2); expected floating point (2, 2, 4, 2)",
        ),
        (
            "conv2d_20/conv2d_20/bias:0",
            np.zeros(4, np.float32),
            "'conv2d_20/bias' is float32 (4,); expected floating point (3,)",
        ),
        (
            "conv2d_9/conv2d_9/bias:0",
            np.array([0.0, np.nan], np.float32),
            "'conv2d_9/bias' has values that are not finite; the file is damaged",
        ),
        (
            "conv2d_9/conv2d_9/bias:0",
            np.zeros(2, np.int32),
            "'conv2d_9/conv2d_9/bias:0' is int32 (2,); expected floating point, 1 GiB in all",
        ),
        (
            "conv2d_9/conv2d_9/bias:0",
            np.array([b"a", b"b"]),
            "'conv2d_9/conv2d_9/bias:0' is |S1 (2,); expected floating point, 1 GiB in all",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named(key: str, value: np.ndarray, said: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        file[key] = value
    assert line(path) == said


@pytest.mark.parametrize(
    "key", ["dense_1/dense_1/kernel:0", "conv2d_9/conv2d_9/gamma:0", "conv2d_09/kernel:0", "layers/conv2d/vars/0"]
)
def test_an_unknown_entry_is_named(key: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[key] = np.zeros(2)
    assert line(path) == f"unknown entry '{key}' (2,); not weights of Toy"


def test_arrays_larger_than_any_published_file_are_not_read(path: Path) -> None:
    with h5py.File(path, "a") as file:  # nothing is stored: it is its fill value
        file.create_dataset("conv2d_21/kernel:0", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1024, 1024))
    assert line(path).endswith("(1048576, 1048576); expected floating point, 1 GiB in all")


def test_nothing_outside_the_file_is_read(path: Path, tmp_path: Path) -> None:
    other = write_keras(tmp_path / "other.h5", random_layers([(3, 3, 3, 4)]))
    key, said = "conv2d_9/conv2d_9/bias:0", "is a link or kept elsewhere; expected arrays in the file itself"
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(8))
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(other, "conv2d/conv2d/bias:0", (4,))[:2]
    for damage in ("external link", "soft link", "external storage", "virtual"):
        with h5py.File(path, "a") as file:
            del file[key]
            if damage == "external link":
                file[key] = h5py.ExternalLink(other, "conv2d/conv2d/bias:0")
            elif damage == "soft link":
                file[key] = h5py.SoftLink("/conv2d_10/conv2d_10/bias:0")
            elif damage == "virtual":
                file.create_virtual_dataset(key, layout)
            else:
                file.create_dataset(key, (2,), "f4", external=[(raw, 0, 8)])
        assert line(path) == f"'bias:0' {said}"


def test_groups_in_a_circle_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["conv2d_9/again"] = file["conv2d_9"]
    assert line(path).endswith("is a group; expected arrays by then; not Keras's weights")


@pytest.mark.parametrize("damage", ["cut", "page", "empty"])
def test_what_is_no_hdf5_file_is_one_line(damage: str, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "page": b"<html>sign in</html>", "empty": b""}[damage])
    assert line(path).startswith("not a readable HDF5 file (")
    assert line(path).endswith("); fetch the weights of Toy again")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("model_weights", "'model_weights' is an array; expected a group of layers"),
        ("conv2d", "unknown entry 'conv2d' (3,); not weights of Toy"),
    ],
)
def test_an_array_where_a_group_belongs_is_named(key: str, said: str, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file[key] = np.zeros(3)
    assert line(path) == said


def test_a_file_damaged_anywhere_is_read_or_refused_in_one_line(path: Path) -> None:
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in draw.integers(0, len(content), 8):
            damaged[place] = draw.integers(0, 256)
        path.write_bytes(damaged)
        try:
            state = read(path)
        except DDNetError as error:
            assert "\n" not in str(error)
        else:
            assert {name: array.shape for name, array in state.items()} == EXPECTED


def test_the_only_hdf5_file_of_a_folder_is_taken(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"no \.hdf5 or \.h5 file; put the published weights of Toy there"):
        find_hdf5(tmp_path, "Toy")
    (tmp_path / "readme.txt").touch()
    (tmp_path / "any name.HDF5").touch()
    assert find_hdf5(tmp_path, "Toy") == tmp_path / "any name.HDF5"
    (tmp_path / "other.h5").touch()
    with pytest.raises(
        DDNetError, match=r"any name\.HDF5 and other\.h5; leave the weights of Toy there, and move the other"
    ):
        find_hdf5(tmp_path, "Toy")
    with pytest.raises(DDNetError, match=r"nothing\.h5: no such file; fetch the published weights of Toy"):
        read_convolutions(tmp_path / "nothing.h5", "Toy")
