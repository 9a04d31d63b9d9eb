"""DMENet's weights files: the published names taken over exactly, and every file that does not fit refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dmenet_npz import NET, Arrays, published, published_shapes

from baselines.dmenet import weights as dmenet_weights
from baselines.dmenet.network import Network
from baselines.dmenet.weights import convert_published, load_weights, save_weights
from ddnet.errors import DDNetError


def theirs(ours: str) -> str:
    """The published name of one of our arrays."""
    scope, leaf = ours.rsplit(".", 1)
    top = "" if scope.startswith("encoder.") else "decoder/"
    return f"{NET}/{top}{scope.replace('.', '/')}/{'kernel' if leaf == 'weight' else leaf}:0"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    """The published width made small, for tests of what is refused."""
    monkeypatch.setattr(dmenet_weights, "WIDTH", 2)
    return 2


def put(folder: Path, arrays: Arrays) -> Path:
    path = folder / "DMENet_BDCS.npz"
    np.savez(path, **arrays)
    return path


def test_the_published_shapes_are_those_of_26939819_parameters() -> None:
    shapes = {name: shape for name, shape in published_shapes().items() if name.startswith(NET)}
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if "moving" not in name) == 26_939_819


def test_a_published_file_gives_the_identical_tensors(tmp_path: Path) -> None:
    arrays = published(64)
    put(tmp_path, arrays)
    convert_published(tmp_path, tmp_path / "out" / "weights.npz")
    network, meaning = load_weights(tmp_path / "out" / "weights.npz")
    assert (network.width, network.auxiliary, meaning, network.training) == (64, False, "published", False)
    state = network.state_dict()
    for name, value in state.items():
        expected = arrays.pop(theirs(name))
        if expected.ndim == 4:
            expected = np.moveaxis(expected, (2, 3), (1, 0))  # HWIO to OIHW
        np.testing.assert_array_equal(value.numpy(), expected)
    assert all("_aux/" in name or not name.startswith(NET) for name in arrays)  # nothing else was left over


def test_names_may_stand_in_other_scopes_and_without_heads(tmp_path: Path, narrow: int) -> None:
    arrays = published(narrow)
    put(tmp_path, arrays)
    convert_published(tmp_path, tmp_path / "as_published.npz")
    moved = {f"a/{name.removeprefix(NET + '/').removesuffix(':0')}": value for name, value in arrays.items()}
    put(tmp_path, {name: value for name, value in moved.items() if "_aux/" not in name})
    convert_published(tmp_path, tmp_path / "moved.npz")
    assert (tmp_path / "moved.npz").read_bytes() == (tmp_path / "as_published.npz").read_bytes()


def test_a_scale_goes_into_the_convolution_before_it(tmp_path: Path, narrow: int) -> None:
    arrays = published(narrow)
    put(tmp_path, arrays)
    convert_published(tmp_path, tmp_path / "plain.npz")
    gamma = np.linspace(-1.0, 2.0, 2 * narrow, dtype=np.float32)
    put(tmp_path, arrays | {f"{NET}/decoder/u2/b1/gamma:0": gamma})
    convert_published(tmp_path, tmp_path / "scaled.npz")
    plain, scaled = (load_weights(tmp_path / f"{name}.npz")[0].u2 for name in ("plain", "scaled"))
    x = torch.randn(1, 8 * narrow, 6, 5, generator=torch.Generator().manual_seed(0))
    beta = plain.get_submodule("b1").beta[:, None, None]
    expected = (plain.normed("1", x) - beta) * torch.from_numpy(gamma)[:, None, None] + beta
    torch.testing.assert_close(scaled.normed("1", x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scaled.normed("2", x[:, :4]), plain.normed("2", x[:, :4]))


U3 = f"{NET}/decoder/u3/c1/kernel:0"
MOVING = f"{NET}/decoder/uf/b2/moving_variance:0"


def _without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def _with(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: value(arrays[name])}


UNFIT: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "missing": (_without(U3), r"no entry's name ends in 'u3/c1/kernel', which must be \(3, 3, 32, 8\)"),
    "missing statistics": (_without(MOVING), r"ends in 'uf/b2/moving_variance', which must be \(1,\)"),
    "PyTorch's order": (
        _with(U3, lambda kernel: np.moveaxis(kernel, (2, 3), (1, 0))),
        r"'main_net/defocus_net/decoder/u3/c1/kernel:0' is float32 \(8, 32, 3, 3\); expected .* \(3, 3, 32, 8\)",
    ),
    "another network": (
        _with(MOVING, lambda value: value[:0]),
        r"moving_variance:0' is float32 \(0,\); expected .*\(1,\)",
    ),
    "twice": (
        lambda arrays: arrays | {"old/u3/c1/kernel:0": arrays[U3]},
        r"decoder/u3/c1/kernel:0 and old/u3/c1/kernel:0 both end in 'u3/c1/kernel'",
    ),
    "twice but for its end": (
        lambda arrays: arrays | {U3.removesuffix(":0"): arrays[U3]},
        r"both end in 'u3/c1/kernel'",
    ),
    "whole numbers": (_with(U3, lambda kernel: kernel.astype(np.int32)), r"is int32 .*; expected floating point"),
    "not a number": (_with(U3, lambda kernel: kernel * np.nan), r"c1/kernel:0' has values that are not finite"),
    "beyond float32": (
        _with(U3, lambda kernel: kernel.astype(np.float64) * 1e300),
        r"c1/kernel:0' has values that are not finite",
    ),
    "negative variance": (_with(MOVING, np.negative), r"b2/moving_variance:0' has a negative variance"),
    "pickled": (
        _with(U3, lambda kernel: np.array([kernel, None], object)),
        r"npz of plain arrays \(it holds Python objects\)",
    ),
    "other scale": (
        lambda arrays: arrays | {f"{NET}/decoder/u3/b1/gamma:0": np.ones(3, np.float32)},
        r"u3/b1/gamma:0' is float32 \(3,\); expected floating point \(8,\)",
    ),
    "nothing": (lambda arrays: {"x": np.zeros(3)}, r"no entry's name ends in 'conv1_1/kernel'"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("change", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_a_published_file_that_does_not_fit_is_refused_whole(
    tmp_path: Path, narrow: int, change: Callable[[Arrays], Arrays], message: str
) -> None:
    path = put(tmp_path, change(published(narrow)))
    with pytest.raises(DDNetError, match=f"^{re.escape(str(path))}: .*{message}") as refused:
        convert_published(tmp_path, tmp_path / "weights.npz")
    assert "\n" not in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }"
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-100],
    "half": lambda content: content[: len(content) // 2],
    "a byte changed": lambda content: content[:3000] + bytes([content[3000] ^ 255]) + content[3001:],
    "empty": lambda content: b"",
    "a page": lambda content: b"<!DOCTYPE html><html>Sign in</html>",
    "a pickle": lambda content: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
    "one array": lambda content: b"\x93NUMPY\x01\x00v\x00" + HEADER.ljust(117) + b"\n",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("kind", ["published", "ours"])
def test_a_damaged_file_is_one_line_and_nothing_of_it_is_run(
    tmp_path: Path, narrow: int, monkeypatch: pytest.MonkeyPatch, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path, published(narrow))
    if kind == "ours":
        convert_published(tmp_path, path := tmp_path / "weights.npz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DDNetError, match=f"^{re.escape(str(path))}: ") as refused:
        convert_published(tmp_path, tmp_path / "new.npz") if kind == "published" else load_weights(path)
    assert "\n" not in str(refused.value)
    assert not {file.name for file in tmp_path.iterdir()} - {"DMENet_BDCS.npz", "weights.npz"}


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"DMENet_BDCS\.npz: no such weights of DMENet"):
        convert_published(tmp_path, tmp_path / "weights.npz")
    with pytest.raises(DDNetError, match=r"weights\.npz: no such weights of DMENet"):
        load_weights(tmp_path / "weights.npz")


def own(width: int = 4) -> Arrays:
    torch.manual_seed(0)
    return {name: value.numpy() for name, value in Network(width).state_dict().items()}


def test_a_file_of_ours_comes_back_as_it_was_and_always_with_the_same_bytes(tmp_path: Path) -> None:
    arrays = own()
    for name in ("one", "two"):
        save_weights(tmp_path / f"{name}.npz", arrays, 4, "trained")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    state = torch.random.get_rng_state()
    network, meaning = load_weights(tmp_path / "one.npz")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (network.width, meaning) == (4, "trained")
    assert set(network.state_dict()) == {name for name in arrays if "_aux." not in name}
    assert all((value.numpy() == arrays[name]).all() for name, value in network.state_dict().items())


OTHERS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "no width": (_without("width"), "lacks 'width'"),
    "no meaning": (_without("map"), "lacks 'map'"),
    "odd width": (_with("width", lambda _: np.array(3)), "'width' is 3; expected an even number from 2 to 512"),
    "huge width": (_with("width", lambda _: np.array(10**12)), "'width' is 1000000000000; expected"),
    "fractional width": (_with("width", lambda _: np.array(4.0)), r"'width' is 4\.0; expected"),
    "two widths": (_with("width", lambda _: np.array([4, 4])), r"'width' is int64 \(2,\); expected a single value"),
    "unknown meaning": (_with("map", lambda _: np.array("metres")), "'map' is 'metres'; expected one of published, tr"),
    "another width": (
        _with("width", lambda _: np.array(8)),
        r"'encoder.conv1_1.weight' is float32 \(4, 3, 3, 3\); expected floating point \(8, 3, 3, 3\)",
    ),
    "missing": (_without("uf.c3.bias"), r"lacks 'uf\.c3\.bias' \(1,\)"),
    "unknown": (lambda arrays: arrays | {"u9.c1.bias": np.zeros(1)}, r"unknown entry 'u9\.c1\.bias'"),
    "infinite": (_with("uf.c3.bias", lambda bias: bias + np.inf), r"'uf\.c3\.bias' has values that are not finite"),
    "pickled": (_with("uf.c3.bias", lambda _: np.array([None])), r"plain arrays \(it holds Python objects\)"),
}


@pytest.mark.parametrize(("change", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_a_file_of_ours_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[Arrays], Arrays], message: str
) -> None:
    path = tmp_path / "weights.npz"
    save_weights(path, own(), 4, "trained")
    with np.load(path) as loaded:
        arrays = dict(loaded)
    np.savez(path, **change(arrays))
    with pytest.raises(DDNetError, match=f"^{re.escape(str(path))}: .*{message}"):
        load_weights(path)
