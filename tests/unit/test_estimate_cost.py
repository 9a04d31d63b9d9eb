"""The costs that `ddnet estimate` prints: counted where they can be checked, measured where they must be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.kpac.network import Network
from ddnet.benchmark import estimate_cost
from ddnet.benchmark.estimate_cost import (
    Bench,
    LiveBytes,
    disk_bytes,
    duration,
    estimate,
    measure_variants,
    scale_of,
    systems_flop,
)
from ddnet.config import LearnedSystem, load_baselines, load_settings, load_sources, load_variants, merge
from ddnet.evaluation.complexity import flop_counter_macs
from ddnet.io.images import write_image
from ddnet.models import build_model
from ddnet.planning.plan import Plan
from ddnet.runtime.paths import ROOT

CONFIG = ROOT / "workflow" / "config"
VARIANTS = load_variants(CONFIG / "variants.yaml")
ITEMS = load_sources(CONFIG / "sources.yaml")


def preset(name: str, **overrides):
    return load_settings(CONFIG / f"{name}.yaml", overrides)


def test_the_paper_preset_is_78750_steps_and_45_validations_of_74_images() -> None:
    scale = scale_of(preset("paper"))
    assert (scale.patches, scale.steps, scale.validations) == (7000, 78_750, 45)
    assert scale.pixels("val") == 74 * 1120 * 1680
    assert scale.pixels() == 76 * 1120 * 1680 + 50 * 1536 * 2320
    assert scale.pixels(first=6) == 6 * 1120 * 1680 + 6 * 1536 * 2320


def test_a_trial_and_a_folder_of_ones_own_are_counted_as_they_are(tmp_path: Path) -> None:
    trial = {"kind": "dpdd", "trial": {"train": 2, "val": 1, "test": 3, "realdof": 1}}
    scale = scale_of(preset("paper", data=trial))
    assert scale.patches == 40 and [len(sizes) for sizes in scale.splits.values()] == [2, 1, 3, 1]

    for number in range(4):
        for kind, value in (("source", number / 4), ("target", number / 4 + 0.1)):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_image(tmp_path / kind / f"{number}.png", np.full((64, 96, 3), value, np.float32))
    base = preset("smoke").model_dump(mode="json")
    data = {"kind": "folder", "path": str(tmp_path), "val": 0.25, "test": 0.25}
    scale = scale_of(preset("smoke").model_validate(merge(base, {"depth": {"fit": None}}) | {"data": data}))
    assert scale.splits == {"train": [(64, 96)] * 2, "val": [(64, 96)], "test": [(64, 96)]}


@pytest.mark.parametrize(("steps", "every", "expected"), [(10, 0.5, 2), (10, 0.3, 4), (10, 1.0, 1), (3, 0.01, 3)])
def test_validations_are_those_of_the_training_loop(steps: int, every: float, expected: int) -> None:
    scale = scale_of(preset("smoke", training={"steps": steps, "validate_every": every}))
    interval = max(1, round(every * steps))
    assert scale.validations == expected == sum(not n % interval or n == steps for n in range(1, steps + 1))


def test_a_step_counts_three_forward_passes_and_three_of_the_perceptual_trunk() -> None:
    with torch.device("meta"):
        forward = 2 * flop_counter_macs(build_model(VARIANTS["ddnet_1b"], 4), 32)
    plain = Bench(preset("smoke", training={"perceptual": {"weight": 0.0}}), 1.0)
    assert plain.count_flop(VARIANTS["ddnet_1b"], 1, 32, False) == forward
    step = plain.count_flop(VARIANTS["ddnet_1b"], 2, 32, True)
    head, depth_heads = 2 * 9 * 3 * 4 * 32 * 32 * 2, 2 * 9 * 1 * 1 * 2 * (32**2 + 16**2 + 8**2 + 4**2)
    assert step == 3 * 2 * forward - head - depth_heads  # no gradient goes to the inputs

    macs = 32 * 32 * 9 * (3 * 64 + 64 * 64 + (64 * 128 + 128 * 128) / 4 + (128 * 256 + 2 * 256 * 256) / 16)
    with_loss = Bench(preset("smoke"), 1.0).count_flop(VARIANTS["ddnet_1b"], 2, 32, True)
    assert with_loss - step == 3 * 2 * macs  # on one of the two crops, as the preset says


def test_a_storage_counts_once_and_as_long_as_a_view_of_it_lives() -> None:
    with LiveBytes() as memory:
        kept = [torch.zeros(1000) for _ in range(3)]
        kept.pop()
        view = kept[0][:10]
        kept.clear()
        del view
        torch.zeros(2500)
        assert memory.peak == 12_000
        torch.zeros(3500)
    assert memory.peak == 14_000


def test_the_memory_counted_on_the_meta_device_is_that_of_real_tensors() -> None:
    bench = Bench(preset("smoke"), 1.0)
    with LiveBytes() as memory:
        run = bench.job(VARIANTS["ddnet_1b"], 2, 64, 64, "cpu")
        for _ in range(2):
            run(True)
    counted = bench.count_bytes(VARIANTS["ddnet_1b"], 2, 64, 64, True)
    assert counted / estimate_cost.WORKSPACE == pytest.approx(memory.peak, rel=0.02)


def test_where_all_would_take_too_long_one_is_measured_and_the_others_follow_by_flop(monkeypatch) -> None:
    plan = Plan(preset("smoke", studies=["depth"]), VARIANTS)
    bench = Bench(plan.settings, limit_s=1e-6)
    bench.device = torch.device("cpu")
    monkeypatch.setattr(bench, "step_rate", lambda variant: (1e9, "measured"))
    scale = scale_of(plan.settings)
    costs = {cost.variant: cost for cost in measure_variants(plan, scale, bench)}
    assert list(costs) == plan.selected and {cost.rate for cost in costs.values()} == {1e9}
    assert costs["unet_rcab"].how == "from ddnet_1b by FLOP" and costs["ddnet_1b_constant"].how == "as ddnet_1b"
    assert costs["unet_rcab"].run == 6 * costs["unet_rcab"].step + 2 * scale.pixels("val") * costs["unet_rcab"].pixel


def test_the_compared_networks_are_counted_where_they_are_trained() -> None:
    baselines = load_baselines(CONFIG / "baselines.yaml")

    def with_kpac(**training: int) -> Plan:
        chosen = {"kpac": LearnedSystem(weights="train", training=training)} if training else {}
        settings = preset("smoke", studies=["fusion"]).model_copy(update={"systems": chosen})
        return Plan(settings, VARIANTS, baselines)

    three = with_kpac(width=12, crop=32, batch=2, steps=3)
    flop = [systems_flop(plan, scale_of(plan.settings)) for plan in (with_kpac(), three)]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Network(12)(torch.zeros(1, 3, 32, 32))
    assert flop == [0.0, 3 * 2 * 3 * counter.get_total_flops()]
    assert sum("compared networks" in line for line in estimate(three, ITEMS, limit_s=0.05, tflops=10.0)) == 2


def test_every_figure_is_marked_as_an_estimate() -> None:
    plan = Plan(preset("smoke", studies=["fusion"], seeds=2), VARIANTS)
    lines = estimate(plan, ITEMS, limit_s=0.05, tflops=10.0)
    assert lines[0].startswith("ESTIMATE for preset smoke")
    figures = [line for line in lines if line.startswith(("time,", "disk,", "memory,", *plan.selected))]
    assert len(figures) == 5 + 6 + 2 + len(plan.selected) and all("~" in line for line in figures)
    assert any("10 TFLOP/s" in line for line in lines)


def test_copies_at_hand_are_not_downloaded() -> None:
    def downloads(**data: str) -> float:
        settings = preset("paper", data={"kind": "dpdd", **data})
        return disk_bytes(Plan(settings, VARIANTS), {"monodepth2"}, scale_of(settings), ITEMS)["downloads"]

    assert downloads() == pytest.approx(1e9 * sum(ITEMS[i].gigabytes for i in ("dpdd", "realdof", "monodepth2")))
    assert downloads() - downloads(dpdd="copies/dpdd") == pytest.approx(1e9 * ITEMS["dpdd"].gigabytes)


def test_durations_come_in_a_unit_that_suits_them() -> None:
    seconds = (0.284, 90, 720, 34 * 3600, 51 * 86400)
    assert list(map(duration, seconds)) == ["~0.28 s", "~90 s", "~12 min", "~34 h", "~51 days"]
