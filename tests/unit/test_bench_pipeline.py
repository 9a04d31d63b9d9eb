"""`ddnet bench pipeline` on manifests written by hand, whose shares are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ddnet.benchmark.pipeline import finished_jobs, shares
from ddnet.cli.main import main
from ddnet.errors import DDNetError
from ddnet.runtime.resources import cpu_count


def write(folder: Path, name: str, second: int, wall: float, startup: float = 2.0, **facts: Any) -> None:
    manifest = {
        "rule": "train", "preset": "smoke", "date": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00",
        "wall_s": wall, "startup_s": startup, "processors": 1,
    }  # fmt: skip
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest | facts))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 20 s: one job on one processor, then one on all."""
    write(tmp_path, "results/runs/smoke/a/manifest.json", 10, 8.0)
    write(tmp_path, "data/smoke/scenes.manifest.json", 20, 9.0, 1.0, rule="render", processors=cpu_count())
    write(tmp_path, "results/runs/other/manifest.json", 59, 8.0, preset="other")
    for copies in ("reference", "mlartifacts/1"):
        write(tmp_path, f"results/{copies}/manifest.json", 10, 8.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shares_are_of_all_processors_over_the_whole_run(run: Path) -> None:
    jobs = finished_jobs(run, "smoke")
    assert [(job.rule, job.startup, job.ended - job.began) for job in jobs] == [("train", 2, 10), ("render", 1, 10)]
    found, cpus = shares(jobs, 20.0), cpu_count()
    assert found["work_s"] == pytest.approx(8 + 9 * cpus) and found["startup_s"] == pytest.approx(2 + cpus)
    assert found["work_share"] == pytest.approx((8 + 9 * cpus) / (20 * cpus))


def test_a_run_with_a_pause_is_not_measured(run: Path) -> None:
    write(run, "results/late/manifest.json", 200, 8.0, rule="late")
    with pytest.raises(DDNetError, match=r"nothing ran for 170 s before late: no run in one piece"):
        finished_jobs(run, "smoke")
    with pytest.raises(DDNetError, match="no finished jobs of the preset 'embedded'; run it here first"):
        finished_jobs(run, "embedded")


def test_a_row_per_rule_and_of_the_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pipeline", "--preset", "smoke", "--out", "bench"]) == 0
    [file] = (run / "bench").glob("pipeline-*.csv")
    with file.open(newline="") as stream:
        rows = {row["rule"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {"train", "render", "all", "snakemake, nothing to do"}
    whole = rows["all"]
    total = sum(float(whole[name]) for name in ("work_share", "startup_share", "waiting_share"))
    assert total == pytest.approx(1, abs=1e-3) and whole["jobs"] == "2" and float(whole["wall_s"]) == 20
    assert float(rows["snakemake, nothing to do"]["wall_s"]) > 0
    assert file.with_suffix(".png").stat().st_size > 10_000
    assert str(file.relative_to(run)) in capsys.readouterr().out
    assert main(["bench", "pipeline", "--preset", "other", "--out", "bench"]) == 1
    assert "no preset 'other'" in capsys.readouterr().err
