import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.common.network_system import load_weights, save_weights
from baselines.defocusgan.baseline import Defocusgan, published_name
from baselines.defocusgan.network import Network
from ddnet.errors import DDNetError
from ddnet.models import initialise

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def published(w: int = 64) -> State:
    """Random tensors under all the published names."""
    layers: dict[str, tuple[int, int, int]] = {"head.0": (3, w, 3), "tail_hard.0": (w, 3, 3)}
    layers |= {"connect": (w, w, 3), "connect2": (w, w, 3), "unetup4.up.0": (w, w, 2), "unetup4.up.2": (w, w, 2)}
    for stage in range(1, 9):
        layers[f"layer{stage}.0.0"] = (w, w, 1)
        for branch in (1, 2, 3):
            group = f"layer{stage}.{branch}.0.body"
            for block in range(branch):
                layers |= {f"{group}.{block}.body.{place}": (w, w, 3) for place in (0, 2)}
                layers |= {f"{group}.{block}.body.3.conv_du.0": (w, max(1, w // 16), 1)}
                layers |= {f"{group}.{block}.body.3.conv_du.2": (max(1, w // 16), w, 1)}
            layers[f"{group}.{branch}"] = (w, w, 3)
    doubles = {"unetdown4.maxpool_conv.1": w, "unetdown2.maxpool_conv.1": w, "unetup2.conv": 2 * w, "unetup4.up.1": w}
    generator = torch.Generator().manual_seed(0)

    def weight(inputs: int, outputs: int, side: int, gain: float) -> Tensor:
        return torch.randn((outputs, inputs, side, side), generator=generator) * gain / (inputs * side**2) ** 0.5

    state = {}
    for name, (inputs, outputs, side) in layers.items():
        gain = 0.03 if name == "tail_hard.0" else 0.5 if name.startswith("layer") else 1.0
        state[f"{name}.weight"] = weight(inputs, outputs, side, gain)
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    for name, inputs in doubles.items():
        state[f"{name}.double_conv.0.weight"] = weight(inputs, w, 3, 1.0)
        state[f"{name}.double_conv.2.weight"] = weight(w, w, 3, 1.0)
    return state


def write(path: Path, state: object) -> None:
    """The published file: besides the generator, what its training left."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.Adam([parameter], lr=2e-4)
    parameter.sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [30, 60, 90], 0.5)
    rest = {"state_dict_D": {"model.0.weight": torch.ones(2)}, "epoch": 90}
    rest |= {"optimizers": optimiser.state_dict(), "schedulers": [schedule.state_dict()]}
    torch.save({"state_dict": state, **rest}, path)


def reference(state: State, image: Tensor) -> Tensor:
    """The generator written out on the published names, from the description alone, in float64."""

    def conv(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.weight"].double(), state.get(f"{name}.bias")
        return F.conv2d(x, weight, None if bias is None else bias.double(), padding=weight.shape[-1] // 2)

    def double(x: Tensor, name: str) -> Tensor:
        return F.relu(conv(F.relu(conv(x, f"{name}.double_conv.0")), f"{name}.double_conv.2"))

    def transposed(x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double(), stride=2)

    def stage(number: int, branch: int, x: Tensor) -> Tensor:
        name = f"layer{number}.{branch}.0"
        if branch == 0:
            return F.relu(conv(x, name))
        y = x
        for block in range(branch):
            inside = f"{name}.body.{block}.body"
            z = conv(F.relu(conv(y, f"{inside}.0")), f"{inside}.2")
            gate = F.relu(conv(F.adaptive_avg_pool2d(z, 1), f"{inside}.3.conv_du.0"))
            y = y + z * torch.sigmoid(conv(gate, f"{inside}.3.conv_du.2"))
        y = x + conv(y, f"{name}.body.{branch}")
        return F.max_pool2d(y, 2) if number <= 4 else y.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def add(x: Tensor, y: Tensor) -> Tensor:
        side = x.shape[-1] // y.shape[-1]
        return y + (F.avg_pool2d(x, side) if side > 1 else x)

    x = F.relu(conv(image, "head.0"))
    full = torch.zeros_like(x)
    for branch in range(4):
        o1 = stage(1, branch, x)
        o2 = stage(2, branch, add(x, o1))
        o3 = stage(3, branch, add(x, o2))
        o4 = stage(4, branch, add(x, o3))
        o5 = stage(5, branch, add(x, o4))
        o6 = stage(6, branch, add(x, o5))
        o7 = stage(7, branch, add(x, o6) + o2)
        full = full + stage(8, branch, add(x, o7) + o1)
    at_4 = double(F.max_pool2d(full, 4), "unetdown4.maxpool_conv.1")
    quarter = torch.zeros_like(at_4)
    for branch in range(4):
        o1 = stage(1, branch, at_4)
        o7 = stage(7, branch, add(at_4, stage(2, branch, add(at_4, o1))))
        quarter = quarter + stage(8, branch, add(at_4, o7) + o1)
    at_8 = double(F.max_pool2d(quarter, 2), "unetdown2.maxpool_conv.1")
    eighth = at_8
    for branch in range(4):
        eighth = eighth + stage(7, branch, add(at_8, stage(1, branch, at_8)))
    larger = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)(eighth)
    quarter = quarter + double(torch.cat([at_4, larger], 1), "unetup2.conv")
    restored = transposed(double(transposed(quarter, "unetup4.up.0"), "unetup4.up.1"), "unetup4.up.2")
    return torch.sigmoid(conv(x + restored + full, "tail_hard.0"))


def test_parameters_are_as_published() -> None:
    state = published()
    assert Defocusgan.parameters() == 4_860_675
    assert len(state) == 468 and sum(value.numel() for value in state.values()) == 4_934_531


def test_a_converted_file_gives_what_the_formulas_give_and_converts_back(tmp_path: Path) -> None:
    state = published()
    write(tmp_path / "90_models.pth", state)
    Defocusgan.convert(tmp_path, tmp_path / "weights.npz")
    network = load_weights(tmp_path / "weights.npz", Defocusgan)
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = network(image)
    expected = reference(state, image.double()).float()
    assert expected.std() > 0.05 and 0.05 < expected.mean() < 0.95
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    back = {published_name(name): value for name, value in network.state_dict().items()}
    assert back.keys() == {name for name in state if not name.startswith("connect")}
    assert all(torch.equal(value, state[name]) for name, value in back.items())


@pytest.mark.parametrize("size", [(8, 8), (97, 131)])
def test_any_picture_is_bgr_padded_by_reflection_and_not_rounded(size: tuple[int, int], tmp_path: Path) -> None:
    network = Network(8)
    initialise(network, 0)
    save_weights(tmp_path / "weights.npz", network.state_dict(), 8)
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    mode = "reflect" if min(size) > 15 else "edge"
    pixels = np.pad(image[..., ::-1], [*((0, -side % 16) for side in size), (0, 0)], mode=mode)  # type: ignore[call-overload]
    with torch.inference_mode():
        output = network(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0]
    expected = output.permute(1, 2, 0).numpy()[: size[0], : size[1], ::-1]
    restored = Defocusgan(tmp_path / "weights.npz").restore(image)
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert restored.shape == image.shape and restored.dtype == np.float32


def refused(folder: Path, said: str) -> None:
    with pytest.raises(DDNetError, match=said) as caught:
        Defocusgan.convert(folder, folder / "weights.npz")
    assert "\n" not in str(caught.value) and "90_models.pth" in str(caught.value)
    assert not (folder / "weights.npz").exists()


def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path, state = tmp_path / "90_models.pth", published()
    refused(tmp_path, "no such file; fetch the published weights of DefocusGAN")
    name = "layer5.2.0.body.1.body.2.weight"
    for changed, said in (
        ({"connect3.weight": torch.ones(2)}, r"unknown entry 'connect3\.weight' float32 \(2,\)"),
        ({name: None}, rf"lacks '{name}', which must be \(64, 64, 3, 3\)"),
        ({name: torch.ones(64)}, rf"'{name}' is float32 \(64,\); expected floating point \(64, 64, 3, 3\)"),
        ({name: torch.full((64, 64, 3, 3), torch.inf)}, "not finite"),
    ):
        write(path, {key: value for key, value in (state | changed).items() if value is not None})
        refused(tmp_path, said)
    for content in ([1, 2], {"state_dict": 1}):
        torch.save(content, path)
        refused(tmp_path, "not a dictionary of tensors; not weights of DefocusGAN")


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_hostile_or_cut_file_is_executed(tmp_path: Path) -> None:
    path, touched = tmp_path / "90_models.pth", tmp_path / "touched"
    torch.save({"state_dict": published(), "epoch": Hostile(touched)}, path)
    refused(tmp_path, "not a readable PyTorch file of tensors")
    assert not touched.exists()
    write(path, published())
    path.write_bytes(path.read_bytes()[:-5000])
    refused(tmp_path, "not a readable PyTorch file of tensors")


@pytest.mark.parametrize("width", [0, 12, 264])
def test_a_width_that_there_is_not_is_one_line(width: int) -> None:
    with pytest.raises(DDNetError, match="DefocusGAN: width is"):
        Network(width)
