import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.common.network_system import load_weights, save_weights
from baselines.ifan.baseline import Ifan
from baselines.ifan.network import Network, adapt
from ddnet.errors import DDNetError
from ddnet.models import count_parameters, initialise

PREFIX = "module.Network."
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def published(filters: int, width: int = 32) -> State:
    """Random tensors under the published names; what the filters do is near an average."""
    w1, w2, w3 = width, 2 * width, 4 * width
    layers: dict[str, tuple[int, ...]] = {}  # input, output channels, side of the kernel
    for encoder in ("conv", "kconv"):
        for stage, (before, after) in enumerate(((3, w1), (w1, w2), (w2, w3), (w3, w3)), 1):
            layers |= {f"{encoder}{stage}_1.0": (before, after, 3)}
            layers |= {f"{encoder}{stage}_{place}.0": (after, after, 3) for place in (2, 3)}

    def residual(name: str, channels: int, units: int) -> None:
        for unit in range(units):
            layers.update({f"{name}.stem.{unit}.{place}": (channels, channels, 3) for place in (0, 2)})

    for name, first in (("DME", w3), ("conv4_4", 2 * w3), ("F", w3)):
        layers[f"{name}.0.0"] = (first, w3, 3)
        residual(f"{name}.1", w3, 2)
        residual(f"{name}.2", w3, 2)
    layers |= {"DME.3": (w3, 1, 3), "conv_DME.0": (1, w3, 3), "conv4_4.3.0": (w3, w3, 3)}
    layers |= {"F.3": (w3, filters * 7 * w3, 1)}
    layers |= {"conv_res.0.0": (w3, w3, 3), "conv_res.2.0": (w3, w3, 3), "out_res.0": (w1, 3, 3)}
    residual("conv_res.1", w3, 3)
    for stage, before, after in ((3, w3, w3), (2, w3, w2), (1, w2, w1)):
        layers[f"upconv{stage}_u.0"] = (before, after, 4)
        residual(f"upconv{stage}_1", after, 1)
        residual(f"upconv{stage}_2", after, 1)

    generator = torch.Generator().manual_seed(filters)
    state = {}
    for name, (before, after, side) in layers.items():
        shape = (before, after, side, side) if "_u." in name else (after, before, side, side)
        gain = 0.05 if name == "F.3" else 0.2 if name.endswith(".2") else 1.3
        state[f"{PREFIX}{name}.weight"] = torch.randn(shape, generator=generator) * gain / (before * side**2) ** 0.5
        state[f"{PREFIX}{name}.bias"] = torch.randn(after, generator=generator) * 0.1
    state[f"{PREFIX}F.3.bias"][: filters * 6 * w3] += 0.3
    state["module.reblurNet.conv.0.weight"] = torch.zeros(3, 3)
    return state


def reference(state: State, image: Tensor, filters: int, both_kernels: bool = False) -> Tensor:
    """The network written out on the published names, from the description alone, in float64."""

    def act(x: Tensor) -> Tensor:
        return torch.maximum(x, 0.1 * x)

    def bare(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{PREFIX}{name}.weight"].double()
        return F.conv2d(x, weight, state[f"{PREFIX}{name}.bias"].double(), stride, weight.shape[-1] // 2)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return act(bare(x, f"{name}.0", stride))

    def residual(x: Tensor, name: str, units: int) -> Tensor:
        before = x
        for unit in range(units):
            inside = f"{name}.stem.{unit}"
            x = act(x + bare(act(bare(x, f"{inside}.0")), f"{inside}.2"))
        return x + before if units > 1 else x

    def encode(encoder: str) -> list[Tensor]:
        x, taps = image, []
        for stage in (1, 2, 3, 4):
            x = conv(x, f"{encoder}{stage}_1", 1 if stage == 1 else 2)
            x = conv(conv(x, f"{encoder}{stage}_2"), f"{encoder}{stage}_3")
            taps.append(x)
        return taps

    def up(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{PREFIX}{name}.0.weight"].double(), state[f"{PREFIX}{name}.0.bias"].double()
        return act(F.conv_transpose2d(x, weight, bias, stride=2, padding=1))

    def double(x: Tensor, name: str) -> Tensor:
        return residual(residual(conv(x, f"{name}.0"), f"{name}.1", 2), f"{name}.2", 2)

    f1, f2, f3, x = encode("conv")
    helper = encode("kconv")[-1]
    helper = torch.cat([helper, conv(bare(double(helper, "DME"), "DME.3"), "conv_DME")], 1)
    predicted = bare(double(conv(double(helper, "conv4_4"), "conv4_4.3"), "F"), "F.3")[0]
    channels, height, width = x.shape[1:]
    for place in range(filters):
        chunk = predicted[place * 6 * channels : (place + 1) * 6 * channels]
        kernel1, kernel2 = chunk.reshape(2, channels, 3, height, width)
        padded = F.pad(x, (0, 0, 1, 1), mode="replicate")[0].unfold(1, 3, 1)
        x = torch.einsum("chwk,ckhw->chw", padded, kernel1)[None]
        padded = F.pad(x, (1, 1, 0, 0), mode="replicate")[0].unfold(2, 3, 1)
        x = torch.einsum("chwk,ckhw->chw", padded, kernel2 if both_kernels else kernel1)[None]
        start = filters * 6 * channels + place * channels
        x = act(x + predicted[start : start + channels])
    x = conv(residual(conv(x, "conv_res.0"), "conv_res.1", 3), "conv_res.2")
    for stage, skip in ((3, f3), (2, f2), (1, f1)):
        x = residual(residual(up(x, f"upconv{stage}_u") + skip, f"upconv{stage}_1", 1), f"upconv{stage}_2", 1)
    return image + conv(x, "out_res")


@pytest.mark.parametrize(
    ("filters", "count"), [(8, 9_436_740), (17, 10_476_996), (26, 11_517_252), (35, 12_557_508), (44, 13_597_764)]
)
def test_parameters_are_as_published(filters: int, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(Ifan.network(32, filters=filters)) == count
        assert count_parameters(Ifan.network(32, filters=filters, both_kernels=1)) == count
    assert Ifan.parameters() == 10_476_996


def picture(height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "filters"), [("IFAN.pytorch", 17), ("IFAN_8.pytorch", 8)])
def test_a_converted_file_gives_what_the_formulas_give_and_converts_back(
    name: str, filters: int, tmp_path: Path
) -> None:
    state = published(filters)
    torch.save(state, tmp_path / name)
    Ifan.convert(tmp_path, tmp_path / "weights.npz")
    network = load_weights(tmp_path / "weights.npz", Ifan)
    with torch.inference_mode():
        ours = network(picture())
    expected = reference(state, picture().double(), filters).float()
    assert 0.1 < (expected - picture()).abs().mean() < 10
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    back = {PREFIX + key: value for key, value in network.state_dict().items()}
    del state["module.reblurNet.conv.0.weight"]
    assert len(back) == 158 and back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("both_kernels", [0, 1])
def test_rows_are_filtered_with_the_first_kernel_unless_both_are_asked_for(both_kernels: int, tmp_path: Path) -> None:
    state = published(3, width=4)
    del state["module.reblurNet.conv.0.weight"]
    plain = {key.removeprefix(PREFIX): value for key, value in state.items()}
    save_weights(tmp_path / "weights.npz", plain, 4, filters=3, both_kernels=both_kernels)
    network = load_weights(tmp_path / "weights.npz", Ifan)
    expected = [reference(state, picture().double(), 3, both).float() for both in (False, True)]
    with torch.inference_mode():
        torch.testing.assert_close(network(picture()), expected[both_kernels], rtol=1e-5, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_a_filter_runs_down_columns_then_across_rows_and_borders_are_repeated() -> None:
    x = torch.tensor([[[[1.0, 2], [3, 4]], [[10, 20], [30, 40]]]])
    next_one = torch.tensor([0.0, 0, 1, 0, 1, 0]).reshape(1, 6, 1, 1).expand(1, 6, 2, 2)  # of channel 0; 1 stays
    previous = torch.tensor([1.0, 0, 0, 0, 1, 0]).reshape(1, 6, 1, 1).expand(1, 6, 2, 2)
    assert adapt(x, next_one, previous).tolist() == [[[[3, 3], [3, 3]], [[10, 20], [30, 40]]]]


@pytest.mark.parametrize("size", [(8, 8), (97, 131)])
def test_any_picture_is_of_8_bits_padded_by_reflection(size: tuple[int, int], tmp_path: Path) -> None:
    network = Network(4, 2)
    initialise(network, 0)
    save_weights(tmp_path / "weights.npz", network.state_dict(), 4, filters=2, both_kernels=0)
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    upper = (np.rint(image * 65535).astype(np.uint16) >> 8) / np.float32(255)
    pixels = np.pad(upper, [*((0, -side % 8) for side in size), (0, 0)], mode="reflect").astype(np.float32)
    with torch.inference_mode():
        output = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    expected = output.permute(1, 2, 0).numpy()[: size[0], : size[1]].clip(0, 1)
    restored = Ifan(tmp_path / "weights.npz").restore(image)
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert restored.shape == image.shape and restored.dtype == np.float32


def refused(folder: Path, said: str) -> None:
    with pytest.raises(DDNetError, match=said) as caught:
        Ifan.convert(folder, folder / "weights.npz")
    assert "\n" not in str(caught.value) and "IFAN.pytorch" in str(caught.value)
    assert not (folder / "weights.npz").exists()


def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path, state = tmp_path / "IFAN.pytorch", published(1)
    refused(tmp_path, "no such file; fetch the published weights of IFAN")
    name = f"{PREFIX}kconv2_1.0.weight"
    for changed, said in (
        ({"module.other": torch.ones(2)}, r"unknown entry 'module\.other' float32 \(2,\)"),
        ({name: None}, rf"lacks '{name}', which must be \(64, 32, 3, 3\)"),
        ({name: torch.ones(64, 32, 3, 1)}, rf"'{name}' is float32 \(64, 32, 3, 1\); expected .* \(64, 32, 3, 3\)"),
        ({name: torch.full((64, 32, 3, 3), torch.nan)}, "not finite"),
        ({name: torch.ones(64, 32, 3, 3, dtype=torch.int32)}, "is int32"),
        ({name: "text"}, "is str"),
        ({f"{PREFIX}F.3.bias": None}, rf"lacks '{PREFIX}F\.3\.bias'"),
        ({f"{PREFIX}F.3.bias": torch.ones(900)}, r"is \(900,\); expected 896 values for each filter"),
        ({f"{PREFIX}F.3.bias": torch.ones(1792)}, r"F\.3\.weight' is float32 \(896, 128, 1, 1\)"),
    ):
        torch.save({key: value for key, value in (state | changed).items() if value is not None}, path)
        refused(tmp_path, said)
    for content in ([1, 2], {1: torch.ones(2)}):
        torch.save(content, path)
        refused(tmp_path, "not a dictionary of tensors")


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_hostile_or_cut_file_is_executed(tmp_path: Path) -> None:
    path, touched = tmp_path / "IFAN.pytorch", tmp_path / "touched"
    torch.save({"module.reblurNet.x": Hostile(touched)}, path)
    refused(tmp_path, "not a readable PyTorch file of tensors")
    assert not touched.exists()
    torch.save(published(1), path)
    path.write_bytes(path.read_bytes()[:-5000])
    refused(tmp_path, "not a readable PyTorch file of tensors")


@pytest.mark.parametrize(("width", "filters"), [(3, 17), (0, 17), (32, 0), (32, 65)])
def test_sizes_that_there_are_not_are_one_line(width: int, filters: int) -> None:
    with pytest.raises(DDNetError, match=r"IFAN: (width|filters) is"):
        Network(width, filters)
