from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_runs import INFO, VARIANTS, World, make_world

from ddnet.errors import DDNetError
from ddnet.io.images import read_image, write_depth16, write_image
from ddnet.report.collect import RunRef, collect, read_json
from ddnet.report.figures import KINDS, Study, draw_study, label_box, mean_curve, place_labels, seed_means
from ddnet.report.panels import (
    CROP_PIXELS,
    SHOWN_PIXELS,
    PanelScene,
    _read_row,
    depth_scale,
    draw_panels,
    most_blurred,
    psnr_of,
    reduced,
)
from ddnet.report.style import (
    COLUMN_WIDTH,
    MAX_BYTES,
    PALETTE,
    PICTURE_BYTES,
    TEXT_WIDTH,
    _reduce_colours,
    house_style,
    new_figure,
    save,
)

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


def test_every_kind_is_written_at_the_width_of_a_column_or_a_page(
    world: World, images: pd.DataFrame, tmp_path: Path
) -> None:
    written = draw(world, images, tmp_path, KINDS)
    assert [path.name for path in written] == [f"{kind}.png" for kind in KINDS]
    assert sorted(tmp_path.iterdir()) == sorted([*written, *(path.with_suffix(".pdf") for path in written)])
    for path in written:
        picture = read_image(path)
        assert picture.shape[1] in (int(300 * COLUMN_WIDTH), int(300 * TEXT_WIDTH))
        assert picture.shape[0] > 400 and picture.std() > 0.02
        assert path.stat().st_size < MAX_BYTES
        with Image.open(path) as opened:
            assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        pdf = path.with_suffix(".pdf").read_bytes()
        assert pdf.startswith(b"%PDF-") and b"CreationDate" not in pdf
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # text, in embedded TrueType
        [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", pdf)
        assert float(box) / 72 in (pytest.approx(COLUMN_WIDTH), pytest.approx(TEXT_WIDTH))


ANOTHER = """
import sys
from pathlib import Path
from ddnet.report.style import house_style, new_figure, save
with house_style():
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], label="Δ PSNR")
    axes.imshow([[0.0, 0.5]])
    axes.set_title("a title")
    axes.legend()
    save(figure, Path(sys.argv[1]))
"""


def test_the_same_figure_has_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    for seed in ("1", "2"):  # of Python's hashes, on which the order of sets rests
        command = [sys.executable, "-c", ANOTHER, str(tmp_path / f"{seed}.png")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    for form in ("png", "pdf"):
        assert (tmp_path / f"1.{form}").read_bytes() == (tmp_path / f"2.{form}").read_bytes()


# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", IEEE TVCG
# 15(6), 2009, severity 1.0, on linear sRGB.
SEEN_BY = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip
LEAST_DIFFERENCE = 10  # CIEDE2000; one is about what an eye can tell in colours side by side


def least_difference(colours: Sequence[str], matrix: Sequence[Sequence[float]]) -> float:
    """The smallest CIEDE2000 difference between any two colours as somebody with this vision sees them."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    rgb = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(encoded[None])[0]
    return float(min(deltaE_ciede2000(a, b) for n, a in enumerate(lab) for b in lab[n + 1 :]))


@pytest.mark.parametrize("vision", SEEN_BY)
def test_no_two_colours_of_the_palette_look_alike_to_anybody(vision: str) -> None:
    assert least_difference(PALETTE, SEEN_BY[vision]) > LEAST_DIFFERENCE


def test_the_measure_finds_red_and_green_alike_to_some() -> None:
    red_and_green = ("#c05000", "#7a7a00")
    assert least_difference(red_and_green, SEEN_BY["normal"]) > 30
    assert least_difference(red_and_green, SEEN_BY["deuteranopia"]) < LEAST_DIFFERENCE


def test_only_the_asked_kinds_are_written(world: World, images: pd.DataFrame, tmp_path: Path) -> None:
    assert [path.name for path in draw(world, images, tmp_path, ("ablation",))] == ["ablation.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ablation.pdf", "ablation.png"]


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
        figure = new_figure(2.8, 2.8, layout="none")
        noise = np.random.default_rng(0).random((840, 840, 3))
        figure.add_axes((0.0, 0.0, 1.0, 1.0)).imshow(noise, interpolation="nearest")
        path = save(figure, tmp_path / "noise.png")
    assert read_image(path).shape == (840, 840, 3)
    assert 100_000 < path.stat().st_size < MAX_BYTES  # noise is the worst case: nothing compresses it


def photographs(root: Path, sizes: Sequence[tuple[int, int]]) -> tuple[list[PanelScene], list[RunRef]]:
    """Scenes of these sizes, blurred on their right, and two runs that restored them."""
    runs = [RunRef(name, 0, name, root / f"{name}-seed0") for name in ("unet", "ddnet_1b")]
    scenes = []
    for number, (height, width) in enumerate(sizes):
        generator = np.random.default_rng(number)
        target = np.kron(generator.random((height // 8, width // 8, 3), dtype=np.float32), np.ones((8, 8, 1)))
        image = target.copy()
        image[:, width // 2 :] = 0.5
        scene = f"1P0A{number:04d}"
        folder = root / "scenes" / scene
        write_image(folder / "image.png", image.astype(np.float32), bits=8)
        write_image(folder / "target.png", target.astype(np.float32), bits=8)
        write_depth16(folder / "depth.png", np.tile(np.linspace(0.02, 0.3, width, dtype=np.float32), (height, 1)))
        for ref in runs:
            write_image(ref.folder / "restored" / "dpdd" / f"{scene}.png", (image + target).astype(np.float32) / 2, 8)
        files = (folder / "image.png", folder / "target.png", folder / "depth.png")
        scenes.append(PanelScene("dpdd", scene, "", *files))
    return scenes, runs


def test_photographs_of_different_sizes_are_reduced_and_their_crops_are_not(
    tmp_path: Path, images: pd.DataFrame
) -> None:
    scenes, runs = photographs(tmp_path, [(1120, 1680), (1680, 1120)])
    for scene in scenes:
        row = _read_row(scene, runs, images)
        top, left, side = row.crop
        assert side == CROP_PIXELS and left + side > row.size[1] // 2
        assert max(whole.shape[1] for whole, _, _ in row.pictures) < 2 * SHOWN_PIXELS
        target = read_image(scene.target)
        assert np.array_equal(row.pictures[-2][1], target[top : top + side, left : left + side])
        assert abs(row.pictures[-2][0].mean() - target.mean()) < 1e-3
    path = draw_panels("Photographs", runs, scenes, images, tmp_path / "panels.png")
    assert path.stat().st_size < PICTURE_BYTES and read_image(path).shape[0] > 600


def test_a_restored_image_that_was_not_saved_is_said(tmp_path: Path, images: pd.DataFrame) -> None:
    scenes, runs = photographs(tmp_path, [(64, 96), (96, 64)])
    (runs[0].folder / "restored" / "dpdd" / "1P0A0001.png").unlink()
    with pytest.raises(DDNetError, match=r"1P0A0001\.png: no such file.*evaluation\.save to panels or all"):
        draw_panels("Photographs", runs, scenes, images, tmp_path / "panels.png")


def test_small_pictures_are_not_reduced_and_large_ones_keep_their_mean() -> None:
    small = np.random.default_rng(0).random((10, 2 * SHOWN_PIXELS - 1, 3), dtype=np.float32)
    assert reduced(small) is small
    large = np.random.default_rng(0).random((30, 3 * SHOWN_PIXELS, 3), dtype=np.float32)
    assert reduced(large).shape == (10, SHOWN_PIXELS, 3)
    assert reduced(large)[0, 0] == pytest.approx(large[:3, :3].mean(axis=(0, 1)), abs=1e-6)
    assert reduced(large[..., 0]).shape == (10, SHOWN_PIXELS)


def test_a_narrow_range_of_depth_is_stretched_and_the_heading_says_so(tmp_path: Path) -> None:
    for name, greatest in (("narrow", 0.3), ("wide", 0.9), ("empty", 0.0)):
        write_depth16(tmp_path / f"{name}.png", np.full((4, 4), greatest, dtype=np.float32))
    scene = {
        name: PanelScene("d", name, "", Path(), Path(), tmp_path / f"{name}.png")
        for name in ("narrow", "wide", "empty")
    }
    assert depth_scale([scene["narrow"], scene["empty"]]) == (pytest.approx(0.3, abs=1e-4), "Depth 0 to 0.30")
    assert depth_scale([scene["narrow"], scene["wide"]]) == (1.0, "Depth")
    assert depth_scale([scene["empty"]]) == depth_scale([PanelScene("d", "s", "", Path(), Path())]) == (1.0, "Depth")


def test_a_long_file_name_keeps_both_ends_in_the_caption() -> None:
    def caption(name: str, location: str = "") -> str:
        return PanelScene("photos", name, location, Path(), Path()).caption

    assert caption("IMG_20240102_093015_portrait_7") == "IMG_2024…ortrait_7"
    assert caption("1P0A0917", "indoor") == "1P0A0917\nindoor"


def test_a_file_name_may_look_like_a_formula(tmp_path: Path, images: pd.DataFrame) -> None:
    scenes, runs = photographs(tmp_path, [(64, 96)])
    strange = "a$_$^b"
    scene = PanelScene("dpdd", strange, "", scenes[0].image, scenes[0].target)
    (runs[0].folder / "restored" / "dpdd" / "1P0A0000.png").rename(
        runs[0].folder / "restored" / "dpdd" / f"{strange}.png"
    )
    assert draw_panels("Photographs", runs[:1], [scene], images, tmp_path / "panels.png").is_file()


def test_256_colours_are_dithered(tmp_path: Path) -> None:
    y, x = np.mgrid[:256, :256].astype(np.float32) / 255
    write_image(tmp_path / "ramp.png", np.stack([x, y, 1 - x * y], axis=-1), bits=8)
    before = read_image(tmp_path / "ramp.png")
    _reduce_colours(tmp_path / "ramp.png")
    after = read_image(tmp_path / "ramp.png")
    assert len(np.unique((255 * after).reshape(-1, 3), axis=0)) <= 256
    blocks = (after - before).reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert np.abs(blocks).mean() < 0.006  # without dithering, the palette's steps stay in the means: 0.009


def test_a_trial_s_figures_say_so() -> None:
    assert Study("fusion", (), trial=True).title == "Trial, not results. Fusion methods"
    assert Study("fusion", ()).title == "Fusion methods"
