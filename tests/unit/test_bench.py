"""`ddnet bench`: what it writes, and what it keeps when something goes wrong. Times are never judged."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from baselines import build
from baselines.bench import write_scene, write_stand_in
from ddnet.benchmark.bench import COLUMNS, Records, Row, bench_systems, measure, parse_size
from ddnet.cli.main import main
from ddnet.config import Baseline
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.planning.baselines import baseline_names, system_needs
from ddnet.runtime.paths import ROOT
from ddnet.runtime.resources import cpu_count

BLURRED = Baseline(name="blurred", system="blurred", label="Blurred input")
BROKEN = Baseline(name="broken", system="ebdb", label="Broken", options={"method": "wiener"})
SIZE = (96, 64)
LEARNED = [system for system in baseline_names() if "weights" in system_needs(system)]


def rows_in(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_row_per_system_and_part_with_the_machine_s_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "systems", "--size", "96x64", "--only", "ebdb_rl", "--out", str(tmp_path / "bench")]) == 0
    [file] = (tmp_path / "bench").iterdir()
    assert file.name.startswith("systems-") and file.name.endswith(f"-{cpu_count()}cpu.csv")
    rows = rows_in(file)
    shown = capsys.readouterr().out
    assert tuple(rows[0]) == COLUMNS and str(file) in shown
    assert [(row["system"], row["part"]) for row in rows] == [
        ("ebdb_rl", part) for part in ("map", "whole", "plain", "deconvolution")
    ]
    for row in rows:
        for name in ("wall_s", "cpu_s", "peak_memory_mib", "sgemm_gflops", "copy_gb_s"):
            assert 0 < float(row[name]) < 1e6, (name, row)
        assert (row["width"], row["height"]) == ("96", "64") and row["hardware"] and row["commit"] and row["date"]
        assert row["threads"] == ("1" if row["part"] == "plain" else str(cpu_count()))
        assert f"{row['system']:<20}{row['part']}" in shown
    plain, own = rows[2:]
    assert own["than"] == "plain" and " levels" in plain["note"]
    ratio = float(plain["wall_s"]) / float(own["wall_s"])
    assert float(own["times_faster"]) == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "blured"], "unknown compared system 'blured'; did you mean 'blurred'?"),
        (["--only", "blurred,"], "unknown compared system ''"),
        (["--size", "1680"], "size is '1680'; write width x height in pixels, such as 1680x1120"),
        (["--size", "9.6x64"], "write width x height"),
        (["--size", "96x16"], "size is '96x16'; a side has 32 to"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "systems", "--out", str(tmp_path), *arguments]) == 1
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert main(["bench", "systems", "--out", str(tmp_path / "file" / "bench")]) == 1
    assert "file/bench: cannot be made" in capsys.readouterr().err


def test_whole_images_by_every_way_in_rows_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--size", "96x64", "--only", "unet,ddnet_1b", "--channels", "4", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["bench", "inference", *given]) == 0
    [table] = tmp_path.glob("inference-*.csv")
    rows = rows_in(table)
    assert table.with_suffix(".png").stat().st_size > 10_000
    expected = [("unet", "plain"), ("unet", "whole"), *(("ddnet_1b", way) for way in ("plain", "whole", "bands"))]
    assert [(row["system"], row["part"]) for row in rows] == expected
    for row in rows:
        assert float(row["wall_s"]) > 0 and float(row["peak_memory_mib"]) > float(row["work_memory_mib"]) >= 0
        assert float(row["sgemm_gflops"]) > 0 and (row["channels"], row["batch"]) == ("4", "1")
        assert float(row["deviation"]) <= 1e-6 and (row["part"] == "plain") == (row["times_faster"] == "")
    plain, *_, bands = rows[2:]
    assert float(bands["times_faster"]) == pytest.approx(float(plain["wall_s"]) / float(bands["wall_s"]), rel=1e-2)
    assert str(table) in capsys.readouterr().out


def test_training_steps_by_several_ways_start_from_the_same_loss(tmp_path: Path) -> None:
    given = ["--crop", "32", "--batch", "2", "--only", "ddnet_1b", "--channels", "4", "--rounds", "2", "--turns", "1"]
    given += ["--ways", "ours,bf16"]
    assert main(["bench", "step", *given, "--out", str(tmp_path)]) == 0
    [table] = tmp_path.glob("step-*.csv")
    plain, ours, half = rows_in(table)
    assert [row["part"] for row in (plain, ours, half)] == ["plain", "ours", "bf16"] and ours["than"] == "plain"
    assert float(ours["deviation"]) < 1e-4 and plain["gflop"] == ours["gflop"] == half["gflop"]
    assert 0 < float(half["deviation"]) < 1e-2
    for row in (plain, ours, half):
        rate = float(row["gflop"]) / float(row["wall_s"])
        assert float(row["gflop_s"]) == pytest.approx(rate, rel=1e-2)
        assert float(row["of_sgemm"]) == pytest.approx(rate / float(row["sgemm_gflops"]), rel=1e-2)
        assert float(row["convolution_gflops"]) > 0 and 0.1 < float(row["convolution_share"]) < 1
    assert table.with_suffix(".png").is_file()


def test_loading_beside_files_and_beside_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddnet.benchmark.data.IMAGE", (96, 64))
    given = ["--crop", "32", "--batch", "2", "--channels", "4", "--out", str(tmp_path)]
    assert main(["bench", "data", *given]) == 0
    [table] = tmp_path.glob("data-*.csv")
    plain, ours, first = rows_in(table)
    assert [row["part"] for row in (plain, ours, first)] == ["plain", "ours", "first touch, per image pair"]
    ratio = float(plain["wall_s"]) / float(ours["wall_s"])
    assert float(ours["times_faster"]) == pytest.approx(ratio, rel=1e-2) and float(first["wall_s"]) > 0
    for row in (plain, ours):
        load, step = 2 * float(row["wall_s"]), float(row["step_s"])
        assert float(row["waiting_share"]) == pytest.approx(load / (load + step), rel=1e-2)
        rate = 1e-9 * 32**2 * 7 * 6 / float(row["wall_s"])
        assert float(row["of_copy"]) == pytest.approx(rate / float(row["copy_gb_s"]), rel=1e-2)
    assert table.with_suffix(".png").is_file()


def test_metrics_beside_other_packages_one_thread(tmp_path: Path, weights_folder: Path) -> None:
    given = ["--size", "96x64", "--rounds", "1", "--weights", str(weights_folder), "--out", str(tmp_path)]
    assert main(["bench", "metrics", *given]) == 0
    [table] = tmp_path.glob("metrics-*.csv")
    rows = {(row["system"], row["part"]): row for row in rows_in(table)}
    names = ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze", "all together")
    assert list(rows) == [(name, way) for way in ("plain", "ours") for name in names]
    for name in names[:-1]:
        exact = {"psnr", "psnr_8bit", "mae"}
        assert float(rows[name, "ours"]["deviation"]) <= (0 if name in exact else 1e-6)
        assert rows[name, "plain"]["threads"] == "1" and float(rows[name, "plain"]["wall_s"]) > 0
    together = sum(float(rows[name, "ours"]["wall_s"]) for name in names[:-1])
    assert float(rows["all together", "ours"]["wall_s"]) == pytest.approx(together, rel=1e-2)
    assert rows["lpips_alex", "ours"]["weights"] == "official" and table.with_suffix(".png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["metrics", "--size", "48x64"], "--size 48x64 --rounds 5: sides from 64 on"),
        (["inference", "--size", "100x64"], "size is '100x64'; sides are multiples of 16 from 64 on"),
        (["inference", "--size", "96x48"], "multiples of 16 from 64 on"),
        (["inference", "--only", "ddnet_9b"], "ddnet_9b"),
        (["step", "--crop", "40"], "--crop 40 --batch 4: crops are multiples of 16 from 32 to 1024"),
        (["data", "--crop", "4096"], "multiples of 16 from 32 to 1024"),
        (["data", "--only", "ddnet_9b"], "ddnet_9b"),
        (["step", "--ways", "ours,bf61"], "--ways: no way 'bf61'; did you mean 'bf16'?"),
        (["inference", "--ways", "tf32"], "--ways: no way 'tf32'"),
        (["inference", "--batch", "0"], "--batch 0: at least 1 image"),
        (["step", "--turns", "0"], "--turns 0: at least 1"),
        (["step", "--rounds", "0"], "at least 1 round"),
    ],
)
def test_networks_that_cannot_be_measured_are_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, "--out", str(tmp_path / "bench")]) == 1
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1 and not (tmp_path / "bench").exists()


@pytest.fixture
def no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes two seconds, and one test has it."""
    monkeypatch.setattr("ddnet.benchmark.bench.measure_ceiling", dict)


@pytest.mark.usefixtures("no_ceiling")
def test_a_failing_measurement_is_one_line_and_the_other_rows_are_kept(tmp_path: Path) -> None:
    records, shown = Records(tmp_path, "systems", "a processor"), list[Row]()
    with pytest.raises(DDNetError) as error:
        bench_systems([BROKEN, BLURRED], SIZE, records, shown.append)
    message = str(error.value)
    assert "broken, whole: deconvolution: method is 'wiener'; allowed are hyper_laplacian" in message
    assert "\n" not in message and f"rows measured: 2, in {records.file}" in message
    assert records.file.name == f"systems-a-processor-{cpu_count()}cpu.csv"
    kept = [("broken", "map"), ("blurred", "whole")]
    assert [(row["system"], row["part"]) for row in rows_in(records.file)] == kept
    assert [(row["system"], row["part"]) for row in shown] == kept


@pytest.mark.usefixtures("no_ceiling")
def test_interrupted_it_says_so_in_one_line_and_keeps_its_rows(tmp_path: Path) -> None:
    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    records = Records(tmp_path, "systems", "a processor")
    with pytest.raises(DDNetError, match="^bench: interrupted; ") as error:
        bench_systems([BLURRED, BROKEN], SIZE, records, interrupt)
    assert "\n" not in str(error.value) and "rows measured: 1, in " in str(error.value)
    assert [row["system"] for row in rows_in(records.file)] == ["blurred"]


def test_a_row_measured_again_replaces_the_old_one(tmp_path: Path) -> None:
    row = {"system": "ebdb", "part": "map", "width": 96, "height": 64}
    Records(tmp_path, "systems", "x").add(row | {"wall_s": 1.0})
    Records(tmp_path, "systems", "x").add(row | {"wall_s": 2.0, "width": 128})
    records = Records(tmp_path, "systems", "x")
    records.add(row | {"wall_s": 3.0})
    assert [(found["width"], found["wall_s"]) for found in rows_in(records.file)] == [("96", "3.0"), ("128", "2.0")]
    records.file.write_text("system,part\nebdb,map\n")
    with pytest.raises(DDNetError, match="move it away"):
        Records(tmp_path, "systems", "x")
    assert records.file.read_text() == "system,part\nebdb,map\n"


def test_peak_memory_is_that_of_the_measurement_not_of_who_started_it(tmp_path: Path) -> None:
    held = np.ones(100 << 20, np.float32)  # 400 MiB, every page touched
    write_scene(tmp_path, *SIZE)
    found = measure("baselines.bench", "whole", "--folder", str(tmp_path), "--baseline", BLURRED.model_dump_json())
    assert held.any() and 10 < found["peak_memory_mib"] < 300


def test_the_scene_is_the_middle_of_a_square_one_and_always_the_same(tmp_path: Path) -> None:
    for name, size in (("one", SIZE), ("two", SIZE), ("square", (96, 96))):
        (tmp_path / name).mkdir()
        write_scene(tmp_path / name, *size)
    for file in ("image.npy", "true.npy"):
        one, two, square = (np.load(tmp_path / name / file) for name in ("one", "two", "square"))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, square[16:80])
        assert one.shape[:2] == (64, 96) and np.isfinite(one).all() and one.min() >= 0 < one.std()


def test_a_child_that_dies_is_reported_by_its_last_words() -> None:
    with pytest.raises(DDNetError, match="No module named baselines.nowhere$"):
        measure("baselines.nowhere")
    with pytest.raises(DDNetError, match="^ZeroDivisionError: "):
        measure("timeit", "-n", "1", "-r", "1", "--setup", "import sys", "1 / 0")
    with pytest.raises(DDNetError, match="signal 9 .out of memory"):
        measure("timeit", "-n", "1", "-r", "1", "--setup", "import os", "os.kill(os.getpid(), 9)")


def test_every_action_ends_with_one_line_of_json_or_of_error(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "baselines.bench", "map", "--folder", str(tmp_path))
    write_scene(tmp_path, *SIZE)
    odd = BROKEN.model_copy(update={"options": {"method": "hyper_laplacian", "colour": 1}})
    done = subprocess.run((*command, "--baseline", odd.model_dump_json()), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "colour" in done.stderr and not done.stdout


@pytest.mark.parametrize("system", LEARNED)
def test_weights_that_are_not_there_have_a_stand_in_that_fits(system: str, tmp_path: Path) -> None:
    write_stand_in(system, tmp_path / "weights.npz")
    build(Baseline(name=system, system=system, label=system), tmp_path / "weights.npz")


def test_other_stand_ins_are_a_system_s_own_or_learnt_from_two_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Fake:
        @staticmethod
        def train(scenes_train: Sequence[Scene], scenes_val: Sequence[Scene], out: Path) -> None:
            seen.extend(scene.key for scene in (*scenes_train, *scenes_val))
            assert all(scene.image.is_file() and scene.depth_m for scene in scenes_train)

    module = ModuleType("baselines.fake.baseline")
    monkeypatch.setitem(sys.modules, "baselines.fake.baseline", module)
    monkeypatch.setattr(module, "Fake", Fake, raising=False)
    write_stand_in("fake", tmp_path / "fake.npz")
    assert [key.split("/")[1] for key in seen] == ["train", "train", "val"]
    monkeypatch.setattr(module, "random_weights", lambda file: file.write_text("own"), raising=False)
    write_stand_in("fake", tmp_path / "own.npz")
    assert (tmp_path / "own.npz").read_text() == "own" and len(seen) == 3
    with pytest.raises(DDNetError, match=r"blurred has no stand-in for weights; make results/systems/"):
        write_stand_in("blurred", tmp_path / "none.npz")


def test_sizes() -> None:
    assert parse_size("1680x1120") == parse_size("1680X1120") == (1680, 1120)
