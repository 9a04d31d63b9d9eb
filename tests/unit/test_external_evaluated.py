from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from baselines.blurred.baseline import Blurred
from baselines.external.baseline import External
from ddnet.config import Baseline, load_baselines, load_settings, load_variants
from ddnet.data.index import Scene, describe_pair
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import evaluate, write_evaluation, write_per_image, write_timing
from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import Metric
from ddnet.io.images import FloatArray, write_image
from ddnet.planning.plan import Plan
from ddnet.report.collect import read_images
from ddnet.runtime.paths import ROOT

CONFIG = ROOT / "workflow" / "config"


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    found = []
    for number in range(2):
        rng = np.random.default_rng(number)
        image, target = tmp_path / f"{number}_image.png", tmp_path / f"{number}_target.png"
        write_image(image, rng.random((32, 40, 3), np.float32))
        write_image(target, rng.random((32, 40, 3), np.float32))
        found.append(describe_pair("photos", "test", f"scene_{number}", "", image, target, None))
    return found


def test_the_blurred_pictures_as_files_score_as_the_blurred_pictures(scenes: list[Scene], tmp_path: Path) -> None:
    for scene in scenes:
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{scene.scene}.png").write_bytes(scene.image.read_bytes())
    metrics, _ = build_metrics(["psnr", "ssim", "mae"], tmp_path)
    rows = evaluate(External(tmp_path / "mine"), scenes, lambda scene: None, metrics, tmp_path, save="none")
    blurred = evaluate(Blurred(), scenes, lambda scene: None, metrics, tmp_path, save="none")
    assert rows == [{name: value for name, value in row.items() if name != "seconds"} for row in blurred]
    write_per_image(tmp_path / "per_image.csv", rows)
    write_timing(tmp_path / "timing.csv", rows)
    assert (tmp_path / "timing.csv").read_text().splitlines()[1] == "photos,scene_0,,"  # nobody timed them
    assert read_images(tmp_path / "per_image.csv")["seconds"].isna().all()
    assert write_evaluation(tmp_path / "evaluation.json", rows, {})["images"] == {"photos": 2}
    assert math.isfinite(rows[0]["psnr"])


@pytest.mark.parametrize("equal", [1, 2])
def test_pictures_that_equal_their_targets_have_an_infinite_psnr(
    equal: int, scenes: list[Scene], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    for number, scene in enumerate(scenes):
        source = scene.target if number < equal else scene.image
        (tmp_path / "mine" / f"{scene.scene}.png").write_bytes(source.read_bytes())
    metrics, _ = build_metrics(["psnr", "psnr_8bit", "ssim", "mae"], tmp_path)
    rows = evaluate(External(tmp_path / "mine"), scenes, lambda scene: None, metrics, tmp_path, save="all")
    write_per_image(tmp_path / "per_image.csv", rows)
    read = read_images(tmp_path / "per_image.csv")
    assert [math.isinf(value) for value in read["psnr"]] == [number < equal for number in range(2)]
    assert read["psnr_8bit"].iloc[0] == math.inf and read["mae"].iloc[0] == 0 and read["ssim"].iloc[0] == 1
    means = write_evaluation(tmp_path / "evaluation.json", rows, {})["metrics"]["photos"]
    assert means["psnr"] == math.inf and math.isfinite(means["ssim"])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    stored = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=refuse)
    assert float(stored["metrics"]["photos"]["psnr"]) == math.inf and stored["metrics"]["photos"]["mae"] == means["mae"]


def test_a_missing_picture_is_said_before_any_is_measured(scenes: list[Scene], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scene_0.png").write_bytes(scenes[0].image.read_bytes())

    class Never(Metric):
        def measure(self, restored: FloatArray, target: FloatArray) -> float:
            raise AssertionError("measured")

    with pytest.raises(DDNetError, match=r"^1 of 2 restored pictures are missing in .*mine, the first: scene_1; write"):
        evaluate(External(tmp_path / "mine"), scenes, lambda scene: None, {"psnr": Never()}, tmp_path, save="none")


def plan(line: Baseline | None, preset: str = "smoke") -> Plan:
    lines = load_baselines(CONFIG / "baselines.yaml") | ({} if line is None else {line.name: line})
    return Plan(load_settings(CONFIG / f"{preset}.yaml"), load_variants(CONFIG / "variants.yaml"), lines)


def test_finished_pictures_are_inputs_of_their_measurement(tmp_path: Path) -> None:
    write_image(tmp_path / "paper" / "1.png", np.zeros((8, 8, 3), np.float32))
    write_image(tmp_path / "own" / "2.png", np.zeros((8, 8, 3), np.float32))
    options = {"folder": str(tmp_path / "paper")}
    other = {"embedded_ood": {"folder": str(tmp_path / "own")}}
    line = Baseline(name="mine", system="external", label="Mine", options=options, per_dataset=other)
    assert plan(line).pictures("mine") == [str(tmp_path / "paper" / "1.png"), str(tmp_path / "own" / "2.png")]
    assert plan(line).pictures("blurred") == []
    here = line.model_copy(update={"datasets": ("embedded",)})
    assert plan(here).pictures("mine") == [str(tmp_path / "paper" / "1.png")]
    gone = line.model_copy(update={"options": {"folder": str(tmp_path / "gone")}})
    with pytest.raises(DDNetError, match=r"baseline 'mine': options.folder: no pictures in .*gone; name one with"):
        plan(gone).pictures("mine")
    with pytest.raises(DDNetError, match=r"baseline 'mine': options.folder: is not given; name one"):
        plan(line.model_copy(update={"options": {}})).pictures("mine")


def test_a_line_for_other_datasets_is_not_measured() -> None:
    line = Baseline(name="mine", system="external", label="Mine", options={"folder": "x"}, datasets="dpdd")
    assert "mine" not in plan(line).measured_baselines
    assert "mine" in plan(line, "paper").measured_baselines
    assert line.measured_on("dpdd") and not line.measured_on("realdof")


def test_networks_are_counted_and_other_systems_not() -> None:
    chosen = plan(None, "paper")
    assert "jnb" not in chosen.counted_baselines and "blurred" not in chosen.counted_baselines
    assert set(chosen.counted_baselines) <= set(chosen.measured_baselines)
