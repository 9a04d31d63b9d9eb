from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.common.objective import Objective
from baselines.defocusgan.network import Network as DefocusganNetwork
from baselines.defocusgan.training import CRITIC_LR, Critic, DefocusganObjective, gradient_penalty
from baselines.ifan.network import Network as IfanNetwork
from baselines.ifan.training import IfanObjective, Reblur
from baselines.mdpnet.network import Network as MdpnetNetwork
from baselines.mdpnet.training import MdpnetObjective
from ddnet.errors import DDNetError
from ddnet.models import count_parameters, initialise

Array = np.ndarray
Make = Callable[[dict[str, float]], Objective]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def same(pixels: Tensor) -> Tensor:
    return pixels


def batch(count: int = 2, side: int = 32) -> tuple[Tensor, Tensor]:
    """Blurred and sharp noise."""
    sharp = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5))
    return F.avg_pool2d(F.pad(sharp, (2, 2, 2, 2), mode="reflect"), 5, stride=1), sharp


def ifan(loss: dict[str, float], filters: int = 2, both_kernels: int = 0) -> IfanObjective:
    network = IfanNetwork(4, filters, both_kernels)
    initialise(network, 0)
    return IfanObjective(network, loss, None, same)


def mdpnet(loss: dict[str, float]) -> MdpnetObjective:
    network = MdpnetNetwork(4)
    initialise(network, 0)
    return MdpnetObjective(network, loss, None, same)


def defocusgan(loss: dict[str, float], critic_width: int | None = None) -> DefocusganObjective:
    network = DefocusganNetwork(8)
    initialise(network, 0)
    return DefocusganObjective(network, loss, None, same, critic_width)


def lowered(objective: Objective, term: str, steps: int, lr: float, progress: float = 0.5) -> tuple[float, float]:
    """A term before and after some steps on the same batch."""
    optimiser = torch.optim.Adam(objective.learned(), lr)
    image, target = batch()
    values = []
    for _ in range(steps):
        values.append(float(objective.terms(image, target, progress)[term].detach()))
        optimiser.zero_grad()
        objective(image, target, progress).backward()
        optimiser.step()
    return values[0], float(objective.terms(image, target, progress)[term].detach())


def test_what_only_training_needs_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        reblur = Reblur()
        assert reblur.read[0].in_channels == 15_232 and reblur.predict.out_channels == 357
        assert count_parameters(reblur) == 19_139_685
        assert count_parameters(Critic(64)) == 2_764_737
        assert Critic(64)(torch.rand(2, 3, 64, 64)).shape == (2, 1, 11, 11)  # one value a patch
        assert count_parameters(IfanObjective(IfanNetwork(), {"reblur": 1.0}, None, same)) == 10_476_996 + 19_139_685


@pytest.mark.parametrize(
    ("make", "allowed"),
    [
        (ifan, "disparity, l1, mse, perceptual, reblur"),
        (mdpnet, "centre, difference, l1, mse, perceptual, views"),
        (defocusgan, "adversarial, l1, mse, perceptual"),
    ],
)
def test_an_unknown_term_is_one_line(make: Make, allowed: str) -> None:
    with pytest.raises(DDNetError) as caught:
        make({"mse": 1.0, "depth": 1.0})
    assert str(caught.value) == f"training.loss: unknown term 'depth'; allowed: {allowed}"


@pytest.mark.parametrize("make", [ifan, mdpnet, defocusgan])
def test_without_its_own_term_nothing_but_the_network_is_learnt_or_saved(make: Make) -> None:
    objective = make({"l1": 1.0, "mse": 2.0})
    image, target = batch()
    objective.before_step(image, target, 0.9)
    restored = objective.network(image)[:, -3:]
    expected = (restored - target).abs().mean() + 2 * ((restored - target) ** 2).mean()
    torch.testing.assert_close(objective(image, target, 0.9), expected)
    assert {id(p) for p in objective.learned()} == {id(p) for p in objective.network.parameters()}
    assert {name.split(".")[0] for name in objective.state_dict()} <= {"network", "_extra_state"}
    objective.load_state_dict(objective.state_dict())


@pytest.mark.parametrize(
    ("make", "loss", "term"),
    [
        (ifan, {"mse": 1.0, "reblur": 1.0}, "reblur"),
        (mdpnet, {"mse": 1.0, "centre": 0.2}, "centre"),
        (defocusgan, {"adversarial": 1.0}, "adversarial"),  # of a critic that stands still
    ],
)
def test_a_few_steps_lower_a_systems_own_term(make: Make, loss: dict[str, float], term: str) -> None:
    start, end = lowered(make(loss), term, steps=15, lr=1e-3)
    assert end < 0.95 * start


@pytest.mark.parametrize("both_kernels", [0, 1])
def test_the_filters_for_training_are_those_that_the_network_restores_with(both_kernels: int) -> None:
    network = IfanNetwork(4, 3, both_kernels)
    initialise(network, 0)
    given: list[Tensor] = []
    handle = network.F.register_forward_hook(lambda _, inputs, output: given.append(output))
    image, _ = batch()
    restored, filters, _ = network.in_parts(image)
    handle.remove()
    assert filters.shape == (2, 28 * 4 * 3, 4, 4) and given[0] is filters
    torch.testing.assert_close(restored, network(image), rtol=1e-6, atol=1e-6)
    [gradient] = torch.autograd.grad(restored.sum(), filters)
    used = gradient.abs().amax((0, 2, 3)).unflatten(0, (-1, 16)) > 0  # a kernel has three blocks of 16
    second = torch.tensor([False] * 3 + [True] * 3).repeat(3)
    assert used[~torch.cat([second, torch.zeros(3, dtype=torch.bool)])].any(1).all()
    assert used[:18][second].any() == bool(both_kernels)


def convolved(x: Array, layer: nn.Conv2d) -> Array:
    """A 3x3 convolution of (C, H, W), zeros around."""
    assert layer.bias is not None
    weight, bias = (value.detach().double().numpy() for value in (layer.weight, layer.bias))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    y: Array = np.einsum("ocrs,chwrs->ohw", weight, windows) + bias[:, None, None]
    return y


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.1 * x)


def blurred_again(sharp: Array, filters: Array, reblur: Reblur, both_kernels: bool) -> Array:
    """(3, h, w): the description written out pixel by pixel."""
    first, *rest, last = [module for module in reblur.modules() if isinstance(module, nn.Conv2d)]
    x = leaky(convolved(filters, first))
    assert len(rest) == 8
    for block in (rest[:4], rest[4:]):
        before = x
        for one, two in (block[:2], block[2:]):
            x = leaky(x + convolved(leaky(convolved(x, one)), two))
        x = before + x
    own = convolved(x, last)
    height, width = sharp.shape[1:]
    y = sharp
    for number in range(17):
        kernels = own[18 * number : 18 * (number + 1)].reshape(2, 3, 3, height, width)
        for axis, kernel in ((0, kernels[0]), (1, kernels[1 if both_kernels else 0])):
            z = np.zeros_like(y)
            for i in range(height):
                for j in range(width):
                    for tap in range(3):
                        row = min(max(i + tap - 1, 0), height - 1) if axis == 0 else i
                        column = min(max(j + tap - 1, 0), width - 1) if axis == 1 else j
                        z[:, i, j] += kernel[:, tap, i, j] * y[:, row, column]
            y = z
        y = y + own[17 * 18 + 3 * number : 17 * 18 + 3 * (number + 1)]
        y = leaky(y) if number < 16 else y
    return sharp + y


@pytest.mark.parametrize("both_kernels", [0, 1])
def test_reblurring_is_what_its_description_gives(both_kernels: int) -> None:
    objective = ifan({"reblur": 1.0}, filters=1, both_kernels=both_kernels)
    reblur = objective.reblur
    assert reblur is not None
    with torch.no_grad():
        assert reblur.predict.bias is not None
        reblur.predict.bias[: 17 * 18] = 0.33  # so that something is left after 17 filters
        reblur.predict.bias[17 * 18 :].uniform_(-0.2, 0.2)
    image, target = batch(2, 32)
    filters = objective.network.in_parts(image)[1].detach().double().numpy()
    small_image, small = (np.asarray(x.double()).reshape(2, 3, 4, 8, 4, 8).mean((3, 5)) for x in (image, target))
    expected = np.stack([blurred_again(small[n], filters[n], reblur, bool(both_kernels)) for n in range(2)])
    other = blurred_again(small[0], filters[0], reblur, not both_kernels)
    assert 0.05 < np.abs(expected - small).mean() < 10 and np.abs(expected[0] - other).max() > 1e-3
    [(name, found)] = objective.terms(image, target, 0.0).items()
    assert name == "reblur"
    np.testing.assert_allclose(float(found.detach()), ((expected - small_image) ** 2).mean(), rtol=1e-4)


def test_reblurring_alone_teaches_its_head_and_what_predicts_the_filters() -> None:
    objective = ifan({"reblur": 1.0})
    image, target = batch()
    objective(image, target).backward()
    learned = {id(parameter) for parameter in objective.learned()}
    assert learned == {id(parameter) for parameter in objective.parameters()}
    taught = {name for name, p in objective.named_parameters() if p.grad is not None and p.grad.any()}
    parts = {".".join(name.split(".")[:2]) for name in taught}
    assert {"network.F", "network.kconv1_1", "network.DME", "reblur.read", "reblur.predict"} <= parts
    assert not {"network.conv1_1", "network.out_res"} & parts


def test_the_gradient_penalty_is_that_of_differences_pixel_by_pixel() -> None:
    critic = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1)).double()
    generator = torch.Generator().manual_seed(1)
    sharp, restored = (torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.double) for _ in range(2))
    share = torch.tensor(0.3, dtype=torch.double)

    @torch.no_grad()
    def by_differences() -> float:
        mixed, gradient, h = 0.3 * sharp + 0.7 * restored, torch.zeros_like(sharp), 1e-5
        for place in np.ndindex(*mixed.shape):
            moved = torch.zeros_like(mixed)
            moved[place] = h
            gradient[place] = (critic(mixed + moved).sum() - critic(mixed - moved).sum()) / (2 * h)
        return float((((gradient**2).sum(1).sqrt() - 1) ** 2).mean())

    penalty = gradient_penalty(critic, sharp, restored, share)
    assert float(penalty.detach()) == pytest.approx(by_differences(), rel=1e-6)
    penalty.backward()
    weight = critic[0].weight
    assert isinstance(weight, Tensor) and weight.grad is not None
    expected = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[1, 2, 0, 1] += sign * 1e-4
            expected.append(by_differences())
            weight[1, 2, 0, 1] -= sign * 1e-4
    assert float(weight.grad[1, 2, 0, 1]) == pytest.approx((expected[0] - expected[1]) / 2e-4, rel=1e-3)


def test_the_critic_learns_from_the_6th_part_of_91_and_counts_from_the_11th() -> None:
    objective = defocusgan({"l1": 1.0, "adversarial": 0.5})
    critic = objective.critic
    assert critic is not None
    image, target = batch()
    start = [value.clone() for value in critic.parameters()]
    network = [value.clone() for value in objective.network.parameters()]

    objective.before_step(image, target, 4.99 / 91)
    assert all(torch.equal(*both) for both in zip(critic.parameters(), start, strict=True))
    objective.before_step(image, target, 5.01 / 91)
    assert not any(torch.equal(*both) for both in zip(critic.parameters(), start, strict=True) if both[0].ndim > 1)
    assert {int(state["step"]) for state in objective.optimiser.state.values()} == {2}
    assert all(torch.equal(*both) for both in zip(objective.network.parameters(), network, strict=True))
    assert all(value.grad is None for value in objective.network.parameters())

    before, after = (objective.terms(image, target, share / 91) for share in (9.99, 10.01))
    assert float(before["adversarial"].detach()) == 0
    expected = -critic(objective.network(image)).mean()
    torch.testing.assert_close(after["adversarial"], expected)
    assert abs(float(expected.detach())) > 1e-4
    objective(image, target, 0.5).backward()
    assert all(value.grad is None for value in critic.parameters())
    assert all(value.grad is not None for value in objective.network.parameters())


def test_the_critic_learns_to_tell_restored_from_sharp() -> None:
    objective = defocusgan({"adversarial": 1.0}, 32)
    image, target = batch()
    restored = objective.network(image).detach()
    losses = []
    for _ in range(4):
        torch.manual_seed(1)  # the same mixture each time
        losses.append(float(objective.critic_loss(restored, target).detach()))
        objective.before_step(image, target, 0.5)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(("epoch", "times"), [(29.9, 1.0), (30.0, 0.5), (60.1, 0.25), (90.5, 0.125)])
def test_the_critics_learning_rate_is_halved_as_published(epoch: float, times: float) -> None:
    objective = defocusgan({"adversarial": 1.0})
    assert objective.critic is not None and objective.critic[0].out_channels == 8  # as wide as the generator
    objective.before_step(*batch(), epoch / 91)
    assert objective.optimiser.param_groups[0]["lr"] == CRITIC_LR * times


def test_the_picture_that_the_critic_saw_is_the_one_that_is_judged_and_no_other_batch() -> None:
    objective = defocusgan({"l1": 1.0, "adversarial": 0.001})
    calls: list[Tensor] = []
    objective.network.register_forward_hook(lambda _, inputs, output: calls.append(inputs[0]))
    image, target = batch()
    objective.before_step(image, target, 0.5)
    once = objective.terms(image, target, 0.5)
    assert len(calls) == 1
    again = objective.terms(image, target, 0.5)
    assert len(calls) == 2 and torch.equal(once["l1"], again["l1"])
    objective.before_step(image, target, 0.5)
    other = image.flip(3)
    found = objective.terms(other, target, 0.5)["l1"]
    assert calls[-1] is other and not torch.equal(found, once["l1"])


def advance(objective: Objective, optimiser: torch.optim.Optimizer, progress: float) -> None:
    image, target = batch()
    objective.before_step(image, target, progress)
    optimiser.zero_grad()
    objective(image, target, progress).backward()
    optimiser.step()


def test_a_training_that_is_read_back_goes_on_to_the_bit(tmp_path: Path) -> None:
    def begin() -> tuple[DefocusganObjective, torch.optim.Optimizer]:
        objective = defocusgan({"l1": 0.5, "adversarial": 0.01})
        return objective, torch.optim.Adam(objective.learned(), 1e-3)

    objective, optimiser = begin()
    for _ in range(2):
        advance(objective, optimiser, 0.2)
    state = {"objective": objective.state_dict(), "optimiser": optimiser.state_dict(), "rng": torch.get_rng_state()}
    torch.save(state, tmp_path / "last.ckpt")
    for _ in range(2):
        advance(objective, optimiser, 0.4)

    torch.manual_seed(99)
    again, its_optimiser = begin()
    read = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again.load_state_dict(read["objective"])
    its_optimiser.load_state_dict(read["optimiser"])
    torch.set_rng_state(read["rng"])
    for _ in range(2):
        advance(again, its_optimiser, 0.4)

    expected, found = objective.state_dict(), again.state_dict()
    moments, its_moments = (state.pop("_extra_state")["state"] for state in (expected, found))
    assert expected.keys() == found.keys() and any(name.startswith("critic.") for name in expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert moments.keys() == its_moments.keys() and len(moments) == 10
    for place, values in moments.items():
        assert int(values["step"]) == 8
        assert all(torch.equal(its_moments[place][name], value) for name, value in values.items())
