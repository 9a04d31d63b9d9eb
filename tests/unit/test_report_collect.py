from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import MANIFEST, SCENES, make_world, per_image, psnr, write_run

from ddnet.errors import DDNetError
from ddnet.report.collect import LONG_COLUMNS, METRICS, collect, merge_provenance, read_run


def rewrite(folder: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(folder / "per_image.csv", index=False)


def test_read_run_reads_every_file(tmp_path: Path) -> None:
    result = read_run(write_run(tmp_path, "ddnet_1b", 1).folder)
    assert result.images["psnr"].iloc[3] == pytest.approx(psnr("ddnet_1b", 1, 3, "embedded"))
    assert result.unavailable == {"lpips_squeeze": "weights unavailable: no network"}
    assert result.manifest["commit"] == "abc1234"
    assert list(result.history["step"][:2]) == [60, 120]


def test_read_run_of_a_baseline_has_no_history(tmp_path: Path) -> None:
    result = read_run(write_run(tmp_path, "blurred", None).folder)
    assert result.history.empty and result.manifest == {}


def test_collect_is_long_and_keeps_missing_values(tmp_path: Path) -> None:
    refs = [write_run(tmp_path, "blurred", None), write_run(tmp_path, "ddnet_1b", 0)]
    frame = collect(refs)
    assert tuple(frame.columns) == LONG_COLUMNS
    assert len(frame) == 2 * (len(SCENES) + 4) * len(METRICS)
    assert frame.loc[frame["variant"] == "blurred", "seed"].isna().all()
    assert frame.loc[frame["metric"] == "lpips_squeeze", "value"].isna().all()
    one = frame[(frame["variant"] == "ddnet_1b") & (frame["metric"] == "psnr") & (frame["dataset"] == "embedded")]
    assert one["value"].to_list() == pytest.approx([psnr("ddnet_1b", 0, i, "embedded") for i in range(6)])


def test_a_missing_metric_column_becomes_nan(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0)
    rewrite(ref.folder, per_image("ddnet_1b", 0).drop(columns=["mae", "lpips_squeeze"]))
    images = read_run(ref.folder).images
    assert images["mae"].isna().all() and images["ssim"].notna().all()


def test_collect_of_nothing_has_the_columns() -> None:
    assert tuple(collect([]).columns) == LONG_COLUMNS


def test_duplicate_scene_is_named(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0)
    frame = per_image("ddnet_1b", 0)
    rewrite(ref.folder, pd.concat([frame, frame.iloc[[2]]]))
    with pytest.raises(DDNetError, match=r"ddnet_1b-seed0.*embedded/s02 occurs twice"):
        collect([ref])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_non_finite_psnr_is_named(tmp_path: Path, value: float) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0)
    frame = per_image("ddnet_1b", 0)
    frame.loc[1, "psnr"] = value
    rewrite(ref.folder, frame)
    with pytest.raises(DDNetError, match=r"ddnet_1b-seed0.*embedded/s01.*not a finite number"):
        collect([ref])


def test_the_psnr_of_a_picture_that_equals_its_target_is_infinite(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "blurred", None)
    frame = per_image("blurred", None)
    frame.loc[1, "psnr"] = np.inf
    rewrite(ref.folder, frame)
    values = collect([ref])
    psnr = values[values["metric"] == "psnr"].set_index(["dataset", "scene"])["value"]
    assert psnr["embedded", "s01"] == np.inf and np.isfinite(psnr.drop(("embedded", "s01"))).all()


def test_a_photograph_may_be_called_like_a_missing_value(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0, ["photos"])
    names = ["NA", "None", "nan", "null", "0012", "1e5"]
    rewrite(ref.folder, per_image("ddnet_1b", 0, ["photos"]).assign(scene=names))
    images = read_run(ref.folder).images
    assert images["scene"].to_list() == names and set(images["location"]) == {""}
    assert images["lpips_squeeze"].isna().all() and images["psnr"].notna().all()


def test_missing_scene_is_named_with_the_run_that_lacks_it(tmp_path: Path) -> None:
    refs = [write_run(tmp_path, "blurred", None), write_run(tmp_path, "ddnet_1b", 0)]
    rewrite(refs[1].folder, per_image("ddnet_1b", 0).drop(index=4))
    with pytest.raises(DDNetError, match=r"run ddnet_1b-seed0: 1 scene.* first s04, which run blurred"):
        collect(refs)


def test_a_run_may_lack_a_whole_dataset(tmp_path: Path) -> None:
    refs = [write_run(tmp_path, "blurred", None), write_run(tmp_path, "ddnet_1b", 0)]
    frame = per_image("ddnet_1b", 0)
    rewrite(refs[1].folder, frame[frame["dataset"] == "embedded"])
    assert set(collect(refs)["dataset"]) == {"embedded", "embedded_ood"}


def test_other_broken_inputs_are_one_clear_line(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0)
    with pytest.raises(DDNetError, match="listed twice"):
        collect([ref, ref])
    (ref.folder / "evaluation.json").write_text("{")
    with pytest.raises(DDNetError, match="not JSON"):
        read_run(ref.folder)
    rewrite(ref.folder, per_image("ddnet_1b", 0).drop(columns="location"))
    with pytest.raises(DDNetError, match="column location is missing"):
        collect([ref])
    (ref.folder / "per_image.csv").unlink()
    with pytest.raises(DDNetError, match="no such file"):
        collect([ref])


def test_merge_provenance_lists_what_differs() -> None:
    merged = merge_provenance([MANIFEST, {**MANIFEST, "date": "2026-11-24"}, {}])
    assert merged["commit"] == "abc1234"
    assert merged["date"] == ["2026-11-23", "2026-11-24"]
    assert merged["versions"] == MANIFEST["versions"]


def test_report_never_imports_torch(tmp_path: Path) -> None:
    make_world(tmp_path, seeds=(0,))
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import ddnet.report.mlflow_export, ddnet.report.model_card, ddnet.report.figures
from pathlib import Path
from report_runs import PAPER, VARIANTS
from ddnet.report.collect import RunRef
from ddnet.report.evidence import gather
from ddnet.report.formats import write_table
from ddnet.report.tables import table3
early = [name for name in ("torch", "mlflow", "matplotlib.pyplot") if name in sys.modules]
root = Path({str(tmp_path)!r})
runs = [RunRef(v, 0, v, root / "runs" / f"{{v}}-seed0") for v in ("unet", "ddnet_1b")]
evidence = gather(runs, paper=PAPER, preset="embedded", dataset="embedded", ood_dataset="embedded_ood",
                  complexity=sorted((root / "complexity").glob("*.json")), variants=VARIANTS, draws=100)
write_table(table3(evidence), root / "tables")
print(json.dumps([early, "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], False]
    assert (tmp_path / "tables" / "table3.html").is_file()
