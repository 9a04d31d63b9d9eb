"""The terms of MDPNet's and IFAN's trainings that compare with the two views of a dual-pixel sensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.objective import Objective
from baselines.ifan.baseline import Ifan
from baselines.ifan.network import Network as IfanNetwork
from baselines.ifan.training import IfanObjective, warped
from baselines.mdpnet.network import Network as MdpnetNetwork
from baselines.mdpnet.training import MdpnetObjective
from ddnet.models import initialise


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def batch(side: int = 32, by: int = 2, left: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target, and the image to either side by so many pixels; the left view is so much darker."""
    sharp = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(5))
    image = F.avg_pool2d(F.pad(sharp, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    return image, sharp, torch.cat([left * image.roll(by, 3), image.roll(-by, 3)], dim=1)


def ifan(loss: dict[str, float]) -> IfanObjective:
    network = IfanNetwork(4, 2)
    initialise(network, 0)
    return IfanObjective(network, loss, None, lambda pixels: pixels)


def mdpnet(loss: dict[str, float]) -> MdpnetObjective:
    network = MdpnetNetwork(4)
    initialise(network, 0)
    return MdpnetObjective(network, loss, None, lambda pixels: pixels)


@pytest.mark.parametrize(
    ("make", "loss", "term"),
    [
        (ifan, {"disparity": 1.0}, "disparity"),
        (mdpnet, {"mse": 1.0, "views": 0.2}, "views"),
        (mdpnet, {"mse": 1.0, "difference": 0.2}, "difference"),
    ],
)
def test_a_few_steps_lower_the_term(make: Callable[[dict[str, float]], Objective], loss: object, term: str) -> None:
    objective = make(loss)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(objective.learned(), 1e-3)
    image, target, views = batch(by=4, left=1.0 if term == "disparity" else 0.5)
    values = []
    for _ in range(26):
        values.append(float(objective.terms(image, target, 0.5, views)[term].detach()))
        optimiser.zero_grad()
        objective(image, target, 0.5, views).backward()
        optimiser.step()
    assert values[-1] < 0.95 * values[0]


def test_the_two_views_of_mdpnet_together_are_the_picture_and_the_third_is_compared() -> None:
    objective = mdpnet({"mse": 1.0, "centre": 0.2})
    image, target, _ = batch()
    output = objective.network(image).detach().double().numpy()
    assert output.shape == (2, 9, 32, 32)
    centre = ((output[:, :3] / 2 + output[:, 3:6] / 2 - image.double().numpy()) ** 2).mean()
    sharp = ((output[:, 6:] - target.double().numpy()) ** 2).mean()
    found = {name: float(value.detach()) for name, value in objective.terms(image, target, 0.0).items()}
    assert found == {"mse": pytest.approx(sharp, rel=1e-5), "centre": pytest.approx(centre, rel=1e-5)}
    assert float(objective(image, target).detach()) == pytest.approx(sharp + 0.2 * centre, rel=1e-5)


def test_the_views_of_mdpnet_and_their_difference_are_compared_with_the_sensors() -> None:
    objective = mdpnet({"views": 0.2, "difference": 0.3})
    image, target, views = batch()
    left, right = np.split(objective.network(image).detach().double().numpy()[:, :6], 2, axis=1)
    true_left, true_right = np.split(views.double().numpy(), 2, axis=1)
    both = (((left - true_left) ** 2).mean() + ((right - true_right) ** 2).mean()) / 2
    difference = (((left - right) - (true_left - true_right)) ** 2).mean()
    found = {name: float(value.detach()) for name, value in objective.terms(image, target, 0.0, views).items()}
    assert found == {"views": pytest.approx(both, rel=1e-5), "difference": pytest.approx(difference, rel=1e-5)}
    weighted = 0.2 * both + 0.3 * difference
    assert float(objective(image, target, 0.0, views).detach()) == pytest.approx(weighted, rel=1e-5)


def grid_sampled(x: Tensor, disparity: Tensor) -> Tensor:
    """PyTorch's own sampling at the pixels of the same row that are `disparity` further right, zeros around."""
    height, width = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([(columns + disparity[:, 0]) / (width - 1), rows.expand_as(disparity[:, 0]) / (height - 1)], -1)
    return F.grid_sample(x, 2 * place - 1, mode="bilinear", padding_mode="zeros", align_corners=True)


@pytest.mark.parametrize("reach", [0.3, 2.0, 9.0, 1e6])
def test_warping_reads_zeros_beyond_the_border_as_pytorchs_sampling_does(reach: float) -> None:
    x = torch.rand(2, 3, 5, 7, dtype=torch.double)
    disparity = ((torch.rand(2, 1, 5, 7, dtype=torch.double) * 2 - 1) * reach).requires_grad_()
    found, expected = warped(x, disparity), grid_sampled(x, disparity)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(y.square().sum(), disparity)[0] for y in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_the_disparity_map_that_ifan_makes_of_the_right_view_warps_it_to_the_left_one() -> None:
    objective = ifan({"mse": 1.0, "disparity": 0.5})
    network = objective.network
    image, target, views = batch(64, 5)
    Ifan.initialise(network)  # with which maps depend on the picture
    last = network.DME[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    right = views[:, 3:].mul_(0.3)

    def made(pixels: Tensor) -> Tensor:
        """The description: encoder of the filters, then the estimator."""
        for stage, place in np.ndindex(4, 3):
            pixels = network.get_submodule(f"kconv{stage + 1}_{place + 1}")(pixels)
        return network.DME(pixels)  # type: ignore[operator, no-any-return]

    with torch.no_grad():
        last.weight.mul_(0.7 / made(right).std())
        last.bias.add_(1.3 - made(right).mean())
        disparity = made(right).double().numpy()[:, 0]
        assert np.abs(disparity - made(image).double().numpy()[:, 0]).max() > 0.1
        restored = network(image)
    assert disparity.shape == (2, 8, 8) and disparity.std() > 0.5 and disparity.mean() == pytest.approx(1.3, abs=1e-4)
    small = views.double().numpy().reshape(2, 2, 3, 8, 8, 8, 8).mean((4, 6))
    read = np.zeros((2, 3, 8, 8))
    for n, channel, row in np.ndindex(2, 3, 8):
        line = np.concatenate([[0.0], small[n, 1, channel, row], [0.0]])
        read[n, channel, row] = np.interp(np.arange(8) + disparity[n, row], np.arange(-1, 9), line)
    assert np.abs(read - small[:, 1]).max() > 0.02
    found = objective.terms(image, target, 0.0, views)
    assert found.keys() == {"mse", "disparity"}
    assert float(found["disparity"].detach()) == pytest.approx(((read - small[:, 0]) ** 2).mean(), rel=1e-4)
    torch.testing.assert_close(found["mse"].detach(), F.mse_loss(restored, target))

    names, parameters = zip(*network.named_parameters(), strict=True)
    taught = torch.autograd.grad(found["disparity"], parameters, allow_unused=True)
    parts = {name.split("_")[0].split(".")[0] for name, slope in zip(names, taught, strict=True) if slope is not None}
    assert parts == {"DME", "kconv1", "kconv2", "kconv3", "kconv4"}


def test_warping_by_whole_pixels_shifts_and_its_slope_is_that_of_differences() -> None:
    x = torch.rand(2, 3, 4, 6, dtype=torch.double)
    shifted = warped(x, torch.full((2, 1, 4, 6), 2.0, dtype=torch.double))
    torch.testing.assert_close(shifted[..., :4], x[..., 2:])
    assert not shifted[..., 4:].any()
    between = (0.2 + 0.6 * torch.rand(2, 1, 4, 6, dtype=torch.double)).requires_grad_()
    assert torch.autograd.gradcheck(lambda disparity: warped(x, disparity), between)
    assert warped(x, torch.full((2, 1, 4, 6), torch.nan, dtype=torch.double)).isnan().all()
