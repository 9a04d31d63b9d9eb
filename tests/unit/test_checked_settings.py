"""What is checked before anything runs: names, numbers, duplicates; `--config` is read as a file is."""

from __future__ import annotations

import logging
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from ddnet import registry
from ddnet.benchmark.estimate_cost import Bench
from ddnet.cli.main import CONFIG, main
from ddnet.config import (
    given,
    load_baselines,
    load_settings,
    load_sources,
    load_variants,
    merge,
    named_files,
    source_of,
    validate_settings,
)
from ddnet.config._base import read_yaml
from ddnet.depth.sources._base import inference_device
from ddnet.errors import DDNetError
from ddnet.io import tensors
from ddnet.models.ddnet import DDNet, require_fused
from ddnet.planning.baselines import baseline_names, options_of
from ddnet.planning.plan import Plan
from ddnet.runtime.paths import ROOT
from ddnet.training.setup import _fabric

VARIANTS = load_variants(CONFIG / "variants.yaml")
BASELINES = load_baselines(CONFIG / "baselines.yaml")


def plan(changes: dict[str, Any] | None = None, preset: str = "embedded") -> Plan:
    return Plan(load_settings(CONFIG / f"{preset}.yaml", changes), VARIANTS, BASELINES)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(DDNetError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation": {"metrics": ["psnr", "sim"]}}, "no metric 'sim'; did you mean 'ssim'?"),
        ({"evaluation": {"metrics": ["psnr", "lpips_alx"]}}, "did you mean 'lpips_alex'?"),
        ({"evaluation": {"metrics": ["ssim"]}}, "evaluation.metrics: lacks psnr"),
        ({"evaluation": {"metrics": []}}, "evaluation.metrics: lacks psnr"),
        ({"evaluation": {"metrics": ["psnr", "ssim", "psnr"]}}, "psnr stands there twice"),
        ({"studies": ["modules", "modules"]}, "modules stands there twice"),
        ({"studies": ["fusoin"]}, "did you mean 'fusion'?"),
        ({"seeds": [1, 1]}, "1 stands there twice"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": -1}, "from 1 to"),
        ({"seeds": 10**9}, "from 1 to"),
        ({"seeds": [2**32]}, "seeds"),
        ({"seeds_of": {"ddnet_1b": [3, 3]}}, "3 stands there twice"),
        ({"seeds_of": {"ddnet_1b": [-2]}}, "seeds_of.ddnet_1b"),
        ({"seeds_of": {"ddnet1b": 2}}, "did you mean 'ddnet_1b'?"),
        ({"data": {"seed": -1}}, "data.seed"),
        ({"depth": {"fit": {"seed": -1}}}, "depth.fit.seed"),
        ({"depth": {"source": "monodepth"}}, "did you mean 'monodepth2'?"),
        ({"depth": {"source": "noisy(0.1"}}, "write a name, or a name and numbers"),
        ({"depth": {"source": "noisy(x)"}}, "'x' is not a list of numbers"),
        ({"depth": {"source": "noisy(3)"}}, "sigma must lie in [0, 1]"),
        ({"depth": {"source": "noisy(-0.1)"}}, "sigma must lie in [0, 1]"),
        ({"depth": {"source": "noisy(nan)"}}, "sigma must lie in [0, 1]"),
        ({"depth": {"source": "noisy(0.1, 2)"}}, "noisy takes sigma"),
        ({"depth": {"source": "constant(2)"}}, "value must lie in [0, 1]"),
        ({"depth": {"source": "rendered(1)"}}, "rendered takes no number"),
        ({"training": {"lr": math.inf}}, "training.lr"),
        ({"training": {"milestones": [2]}}, "training.milestones"),
        ({"training": {"perceptual": {"trunk": "vgg18"}}}, "did you mean 'vgg1"),
        ({"model": {"output": "sigmod"}}, "did you mean 'sigmoid'?"),
        ({"data": {"kind": "foldr"}}, "did you mean 'folder'?"),
        ({"systems": {"kpac": {"weights": "official", "recipe": "commn"}}}, "did you mean 'common'?"),
        ({"systems": {"kpac": {"weights": "train", "training": {"loss": {"ms": 1}}}}}, "did you mean 'mse'?"),
        ({"systems": {"kpac": {"weights": "train", "training": {"loss": {"mse": 0}}}}}, "no term has a weight"),
        ({"systems": {"ifan": {"weights": "train", "training": {"loss": {"rebluur": 1}}}}}, "did you mean 'reblur'?"),
    ],
)
def test_a_wrong_name_or_number_is_refused_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(lambda: plan(changes))


@pytest.mark.parametrize(("trial", "most"), [("train", 350), ("val", 74), ("test", 76), ("realdof", 50)])
def test_a_trial_has_no_more_scenes_than_there_are(trial: str, most: int) -> None:
    few = {"train": 4, "val": 1, "test": 1, "realdof": 1}
    assert f"data.trial.{trial}" in refusal(lambda: plan({"data": {"trial": few | {trial: most + 1}}}, "paper"))
    assert plan({"data": {"trial": few | {trial: most}}}, "paper").trial


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x: {system: ebdp, label: X}", "no system 'ebdp'; did you mean 'ebdb'?"),
        ("x: {system: ebdb, label: X, datasets: dpd}", "no test set 'dpd'; did you mean 'dpdd'?"),
        ("x: {system: ebdb, label: X, datasets: [dpdd, dpdd]}", "dpdd stands there twice"),
        ("x: {system: ebdb, label: X, per_dataset: {realdoff: {lam: 4}}}", "did you mean 'realdof'?"),
        ("x: {system: ebdb, label: X, per_dataset: {realdof: {lamm: 4}}}", "has no option 'lamm'; did you mean 'lam'?"),
        ("x: {system: jnb, label: X, options: {iteratons: 4}}", "did you mean 'iterations'?"),
        ("x: {system: jnb, label: X, options: {method: richardson}}", "did you mean 'richardson_lucy'?"),
        ("x: {system: kpac, label: X, options: {width: 4}}", "kpac has no option 'width'"),
        ("x: {system: blurred, label: X, options: {width: 4}}", "blurred has no option 'width'"),
    ],
)
def test_lines_of_a_baselines_file(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "baselines.yaml"
    file.write_text(f"blurred: {{system: blurred, label: Blurred}}\n{line}\n")
    settings = load_settings(CONFIG / "embedded.yaml", {"systems": {}})
    assert words in refusal(lambda: Plan(settings.model_copy(update={"systems": {}}), VARIANTS, load_baselines(file)))


def test_the_options_of_every_compared_system_are_known() -> None:
    assert {line.system for line in BASELINES.values()} | {"external"} == set(baseline_names())
    for system in baseline_names():
        assert options_of(system) is not None, system
    assert options_of("external") == ["folder"] and options_of("kpac") == [] and "magnify" in (options_of("ebdb") or [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{study: fusoin}", "did you mean 'fusion'?"),
        ("{study: [fusion, fusion]}", "fusion stands there twice"),
        ("{study: fusion, fusion: filmm}", "no fusion 'filmm'"),
        ("{study: fusion, fusion: coc, fusion_options: {map: 2}}", "did you mean 'maps'?"),
        ("{study: controls, depth_source: noisy(7)}", "variant 'x': 'noisy(7)': sigma must lie in [0, 1]"),
        ("{depth_source: rendred}", "did you mean 'rendered'?"),
        ("{study: modules, branches: [0]}", "branches"),
        ("{study: modules, arch: dnet}", "did you mean 'ddnet'?"),
    ],
)
def test_lines_of_a_variants_file(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text((CONFIG / "variants.yaml").read_text() + f"\nx: {line}\n")
    settings = load_settings(CONFIG / "embedded.yaml")
    assert words in refusal(lambda: Plan(settings, load_variants(file), BASELINES))


def test_a_group_of_ones_own_has_no_table_and_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text((CONFIG / "variants.yaml").read_text() + "\nx: {study: my_own_group}\n")
    assert Plan(load_settings(CONFIG / "embedded.yaml"), load_variants(file), BASELINES).selected


def test_an_unknown_item_names_the_nearest() -> None:
    sources = load_sources(CONFIG / "sources.yaml")
    assert "did you mean 'realdof'?" in refusal(lambda: source_of("realdoff", sources))


TWICE = [
    ("variants", "a: {study: fusion}\nb: {study: fusion}\na: {study: modules}\n", "key 'a' is there twice"),
    ("variants", "a: {study: fusion, study: modules}\n", "key 'study' is there twice, again in line 1"),
    ("baselines", "blurred: {system: blurred, label: B}\nblurred: {system: blurred, label: C}\n", "'blurred'"),
    ("sources", "dpdd: {about: a, about: b}\n", "'about'"),
    ("preset", "preset: x\nseeds: 1\ntraining: {steps: 3}\ntraining: {steps: 4}\n", "'training'"),
    ("preset", "training:\n  patches: {size: 32}\n  batch: 2\n  patches: {size: 64}\n", "'patches' is there twice"),
    ("preset", "a: [{b: 1, b: 2}]\n", "'b'"),
    ("preset", "1: a\n1: b\n", "'1'"),
]


@pytest.mark.parametrize(("kind", "text", "words"), TWICE)
def test_a_key_that_stands_twice_is_refused_in_every_file(kind: str, text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}.yaml"
    file.write_text(text)
    read = {"variants": load_variants, "baselines": load_baselines, "sources": load_sources, "preset": load_settings}
    for said in (refusal(lambda: read[kind](file)), refusal(lambda: given([file], []))):
        assert words in said and str(file) in said


def test_what_an_anchor_brings_along_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("base: &base {a: 1, b: 2}\nmine: {<<: *base, a: 3}\n")
    assert read_yaml(file)["mine"] == {"a": 3, "b": 2}


VALUES = [
    "null", "~", "true", "no", "3", "-4", "0.5", "1e-3", "1.5E+2", "2.0e-3", "text", "'3'", '"null"', "[1, 2]",
    "[a, true]", "{a: null, b: [1e-3, x], c: {d: false}}", "{fit: null}", "{path: /my/pairs, name: mine}", "noisy(0.1)",
    "",
]  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_a_value_of_config_is_what_it_is_in_a_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(f"key: {text}\n")
    from_file, from_line = given([file], [])["key"], given([], [f"key={text}"])["key"]
    assert from_file == from_line and type(from_file) is type(from_line)


def test_numbers_with_an_exponent_are_numbers_and_names_stay_names(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: [1e-3, 1E5, -2.5e+1, .5e1, 1.e2]\nb: [e5, 1e, 12e3x, v1e3]\n")
    values = read_yaml(file)
    assert values["a"] == [0.001, 1e5, -25.0, 5.0, 100.0] and all(isinstance(text, str) for text in values["b"])


@pytest.mark.parametrize(
    ("entries", "path", "expected"),
    [
        (["depth={source: constant, fit: null}"], ("depth", "fit"), None),
        (["seeds_of={ddnet_1b: 3}"], ("seeds_of", "ddnet_1b"), [0, 1, 2]),
        (["training={steps: 10}"], ("training", "steps"), 10),
        (["training={steps: 10}"], ("training", "batch"), 8),
        (["training={lr: 1e-3, augment: true}"], ("training", "lr"), 0.001),
        (["seeds=[3, 5]"], ("seeds",), [3, 5]),
        (["seeds=3", "seeds=2"], ("seeds",), [0, 1]),
        (["evaluation={metrics: [psnr]}", "evaluation={panels: 2}"], ("evaluation", "metrics"), ["psnr"]),
        (["systems={dpdnet: {training: {output: published}}}"], ("systems", "dpdnet", "training", "width"), 16),
        (["data={kind: folder, path: /my/pairs, name: mine}", "depth={fit: null}"], ("data", "name"), "mine"),
    ],
)
@pytest.mark.parametrize("with_file", [False, True])
def test_config_is_merged_into_the_preset(
    entries: list[str], path: tuple[str, ...], expected: object, with_file: bool
) -> None:
    file = CONFIG / "embedded.yaml"
    said = given([file] if with_file else [], entries)
    settings = validate_settings(said, "here") if with_file else load_settings(file, said)
    found: Any = settings.model_dump(mode="json")
    for key in path:
        found = found[key]
    assert found == expected


def test_own_pairs_by_config_alone_are_planned() -> None:
    said = given([], ["data={kind: folder, path: /my/pairs}", "depth={source: constant, fit: null}", "systems={}"])
    settings = load_settings(CONFIG / "embedded.yaml", said)
    assert (
        settings.data.kind == "folder" and merge({"data": {"kind": "a", "x": 1}}, {"data": {"y": 2}})["data"]["x"] == 1
    )
    assert "foldr" in refusal(lambda: load_settings(CONFIG / "embedded.yaml", given([], ["data={kind: foldr}"])))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("depth={fit: null", "--config depth={fit: null: not valid YAML"),
        ("training={steps: 10, steps: 11}", "key 'steps' is there twice"),
        ("variant_file=mine.yaml", "did you mean 'variants_file'?"),
        ("baselines_file=[a]", "give the path of a YAML file"),
        ("variants_file=nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_a_bad_config_entry_is_one_line(entry: str, words: str) -> None:
    def read() -> None:
        load_variants(named_files(given([], [entry]), CONFIG)[1])

    assert words in refusal(read)


def test_tables_named_by_config() -> None:
    said = given([], ["variants_file=~/mine.yaml", "seeds=1"])
    sources, variants, baselines = named_files(said, CONFIG)
    assert (sources, baselines) == (CONFIG / "sources.yaml", CONFIG / "baselines.yaml") and said == {"seeds": 1}
    assert variants == Path("~/mine.yaml").expanduser()


@pytest.mark.parametrize(
    ("changes", "required", "optional"),
    [
        ({}, ["alexnet", "vgg16"], ["squeezenet1_1"]),
        ({"training": {"perceptual": {"weight": 0}}}, ["alexnet"], ["squeezenet1_1"]),
        ({"evaluation": {"metrics": ["psnr", "ssim"]}}, ["vgg16"], []),
        ({"evaluation": {"metrics": ["psnr"]}, "training": {"perceptual": {"weight": 0}}}, [], []),
        ({"evaluation": {"metrics": ["psnr", "lpips_squeeze"]}, "training": {"perceptual": {"weight": 0}}}, [],
         ["squeezenet1_1"]),
        ({"evaluation": {"metrics": ["psnr", "lpips_vgg"]}, "training": {"perceptual": {"weight": 0}}}, ["vgg16"], []),
    ],
)  # fmt: skip
def test_weights_that_nothing_uses_are_not_asked_for(
    changes: dict[str, Any],
    required: list[str],
    optional: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    values = yaml.safe_load((CONFIG / "embedded.yaml").read_text()) | {"systems": {}}
    made = Plan(validate_settings(merge(values, changes), "here"), VARIANTS, BASELINES)
    assert (made.required_trunks, made.optional_trunks) == (required, optional)
    preset = tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump(merge(values, changes)))
    assert main(["data", "status", "--preset", str(preset)]) == 0
    said = capsys.readouterr().out
    for trunk in ("alexnet", "vgg16", "vgg19", "squeezenet1_1"):
        assert (f"{trunk}:" in said) == (trunk in required + optional)


class _Fusion(nn.Module):
    def __init__(self, channels: int, depth_channels: int) -> None:
        super().__init__()
        self.channels, self.depth_channels = channels, depth_channels
        self.mix = nn.Conv2d(depth_channels, channels, 1)


class Right(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return blur + self.mix(depth)


class Depths(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return depth


class Halved(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return blur[..., ::2, ::2]


class Turned(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return blur.transpose(2, 3)


class Several(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> Any:
        return blur, depth


class Nothing(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> None: ...


class Failing(_Fusion):
    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return blur + depth


class Alone(nn.Module):
    def __init__(self) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Depths, "gave (2, 16, 16, 24)"), (Halved, "gave (2, 64, 8, 12)"), (Turned, "gave (2, 64, 24, 16)"),
        (Several, "gave tuple"), (Nothing, "gave NoneType"), (Failing, "fails: The size of tensor a"),
        (Alone, "fails: "),
    ],
)  # fmt: skip
def test_a_fusion_of_wrong_output_is_named_by_describe_and_before_training(
    kind: type[nn.Module], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    module = types.ModuleType("my_fusion")
    module.Mine = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_fusion", module)
    point = registry.entry_points(group="console_scripts")  # any collection has the type
    mine = type(next(iter(point)))("mine", "my_fusion:Mine", "ddnet.fusion")
    monkeypatch.setattr(registry, "entry_points", lambda group: [mine] if group == "ddnet.fusion" else [])
    assert main(["describe", "mine"]) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert "fusion 'mine'" in said and words in said
    assert said.count("(2, 64, 16, 24)") >= 1
    assert "fusion 'mine'" in refusal(lambda: DDNet(width=16, fusion="mine"))


def test_a_right_fusion_passes_and_draws_no_random_number() -> None:
    state = torch.get_rng_state()
    require_fused(Right, "right", 16, 4, {})
    with torch.device("meta"):
        require_fused(Right, "right", 16, 4, {})
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("cuda", [False, True])
def test_an_apple_gpu_is_left_alone_and_one_line_says_so(
    cuda: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tensors._say_no_mps.cache_clear()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    chosen = [tensors.best_device(), inference_device(), Bench(load_settings(CONFIG / "smoke.yaml"), 1.0).device]
    assert {device.type for device in chosen} == {"cuda" if cuda else "cpu"}
    assert len([line for line in caplog.messages if "MPS" in line]) == (0 if cuda else 1)
    if not cuda:
        assert _fabric(load_settings(CONFIG / "smoke.yaml").training).device.type == "cpu"


def test_no_other_place_chooses_a_device() -> None:
    """`accelerator: auto` and a choice of one's own would take an Apple GPU, or miss the line about it."""
    for file in [*ROOT.glob("ddnet/**/*.py"), *ROOT.glob("baselines/**/*.py"), *ROOT.glob("workflow/scripts/*.py")]:
        text = file.read_text(encoding="utf-8")
        assert 'accelerator="auto"' not in text, file
        if file.name != "tensors.py":
            assert '"cuda" if torch.cuda.is_available()' not in text, file
