"""Pictures that were changed after they were indexed."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_train import toy_scenes

from ddnet.config import Patches
from ddnet.data.index import read_index, write_index
from ddnet.data.patches import extract_patches
from ddnet.data.unchanged import remember_pictures, require_unchanged_since
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import evaluate
from ddnet.io import contents
from ddnet.io.contents import Contents
from ddnet.io.images import write_image


@pytest.fixture
def indexed(tmp_path: Path) -> tuple[Path, Path]:
    """An index and what it was made from."""
    scenes, index, source = toy_scenes(tmp_path), tmp_path / "index.csv", tmp_path / "scenes.json"
    source.write_text("{}")
    write_index(index, scenes)
    later(index, 1)
    return index, source


def later(path: Path, seconds: float) -> None:
    moment = time.time() + seconds
    os.utime(path, (moment, moment))


def test_what_is_as_it_was_is_taken_also_under_a_newer_date(indexed: tuple[Path, Path]) -> None:
    index, source = indexed
    require_unchanged_since(index, [source], Contents(index.with_name("known.json")))
    later(index.with_name("1.png"), 5)  # copied about
    require_unchanged_since(index, [source], Contents(index.with_name("known.json")))


@pytest.mark.parametrize("way", ["changed", "changed under an older date", "gone"])
def test_results_of_pictures_that_changed_are_refused(way: str, indexed: tuple[Path, Path]) -> None:
    index, source = indexed
    picture = index.with_name("1-target.png")
    if way == "gone":
        picture.unlink()
    else:
        write_image(picture, np.zeros((32, 48, 3), np.float32))
        later(picture, 5 if way == "changed" else -3600)
    with pytest.raises(
        DDNetError, match=r"1-target\.png: changed or gone .* move .*scenes\.json aside to make all anew"
    ):
        require_unchanged_since(index, [source], Contents(index.with_name("known.json")))
    later(source, 9)  # about to be made anew
    require_unchanged_since(index, [source], Contents(index.with_name("known.json")))
    source.unlink()
    require_unchanged_since(index, [source], Contents(index.with_name("known.json")))


def test_pictures_that_the_index_has_just_read_are_not_read_again(
    indexed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, source = indexed
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    known = index.with_name("known.json")
    remember_pictures(read_index(index), Contents(known), time.time_ns())
    require_unchanged_since(index, [source], Contents(known))
    known.write_text(re.sub(r'"[0-9a-f]{64}"', '"remembered"', known.read_text()))
    later(index.with_name("0.png"), -50)
    with pytest.raises(DDNetError, match=r"0-target\.png: changed or gone"):
        require_unchanged_since(index, [source], Contents(known))


def test_without_an_index_there_is_nothing_to_refuse(tmp_path: Path) -> None:
    require_unchanged_since(tmp_path / "index.csv", [], Contents(tmp_path / "known.json"))


def test_a_picture_of_any_date_that_is_not_the_indexed_one_is_neither_cut_nor_measured(tmp_path: Path) -> None:
    scenes = toy_scenes(tmp_path)
    stamp = scenes[0].image.stat()
    write_image(scenes[0].image, np.zeros((32, 48, 3), np.float32))
    os.utime(scenes[0].image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DDNetError, match=r"0\.png: not the file that was indexed"):
        extract_patches(scenes[:1], tmp_path / "patches", Patches(size=32, stride=0.5, drop=0))

    class Same:
        def restore(self, image: np.ndarray, depth: object) -> np.ndarray:
            return image

    with pytest.raises(DDNetError, match=r"toy/train/s0: .*0\.png: not the file that was indexed"):
        evaluate(Same(), scenes[:1], lambda scene: None, {}, tmp_path / "out", save="none")


def test_a_link_that_leads_to_an_older_picture_now_is_noticed(tmp_path: Path) -> None:
    """What it leads to is older than the index; contents decide."""
    made, pictures, index = tmp_path / "made", tmp_path / "pictures", tmp_path / "index.csv"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        toy_scenes(tmp_path / name)
    write_image(tmp_path / "second" / "0.png", np.zeros((32, 48, 3), np.float32))
    pictures.symlink_to("first")
    made.write_text("{}")
    scenes = [replace(s, image=pictures / s.image.name, target=pictures / s.target.name)
              for s in toy_scenes(tmp_path / "first")]  # fmt: skip
    write_index(index, scenes)
    later(index, 1)
    known = Contents(tmp_path / "known.json")
    require_unchanged_since(index, [made], known)
    pictures.unlink()
    pictures.symlink_to("second")
    with pytest.raises(DDNetError, match=r"pictures.0\.png: changed or gone since it was indexed, as are 0 other"):
        require_unchanged_since(index, [made], known)
    pictures.unlink()
    pictures.symlink_to("first")
    require_unchanged_since(index, [made], known)
