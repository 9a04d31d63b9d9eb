"""The costs that `ddnet estimate` prints: counted where they can be checked, measured where they must be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddnet.config import load_settings, load_sources, load_variants, merge
from ddnet.engine import measure_cost
from ddnet.engine.complexity import flop_counter_macs
from ddnet.engine.estimate_cost import Estimate, duration, estimate, format_estimate, scale_of
from ddnet.engine.measure_cost import Bench, measure_variants
from ddnet.images import write_image
from ddnet.plan import ROOT, Plan

CONFIG = ROOT / "workflow" / "config"
VARIANTS = load_variants(CONFIG / "variants.yaml")
ITEMS = load_sources(CONFIG / "sources.yaml")


def preset(name: str, **overrides):
    return load_settings(CONFIG / f"{name}.yaml", overrides)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Estimate:
    plan = Plan(preset("smoke", studies=["fusion"], seeds=2), VARIANTS)
    return estimate(plan, ITEMS, tmp_path_factory.mktemp("weights"), step_limit_s=0.05, tflops=10.0)


def test_the_paper_preset_is_78750_steps_and_45_validations_of_74_images() -> None:
    scale = scale_of(preset("paper"))
    assert (scale.patches, scale.steps, scale.validations) == (7000, 78_750, 45)
    assert len(scale.val) == 74 and len(scale.tests["dpdd"]) == 76 and len(scale.tests["realdof"]) == 50


def test_a_trial_and_a_folder_of_ones_own_are_counted_as_they_are(tmp_path: Path) -> None:
    trial = {"kind": "dpdd", "trial": {"train": 2, "val": 1, "test": 3, "realdof": 1}}
    scale = scale_of(preset("paper", data=trial))
    assert (scale.patches, len(scale.tested)) == (40, 4)

    for number in range(4):
        for kind in ("source", "target"):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_image(tmp_path / kind / f"{number}.png", np.full((64, 96, 3), number / 4, np.float32))
    base = preset("smoke").model_dump(mode="json")
    data = {"kind": "folder", "path": str(tmp_path), "val": 0.25, "test": 0.25}
    settings = preset("smoke").model_validate(merge(base, {"depth": {"fit": None}}) | {"data": data})
    scale = scale_of(settings)
    assert (len(scale.train), scale.val, scale.tests) == (2, ((64, 96),), {"photos": ((64, 96),)})


@pytest.mark.parametrize(("steps", "every", "expected"), [(10, 0.5, 2), (10, 0.3, 4), (10, 1.0, 1), (3, 0.01, 3)])
def test_validations_are_those_of_the_training_loop(steps: int, every: float, expected: int) -> None:
    scale = scale_of(preset("smoke", training={"steps": steps, "validate_every": every}))
    interval = max(1, round(every * steps))
    assert scale.validations == expected == sum(not n % interval or n == steps for n in range(1, steps + 1))


def test_a_step_counts_forward_backward_and_the_perceptual_loss() -> None:
    """Backward is twice the forward, but for the head, whose input needs no gradient."""
    plain = preset("smoke", training={"perceptual": {"weight": 0.0}})
    step = Bench(plain, 1.0).count_step(VARIANTS["ddnet_1b"], (2, 32, 32)).flop
    with torch.device("meta"):
        forward = 2 * 2 * flop_counter_macs(measure_cost.build_model(VARIANTS["ddnet_1b"], 4), 32)
    head, depth_heads = 2 * 9 * 3 * 4 * 32 * 32 * 2, 2 * 9 * 1 * 1 * 2 * (32**2 + 16**2 + 8**2 + 4**2)
    assert step == 3 * forward - head - depth_heads

    # One of two crops: features of the target, and of the restored crop with the gradient to its pixels.
    macs = 32 * 32 * 9 * (3 * 64 + 64 * 64 + (64 * 128 + 128 * 128) / 4 + (128 * 256 + 2 * 256 * 256) / 16)
    with_loss = Bench(preset("smoke"), 1.0).count_step(VARIANTS["ddnet_1b"], (2, 32, 32)).flop
    assert with_loss - step == 3 * 2 * macs


def test_the_memory_counted_on_the_meta_device_is_that_of_real_tensors() -> None:
    settings, variant = preset("smoke", training={"perceptual": {"weight": 0.0}}), VARIANTS["ddnet_1b"]
    network = measure_cost.build_model(variant, settings.model.width, settings.model.output).train()
    image, depth = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    with measure_cost._LiveBytes() as memory:
        (network(image, depth) - torch.zeros_like(image)).abs().mean().backward()
    weights = sum(parameter.numel() for parameter in network.parameters()) * 4
    counted = Bench(settings, 1.0).count_step(variant, (2, 64, 64)).bytes
    assert counted - 3 * weights == pytest.approx(memory.peak, rel=0.02)


def test_a_storage_counts_once_and_as_long_as_a_view_of_it_lives() -> None:
    with measure_cost._LiveBytes() as memory:
        kept = [torch.zeros(1000) for _ in range(3)]
        kept.pop()
        view = kept[0][:10]
        assert (memory.now, memory.peak) == (8000, 12000)
        kept.clear()
        assert memory.now == 4000
        del view
    assert memory.now == 0


def test_a_shape_is_halved_until_it_fits_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(preset("smoke"), limit_s=10.0)
    monkeypatch.setattr(measure_cost, "free_bytes", lambda device: 1e9)

    def count(shape: tuple[int, int, int]) -> measure_cost.Work:
        pixels = shape[0] * shape[1] * shape[2]
        return measure_cost.Work(flop=pixels, bytes=1000 * pixels)

    assert bench.affordable(count, (4, 256, 256), 1e6) == (4, 256, 256)
    assert bench.affordable(count, (4, 256, 256), 256 * 256 / 10) == (1, 256, 256)
    assert bench.affordable(count, (4, 256, 256), 256 * 256 / 30) == (1, 128, 128)
    assert bench.affordable(count, (4, 256, 256), 1e-9) == (1, 64, 64)
    assert bench.affordable(count, (1, 1120, 1680), 1e9) == (1, 560, 832)


def test_where_all_would_take_too_long_one_is_measured_and_the_others_follow_by_flop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["unet", "ddnet_1b", "ddnet_1b_constant"]
    bench = Bench(preset("smoke", training={"perceptual": {"weight": 0.0}}), limit_s=1e-6)
    bench.device = torch.device("cpu")
    monkeypatch.setattr(bench, "step_seconds", lambda variant, shape: (2.0, None))
    monkeypatch.setattr(bench, "restore_seconds", lambda variant, shape: 1.0)
    unet, one, constant = measure_variants(bench, [VARIANTS[name] for name in names], (2, 32, 32), (1, 128, 128))
    assert [cost.how for cost in (unet, constant)] == ["from ddnet_1b by FLOP", "as ddnet_1b"]
    assert one.how == "measured, step at 1 x 32 x 32 px and scaled, image at 64 x 64 px and scaled"
    assert one.step_s == pytest.approx(2.0 * 2, rel=0.01) and one.image_s == pytest.approx(4.0, rel=0.01)
    assert unet.step_s == pytest.approx(one.step_s * unet.step.flop / one.step.flop)
    assert (constant.step_s, constant.image_s) == (one.step_s, one.image_s)


def test_another_run_starts_only_while_it_fits_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(measure_cost.time, "perf_counter", lambda: clock[0])

    def runs(limit_s: float, *lengths: float) -> tuple[float, int]:
        left = list(lengths)
        bench = Bench(preset("smoke"), limit_s)
        bench.device = torch.device("cpu")

        def work() -> None:
            clock[0] += left.pop(0)

        return bench.shortest(work), len(lengths) - len(left)

    assert runs(1.0, 50.0, 50.0) == (pytest.approx(50.0), 1)  # one in any case
    assert runs(10.0, 4.0, 3.0, 9.0, 9.0) == (pytest.approx(3.0), 3)
    assert runs(100.0, *[2.0] * 9) == (pytest.approx(2.0), 5)
    assert runs(100.0, *[0.125] * 9) == (pytest.approx(0.125), 8)


def test_an_estimate_adds_up(smoke: Estimate) -> None:
    assert {cost.variant for cost in smoke.variants} == set(Plan(smoke.settings, VARIANTS).selected)
    for cost in smoke.variants:
        assert cost.step_s > 0 and cost.image_s > 0
        assert cost.fit_s == pytest.approx(6 * cost.step_s)
        assert cost.validate_s > 2 * 2 * cost.image_s  # reading comes on top
        assert cost.flop == 6 * cost.step.flop + 4 * cost.image.flop
    assert set(smoke.jobs) == {"fitting the depth network", "depth estimation", "evaluation"}
    assert smoke.disk["patches"] == 4 * 64 * 64 * 3 * 2 * 2
    pictures = 2 * len(smoke.variants) * (2 + 3)  # seeds x variants x images, all kept
    assert smoke.disk["restored pictures"] == pytest.approx(4.2 * 64 * 64 * pictures)


def test_every_line_with_a_figure_marks_it_as_an_estimate(smoke: Estimate) -> None:
    lines = format_estimate(smoke)
    assert lines[0].startswith("ESTIMATE for preset smoke")
    figures = [line for line in lines if line.startswith(("time,", "disk,", "memory,", "all", "ddnet_1b", "fusion_"))]
    assert len(figures) > 15 and all("~" in line for line in figures)
    assert any("lpips_alex" in line for line in lines if line.startswith("note:"))
    assert any("10 TFLOP/s" in line and "not measured" in line for line in lines)
    assert not any("10 TFLOP/s" in line for line in format_estimate(replace(smoke, tflops=None)))


def test_copies_at_hand_are_not_downloaded(smoke: Estimate) -> None:
    from ddnet.engine.estimate_cost import _disk

    def downloads(**data: str) -> float:
        settings = preset("paper", data={"kind": "dpdd", **data})
        return _disk(Plan(settings, VARIANTS), scale_of(settings), ITEMS)["downloads"]

    saved = downloads() - downloads(dpdd="copies/dpdd")
    assert saved == pytest.approx(1e9 * ITEMS["dpdd"].gigabytes)
    assert downloads() == pytest.approx(1e9 * sum(ITEMS[i].gigabytes for i in ("dpdd", "realdof", "monodepth2")))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.284, "~0.28 s"), (90, "~90 s"), (720, "~12 min"), (34 * 3600, "~34 h"), (51 * 86400, "~51 days")],
)
def test_durations_come_in_a_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
