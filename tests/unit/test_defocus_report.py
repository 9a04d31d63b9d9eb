"""Table S2 and the picture of defocus maps, made from miniature evaluations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ddnet.errors import DDNetError
from ddnet.io.images import read_image, write_image
from ddnet.report.defocus import MapSource, map_sources, table_s2
from ddnet.report.defocus_figure import draw_defocus_maps
from ddnet.report.formats import to_html, to_markdown, to_tex, write_table
from ddnet.report.panels import PanelScene
from ddnet.report.style import MAX_BYTES
from ddnet.runtime.paths import ROOT

SHAPE = (40, 60)
INPUT = np.array([26.0, 27.0, 28.0, 29.0])
LABELS = {"ebdb": "EBDB", "jnb": "JNB"}


def truth(scene: int) -> np.ndarray:
    return np.tile(np.linspace(0.0, 1.5 + 0.1 * scene, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))


def write_map(
    root: Path,
    name: str,
    error: float,
    gain: float,
    ranks: Sequence[float | None] = (0.5, 0.6, 0.7, 0.8),
    panels: int = 2,
) -> Path:
    """One evaluated source: `error` px of MAE and of bias, `gain` dB; returns its scores.json."""
    folder = root / name
    (folder / "maps" / "embedded").mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "dataset": "embedded",
            "scene": [f"s{number}" for number in range(4)],
            "location": ["indoor", "outdoor"] * 2,
            "mae_px": error + 0.01 * np.arange(4),
            "bias_px": -error,
            "spearman": ranks,
            "psnr_input": INPUT,
            "psnr_hyper_laplacian": INPUT + gain + 0.1 * np.arange(4),
            "psnr_richardson_lucy": INPUT + 2 * gain,
        }
    )
    frame.to_csv(folder / "per_image.csv", index=False)
    for number in range(panels):
        np.save(folder / "maps" / "embedded" / f"s{number}.npy", truth(number) + np.float32(error))
    scores = {
        "images": 4, "pixels": 9600, "textured_pixels": 7200, "mae_px": error, "bias_px": -error,
        "mean_px": 0.8 - error, "true_mean_px": 0.8, "spearman": None if name == "constant" else 0.65,
        "settings": {"alpha": 1.5, "lam": 16.8, "iterations": 10},
        "provenance": {"commit": "abc1234", "dirty": False, "date": "2026-11-23T10:00:00+00:00"},
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder / "scores.json"


@pytest.fixture
def sources(tmp_path: Path) -> list[MapSource]:
    files = [
        write_map(tmp_path, "jnb", 0.3, 0.25, (0.5, None, 0.7, None)),
        write_map(tmp_path, "ebdb", 0.2, 0.5),
        write_map(tmp_path, "true", 0.0, 1.0, (1.0,) * 4),
        write_map(tmp_path, "constant", 0.4, -0.5, (None,) * 4),
    ]
    return map_sources(files, LABELS, {"jnb": "its dictionary and curve were learned here"})


def test_rows_are_means_over_images_with_intervals(sources: list[MapSource]) -> None:
    frame = table_s2(sources, "embedded").frame.set_index("key")
    assert frame.index.to_list() == ["jnb", "ebdb", "true", "constant"]
    assert frame["label"].to_list() == ["JNB", "EBDB", "True map", "Constant (training median)"]
    row = frame.loc["ebdb"]
    assert row["mae_px"] == pytest.approx(0.215) and row["bias_px"] == pytest.approx(-0.2)
    assert 0.2 <= row["mae_px_low"] < 0.215 < row["mae_px_high"] <= 0.23
    assert row["spearman"] == pytest.approx(0.65) and row["pooled_spearman"] == 0.65
    assert row["gain_hyper_laplacian"] == pytest.approx(0.65) and row["gain_richardson_lucy"] == pytest.approx(1.0)
    assert row["gain_hyper_laplacian_low"] < 0.65 < row["gain_hyper_laplacian_high"]
    assert row["gain_richardson_lucy_low"] == pytest.approx(row["gain_richardson_lucy_high"])
    assert row["n_images"] == 4 and row["psnr_input"] == pytest.approx(27.5)
    assert frame["reference"].to_list() == [False, False, True, True]


def test_a_correlation_that_is_not_defined_is_left_out_and_said(sources: list[MapSource]) -> None:
    frame = table_s2(sources, "embedded").frame.set_index("key")
    assert frame.loc["jnb", "spearman"] == pytest.approx(0.6)
    assert frame.loc["jnb", "note"] == (
        "its dictionary and curve were learned here; "
        "rank correlation not defined in 2 of 4 images, which its mean leaves out"
    )
    assert np.isnan(frame.loc["constant", ["spearman", "pooled_spearman"]].astype(float)).all()
    assert frame.loc["constant", "note"] == frame.loc["ebdb", "note"] == ""


def test_footnotes_say_what_the_numbers_are(sources: list[MapSource]) -> None:
    text = " ".join(table_s2(sources, "embedded").footnotes)
    for words in (
        "Measured on embedded: 4 test images (2 indoor, 2 outdoor), preset embedded.",
        "c/4",
        "0.02 of [0, 1] in 7×7 pixels (75 % of all)",
        "alpha 1.5, lambda 16.8",
        "10 iterations",
        "not fitted to this benchmark",
        "0.400 px, everywhere",
        "Provenance: commit abc1234; date 2026-11-23.",
    ):
        assert words in text, words
    assert "A trial" not in text
    assert table_s2(sources, "embedded", trial=True).footnotes[0].startswith("A trial on a few scenes")
    without = " ".join(table_s2(sources[:2], "embedded").footnotes)
    assert "everywhere" not in without and "True map" not in without


def test_every_form_of_the_table_is_written(sources: list[MapSource], tmp_path: Path) -> None:
    table = table_s2(sources, "embedded")
    paths = write_table(table, tmp_path / "tables")
    assert sorted(path.name for path in paths.values()) == [
        f"tableS2_defocus.{e}" for e in ("csv", "html", "md", "tex")
    ]
    back = pd.read_csv(paths["csv"])
    assert back["mae_px"].to_list() == pytest.approx(table.frame["mae_px"].to_list())
    for text in (to_markdown(table), to_html(table), to_tex(table)):
        assert "EBDB" in text and "0.215" in text and "dictionary and curve" in text
    # LaTeX sets what `_TEX` knows; another Greek letter would stop it.
    assert not {character for character in to_tex(table) if ord(character) > 127}


def test_sources_of_different_images_are_refused(tmp_path: Path) -> None:
    files = [write_map(tmp_path, name, 0.2, 0.5) for name in ("ebdb", "true")]
    frame = pd.read_csv(tmp_path / "ebdb" / "per_image.csv")
    for changed in (frame.iloc[:3], frame.assign(psnr_input=frame["psnr_input"] + 0.1)):
        changed.to_csv(tmp_path / "ebdb" / "per_image.csv", index=False)
        with pytest.raises(DDNetError, match="the maps ebdb and true were evaluated on different images"):
            table_s2(map_sources(files, LABELS), "embedded")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="there is no defocus map to compare"):
        table_s2([], "embedded")
    [source] = map_sources([write_map(tmp_path, "ebdb", 0.2, 0.5)], LABELS)
    for name in ("spearman", "mean_px"):
        if name == "mean_px":
            source = map_sources([write_map(tmp_path, "jnb", 0.2, 0.5)], LABELS)[0]
            scores = json.loads((source.folder / "scores.json").read_text())
            del scores[name]
            (source.folder / "scores.json").write_text(json.dumps(scores))
        else:
            frame = pd.read_csv(source.folder / "per_image.csv").drop(columns=name)
            frame.to_csv(source.folder / "per_image.csv", index=False)
        with pytest.raises(DDNetError, match=rf"per_image\.csv: lacks {name}"):
            table_s2([source], "embedded")
    (source.folder / "per_image.csv").unlink()
    with pytest.raises(DDNetError, match=r"jnb/per_image\.csv: no such file; evaluate this defocus map again"):
        table_s2([source], "embedded")


def panel_scenes(root: Path, count: int = 2) -> list[PanelScene]:
    scenes = []
    for number in range(count):
        path = root / f"s{number}.png"
        write_image(path, np.random.default_rng(number).random((*SHAPE, 3), np.float32), bits=8)
        scenes.append(PanelScene("embedded", f"s{number}", "indoor", path, path))
    return scenes


def test_the_figure_shows_systems_and_not_the_constant(sources: list[MapSource], tmp_path: Path) -> None:
    scenes = panel_scenes(tmp_path)
    path = draw_defocus_maps(sources, scenes, tmp_path / "defocus_maps.png")
    whole = read_image(path)
    assert path.stat().st_size < MAX_BYTES and whole.shape[0] > 250 and whole.std() > 0.05
    fewer = draw_defocus_maps(sources[1:], scenes, tmp_path / "fewer.png")
    assert read_image(fewer).shape[0] > whole.shape[0] + 50  # a column less, of the same width: larger pictures
    same = draw_defocus_maps(sources[:3], scenes, tmp_path / "same.png")  # all but the constant
    assert np.array_equal(read_image(same), whole)


def test_the_figure_says_what_it_lacks(sources: list[MapSource], tmp_path: Path) -> None:
    scenes = panel_scenes(tmp_path, 3)
    with pytest.raises(DDNetError, match=r"true/maps/embedded/s2\.npy: no such file"):
        draw_defocus_maps(sources, scenes, tmp_path / "x.png")
    with pytest.raises(DDNetError, match="evaluation of 'true' is missing"):
        draw_defocus_maps(sources[:2], scenes[:1], tmp_path / "x.png")
    with pytest.raises(DDNetError, match="no scene was chosen"):
        draw_defocus_maps(sources, [], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_scenes_in_perfect_focus_still_have_a_scale(tmp_path: Path) -> None:
    file = write_map(tmp_path, "true", 0.0, 0.0)
    for number in range(2):
        np.save(file.parent / "maps" / "embedded" / f"s{number}.npy", np.zeros(SHAPE, np.float32))
    assert draw_defocus_maps(map_sources([file], {}), panel_scenes(tmp_path), tmp_path / "sharp.png").is_file()


def test_the_report_of_defocus_maps_needs_no_torch() -> None:
    code = "import sys, ddnet.report.defocus_figure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
