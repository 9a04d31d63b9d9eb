"""Sizes of the compared networks: against printed numbers, a second counter, and counts written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines import system_class
from baselines.complexity import NOTES, SIZE, convolution_macs, counted, paper_rule, published_network, unseen_macs
from baselines.dpdnet.network import Network as Dpdnet
from baselines.dpdnet.network import Up
from ddnet.errors import DDNetError
from ddnet.evaluation.complexity import ptflops_macs
from ddnet.models import count_parameters
from ddnet.models.ddnet import DDNet

PUBLISHED = {
    "dmenet": 26_939_819,
    "dpdnet": 31_033_423,
    "ifan": 10_476_996,
    "kpac": 2_057_893,
    "mdpnet": 46_860_397,
    "defocusgan": 4_860_675,
}


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="meta")


@pytest.fixture(scope="module")
def sizes() -> dict[str, dict[str, object]]:
    return {system: counted(system) for system in PUBLISHED}


@pytest.mark.parametrize("system", PUBLISHED)
def test_parameters_are_those_that_the_system_itself_gives(system: str, sizes: dict[str, dict[str, object]]) -> None:
    found = sizes[system]
    assert found["params"] == PUBLISHED[system] == system_class(system).parameters()
    assert found["params_m"] == PUBLISHED[system] / 1e6
    assert found["size"] == SIZE == 512 and str(found["tool"]).startswith("ptflops ")
    assert found["note"] == NOTES.get(system, "")


@pytest.mark.parametrize("system", PUBLISHED)
def test_macs_are_the_convolutions_and_little_more(system: str, sizes: dict[str, dict[str, object]]) -> None:
    macs, convolutions = sizes[system]["macs_g"], sizes[system]["flopcounter_macs_g"]
    assert isinstance(macs, float) and isinstance(convolutions, float)
    assert convolutions < macs < 1.02 * convolutions


def test_macs_grow_with_the_picture() -> None:
    small, large = counted("kpac", 64)["macs_g"], counted("kpac", 128)["macs_g"]
    assert 3.99 * small < large < 4.01 * small


def test_convolutions_called_as_functions_are_found() -> None:
    assert counted("ifan", 64)["tool"] == counted("kpac", 64)["tool"]
    assert str(counted("ifan", 64)["tool"]).endswith("convolutions that are called as functions")
    assert str(counted("dpdnet", 64)["tool"]).endswith("(pytorch backend)")
    # IFAN's last layer of F, 1x1 from 128 channels to what 17 filters take, at 1/8 of the size, with a bias.
    assert unseen_macs(published_network("ifan"), zeros(1, 3, 64, 64)) == 8 * 8 * 17 * 128 * 7 * (128 + 1)


class Mixed(nn.Module):
    """One layer of each kind, and one call of each function."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1)

    def forward(self, image: Tensor, depth: Tensor | None = None) -> Tensor:
        x = self.up(self.grouped(self.down(image)))
        x = F.conv2d(x, x.new_zeros(5, 6, 1, 1), x.new_zeros(5))
        return F.conv_transpose2d(x, x.new_zeros(5, 2, 2, 2), stride=2)


def test_layers_and_functions_together_are_all_convolutions() -> None:
    with torch.device("meta"):
        network = Mixed()
    down, grouped, up = 8 * 8 * 4 * (27 + 1), 8 * 8 * 4 * 18, 8 * 8 * 4 * 6 * 16 + 16 * 16 * 6
    as_functions = 16 * 16 * 5 * (6 + 1) + 16 * 16 * 5 * 2 * 4
    assert unseen_macs(network, zeros(1, 3, 16, 16)) == as_functions
    assert ptflops_macs(network, 16) == down + grouped + up
    with FlopCounterMode(display=False) as counter:
        network(zeros(1, 3, 16, 16))
    biases = 8 * 8 * 4 + 16 * 16 * 6 + 16 * 16 * 5
    assert counter.get_total_flops() // 2 == down + grouped + up + as_functions - biases
    assert not any(module._forward_hooks for module in network.modules())


def test_other_functions_count_nothing_as_convolutions() -> None:
    assert convolution_macs(F.relu, (zeros(2),), {}, zeros(2)) == 0


def test_the_paper_s_counter_by_hand() -> None:
    with torch.device("meta"):
        network = Mixed()
    # A transposed convolution: every one of its output's values times the whole kernel.
    layers = 8 * 8 * 4 * 27 + 8 * 8 * 4 * 18 + 16 * 16 * 6 * 4 * 16
    assert paper_rule(network, zeros(1, 3, 16, 16)) == layers + 16 * 16 * 5 * 6 + 32 * 32 * 2 * 5 * 4


class Resized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x) * x.mean((2, 3), keepdim=True)
        x = F.max_pool2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), 2)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


def test_pooling_and_upsampling_by_the_paper_s_counter() -> None:
    average, nearest, bilinear = 7 * (4 * 6 + 1), 7 * 8 * 12, 11 * 7 * 8 * 12
    assert paper_rule(Resized(), zeros(1, 7, 4, 6)) == average + nearest + bilinear
    assert paper_rule(Resized(), zeros(1, 7, 4, 6), upsampling=("nearest",)) == average + nearest


def test_the_paper_s_counter_gives_the_printed_macs(sizes: dict[str, dict[str, object]]) -> None:
    assert sizes["defocusgan"]["paper_rule_macs_g"] == 281.217514752
    assert [system for system, found in sizes.items() if "paper_rule_macs_g" in found] == ["defocusgan"]
    with torch.device("meta"):
        network = DDNet()
    size = zeros(1, 3, SIZE, SIZE), zeros(1, 1, SIZE, SIZE)
    assert paper_rule(network, *size, upsampling=("nearest",)) == 163_906_139_840


def test_no_size_of_dpdnet_s_up_convolutions_gives_the_printed_parameters() -> None:
    with torch.device("meta"):
        network = Dpdnet()
    ups = [module.conv.weight for module in network.modules() if isinstance(module, Up)]
    pairs = sum(weight.shape[0] * weight.shape[1] for weight in ups)
    totals = [count_parameters(network) + pairs * (side * side - 4) for side in (2, 3, 4)]
    assert totals == [31_033_423, 34_515_023, 39_389_263]
    assert all(f"{total / 1e6:.2f} M" in NOTES["dpdnet"] for total in totals) and "35.25 M" in NOTES["dpdnet"]


def test_defocusgan_s_two_unused_layers_do_not_give_the_printed_parameters() -> None:
    unused = 2 * (64 * 64 * 9 + 64)
    assert f"{PUBLISHED['defocusgan']:,}" in NOTES["defocusgan"]
    assert f"{PUBLISHED['defocusgan'] + unused:,}" in NOTES["defocusgan"]


@pytest.mark.parametrize("system", ["blurred", "jnb", "external"])
def test_a_system_without_a_network_is_one_line(system: str) -> None:
    with pytest.raises(DDNetError, match=rf"^{system}: is no network, .*$"):
        counted(system)
