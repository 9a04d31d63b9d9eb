"""Anyone's own pairs: how they are paired, named and drawn into splits, and what is refused."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import shutil
import unicodedata
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile import BRACED, MOST_BYTES, PLAIN, STEERING, of_bytes, possible
from miniature import make_pair, write_png
from PIL import Image

from ddnet.config import FolderData
from ddnet.data import index as index_module
from ddnet.data.folder import draw_splits, index_folder, natural, scene_names
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.images import read_raw_rgb

SIZE = (36, 40)


def write_pairs(root: Path, stems: Iterable[str], size: tuple[int, int] = SIZE, targets: Iterable[str] = ()) -> Path:
    """Pairs in `root/source` and `root/target`, others in each root; targets under the same stems by default."""
    stems = list(stems)
    for number, (stem, other) in enumerate(zip(stems, list(targets) or stems, strict=True)):
        source, target = make_pair(size, number, zlib.crc32(root.name.encode()))
        write_png(root / "source" / f"{stem}.png", source)
        write_png(root / "target" / f"{other}.png", target)
    return root


def index(path: Path, **options: object) -> list[Scene]:
    return index_folder(FolderData.model_validate({"kind": "folder", "path": path, **options}))


def splits_of(scenes: Iterable[Scene]) -> dict[str, set[str]]:
    scenes = list(scenes)
    return {split: {scene.scene for scene in scenes if scene.split == split} for split in ("train", "val", "test")}


def refused(path: Path, match: str, **options: object) -> None:
    with pytest.raises(DDNetError, match=match) as caught:
        index(path, **options)
    assert "\n" not in str(caught.value)


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for split, stems in (("train", "abc"), ("val", "a"), ("test", "de")):
        write_pairs(tmp_path / split, stems)
    scenes = index(tmp_path, name="mine")
    assert [scene.key for scene in scenes] == [
        "mine/train/a", "mine/train/b", "mine/train/c", "mine/val/a", "mine/test/d", "mine/test/e",
    ]  # fmt: skip
    assert {(s.height, s.width, s.bits, s.location, s.depth_m) for s in scenes} == {(*SIZE, 16, "", None)}


def test_a_second_test_set(tmp_path: Path) -> None:
    first = write_pairs(tmp_path / "first", "abcdef")
    second = write_pairs(tmp_path / "second", ["x", "y"], size=(33, 32))
    scenes = index(first, second=second)
    assert [scene.key for scene in scenes[6:]] == ["photos_second/test/x", "photos_second/test/y"]
    assert {scene.dataset for scene in scenes[:6]} == {"photos"}
    refused(first, "nowhere: no such folder; data.second must name one", second=tmp_path / "nowhere")


def test_drawn_splits_follow_the_names_alone(tmp_path: Path) -> None:
    stems = [f"p{number}" for number in range(20)]
    first = splits_of(index(write_pairs(tmp_path / "a", stems)))
    assert {split: len(names) for split, names in first.items()} == {"train": 14, "val": 2, "test": 4}
    assert set.union(*first.values()) == set(stems)
    assert splits_of(index(write_pairs(tmp_path / "b", reversed(stems)))) == first  # other pictures, other order
    assert splits_of(index(tmp_path / "a", seed=1)) != first


def test_added_pairs_never_move_others_between_validation_and_test() -> None:
    path = Path("photos")
    pairs = [(path / "source" / f"p{n}.png", path / "target" / f"p{n}.png") for n in range(200)]
    sizes, drawn = (20, 40, 41, 80, 200), []
    for size in sizes:
        splits = draw_splits(path, pairs[:size], 0.1, 0.2, seed=0)
        assert [len(splits[name]) for name in ("val", "test")] == [int(0.1 * size + 0.5), int(0.2 * size + 0.5)]
        assert sorted(pair for split in splits.values() for pair in split) == sorted(pairs[:size])
        drawn.append({name: set(split) for name, split in splits.items()})
    for first, second in itertools.combinations(drawn, 2):
        assert not first["val"] & second["test"] and not first["test"] & second["val"]
    assert len(drawn[1]["test"] & drawn[2]["test"]) >= 7  # one more pair changes at most one of eight


def test_the_smallest_folder_has_one_pair_in_each_split(tmp_path: Path) -> None:
    found = splits_of(index(write_pairs(tmp_path / "three", "abc")))
    assert [len(names) for names in found.values()] == [1, 1, 1]
    refused(write_pairs(tmp_path / "two", "ab"), "two: of 2 pairs, 1 for validation and 1 for test leave none")
    refused(tmp_path / "three", "lower data.val or data.test", val=0.49, test=0.6)


def test_endings_may_differ_and_bit_depths_are_recorded(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c", "d"])
    for ending, bits in (("jpg", 8), ("bmp", 8), ("tiff", 16)):
        for role in ("source", "target"):
            raw = make_pair((34, 32), bits)[role == "target"]
            name = str(tmp_path / role / f"{ending}.{ending if role == 'source' else 'PNG'}")
            cv2.imwrite(name, raw if bits == 16 else (raw >> 8).astype(np.uint8))
    found = {scene.scene: scene for scene in index(tmp_path)}
    assert {name: scene.bits for name, scene in found.items()} == {
        "a": 16, "b": 16, "c": 16, "d": 16, "jpg": 8, "bmp": 8, "tiff": 16,
    }  # fmt: skip
    assert (found["tiff"].image.name, found["tiff"].target.name) == ("tiff.tiff", "tiff.PNG")
    assert (found["bmp"].height, found["bmp"].width, found["a"].height) == (34, 32, 36)  # sizes differ between pairs


def test_other_names_are_paired_by_order_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, ["s1", "s2", "s10"], targets=["t4", "t5", "t11"])
    with caplog.at_level(logging.WARNING):
        scenes = index(tmp_path)
    assert {(s.image.stem, s.target.stem) for s in scenes} == {("s1", "t4"), ("s2", "t5"), ("s10", "t11")}
    assert "no name is in both folders; paired by order, first s1.png with t4.png" in caplog.text


def test_a_missing_partner_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c", "d"])
    (tmp_path / "target" / "c.png").unlink()
    refused(
        tmp_path,
        r"source/c.png: no image named 'c' in .*target; add it, or move this one elsewhere \(4 in source/, 3 in",
    )
    (tmp_path / "source" / "b.png").unlink()  # the counts agree again, the pairs do not
    refused(tmp_path, r"target/b.png: no image named 'b' in .*source")


def test_an_umlaut_is_one_letter_however_it_is_written(tmp_path: Path) -> None:
    write_pairs(tmp_path / "whole", ["käse", "b", "c"])
    write_pairs(tmp_path / "mixed", ["käse", "b", "c"], targets=[unicodedata.normalize("NFD", "käse"), "b", "c"])
    assert len(list((tmp_path / "mixed" / "target").glob("käse.png"))) == 0
    assert splits_of(index(tmp_path / "mixed")) == splits_of(index(tmp_path / "whole"))


def test_names_that_no_table_can_list_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, "abc")
    for name in (b"k\xe4se.png", b"two\nlines.png"):
        odd = Path(os.fsdecode(os.fsencode(tmp_path / "source") + b"/" + name))
        odd.write_bytes(b"")
        refused(tmp_path, r"source: the name b'(k.xe4se|two.nlines).png' is not plain UTF-8; rename the file")
        odd.unlink()
    write_pairs(tmp_path / "mac", ["10.30\u202fAM", "b", "c"])  # a screenshot of macOS
    assert "10.30_AM" in {scene.scene for scene in index(tmp_path / "mac")}


def test_hidden_files_other_files_and_subfolders_are_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pairs(tmp_path, "abc")
    (tmp_path / "source" / ".hidden.png").write_bytes(b"")
    (tmp_path / "source" / "raw.cr2").write_bytes(b"")
    write_pairs(tmp_path / "source" / "more", "d")
    assert len(index(tmp_path)) == 3
    assert "source: left aside, because of its ending: raw.cr2\n" in caplog.text and ".hidden" not in caplog.text


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere: no such folder; data.path must name one with source/ and target/ in it")
    refused(tmp_path / ("x" * 300), "x: cannot be read .*check its name and permissions")
    refused(tmp_path, "source: no such folder; defocused images belong into source/")
    (tmp_path / "source").mkdir()
    refused(tmp_path, "source: no images in it; allowed are .png, .jpg")
    write_pairs(tmp_path / "split" / "train", "ab")
    refused(tmp_path / "split", "split: has train of train, val, test; all three are needed, or source/ and target/")
    (tmp_path / "split" / "test").mkdir()
    (tmp_path / "split" / "val").mkdir()
    refused(tmp_path / "split", "split/val/source: no such folder")
    write_pairs(tmp_path / "split", "ab")
    refused(tmp_path / "split", "split: has train/ beside source/; keep either the splits or source/ and target/")


def test_images_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, "abc")
    write_png(tmp_path / "target" / "b.png", make_pair((36, 42), 0)[0])
    refused(tmp_path, r"source/b.png: 40 x 36 at 16 bits, but its target .*b.png is 42 x 36 at 16 bits")
    write_pairs(tmp_path, "abc")
    (tmp_path / "source" / "c.png").write_text("<html>sign in</html>")
    refused(tmp_path, r"source/c.png: not a readable image")
    write_pairs(tmp_path, "abc")
    cv2.imwrite(str(tmp_path / "source" / "a.jpg"), np.zeros((*SIZE, 3), np.uint8))
    refused(tmp_path, r"a.png: a.jpg beside it has the same name; rename one of the two or move it")


def test_a_jpeg_cut_short_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, "ab")
    for role in ("source", "target"):
        raw = (make_pair((200, 300), 1)[role == "target"] >> 8).astype(np.uint8)
        cv2.imwrite(str(tmp_path / role / "c.jpg"), raw)
    assert len(index(tmp_path)) == 3
    file = tmp_path / "target" / "c.jpg"
    file.write_bytes(file.read_bytes()[:-2000])
    assert cv2.imread(str(file)) is not None  # the reader itself says nothing
    refused(tmp_path, r"target/c.jpg: a damaged JPEG .*copy or export it again")


def test_a_large_jpeg_is_no_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's `open` refuses 179 megapixels; here the limit is lowered instead."""
    for role, raw in zip(("source", "target"), make_pair(SIZE, 1), strict=True):
        for stem in "abc":
            (tmp_path / role).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / role / f"{stem}.jpg"), np.roll(raw >> 8, ord(stem), axis=0).astype(np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "source" / "a.jpg")
    assert len(index(tmp_path)) == 3


def test_a_pair_of_one_picture_is_refused_whatever_its_format(tmp_path: Path) -> None:
    write_pairs(tmp_path, "abc")
    raw = read_raw_rgb(tmp_path / "target" / "b.png")
    (tmp_path / "source" / "b.png").unlink()
    cv2.imwrite(str(tmp_path / "source" / "b.tiff"), raw[..., ::-1])
    refused(tmp_path, r"source/b.tiff: shows the very pixels of its target .*target/b.png: nothing to restore, and")


def test_an_image_too_small_to_be_measured_is_refused_before_the_training(tmp_path: Path) -> None:
    write_pairs(tmp_path, "ab")
    write_pairs(tmp_path, "c", size=(32, 31))
    refused(
        tmp_path, r"source/c.png: 31 x 32 at 16 bits; both sides must be at least 32 px, or LPIPS cannot measure it"
    )
    write_pairs(tmp_path, "c", size=(32, 32))
    assert len(index(tmp_path)) == 3


def test_the_same_file_in_two_splits_is_refused(tmp_path: Path) -> None:
    for split, stems in (("train", "abc"), ("val", "de"), ("test", "fg")):
        write_pairs(tmp_path / "p" / split, stems)
    shutil.copy(tmp_path / "p/train/source/a.png", tmp_path / "p/val/source/d.png")
    refused(
        tmp_path / "p", r"val/source/d.png: the same file as .*train/source/a.png, one for val, the other for train"
    )
    for number, split in enumerate(("train", "val", "test")):
        for role, raw in zip(("source", "target"), make_pair(SIZE, 100 + number), strict=True):
            for file in (tmp_path / "p" / split / role).iterdir():
                write_png(file, raw)  # within one split a picture may come twice
    assert len(index(tmp_path / "p")) == 7
    refused(tmp_path / "p", "one for test, the other for train", second=tmp_path / "p" / "train")


@pytest.mark.parametrize("ending", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pictures_that_viewers_turn_are_refused(ending: str, orientation: int, tmp_path: Path) -> None:
    """OpenCV turns a TIFF by 180 degrees, cannot read it by 90, and leaves the others as they are stored."""
    write_pairs(tmp_path, "ab")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for role, raw in zip(("source", "target"), make_pair((40, 64), 5), strict=True):
        Image.fromarray((raw >> 8).astype(np.uint8)).save(tmp_path / role / f"c.{ending}", exif=exif)
    if orientation == 1:
        assert len(index(tmp_path)) == 3
    else:
        refused(
            tmp_path, rf"source/c.{ending}: its EXIF orientation \({orientation}\) asks viewers to turn it, which is"
        )


def test_a_file_that_nobody_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path, "abc")

    def deny(path: Path) -> str:  # as root, permissions of the file itself would not stop the test
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(index_module, "sha256", deny)
    refused(tmp_path, r"source/b.png: cannot be read \(Permission denied\); check its name and permissions")


def test_scene_names_are_safe_and_unique(tmp_path: Path) -> None:
    stems = ["Herbst im Wald (1)", "käse", "a/b", "日本", "x", "X", "../up", "y.z", "l" * 300]
    names = scene_names(stems)
    assert names[:3] == ["Herbst_im_Wald_1_".rstrip("_"), "kase", "a_b"]
    assert names[3].startswith("scene_") and names[4].startswith("x_") and names[5].startswith("X_")
    assert names[6:] == ["up", "y.z", "l" * 80]
    assert len({name.lower() for name in names}) == len(stems)
    assert scene_names(stems[::-1]) == names[::-1]
    assert splits_of(index(write_pairs(tmp_path, ["a b", "a  b", "c"], targets=["a b", "a  b", "c"]))).keys()
    assert len({scene.key for scene in index(tmp_path)}) == 3


def test_natural_order() -> None:
    assert sorted(["b1", "a10", "a2", "10", "9", "a", "02", "2"], key=natural) == [
        "a", "a2", "a10", "b1", "02", "2", "9", "10",
    ]  # fmt: skip


def test_names_of_any_kind_are_carried_or_refused_in_one_line(tmp_path: Path) -> None:
    """Those that are carried come back from the index as they are, under a scene that is safe as a file's name."""
    (tmp_path / "source").mkdir()
    stems = possible([*PLAIN, of_bytes(MOST_BYTES - 4), "写" * 80], tmp_path / "source", ".png")
    stems = [stem for stem in stems if stem == unicodedata.normalize("NFC", stem)]
    write_pairs(tmp_path, stems)
    data = FolderData(kind="folder", path=tmp_path)
    assert data.pictures() == sorted(str(tmp_path / role / f"{s}.png") for s in stems for role in ("source", "target"))
    scenes = index_folder(data)
    index_module.write_index(tmp_path / "index.csv", scenes)
    assert {scene.image.stem for scene in index_module.read_index(tmp_path / "index.csv")} == set(stems)
    assert all(re.fullmatch("[A-Za-z0-9._-]{1,90}", scene.scene) for scene in scenes)
    for stem in possible(STEERING + BRACED, tmp_path / "source", ".png"):
        odd = tmp_path / "source" / f"{stem}.png"
        odd.touch()
        with pytest.raises(DDNetError, match=r"data\.path: .*braces .* control characters .*; rename it$") as caught:
            data.pictures()
        assert str(caught.value).isprintable()
        if stem not in BRACED:
            refused(tmp_path, r"is not plain UTF-8; rename the file$")
        odd.unlink()


def test_folders_may_be_links_and_what_is_behind_them_is_an_input(tmp_path: Path) -> None:
    real, flat, split = write_pairs(tmp_path / "real", "abc"), tmp_path / "flat", tmp_path / "split"
    flat.mkdir()
    for role in ("source", "target"):
        (flat / role).symlink_to(real / role)
        (real / role / "round").symlink_to(flat)  # is not entered
        (real / role / "lost.png").symlink_to("nowhere")
    split.mkdir()
    for number, name in enumerate(("train", "val", "test")):
        write_pairs(tmp_path / f"part{number}", [name])
        (split / name).symlink_to(f"../part{number}")
    whole = tmp_path / "whole"
    whole.symlink_to("real")
    (real / "results").mkdir()
    (real / "results" / "a.png").touch()  # not made of it: no input
    for path, count in ((flat, 3), (whole, 3), (split, 3)):
        data = FolderData(kind="folder", path=path)
        assert len(index_folder(data)) == count
        assert len(data.pictures()) == 2 * count and all(name.startswith(f"{path}/") for name in data.pictures())
    shutil.rmtree(real / "target")
    assert len(FolderData(kind="folder", path=flat).pictures()) == 3
