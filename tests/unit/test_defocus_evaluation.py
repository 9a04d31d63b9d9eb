"""What the evaluation of defocus maps says of maps whose quality is known."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from baselines.common.deconvolution import deblur_with_map
from baselines.defocus_evaluation import COLUMNS, FEWEST, Source, evaluate_map, source_of, spearman
from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.embedded.true_blur import textured, true_sigma
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.evaluation.metrics.psnr import Psnr
from ddnet.io.images import FloatArray, read_image, write_image


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    root = tmp_path_factory.mktemp("scenes")
    render_split("embedded", "test", 2, 64, 16, 0, root)
    return index_benchmark(root)


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def evaluated(source: Source, scenes: Sequence[Scene], out: Path) -> tuple[dict[str, object], list[dict[str, str]]]:
    """Scores and rows, any warning being an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluate_map(source, scenes, out, threads=1), read_rows(out)


def test_the_true_map_has_no_error_and_ranks_every_pixel(scenes: list[Scene], tmp_path: Path) -> None:
    scores, rows = evaluated(source_of("true", None, []), scenes, tmp_path)
    assert scores["mae_px"] == scores["bias_px"] == 0.0 and scores["mean_px"] == scores["true_mean_px"]
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["images"] == 2 and scores["pixels"] == 2 * 64 * 64
    assert scores["textured_pixels"] == sum(textured(read_image(scene.target)).sum() for scene in scenes)
    assert json.loads(json.dumps(scores)) == scores
    assert list(rows[0]) == list(COLUMNS) and [row["scene"] for row in rows] == [scene.scene for scene in scenes]
    for row in rows:
        assert (float(row["mae_px"]), float(row["bias_px"]), float(row["spearman"])) == (0.0, 0.0, 1.0)


def test_errors_are_estimate_less_truth_over_all_pixels(scenes: list[Scene], tmp_path: Path) -> None:
    scores, rows = evaluated(lambda scene, image: true_sigma(scene) + np.float32(0.25), scenes, tmp_path)
    assert scores["mae_px"] == pytest.approx(0.25, abs=1e-6) and scores["bias_px"] == pytest.approx(0.25, abs=1e-6)
    assert float(rows[0]["bias_px"]) == pytest.approx(0.25, abs=1e-6)
    assert scores["spearman"] == pytest.approx(1.0, abs=1e-6)


def test_a_swapped_map_has_errors_and_ranks_badly(scenes: list[Scene], tmp_path: Path) -> None:
    other = {scenes[0].key: scenes[1], scenes[1].key: scenes[0]}
    scores, swapped = evaluated(lambda scene, image: true_sigma(other[scene.key]), scenes, tmp_path)
    assert scores["mae_px"] > 0.05 and scores["spearman"] < 0.9
    for row in swapped:
        assert float(row["mae_px"]) > 0.05 and float(row["spearman"]) < 0.9


def test_the_constant_is_the_median_of_the_training_scenes_and_ranks_nothing(
    scenes: list[Scene], tmp_path: Path
) -> None:
    scores, rows = evaluated(source_of("constant", None, scenes), scenes, tmp_path)
    both = np.stack([true_sigma(scene) for scene in scenes])
    assert scores["mean_px"] == pytest.approx(np.median(both), rel=1e-6)
    assert scores["mae_px"] == pytest.approx(np.abs(both - np.median(both)).mean(), rel=1e-6)
    assert scores["spearman"] is None and [row["spearman"] for row in rows] == ["", ""]


def test_psnr_is_that_of_the_two_deconvolutions_by_the_map(scenes: list[Scene], tmp_path: Path) -> None:
    class Halves:
        def defocus_map(self, image: FloatArray) -> FloatArray:
            return np.full(image.shape[:2], 0.5, np.float32)

    _, [row] = evaluated(source_of("halves", Halves(), []), scenes[:1], tmp_path)
    image, target = read_image(scenes[0].image), read_image(scenes[0].target)
    sigma = np.full(image.shape[:2], 0.5, np.float32)
    assert float(row["psnr_input"]) == pytest.approx(Psnr()(image, target), rel=1e-7)
    for method, options in (
        ("hyper_laplacian", {"alpha": 1.5, "lam": 16.8}),
        ("richardson_lucy", {"iterations": 10}),
    ):
        restored = deblur_with_map(image, sigma, method, **options)  # type: ignore[arg-type]
        assert float(row[f"psnr_{method}"]) == pytest.approx(Psnr()(restored, target), rel=1e-7)


def test_the_true_sigma_deconvolves_better_than_half_and_twice_of_it(tmp_path: Path) -> None:
    """So a quarter of the circle of confusion's diameter is the Gaussian's sigma, and c/2 and c/8 are not."""
    render_split("embedded", "test", 1, 192, 64, 0, tmp_path)
    [scene] = index_benchmark(tmp_path)
    gained = {}
    for factor in (0.5, 1.0, 2.0):
        _, [row] = evaluated(lambda s, image, k=factor: np.float32(k) * true_sigma(s), [scene], tmp_path / str(factor))
        gained[factor] = float(row["psnr_richardson_lucy"]) - float(row["psnr_input"])
    assert gained[1.0] > 0.5 and gained[1.0] > gained[0.5] + 0.2 and gained[1.0] > gained[2.0] + 1.0


def test_maps_of_the_panel_scenes_are_kept_and_no_others(scenes: list[Scene], tmp_path: Path) -> None:
    evaluate_map(source_of("true", None, []), scenes, tmp_path, [scenes[1].key], threads=1)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        f"maps/embedded/{scenes[1].scene}.npy",
        "per_image.csv",
    ]
    kept = np.load(tmp_path / "maps" / "embedded" / f"{scenes[1].scene}.npy")
    assert kept.dtype == np.float32 and np.array_equal(kept, true_sigma(scenes[1]))


def test_numbers_do_not_depend_on_the_number_of_threads(scenes: list[Scene], tmp_path: Path) -> None:
    for threads in (1, 3):
        evaluate_map(source_of("true", None, []), scenes[:1], tmp_path / str(threads), threads=threads)
    assert (tmp_path / "1" / "per_image.csv").read_bytes() == (tmp_path / "3" / "per_image.csv").read_bytes()


def test_a_scene_without_texture_has_an_empty_cell_and_no_warning(scenes: list[Scene], tmp_path: Path) -> None:
    flat = tmp_path / "flat.png"
    write_image(flat, np.full((64, 64, 3), 0.5, np.float32))
    plain = Scene(**{**vars(scenes[0]), "target": flat})
    scores, [row] = evaluated(source_of("true", None, []), [plain], tmp_path)
    assert scores["textured_pixels"] == 0 and scores["spearman"] is None and row["spearman"] == ""


def test_rank_correlation_ranks() -> None:
    values = np.arange(FEWEST, dtype=np.float32)
    assert spearman(values**3, values) == pytest.approx(1.0)
    assert spearman(-values, values) == pytest.approx(-1.0)
    for estimate, truth in ((values[1:], values[1:]), (0 * values, values), (values, 0 * values)):
        assert math.isnan(spearman(estimate, truth))


@pytest.mark.parametrize(
    "wrong", [np.zeros((64, 1)), np.full((64, 64), np.nan), np.full((64, 64), -0.1), np.zeros((64, 64, 1))]
)
def test_what_is_no_map_is_refused_and_nothing_written(scenes: list[Scene], tmp_path: Path, wrong: FloatArray) -> None:
    with pytest.raises(DDNetError, match=r"^embedded/test/indoor_000: the defocus map is \(64.*\(64, 64\), finite"):
        evaluate_map(lambda scene, image: wrong, scenes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_evaluated_is_one_line(scenes: list[Scene], tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="'true_map': no such system; the references are true and constant"):
        source_of("true_map", None, scenes)
    with pytest.raises(DDNetError, match="'constant': there is no training scene"):
        source_of("constant", None, [])
    with pytest.raises(DDNetError, match="there is no scene to evaluate"):
        evaluate_map(source_of("true", None, []), [], tmp_path)
    photograph = Scene(**{**vars(scenes[0]), "depth_m": None})
    with pytest.raises(DDNetError, match=r"^embedded/test/indoor_000: its true blur is not known"):
        evaluate_map(source_of("true", None, []), [photograph], tmp_path)
