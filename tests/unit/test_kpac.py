import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.common.network_system import load_weights, save_weights
from baselines.kpac.baseline import Kpac
from baselines.kpac.network import Network, halve
from ddnet.errors import DDNetError
from ddnet.models import count_parameters, initialise

FILES = {3: "single_3level.npz", 2: "single_2level.npz"}
SHARED = [(5, 5, 96, 48)]
ATTENTION = [
    *((5, 5, 96, 32), 32, (5, 5, 32, 32), 32, (5, 5, 32, 16), 16, (5, 5, 16, 16), 16, (5, 5, 16, 5), 5),
    *((1, 1, 96, 12), 12, (1, 1, 12, 48), 48),
]
BLOCK = [*SHARED, *ATTENTION, (3, 3, 240, 96), 96]
ENCODER = [(5, 5, 3, 48), 48, *((3, 3, 48, 48), 48) * 3, (3, 3, 48, 96), 96, (3, 3, 96, 96), 96]
FIRST, FOURTH = [(3, 3, 288, 96), 96, (3, 3, 96, 96), 96], [(3, 3, 96, 96), 96] * 2
LAST = [(4, 4, 48, 96), 48, (3, 3, 96, 48), 48, (4, 4, 48, 48), 48, (5, 5, 96, 3), 3]
SHAPES = {
    2: [*ENCODER, *BLOCK * 2, *FIRST, *LAST],
    3: [*ENCODER, *FOURTH, *BLOCK * 2, *FIRST, (4, 4, 96, 96), 96, (3, 3, 192, 96), 96, *LAST],
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def published(levels: int) -> list[np.ndarray]:
    """Random arrays as the authors' list has them; kernels keep the size of the signal."""
    draw = np.random.default_rng(levels)
    arrays = []
    for shape in SHAPES[levels]:
        scale = 0.1 if isinstance(shape, int) else (1.5 / np.prod(shape[:3])) ** 0.5
        arrays.append((draw.standard_normal(shape) * scale).astype(np.float32))
    return arrays


def python2_pickle(arrays: list[np.ndarray]) -> bytes:
    """How Python 2 pickled (protocol 2) one array of objects: arrays' bytes are its plain strings."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def array(shape: tuple[int, ...], kind: bytes, order: bytes, content: bytes) -> bytes:
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
        dtype = b"cnumpy\ndtype\n(" + text(kind) + number(0) + number(1) + b"tR("
        dtype += number(3) + text(order) + b"NNN" + number(-1) + number(-1) + number(63 if kind == b"O8" else 0) + b"tb"
        sides = b"(" + b"".join(map(number, shape)) + b"t"
        return made + b"(" + number(1) + sides + dtype + b"\x89" + content + b"tb"

    inner = [array(a.shape, b"f4", b"<", text(a.tobytes())) for a in arrays]
    return b"\x80\x02" + array((len(arrays),), b"O8", b"|", b"](" + b"".join(inner) + b"e") + b"."


def write(path: Path, content: bytes, count: int) -> Path:
    """An .npz whose only entry `params` is a list of `count` objects with this pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({count},), }}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("params.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)
    return path


def published_file(folder: Path, levels: int, arrays: list[np.ndarray] | None = None) -> Path:
    arrays = published(levels) if arrays is None else arrays
    return write(folder / FILES[levels], python2_pickle(arrays), len(arrays))


def reference(arrays: list[np.ndarray], image: Tensor, levels: int) -> Tensor:
    """The network written out on the list, from the description alone, in float64."""
    rest = iter(arrays)

    def tensor() -> Tensor:
        return torch.from_numpy(next(rest)).double()

    def act(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def conv(x: Tensor, stride: int = 1, rate: int = 1) -> Tensor:
        kernel, bias = tensor().permute(3, 2, 0, 1), tensor()
        sides = []
        for side in (3, 2):  # of the last axis first
            reach = (kernel.shape[side] - 1) * rate + 1
            total = max((-(-x.shape[side] // stride) - 1) * stride + reach - x.shape[side], 0)
            sides += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, sides), kernel, bias, stride=stride, dilation=rate)

    def deconv(x: Tensor) -> Tensor:  # the gradient of a convolution with stride 2 and padding 'same', which is 1 and 1
        kernel, bias = tensor(), tensor()
        large = torch.zeros(1, kernel.shape[2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype, requires_grad=True)
        small = F.conv2d(F.pad(large, (1, 1, 1, 1)), kernel.permute(3, 2, 0, 1), stride=2)
        return torch.autograd.grad(small, large, x)[0] + bias[:, None, None]

    def block(x: Tensor) -> Tensor:
        shared = tensor().permute(3, 2, 0, 1)
        parts = [act(F.conv2d(x, shared, padding=2 * rate, dilation=rate)) for rate in (1, 2, 3, 4, 5)]
        scale = x
        for _ in range(4):
            scale = act(conv(scale, rate=2))
        scale = torch.sigmoid(conv(scale)).repeat_interleave(48, dim=1)
        shape = torch.sigmoid(conv(act(conv(F.adaptive_avg_pool2d(x, 1))))).tile(1, 5, 1, 1)
        return act(conv(torch.cat(parts, 1) * scale * shape))

    f1 = act(conv(act(conv(image))))
    f2 = act(conv(act(conv(f1, 2))))
    f3 = act(conv(act(conv(f2, 2))))
    x = act(conv(act(conv(f3, 2)))) if levels == 3 else f3
    one = block(x)
    x = act(conv(act(conv(torch.cat([x, one, block(one)], 1)))))
    skips = [f3, f2] if levels == 3 else [f2]
    for skip in skips:
        x = act(conv(torch.cat([act(deconv(x)), skip], 1)))
    result = image + conv(torch.cat([act(deconv(x)), f1], 1))
    assert next(rest, None) is None
    return result


def test_parameters_are_as_published() -> None:
    assert Kpac.parameters() == 2_057_893
    with torch.device("meta"):
        assert count_parameters(Kpac.network(48, levels=2)) == 1_578_277


@pytest.mark.parametrize("levels", [2, 3])
def test_a_converted_file_gives_what_the_formulas_give(levels: int, tmp_path: Path) -> None:
    published_file(tmp_path, levels)
    Kpac.convert(tmp_path, tmp_path / "weights.npz")
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    system = Kpac(tmp_path / "weights.npz")
    with torch.inference_mode():
        ours = system.model.cpu()(image)
    expected = reference(published(levels), image.double(), levels)
    assert (expected - image).abs().mean() > 0.1
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("levels", [2, 3])
def test_converting_there_and_back_is_the_identity(levels: int, tmp_path: Path) -> None:
    published_file(tmp_path, levels)
    Kpac.convert(tmp_path, tmp_path / "weights.npz")
    state = load_weights(tmp_path / "weights.npz", Kpac).state_dict()
    back = [value.permute(2, 3, 1, 0).numpy() if value.ndim == 4 else value.numpy() for value in state.values()]
    for array, expected in zip(back, published(levels), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_halving_pads_even_sides_at_the_end_only() -> None:
    conv = torch.nn.Conv2d(1, 1, 3)
    torch.nn.init.zeros_(conv.weight)
    torch.nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    conv.weight.data[0, 0, 0, 0], conv.weight.data[0, 0, 2, 2] = 1.0, 100.0
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    assert halve(conv, x).tolist() == [[[[1 + 1100, 3 + 0], [9 + 0, 11 + 0]]]]


def small(path: Path, levels: int) -> Path:
    network = Network(12, levels)
    initialise(network, 0)
    save_weights(path, network.state_dict(), 12, levels=levels)
    return path


@pytest.mark.parametrize(("levels", "multiple"), [(2, 4), (3, 8)])
@pytest.mark.parametrize("size", [(8, 8), (97, 131)])
def test_any_picture_is_of_8_bits_in_the_range_from_minus_1(
    levels: int, multiple: int, size: tuple[int, int], tmp_path: Path
) -> None:
    system = Kpac(small(tmp_path / "weights.npz", levels))
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    upper = np.rint(image * 65535).astype(np.uint16) >> 8
    padding = [(0, -side % multiple) for side in size]
    pixels = np.pad(upper / np.float32(127.5) - 1, [*padding, (0, 0)], mode="reflect")
    with torch.inference_mode():
        output = system.model.cpu()(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None])[0]
    expected = ((output.permute(1, 2, 0).numpy() + 1) / 2)[: size[0], : size[1]].clip(0, 1)
    np.testing.assert_allclose(Kpac(tmp_path / "weights.npz").restore(image), expected, atol=1e-5)


def test_of_both_files_the_one_with_3_levels_is_taken(tmp_path: Path) -> None:
    for levels in (2, 3):
        published_file(tmp_path, levels)
        Kpac.convert(tmp_path, tmp_path / "weights.npz")
        network = load_weights(tmp_path / "weights.npz", Kpac)
        assert isinstance(network, Network) and network.levels == levels


def refused(folder: Path, said: str) -> None:
    with pytest.raises(DDNetError, match=said) as caught:
        Kpac.convert(folder, folder / "weights.npz")
    assert "\n" not in str(caught.value) and FILES[3] in str(caught.value)
    assert not (folder / "weights.npz").exists()


def test_a_list_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    refused(tmp_path, "no such file; fetch the published weights of KPAC")
    arrays = published(3)
    published_file(tmp_path, 3, arrays[:-1])
    refused(tmp_path, "65 arrays; KPAC of 3 levels has 66")
    published_file(tmp_path, 3, [*arrays[:16], arrays[17], arrays[16], *arrays[18:]])
    refused(tmp_path, r"'params\[16\] \(blocks\.0\.dc1\.weight\)' is float32 \(5, 5, 96, 32\); .* \(5, 5, 96, 48\)")
    arrays[3] = np.full(48, np.inf, np.float32)
    published_file(tmp_path, 3, arrays)
    refused(tmp_path, r"'params\[3\] \(c0_2\.bias\)' has values that are not finite")


@pytest.mark.parametrize("damage", ["page", "cut", "cut pickle", "named", "plain", "other object"])
def test_a_file_that_is_no_such_list_is_one_line(damage: str, tmp_path: Path) -> None:
    path = published_file(tmp_path, 3)
    if damage == "page":
        path.write_text("<html>sign in</html>")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "cut pickle":
        write(path, python2_pickle(published(3))[:-300], 66)
    elif damage == "named":
        np.savez(path, c0=np.ones(3))
    elif damage == "plain":
        np.savez(path, params=np.ones(66))
    else:
        write(path, pickle.dumps([1, 2]), 66)
    refused(tmp_path, "not KPAC's published list of arrays")


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_hostile_file_is_executed(protocol: int, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    write(tmp_path / FILES[3], pickle.dumps([Hostile(touched)] * 66, protocol), 66)
    refused(tmp_path, r"asks for \w+\.system; only NumPy's arrays are allowed")
    sneaky = b"\x80\x04\x8c\x05numpy\x8c\x19_core.multiarray.fromfile\x93."
    write(tmp_path / FILES[3], sneaky, 66)
    refused(tmp_path, "only NumPy's arrays are allowed")
    assert not touched.exists()


@pytest.mark.parametrize(("width", "levels"), [(50, 3), (0, 3), (48, 4)])
def test_sizes_that_there_are_not_are_one_line(width: int, levels: int) -> None:
    with pytest.raises(DDNetError, match=r"KPAC: (width|levels) is"):
        Network(width, levels)
