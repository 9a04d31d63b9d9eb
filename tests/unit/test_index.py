"""The scene index: what it stores of where files lie, and the inspection of many images at once."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniature import make_pair, write_png

from ddnet.data.index import PairFiles, Scene, describe_pair, describe_pairs, inspect_images, read_index, write_index
from ddnet.errors import DDNetError
from ddnet.io.files import sha256


def scene_in(folder: Path, name: str = "s0", size: tuple[int, int] = (6, 9)) -> Scene:
    for file, raw in zip(("image.png", "target.png"), make_pair(size, 3), strict=True):
        write_png(folder / name / file, raw)
    return describe_pair("toy", "test", name, "", folder / name / "image.png", folder / name / "target.png", None)


def stored(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.DictReader(stream))


def test_files_beside_the_index_move_with_it(tmp_path: Path) -> None:
    scene = scene_in(tmp_path / "old" / "scenes")
    depth = tmp_path / "old" / "scenes" / "s0" / "depth_m.npy"
    np.save(depth, np.ones((6, 9), np.float32))
    write_index(tmp_path / "old" / "index.csv", [replace(scene, depth_m=depth)])
    row = stored(tmp_path / "old" / "index.csv")
    assert (row["image"], row["depth_m"]) == ("scenes/s0/image.png", "scenes/s0/depth_m.npy")
    shutil.move(tmp_path / "old", tmp_path / "new")
    (found,) = read_index(tmp_path / "new" / "index.csv")
    assert found.image == tmp_path / "new" / "scenes" / "s0" / "image.png" and found.image.is_file()
    assert found.depth_m is not None and found.depth_m.is_file()


def test_files_of_the_project_move_with_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, index = tmp_path / "project", Path("data/paper/index.csv")
    project.mkdir()
    monkeypatch.chdir(project)
    write_index(index, [scene_in(Path("data/dpdd"))])
    assert stored(index)["image"] == "../dpdd/s0/image.png"
    assert read_index(index)[0].image == Path("data/dpdd/s0/image.png")
    project.rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path)
    found = read_index(Path("renamed") / index)[0].image
    assert found == Path("renamed/data/dpdd/s0/image.png") and found.is_file()
    whole = read_index(tmp_path / "renamed" / index)[0].target
    assert whole == tmp_path / "renamed" / "data" / "dpdd" / "s0" / "target.png" and whole.is_file()


def test_files_elsewhere_are_stored_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    scene = scene_in(tmp_path / "disk")
    write_index("index.csv", [scene])
    assert stored(Path("index.csv"))["image"] == str(tmp_path / "disk" / "s0" / "image.png")
    assert read_index("index.csv") == [scene]
    write_index("index.csv", [replace(scene, image=Path("../disk/s0/image.png"))])
    assert read_index("index.csv") == [scene]


def test_links_to_the_data_stay_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data on another disk behind a link: the index names the link, so the disk may change."""
    project = tmp_path / "project"
    (project / "data" / "paper").mkdir(parents=True)
    scene_in(tmp_path / "disk")
    (project / "data" / "dpdd").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(project)
    files = [Path("data/dpdd/s0") / name for name in ("image.png", "target.png")]
    write_index("data/paper/index.csv", [describe_pair("toy", "test", "s0", "", *files, None)])
    assert stored(Path("data/paper/index.csv"))["image"] == "../dpdd/s0/image.png"
    assert read_index("data/paper/index.csv")[0].image.is_file()


def test_an_index_in_a_linked_folder_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (tmp_path / "scratch" / "deep").mkdir(parents=True)
    (project / "data" / "paper").symlink_to(tmp_path / "scratch" / "deep")
    monkeypatch.chdir(project)
    write_index("data/paper/index.csv", [scene_in(Path("data/dpdd"))])
    assert read_index("data/paper/index.csv")[0].image.is_file()


def test_dataset_and_split_select_and_keys_order(tmp_path: Path) -> None:
    first, second = scene_in(tmp_path, "b"), replace(scene_in(tmp_path, "a"), split="train")
    write_index(tmp_path / "index.csv", [first, second])
    assert read_index(tmp_path / "index.csv") == [first, second]  # toy/test/b before toy/train/a
    assert read_index(tmp_path / "index.csv", split="train") == [second]
    assert read_index(tmp_path / "index.csv", dataset="other") == []


def test_many_images_keep_their_order_and_are_all_checked(tmp_path: Path) -> None:
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        write_png(paths[-1], make_pair((4 + number, 8), number)[0])
    seen = []
    found = inspect_images(paths, "toy", lambda image: seen.append(image.path))
    assert [image.path for image in found] == paths and [image.height for image in found] == list(range(4, 44))
    assert sorted(seen) == sorted(paths)
    assert found[7].sha256 == sha256(paths[7]) and not found[7].spread
    assert str(found[7]) == "8 x 11 at 16 bits"


def test_the_first_bad_image_in_order_is_the_one_reported(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for path in paths:
        write_png(path, make_pair((8, 8), 1)[0])
    for bad in (5, 6, 20, 29):
        paths[bad].write_bytes(b"")
    for _ in range(5):
        with pytest.raises(DDNetError, match=r"/5.png: not a readable image"):
            inspect_images(paths, "toy")


def test_pairs_are_described_in_their_order_against_their_digests(tmp_path: Path) -> None:
    scenes = [scene_in(tmp_path, f"s{number}") for number in (2, 0, 1)]
    pairs = [PairFiles(s.split, s.scene, s.location, s.image, s.target) for s in scenes]
    digests = {file: sha256(file) for s in scenes for file in (s.image, s.target)}
    assert describe_pairs("toy", pairs, digests) == describe_pairs("toy", pairs) == scenes
    digests[scenes[1].target] = "0" * 64
    with pytest.raises(DDNetError, match=r"s0/target.png: its SHA-256 is not the one recorded"):
        describe_pairs("toy", pairs, digests)
    del digests[scenes[0].image]
    with pytest.raises(DDNetError, match=r"s2/image.png: its SHA-256 is not the one recorded"):
        describe_pairs("toy", pairs, digests)


def test_a_spread_eight_bit_image_is_told_from_a_true_one(tmp_path: Path) -> None:
    raw = make_pair((8, 9), 1)[0]
    last = (raw // 257) * 257
    last[-1, -1, -1] += 1  # one true 16-bit value is enough
    made = {"true": raw, "times257": (raw // 257) * 257, "times256": raw // 256 * 256, "last": last}
    for name, values in made.items():
        write_png(tmp_path / f"{name}.png", values)
    write_png(tmp_path / "eight.png", (raw >> 8).astype(np.uint8))
    names = ("true", "times257", "times256", "last", "eight")
    found = inspect_images([tmp_path / f"{name}.png" for name in names], "toy")
    assert [image.spread for image in found] == [False, True, True, False, False]
    assert [image.bits for image in found] == [16, 16, 16, 16, 8]


def with_views(folder: Path, sizes: tuple[tuple[int, int], tuple[int, int]] = ((6, 9), (6, 9))) -> PairFiles:
    """A pair and its two views, each another picture."""
    scene = scene_in(folder)
    views = (folder / "s0" / "left.png", folder / "s0" / "right.png")
    for number, (path, size) in enumerate(zip(views, sizes, strict=True)):
        write_png(path, make_pair(size, 40 + number)[0])
    return PairFiles("train", "s0", "", scene.image, scene.target, views)


def test_views_are_indexed_with_their_digests_and_move_with_the_index(tmp_path: Path) -> None:
    pair = with_views(tmp_path / "old")
    bare = pair._replace(scene="s1", views=None)
    digests = {file: sha256(file) for file in (pair.image, pair.target, *(pair.views or ()))}
    scene, without = describe_pairs("toy", [pair, bare], digests)
    assert scene.views == pair.views and scene.left_sha256 == digests[tmp_path / "old" / "s0" / "left.png"]
    assert scene == describe_pair("toy", "train", "s0", "", pair.image, pair.target, None, pair.views)
    assert without.views is None and without.left_sha256 == ""
    write_index(tmp_path / "old" / "index.csv", [scene, without])
    assert read_index(tmp_path / "old" / "index.csv") == [scene, without]
    assert stored(tmp_path / "old" / "index.csv")["right"] == "s0/right.png"
    shutil.move(tmp_path / "old", tmp_path / "new")
    found = read_index(tmp_path / "new" / "index.csv")[0]
    assert found.views == (tmp_path / "new" / "s0" / "left.png", tmp_path / "new" / "s0" / "right.png")
    assert found.right_sha256 == digests[tmp_path / "old" / "s0" / "right.png"]


def test_a_changed_view_and_one_of_another_size_are_named(tmp_path: Path) -> None:
    pair = with_views(tmp_path, ((6, 9), (6, 8)))
    with pytest.raises(DDNetError, match=r"but its right view .*right.png is 8 x 6 at 16 bits; a pair must agree"):
        describe_pairs("toy", [pair])
    digests = {file: sha256(file) for file in (pair.image, pair.target, *(pair.views or ()))}
    digests[tmp_path / "s0" / "left.png"] = "0" * 64
    with pytest.raises(DDNetError, match=r"left.png: its SHA-256 is not the one recorded"):
        describe_pairs("toy", [pair], digests)


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", [scene_in(tmp_path)])
    text = (tmp_path / "index.csv").read_text().replace(",left,right,left_sha256,right_sha256", "")
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(
        DDNetError, match=r"index.csv: columns must be dataset,.*,right_sha256; move it aside and index"
    ):
        read_index(tmp_path / "index.csv")
