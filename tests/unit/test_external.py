from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile import MOST_BYTES, PLAIN, STEERING, of_bytes, possible

from baselines import build
from baselines.external.baseline import External
from ddnet.config import Baseline
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray, read_image, write_image
from ddnet.planning.baselines import system_needs

H, W = 12, 20


def scene(name: str, image: str = "", target: str = "", dataset: str = "dpdd") -> Scene:
    """A test scene, of which only the names and the size count here."""
    image, target = image or f"{name}.png", target or f"{name}.png"
    return Scene(dataset, "test", name, "", Path("c", image), Path("t", target), None, H, W, 16, "", "")


def pixels(seed: int, height: int = H, width: int = W) -> FloatArray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


SCENES = [scene("1P0A0917", target="1P0A0916.png"), scene("1P0A0921", target="1P0A0920.png")]


def measured(folder: Path, scenes: list[Scene]) -> list[FloatArray]:
    system = External(folder)
    system.prepare(scenes)
    return [system.restore_scene(scene) for scene in scenes]


@pytest.mark.parametrize("inside", ["", "dpdd"])
@pytest.mark.parametrize("names", [("1P0A0917", "1P0A0921"), ("1P0A0916", "1P0A0920"), ("1P0A0916", "1P0A0921")])
def test_a_picture_is_found_by_its_scene_or_its_target(inside: str, names: tuple[str, str], tmp_path: Path) -> None:
    for seed, name in enumerate(names):
        write_image(tmp_path / inside / f"{name}.png", pixels(seed))
    for seed, picture in enumerate(measured(tmp_path, SCENES)):
        np.testing.assert_allclose(picture, pixels(seed), atol=1 / 65535)


def test_every_dataset_has_its_own_folder(tmp_path: Path) -> None:
    scenes = [scene("1"), scene("1", dataset="realdof")]
    for seed, each in enumerate(scenes):
        write_image(tmp_path / each.dataset / "1.png", pixels(seed))
    first, second = measured(tmp_path, scenes)
    np.testing.assert_allclose(first, pixels(0), atol=1e-4)
    np.testing.assert_allclose(second, pixels(1), atol=1e-4)


@pytest.mark.parametrize(("ending", "bits"), [(".png", 8), (".png", 16), (".TIF", 8), (".tiff", 16), (".JPG", 8)])
def test_pictures_keep_their_own_bit_depth(ending: str, bits: int, tmp_path: Path) -> None:
    image = np.full((H, W, 3), (0.2, 0.5, 0.9), np.float32)
    raw = np.rint(image * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)
    assert cv2.imwrite(str(tmp_path / f"a{ending}"), raw[..., ::-1])
    [found] = measured(tmp_path, [scene("a")])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, image, atol=3 / 255 if ending == ".JPG" else 0.51 / (2**bits - 1))


def test_what_several_scenes_are_named_after_tells_nothing(tmp_path: Path) -> None:
    scenes = [scene("0", "0/image.png", "0/target.png"), scene("1", "1/image.png", "1/target.png")]
    for name in ("0", "1", "image", "target"):
        write_image(tmp_path / f"{name}.png", pixels(int(name) if name in "01" else 7))
    for seed, picture in enumerate(measured(tmp_path, scenes)):
        np.testing.assert_allclose(picture, pixels(seed), atol=1e-4)


def test_a_scene_s_own_name_goes_before_another_one_s_target(tmp_path: Path) -> None:
    scenes = [scene("1", target="2.png"), scene("2", target="1.png")]
    for seed, name in enumerate("12"):
        write_image(tmp_path / f"{name}.png", pixels(seed))
    for seed, picture in enumerate(measured(tmp_path, scenes)):
        np.testing.assert_allclose(picture, pixels(seed), atol=1e-4)


def test_umlauts_in_two_parts_are_the_same_name(tmp_path: Path) -> None:
    write_image(tmp_path / f"{unicodedata.normalize('NFD', 'Tür')}.png", pixels(0))
    [found] = measured(tmp_path, [scene("Tur_1", unicodedata.normalize("NFC", "Tür.png"))])
    np.testing.assert_array_equal(found, read_image(next(tmp_path.iterdir())))


def test_other_files_are_left_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("1P0A0917.png", "1P0A0921.png", "mosaic.png", "._1P0A0917.png"):
        write_image(tmp_path / name, pixels(0))
    (tmp_path / "1P0A0917.txt").write_text("29.1 dB")
    write_image(tmp_path / "crops" / "1P0A0917.png", pixels(1))
    with caplog.at_level(logging.INFO):
        measured(tmp_path, SCENES)
    assert caplog.messages == [
        f"{tmp_path}: 1 pictures left aside, because no test scene is named so; the first mosaic.png"
    ]


def refused(folder: Path, scenes: list[Scene]) -> str:
    with pytest.raises(DDNetError) as caught:
        measured(folder, scenes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_pictures_are_one_line_that_says_where_the_first_belongs(tmp_path: Path) -> None:
    write_image(tmp_path / "restored_1P0A0917.png", pixels(0))
    assert refused(tmp_path, SCENES) == (
        f"2 of 2 restored pictures are missing in {tmp_path}, the first: 1P0A0917; write it to {tmp_path}/1P0A0917.png "
        "(1 pictures there have other names, the first restored_1P0A0917.png)"
    )
    write_image(tmp_path / "dpdd" / "1P0A0917.png", pixels(0))
    assert refused(tmp_path, SCENES) == (
        f"1 of 2 restored pictures are missing in {tmp_path}/dpdd, the first: 1P0A0921; "
        f"write it to {tmp_path}/dpdd/1P0A0921.png"
    )


@pytest.mark.parametrize("second", ["1P0A0917.tif", "1P0A0916.png"])
def test_a_picture_that_is_there_twice_is_one_line(second: str, tmp_path: Path) -> None:
    for name in ("1P0A0917.png", "1P0A0921.png", second):
        write_image(tmp_path / "a.png", pixels(0))
        (tmp_path / "a.png").rename(tmp_path / name)
    one, other = sorted(["1P0A0917.png", second])
    assert refused(tmp_path, SCENES) == (
        f"1 of 2 restored pictures are there more than once, the first: {tmp_path}/{one} and {other}; rename one of "
        "them or move it elsewhere"
    )


def test_a_picture_of_another_size_is_one_line(tmp_path: Path) -> None:
    write_image(tmp_path / "1P0A0917.png", pixels(0))
    write_image(tmp_path / "1P0A0921.png", pixels(0, H - 4, W))
    assert refused(tmp_path, SCENES) == (
        f"1 of 2 restored pictures cannot be used, the first: {tmp_path}/1P0A0921.png: is 20 x 8, its target 20 x 12; "
        "restore whole pictures"
    )


def test_an_unreadable_picture_and_one_of_other_numbers_are_one_line(tmp_path: Path) -> None:
    write_image(tmp_path / "1P0A0917.png", pixels(0))
    (tmp_path / "1P0A0917.png").write_bytes((tmp_path / "1P0A0917.png").read_bytes()[:60])
    assert cv2.imwrite(str(tmp_path / "1P0A0921.tif"), pixels(0))
    assert refused(tmp_path, SCENES).startswith(
        f"2 of 2 restored pictures cannot be used, the first: {tmp_path}/1P0A0917"
    )
    (tmp_path / "1P0A0917.png").unlink()
    write_image(tmp_path / "1P0A0917.png", pixels(0))
    assert refused(tmp_path, SCENES) == (
        f"1 of 2 restored pictures cannot be used, the first: {tmp_path}/1P0A0921.tif: its pixels are not integers of "
        "8 or 16 bits (BitsPerSample 32, SampleFormat 3); save it with 8 or 16 bits per channel"
    )


@pytest.mark.parametrize("folder", ["nowhere", "file.png", 5, None])
def test_a_folder_that_is_not_there_is_one_line(
    folder: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image("file.png", pixels(0))
    line = Baseline(name="mine", system="external", label="Mine", options={"folder": folder})
    with pytest.raises(DDNetError, match=f"{folder}: no such folder; options.folder must name one"):
        build(line)


def test_a_line_of_the_baselines_file_is_enough(tmp_path: Path) -> None:
    for seed, each in enumerate(SCENES):
        write_image(tmp_path / "far" / f"{each.scene}.png", pixels(seed))
    options = {"dpdd": {"folder": str(tmp_path / "far")}}
    line = Baseline(name="mine", system="external", label="Mine", options={"folder": "nowhere"}, per_dataset=options)
    system = build(line, dataset="dpdd")
    system.prepare(SCENES)
    np.testing.assert_allclose(system.restore_scene(SCENES[1]), pixels(1), atol=1e-4)
    assert system_needs("external") == {"pictures"}
    with pytest.raises(DDNetError, match=r"baseline 'mine': .*; external takes folder"):
        build(Baseline(name="mine", system="external", label="Mine", options={"path": "a"}))


def test_names_of_any_kind_are_found_and_others_are_refused_in_one_line(tmp_path: Path) -> None:
    real, folder = tmp_path / "real", tmp_path / "restored"
    real.mkdir()
    folder.mkdir()
    (folder / "dpdd").symlink_to(real)
    stems = possible([*PLAIN, of_bytes(MOST_BYTES - 4), "写" * 80], real, ".png")
    stems = [stem for stem in stems if stem == unicodedata.normalize("NFC", stem)]
    scenes = [scene(f"s{number}", f"{stem}.png") for number, stem in enumerate(stems)]
    for number, stem in enumerate(stems):
        write_image(real / f"{stem}.png", pixels(number))
    for number, picture in enumerate(measured(folder, scenes)):
        np.testing.assert_allclose(picture, pixels(number), atol=1e-4)
    for stem in possible(STEERING, real, ".png"):
        write_image(real / f"{stem}.png", pixels(0))
        with pytest.raises(DDNetError, match="is not plain UTF-8; rename the file$") as caught:
            measured(folder, scenes)
        assert str(caught.value).isprintable()
        (real / f"{stem}.png").unlink()
