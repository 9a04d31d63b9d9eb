from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import INFO, VARIANTS, World, make_world

from ddnet.errors import DDNetError
from ddnet.images import read_image
from ddnet.report.collect import collect, read_json
from ddnet.report.figures import KINDS, Study, draw_study, label_box, mean_curve, place_labels, seed_means
from ddnet.report.panels import most_blurred, psnr_of
from ddnet.report.style import MAX_BYTES, house_style, new_figure, save

FUSION = Study("fusion", tuple(v for v in VARIANTS if "fusion" in v.studies), "ddnet_1b")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("figures"), pictures=True)


@pytest.fixture(scope="module")
def images(world: World) -> pd.DataFrame:
    return collect(world.runs)


def draw(world: World, images: pd.DataFrame, folder: Path, kinds: tuple[str, ...], study: Study = FUSION) -> list[Path]:
    complexity = {path.stem: read_json(path) for path in world.complexity}
    return draw_study(study, world.runs, images, complexity, "embedded", world.scenes, folder, kinds)


def test_every_kind_is_written_as_a_readable_small_png(world: World, images: pd.DataFrame, tmp_path: Path) -> None:
    written = draw(world, images, tmp_path, KINDS)
    assert [path.name for path in written] == [f"{kind}.png" for kind in KINDS]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    for path in written:
        picture = read_image(path)
        assert min(picture.shape[:2]) > 200 and picture.std() > 0.02
        assert path.stat().st_size < MAX_BYTES


def test_only_the_asked_kinds_are_written(world: World, images: pd.DataFrame, tmp_path: Path) -> None:
    assert [path.name for path in draw(world, images, tmp_path, ("ablation",))] == ["ablation.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["ablation.png"]


def test_what_cannot_be_drawn_is_said(world: World, images: pd.DataFrame, tmp_path: Path) -> None:
    plain = Study("modules", (INFO["unet"], INFO["unet_rcab"]), "unet")
    with pytest.raises(DDNetError, match=r"no gates.*unet-seed0, unet_rcab-seed0.*leave the kind 'gates' out"):
        draw(world, images, tmp_path, ("gates",), plain)
    with pytest.raises(DDNetError, match=r"unknown figure 'gate'.*did you mean 'gates'"):
        draw(world, images, tmp_path, ("gate",))
    with pytest.raises(DDNetError, match="no run was measured"):
        draw(world, images.iloc[:0], tmp_path, ("ablation",))
    with pytest.raises(DDNetError, match="no scene was chosen"):
        draw_study(FUSION, world.runs, images, {}, "embedded", [], tmp_path, ("panels",))
    with pytest.raises(DDNetError, match="both a size and a measurement"):
        draw_study(FUSION, world.runs, images, {}, "embedded", [], tmp_path, ("psnr_params",))
    with pytest.raises(DDNetError, match=r"no run has a history\.csv"):
        draw_study(FUSION, [], images, {}, "embedded", [], tmp_path, ("curves",))


def test_one_seed_and_no_baseline_still_draw(world: World, images: pd.DataFrame, tmp_path: Path) -> None:
    one = images[images["seed"] == 0]
    assert draw(world, one, tmp_path, ("ablation", "psnr_params"))


def test_seed_means(images: pd.DataFrame) -> None:
    means = seed_means(images, "ddnet_1b", "embedded")
    psnr = images[(images["variant"] == "ddnet_1b") & (images["metric"] == "psnr") & (images["dataset"] == "embedded")]
    assert means.tolist() == pytest.approx(psnr.groupby("seed")["value"].mean().to_list())


def test_mean_curve_uses_the_steps_that_all_seeds_have() -> None:
    first = pd.DataFrame({"step": [1, 2, 3], "val_psnr": [10.0, 20.0, 30.0]})
    second = pd.DataFrame({"step": [2, 3, 4], "val_psnr": [22.0, np.nan, 40.0]})
    curve = mean_curve([first, second])
    assert curve.index.to_list() == [2]
    assert curve.loc[2].to_list() == [21.0, 20.0, 22.0]
    assert mean_curve([]).empty


def test_labels_do_not_cover_each_other() -> None:
    with house_style():
        figure = new_figure(5.6, 3.7)
        axes = figure.add_subplot()
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        points = [(5.0, 5.0 + 0.1 * n) for n in range(6)]
        place_labels(axes, points, [f"a long label {n}" for n in range(6)])
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [label_box(text, renderer) for text in axes.texts]  # type: ignore[arg-type]
        frame = axes.get_window_extent(renderer)
    assert len(boxes) == 6
    for n, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        for other in boxes[n + 1 :]:
            assert box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0


def test_the_crop_is_where_the_input_differs_most() -> None:
    target = np.zeros((40, 60, 3), dtype=np.float32)
    image = target.copy()
    image[20:30, 45:55] = 0.5
    assert most_blurred(image, target, 10) == (20, 45)
    assert psnr_of(target + 0.1, target) == pytest.approx(20.0, abs=1e-4)
    assert psnr_of(target, target) == float("inf")


def test_a_picture_that_would_be_too_large_is_reduced(tmp_path: Path) -> None:
    with house_style():
        figure = new_figure(6, 6, layout="none")
        noise = np.random.default_rng(0).random((840, 840, 3))
        figure.add_axes((0.0, 0.0, 1.0, 1.0)).imshow(noise, interpolation="nearest")
        path = save(figure, tmp_path / "noise.png")
    assert 100_000 < path.stat().st_size < MAX_BYTES  # noise is the worst case: nothing compresses it
