"""Checkpoints as training programs write them: any wrapper, prefix, type, container: the plain file's network."""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_defocusgan
import test_ifan
import test_released
import torch
from monodepth2_zip import published_states
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.common.network_system import load_weights
from baselines.defocusgan.baseline import Defocusgan
from baselines.ifan.baseline import Ifan
from ddnet.depth.weights import load_published
from ddnet.errors import DDNetError
from ddnet.io.state_dicts import find_state
from ddnet.models.released import load_released

State = dict[str, Tensor]

WRAPPERS = (
    (), ("params",), ("params_ema",), ("state_dict",), ("model",), ("model_state_dict",), ("net",), ("network",),
    ("generator",), ("netG",), ("weights",), ("model", "state_dict"), ("ema", "shadow"), ("checkpoint", "model", "net"),
)  # fmt: skip
PREFIXES = (
    "", "module.", "_orig_mod.", "model.", "network.", "net.", "generator.", "module._orig_mod.",
    "_orig_mod.module.", "model.module.", "model_ema.module.",
)  # fmt: skip
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
CONTAINERS = ("zip", "legacy", "safetensors")
NAMES = ("a.pth", "a.pth.tar", "a.pt", "last.ckpt", "IFAN.pytorch", "pytorch_model.bin", "a.safetensors", "download")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def _ifan() -> State:
    return {name.removeprefix("module."): value for name, value in test_ifan.published(1).items()}


@cache
def _depth() -> dict[str, dict[str, Any]]:
    return published_states()


def _load_ifan(path: Path) -> nn.Module:
    path.rename(path.with_name("IFAN.pytorch"))
    Ifan.convert(path.parent, path.parent / "weights.npz")
    return load_weights(path.parent / "weights.npz", Ifan)


def _load_defocusgan(path: Path) -> nn.Module:
    path.rename(path.with_name("90_models.pth"))
    Defocusgan.convert(path.parent, path.parent / "weights.npz")
    return load_weights(path.parent / "weights.npz", Defocusgan)


def _load_depth(path: Path) -> nn.Module:
    torch.save(_depth()["depth.pth"], path.parent / "depth.pth")
    return load_published(path, path.parent / "depth.pth")[0].encoder


def _encoder() -> State:
    return {name: torch.as_tensor(value) for name, value in _depth()["encoder.pth"].items() if name != "use_stereo"}


SYSTEMS: dict[str, tuple[Callable[[], State], Callable[[Path], nn.Module]]] = {
    "ddnet": (cache(test_released.published), load_released),
    "ifan": (_ifan, _load_ifan),
    "defocusgan": (cache(test_defocusgan.published), _load_defocusgan),
    "monodepth2": (_encoder, _load_depth),
}
COUNT = {"ddnet": len(WRAPPERS), "ifan": 4, "defocusgan": 5, "monodepth2": 4}
CASES = [
    (system, WRAPPERS[(place + turn * len(SYSTEMS)) % len(WRAPPERS)], PREFIXES[(turn * 3 + place) % len(PREFIXES)],
     DTYPES[(turn + place) % 4], CONTAINERS[turn % 3], NAMES[(turn * 5 + place) % len(NAMES)])
    for place, system in enumerate(SYSTEMS) for turn in range(COUNT[system])
]  # fmt: skip


def wrapped(state: Mapping[str, Any], wrapper: tuple[str, ...], prefix: str, dtype: torch.dtype) -> dict[str, Any]:
    """The tensors under their names with a prefix, in dictionaries, beside what training keeps."""
    content: dict[str, Any] = {
        prefix + name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()
    }
    first = next(iter(content.values()))
    for name in reversed(wrapper):
        content = {name: content, "epoch": 3, "best": np.float64(31.5), "args": argparse.Namespace(lr=1e-4)}
        content["optimizer"] = {"state": {0: {"exp_avg": first}}, "param_groups": [{"lr": 1e-4}]}
    return content


def write(path: Path, content: dict[str, Any], container: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if container == "safetensors":
        save_file({name: value.contiguous() for name, value in flat(content).items()}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    return path


def flat(content: Mapping[Any, Any], before: str = "") -> State:
    found: State = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        elif isinstance(value, Tensor):
            found[f"{before}{name}"] = value.clone()
    return found


PLAIN: dict[str, State] = {}


def plain(system: str, folder: Path) -> State:
    """The network of the plain file."""
    if system not in PLAIN:
        make, load = SYSTEMS[system]
        PLAIN[system] = load(write(folder / "plain.pth", {"state_dict": make()}, "zip")).state_dict()
    return PLAIN[system]


@pytest.mark.parametrize(("system", "wrapper", "prefix", "dtype", "container", "name"), CASES)
def test_any_form_gives_the_network_of_the_plain_file(
    system: str, wrapper: tuple[str, ...], prefix: str, dtype: torch.dtype, container: str, name: str, tmp_path: Path
) -> None:
    if container == "safetensors" and "checkpoint" in wrapper:
        wrapper = wrapper[1:]  # all names are in one dictionary there, and this one is not known
    make, load = SYSTEMS[system]
    state = make()
    loaded = load(write(tmp_path / "one" / name, wrapped(state, wrapper, prefix, dtype), container))
    got, wanted = loaded.state_dict(), plain(system, tmp_path / "two")
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():  # rounded to the type, and back
        assert got[key].dtype == value.dtype
        assert not value.is_floating_point() or torch.equal(got[key], value.to(dtype).float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_output_is_the_plain_files_to_the_types_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    state = test_released.published()
    plain = load_released(write(tmp_path / "a.pth", {"state_dict": state}, "zip"))
    content = wrapped(state, ("params_ema",), "module.", dtype)
    loaded = load_released(write(tmp_path / "b.pth", content, "zip"))
    image, depth = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        expected, output = plain(image, depth), loaded(image, depth)
    torch.testing.assert_close(output, expected, rtol=0, atol=max(1e-6, 8 * torch.finfo(dtype).eps))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("prefix", ["", "module.", "module.Network.", "Network.", "model.Network."])
def test_ifans_names_may_lack_what_its_class_puts_before_them(container: str, prefix: str, tmp_path: Path) -> None:
    state = {
        f"{prefix}{name.removeprefix('Network.')}": value for name, value in _ifan().items() if "reblur" not in name
    }
    network = _load_ifan(write(tmp_path / "one.pth", state, container))
    assert all(torch.equal(value, _ifan()[f"Network.{name}"]) for name, value in network.state_dict().items())


# The rest is of names alone, so that all combinations can be tried.
SMALL = {"head.weight": torch.arange(4.0), "body.0.norm.running_mean": torch.ones(2), "body.0.weight": torch.ones(3)}


def taken(content: Any) -> State:
    found = find_state(content, SMALL.__contains__, "a.pth", "Toy")
    return {name.removeprefix(found.prefix): value for name, value in found.entries.items()}


def test_every_wrapper_with_every_prefix() -> None:
    for wrapper, prefix, dtype in itertools.product(WRAPPERS, PREFIXES, DTYPES):
        content = wrapped(SMALL, wrapper, prefix, dtype)
        for form in (content, flat(content) if wrapper[:1] not in (("checkpoint",), ("ema",)) else content):
            got = taken(form)
            assert got.keys() == SMALL.keys(), (wrapper, prefix)
            assert all(torch.equal(got[name], SMALL[name].to(dtype)) for name in SMALL), (wrapper, prefix)


@pytest.mark.parametrize(
    "content",
    [
        {"params": SMALL, "params_ema": {name: value + 1 for name, value in SMALL.items()}},
        {"state_dict": SMALL, "state_dict_ema": {name: value + 1 for name, value in SMALL.items()}},
        {"model": SMALL, "model_ema": {f"module.{name}": value + 1 for name, value in SMALL.items()}},
        {"model": SMALL, "ema": {"decay": 0.999, "shadow": {name: value + 1 for name, value in SMALL.items()}}},
        {"g": SMALL, "g_ema": {name: value + 1 for name, value in SMALL.items()}},
        {"modelEMA": {name: value + 1 for name, value in SMALL.items()}, "model": SMALL},
        {**SMALL, **{f"ema.{name}": value + 1 for name, value in SMALL.items()}},
        {"state_dict": {
            **{f"model.{name}": value for name, value in SMALL.items()},
            **{f"ema_model.module.{name}": value + 1 for name, value in SMALL.items()},
            "ema_model.n_averaged": torch.tensor(5), "loss.vgg.weight": torch.ones(3),
        }},
    ],
)  # fmt: skip
def test_of_two_sets_the_averaged_one_is_taken_and_said(content: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert all(torch.equal(value, SMALL[name] + 1) for name, value in taken(content).items())
    with caplog.at_level(logging.WARNING):
        find_state(content, SMALL.__contains__, "a.pth", "Toy").tell("Toy")
    assert caplog.text.count("Toy: the file holds more than one set of weights; taken: '") == 1
    assert ", averaged over training; left: " in caplog.text and "\n" not in caplog.messages[0]


def test_an_incomplete_average_is_left_and_said() -> None:
    partial = {name: value + 1 for name, value in SMALL.items() if name != "head.weight"}
    found = find_state({"params": SMALL, "params_ema": partial}, SMALL.__contains__, "a.pth", "Toy")
    assert torch.equal(found.entries["head.weight"], SMALL["head.weight"])
    assert found.said.endswith("taken: 'params'; left: 'params_ema' (incomplete)")


def test_what_training_keeps_beside_is_left_out() -> None:
    extra = {
        "body.0.norm.num_batches_tracked": torch.tensor(7), "n_averaged": torch.tensor(3), "step": torch.tensor(9),
        "optimizer.state.0.exp_avg": torch.ones(3), "ema.decay": torch.tensor(0.9), "epoch": 4,
        "head.weight.exp_avg": torch.ones(4), "discriminator.0.weight": torch.ones(2),
        "module.head.weight": torch.ones(4),
    }  # fmt: skip
    assert taken(SMALL | extra).keys() == SMALL.keys()
    moments = {"exp_avg": {name: value * 0 for name, value in SMALL.items()}}
    content = {"model": SMALL, "optimizer": moments, "exp_avg_sq": moments["exp_avg"], "lr_scheduler": {"a": [1, 2]}}
    assert torch.equal(taken(content)["head.weight"], SMALL["head.weight"])
    around: dict[str, Any] = {"model": SMALL}
    around["again"] = around  # a pickle can hold itself
    assert taken(around).keys() == SMALL.keys()


def test_the_same_set_twice_is_one_and_two_that_differ_are_refused() -> None:
    assert taken({"model": SMALL, "state_dict": {f"module.{name}": v.clone() for name, v in SMALL.items()}})
    other = {name: value + 1 for name, value in SMALL.items()}
    with pytest.raises(DDNetError, match="^a.pth: 'model' and 'state_dict' both hold weights of Toy, and they"):
        taken({"model": SMALL, "state_dict": other})
    assert torch.equal(taken({"old": other, "model": SMALL})["head.weight"], SMALL["head.weight"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "list, not a dictionary of tensors"),
        ({}, "dict, not a dictionary of tensors"),
        ({1: torch.ones(2)}, "not a dictionary of tensors"),
        ({"state_dict": {"epoch": 3}}, "not a dictionary of tensors"),
        (
            {f"backbone.{name}": value for name, value in SMALL.items()},
            "its names begin with 'backbone.', which is",
        ),
        ({"a": {f"student.net.{name}": value for name, value in SMALL.items()}}, "begin with 'student.net.', which"),
        ({"layer.weight": torch.ones(2)}, "no tensor has a name that is known, the first is 'layer.weight'"),
    ],
)
def test_what_is_no_such_network_is_one_line(content: Any, said: str) -> None:
    with pytest.raises(DDNetError, match=f"^a.pth: .*{said}.*; not weights of Toy"):
        taken(content)


NEAR = ("missing", "shape", "prefix", "unknown", "whole numbers", "not finite")


@pytest.mark.parametrize(
    ("system", "near"),
    [(system, near) for system in SYSTEMS for near in (NEAR if system in ("ddnet", "defocusgan") else NEAR[:3])],
)
def test_a_near_miss_is_one_line_that_names_it(system: str, near: str, tmp_path: Path) -> None:
    make, load = SYSTEMS[system]
    state = dict(make())
    name = [name for name, value in state.items() if value.ndim == 4 and not name.startswith("connect")][3]
    said = name
    if near == "missing":
        said = "1 are missing" if system == "ddnet" else name
        del state[name]
    elif near == "shape":
        state[name] = state[name][:-1]
    elif near == "prefix":
        said, state = "begin with 'module.backbone.", {f"backbone.{key}": value for key, value in state.items()}
    elif near == "unknown":
        said = f"{name.rpartition('.')[0]}.scale"
        state[said] = torch.ones(3)
    elif near == "whole numbers":
        said, state[name] = "int32 (", (100 * state[name]).to(torch.int32)
    else:
        said, state[name] = "not finite", torch.full_like(state[name], torch.nan)
    path = write(tmp_path / "a.pth", {"params": {f"module.{key}": value for key, value in state.items()}}, "zip")
    with pytest.raises(DDNetError) as caught:
        load(path)
    assert said in str(caught.value) and "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("form", [Toy, lambda: nn.DataParallel(Toy()), lambda: {"model": Toy(), "epoch": 1}])
def test_a_whole_pickled_model_is_refused_with_the_way_to_convert_it(
    form: Callable[[], Any], container: str, tmp_path: Path
) -> None:
    path = tmp_path / "whole.pth"
    torch.save(form(), path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(DDNetError) as caught:
        load_released(path)
    said = str(caught.value)
    assert "making that would execute code" in said and "\n" not in said
    first, second = said.split("`")[1::2]
    assert first == "model = torch.load('whole.pth', weights_only=False)"
    assert second == "torch.save(model.state_dict(), 'weights.pth')"


def test_the_way_to_convert_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_released(test_released.save(tmp_path / "a.pth", test_released.published()))
    torch.save(model, tmp_path / "whole.pth")
    with pytest.raises(DDNetError) as caught:
        load_released(tmp_path / "whole.pth")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(str(caught.value).split("`")[1::2]), {"torch": torch})
    assert torch.load("weights.pth", weights_only=True).keys() == model.state_dict().keys()
