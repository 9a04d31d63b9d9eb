"""Broken data are seen: a swapped, a mismatched, a leaked, a resized picture each end in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data as pictures

from ddnet.data.audit import MISMATCHED, SAME, SWAPPED, audit
from ddnet.data.index import Scene, describe_pair
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray, read_image, write_image

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "brick", "grass")
SPLITS = ("train", "train", "train", "val", "test", "test")


def photograph(name: str) -> FloatArray:
    picture = getattr(pictures, name)()[:256, :320]
    picture = picture[..., None].repeat(3, axis=2) if picture.ndim == 2 else picture
    return np.ascontiguousarray(picture, np.float32) / 255


def defocused(target: FloatArray) -> FloatArray:
    """The right half by a disc of radius 3, and a little noise everywhere."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)).astype(np.float32)
    image = target.copy()
    image[:, 160:] = cv2.filter2D(target, -1, kernel / kernel.sum())[:, 160:]
    noise = np.random.default_rng(0).normal(0, 0.003, image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32)


def scene(folder: Path, name: str, split: str, image: FloatArray, target: FloatArray, dataset: str = "photos") -> Scene:
    paths = folder / f"{name}_image.png", folder / f"{name}_target.png"
    for path, picture in zip(paths, (image, target), strict=True):
        write_image(path, picture)
    return describe_pair(dataset, split, name, "", *paths, None)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    return [
        scene(tmp_path, name, split, defocused(photograph(name)), photograph(name))
        for name, split in zip(NAMES, SPLITS, strict=True)
    ]


def swapped(one: Scene) -> Scene:
    return dataclasses.replace(
        one, image=one.target, target=one.image, image_sha256=one.target_sha256, target_sha256=one.image_sha256
    )


def test_right_pairs_pass_and_their_margins_are_recorded(scenes: list[Scene]) -> None:
    found = audit(scenes)
    assert found["scenes"] == {"photos/train": 3, "photos/val": 1, "photos/test": 2}
    assert found["detail_of_image_over_target"]["largest"] < 0.9 < SWAPPED
    assert found["correlation_of_image_and_target"]["smallest"] > 0.95 > MISMATCHED
    assert found["correlation_between_splits"]["largest"] < 0.7 < SAME
    assert found["warnings"] == []
    json.dumps(found)


def test_a_swapped_pair(scenes: list[Scene]) -> None:
    scenes[4] = swapped(scenes[4])
    with pytest.raises(
        DDNetError, match=r"brick_target.png: holds 1\.\d+ times the detail of its target .*swap the files$"
    ):
        audit(scenes)


def test_two_swapped_folders(scenes: list[Scene]) -> None:
    with pytest.raises(
        DDNetError, match=r"photos: most images hold more detail than their targets; swap the two folders"
    ):
        audit([swapped(one) for one in scenes])


def test_a_pair_of_two_different_pictures(scenes: list[Scene]) -> None:
    other = scenes[2]
    scenes[1] = dataclasses.replace(scenes[1], target=other.target, target_sha256="0" * 64)
    scenes.remove(other)
    with pytest.raises(DDNetError, match="coffee_image.png: (does not show what its target|holds)"):
        audit(scenes)


def test_a_test_photograph_among_the_training_pictures(scenes: list[Scene], tmp_path: Path) -> None:
    scenes.append(dataclasses.replace(scenes[5], split="train", scene="leaked"))
    with pytest.raises(DDNetError, match=r"grass.*photos/test.*are the same file: a network would be tested on"):
        audit(scenes)


def test_two_test_sets_may_share_a_picture(scenes: list[Scene]) -> None:
    audit([*scenes, dataclasses.replace(scenes[5], dataset="photos_second")])


@pytest.mark.parametrize("how", ["8 bits", "resized", "brighter"])
def test_a_test_photograph_that_was_written_anew_is_recognised(scenes: list[Scene], tmp_path: Path, how: str) -> None:
    target = photograph("grass")
    if how == "8 bits":
        target = np.round(target * 255) / 255 * (254 / 255)
    elif how == "resized":
        target = cv2.resize(target, (240, 192), interpolation=cv2.INTER_AREA)
    else:
        target = np.clip(target * 1.15, 0, 1)
    target = np.ascontiguousarray(target, np.float32)
    scenes.append(scene(tmp_path, "leaked", "train", cv2.blur(target, (5, 5)), target))
    with pytest.raises(
        DDNetError, match="grass_target.png .photos/test. and .*leaked_target.png .photos/train. show the same"
    ):
        audit(scenes)


def test_of_official_pairs_a_likeness_is_a_warning_and_the_same_file_an_error(tmp_path: Path) -> None:
    target = photograph("coffee")
    official = [
        scene(tmp_path, "a", "train", defocused(target), target, "dpdd"),
        scene(tmp_path, "b", "test", defocused(target * 0.9), target * 0.9, "dpdd"),
        scene(tmp_path, "c", "test", defocused(photograph("brick")), photograph("brick"), "dpdd"),
    ]
    [warning] = audit(official)["warnings"]
    assert "a_target.png" in warning and "b_target.png" in warning
    official[1] = dataclasses.replace(official[1], target_sha256=official[0].target_sha256)
    with pytest.raises(DDNetError, match="are the same file"):
        audit(official)


def test_a_resized_picture(scenes: list[Scene]) -> None:
    image = read_image(scenes[3].image)
    write_image(scenes[3].image, cv2.resize(image, (160, 128), interpolation=cv2.INTER_AREA))
    with pytest.raises(DDNetError, match="rocket_image.png: is 160x128, the index says 320x256; put the original back"):
        audit(scenes)


def test_a_photograph_of_the_training_textures_in_a_rendered_test_scene(tmp_path: Path) -> None:
    rendered = []
    for name, split, texture in (("coffee", "train", "coffee"), ("brick", "test", "brick")):
        folder = tmp_path / split
        one = scene(folder, name, split, defocused(photograph(name)), photograph(name), "embedded")
        (folder / "scene.json").write_text(json.dumps({"photographs": [texture]}))
        rendered.append(dataclasses.replace(one, depth_m=folder / "depth_m.npy"))
    assert audit(rendered)["warnings"] == []
    (tmp_path / "test" / "scene.json").write_text(json.dumps({"photographs": ["brick", "coffee"]}))
    with pytest.raises(DDNetError, match="scene.json: uses the photograph 'coffee', which embedded/train uses, too"):
        audit(rendered)


def test_further_problems_are_counted(scenes: list[Scene]) -> None:
    scenes[3:5] = [swapped(scenes[3]), swapped(scenes[4])]
    with pytest.raises(DDNetError, match=r"\(1 more such\)$"):
        audit(scenes)


def test_flat_pictures_are_compared_with_nothing(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    noisy = [
        np.clip(grey + np.random.default_rng(n).normal(0, 1e-3, grey.shape), 0, 1).astype(np.float32) for n in (0, 1)
    ]
    flat = [
        scene(tmp_path, str(n), split, cv2.blur(one, (5, 5)), one)
        for n, (split, one) in enumerate(zip(("train", "test"), noisy))
    ]
    assert audit(flat)["correlation_of_image_and_target"]["smallest"] == 1.0
