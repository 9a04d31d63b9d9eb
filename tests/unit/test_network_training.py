import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from baselines.common import network_training
from baselines.common.network_system import NetworkSystem, load_weights
from baselines.common.objective import Objective
from baselines.common.residual import learn_difference, start_as_identity
from ddnet.config import Patches
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.index import Scene
from ddnet.data.patches import extract_patches
from ddnet.errors import DDNetError

Data = tuple[list[Scene], Path]


class Small(nn.Module):
    """Two convolutions and a sigmoid, with a dropout between, whose random numbers a resumed training must continue."""

    def __init__(self, width: int, taps: int = 3) -> None:
        super().__init__()
        self.taps = taps
        self.first, self.dropout = nn.Conv2d(3, width, taps, padding=taps // 2), nn.Dropout(0.1)
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.last(self.dropout(torch.relu(self.first(x)))))


class Toy(NetworkSystem):
    needs = frozenset({"weights", "patches"})
    title = "Toy"
    multiple = 4
    width, widths = 8, range(1, 17)
    sizes = {"taps": (1, 3)}
    bgr = True

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        return Small(width, **sizes)

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        raise NotImplementedError


class Unbounded(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


class Open(Toy):
    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        return Unbounded(width, **sizes)


class Helped(Objective):
    """Learns a helper that is no part of the network."""

    own_terms = frozenset({"help"})

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.helper = nn.Parameter(torch.ones(()))

    def learned(self) -> Any:
        return [*self.network.parameters(), self.helper]

    def terms(self, *arguments: Any) -> dict[str, torch.Tensor]:
        return super().terms(*arguments) | {"help": self.helper**2}


class Compared(Objective):
    """Compares with views; keeps what it was given."""

    own_terms = frozenset({"first", "second"})
    view_terms = own_terms
    given: list[Any] = []

    def terms(self, image: torch.Tensor, target: torch.Tensor, progress: float, views: Any = None) -> Any:
        self.given.append((image, views))
        return super().terms(image, target, progress)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 4), ("val", 2)):
        render_split("embedded", split, count, 64, 8, 0, root)
    found = index_benchmark(root)
    extract_patches([scene for scene in found if scene.split == "train"], root / "patches", Patches(size=32))
    return [scene for scene in found if scene.split == "val"], root / "patches"


def recipe(**changes: Any) -> dict[str, Any]:
    return {"loss": {"mse": 1}, "lr": 5e-3, "batch": 4, "steps": 30, "width": 4, "validate_every": 0.2, **changes}


def train(data: Data, out: Path, kind: type[NetworkSystem] = Toy, **changes: Any) -> dict[str, Any]:
    scenes, patches = data
    return kind.train([], scenes, out, patches=patches, trunks=patches, **recipe(**changes))


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return dict(content)


@pytest.mark.parametrize("output", ["published", "residual"])
def test_training_lowers_the_loss_and_writes_weights_that_restore(data: Data, tmp_path: Path, output: str) -> None:
    before = torch.get_rng_state()
    scores = train(data, tmp_path / "weights.npz", output=output, sizes={"taps": 1})
    assert torch.equal(torch.get_rng_state(), before)
    with (tmp_path / "history.csv").open() as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    assert [row["step"] for row in rows] == [6, 12, 18, 24, 30]
    assert rows[-1]["loss"] < rows[0]["loss"] or output == "residual"  # which begins as good as a 1x1 one can be
    best = max(rows, key=lambda row: row["val_psnr"])
    assert scores["val_psnr"] == pytest.approx(best["val_psnr"]) and scores["best_step"] == best["step"]
    assert scores["params"] == 4 * 3 + 4 + 3 * 4 + 3 and scores["width"] == 4
    system = Toy(tmp_path / "weights.npz")
    psnr = network_training.validate(
        network_training.Setup(Toy, None, Objective(system.model, {"l1": 1}, None, system.to_rgb), None, None, system,  # type: ignore[arg-type]
                               data[0], 1)
    )  # fmt: skip
    assert psnr == pytest.approx(scores["val_psnr"], abs=1e-4)
    assert (tmp_path / "state").exists()  # until the training is recorded as finished


def test_a_network_that_learns_the_difference_begins_as_the_identity() -> None:
    network = Small(4).eval()
    learn_difference(network)
    start_as_identity(network)
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(network(image), image)


class Stopped(Exception):
    pass


def cut_at_20(monkeypatch: pytest.MonkeyPatch, first: Callable[[], object], then: Callable[[], object]) -> list[int]:
    """Run a training that is interrupted at its 20th step, then another; returns the steps of that one."""
    step, steps = network_training.train_step, list[int]()

    def stop_at_20(parts: Any, number: int) -> float:
        if number == 20:
            raise Stopped
        return step(parts, number)

    def note(parts: Any, number: int) -> float:
        steps.append(number)
        return step(parts, number)

    monkeypatch.setattr(network_training, "train_step", stop_at_20)
    with pytest.raises(Stopped):
        first()
    monkeypatch.setattr(network_training, "train_step", note)
    then()
    return steps


AUGMENTED = {"photometric": {"exposure": 1.0, "contrast": 0.3, "noise": 0.03, "jpeg": 60}, "average": 0.9}


@pytest.mark.parametrize("changes", [{}, AUGMENTED], ids=["plain", "augmented and averaged"])
def test_an_interrupted_training_ends_with_the_same_weights(
    changes: dict[str, Any], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helped = type("Helping", (Toy,), {"objective": Helped})
    whole, cut = tmp_path / "whole" / "weights.npz", tmp_path / "cut" / "weights.npz"

    def run(out: Path) -> None:
        assert not out.exists()
        train(data, out, helped, loss={"mse": 1, "help": 0.1}, **changes)

    run(whole)
    steps = cut_at_20(monkeypatch, lambda: run(cut), lambda: run(cut))
    assert steps[0] == 18
    first, second = arrays(whole), arrays(cut)
    assert all((first[name] == second[name]).all() for name in first) and not any("helper" in name for name in first)


@pytest.mark.parametrize("name", AUGMENTED)
def test_augmentation_and_the_average_reach_the_weights(name: str, data: Data, tmp_path: Path) -> None:
    train(data, tmp_path / "plain" / "weights.npz")
    train(data, tmp_path / name / "weights.npz", **{name: AUGMENTED[name]})
    first, second = arrays(tmp_path / "plain" / "weights.npz"), arrays(tmp_path / name / "weights.npz")
    assert any((first[key] != second[key]).any() for key in first)


def test_the_state_of_another_recipe_is_not_resumed(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "weights.npz"
    steps = cut_at_20(monkeypatch, lambda: train(data, out), lambda: train(data, out, lr=1e-3))
    assert steps == list(range(30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"huber": 1}}, "training.loss: unknown term 'huber'; allowed: l1, mse, perceptual"),
        ({"loss": {"mse": 0}}, "no term has a weight"),
        ({"sizes": {"taps": 2}}, "Toy: training.sizes has 'taps: 2'; allowed are taps: 1, 3"),
        ({"sizes": {"tops": 1}}, "Toy: training.sizes has 'tops: 1'"),
        ({"crop": 96}, "training.crop: 96 px do not fit"),
        ({"perceptual": {"weight": 1}}, "weights 'vgg19' are not in"),
        ({"lr": 1e30}, r"Toy: the loss is (nan|inf) at step \d+; lower lr, which is 1e\+30"),
    ],
)
def test_what_cannot_be_trained_is_one_line(data: Data, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DDNetError, match=message) as caught:
        train(data, tmp_path / "weights.npz", Open, **changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "weights.npz").exists()


def test_without_validation_scenes_nothing_is_trained(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="Toy: no validation scenes"):
        train(([], data[1]), tmp_path / "weights.npz")


def test_a_network_with_a_difference_of_its_own_is_not_given_another(data: Data, tmp_path: Path) -> None:
    own = type("Own", (Toy,), {"has_residual": True})
    with pytest.raises(DDNetError, match="Toy: it learns the difference to its input anyway; write output: published"):
        train(data, tmp_path / "weights.npz", own, output="residual")


def test_an_objective_is_not_part_of_the_file_but_of_the_state(data: Data, tmp_path: Path) -> None:
    train(data, tmp_path / "weights.npz")
    loaded = load_weights(tmp_path / "weights.npz", Toy)
    assert isinstance(loaded, Small) and loaded.taps == 3


def test_views_reach_the_objective_in_the_networks_channels_where_a_term_needs_them(data: Data, tmp_path: Path) -> None:
    kind = type("Comparing", (Toy,), {"objective": Compared})
    Compared.given.clear()
    train(data, tmp_path / "weights.npz", kind, steps=1, loss={"mse": 1, "first": 0.1})
    train(data, tmp_path / "weights.npz", kind, steps=1, loss={"mse": 1, "first": 0})
    (image, views), (same, none) = Compared.given
    assert none is None and torch.equal(image, same) and views.shape == (4, 6, 32, 32)
    left, right = views.cpu().chunk(2, dim=1)
    distances = [float((left / 2 + right / 2 - other).abs().mean()) for other in (image.cpu(), image.cpu().flip(1))]
    assert distances[0] < 0.005 < distances[1]  # blue, green, red, both of them


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"mse": 1, "first": 0.2},
            "Toy: training.loss.first needs the two views of a dual-pixel sensor, which these training images do not "
            "have; write first: 0",
        ),
        (
            {"first": 0.2, "second": 1},
            "Toy: training.loss.first and training.loss.second need the two views of a dual-pixel sensor, which these "
            "training images do not have; write first: 0, second: 0",
        ),
    ],
)
def test_a_term_that_needs_views_where_there_are_none_is_one_line(
    data: Data, tmp_path: Path, loss: dict[str, float], message: str
) -> None:
    scenes = [replace(scene, left=None, right=None) for scene in data[0]]
    extract_patches(scenes, tmp_path / "patches", Patches(size=32))
    kind = type("Comparing", (Toy,), {"objective": Compared})
    with pytest.raises(DDNetError) as caught:
        train((scenes, tmp_path / "patches"), tmp_path / "weights.npz", kind, loss=loss)
    assert str(caught.value) == message
    train((scenes, tmp_path / "patches"), tmp_path / "weights.npz", kind, steps=1, loss={"mse": 1, "first": 0})
