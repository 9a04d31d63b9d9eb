"""DPDD: the official table, every layout recognised, and every way a copy can be wrong said in one line."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from miniature import make_dpdd, make_pair, write_png

from ddnet.config import Trial
from ddnet.data.dpdd import index_dpdd, official_pairs, wanted_dpdd
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.io.images import read_raw_rgb

SIZE = (64, 96)
TRIAL = Trial(train=3, val=1, test=2, realdof=1)
NAMES = [
    "train_c/source/1P0A0890.png", "train_c/target/1P0A0891.png",
    "train_c/source/1P0A0892.png", "train_c/target/1P0A0893.png",
    "train_c/source/1P0A0898.png", "train_c/target/1P0A0899.png",
    "val_c/source/1P0A0894.png", "val_c/target/1P0A0895.png",
    "test_c/source/1P0A0917.png", "test_c/target/1P0A0916.png",
    "test_c/source/1P0A0933.png", "test_c/target/1P0A0932.png",
]  # fmt: skip
Found = tuple[dict[str, Path], dict[str, str]]


def find(root: Path, trial: Trial | None = TRIAL) -> Found:
    """Files under any layout by canonical name, and their digests."""
    wanted = wanted_dpdd(trial, SIZE)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    files = {name: path for path in paths if (name := wanted.canonical(path.relative_to(root).as_posix()))}
    return files, {name: sha256(path) for name, path in files.items()}


def refused(root: Path, match: str) -> None:
    """The index of the trial under `root` is refused in one line."""
    with pytest.raises(DDNetError, match=match) as caught:
        index_dpdd(*find(root), SIZE, TRIAL)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dpdd(tmp_path_factory.mktemp("dpdd"), trial=TRIAL)


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def test_the_official_table() -> None:
    pairs = official_pairs()
    assert Counter(pair.split for pair in pairs) == {"train": 350, "val": 74, "test": 76}
    assert Counter((pair.split, pair.location) for pair in pairs) == {
        ("train", ""): 350, ("val", ""): 74, ("test", "indoor"): 37, ("test", "outdoor"): 39,
    }  # fmt: skip
    assert len({stem for pair in pairs for stem in (pair.source, pair.target)}) == 1000
    for split in ("train", "val", "test"):
        sources, targets = zip(*((p.source, p.target) for p in pairs if p.split == split), strict=True)
        assert list(sources) == sorted(sources) and list(targets) == sorted(targets)
    known = next(pair for pair in pairs if pair.source == "1P0A0917")
    assert (known.split, known.target, known.location) == ("test", "1P0A0916", "outdoor")
    indoor = [i for i, pair in enumerate((p for p in pairs if p.split == "test"), start=1) if pair.location == "indoor"]
    assert indoor == [*range(9, 15), 17, 33, *range(40, 58), *range(60, 69), 75, 76]  # the authors' numbering


def test_a_trial_is_the_first_pairs_of_each_split() -> None:
    assert wanted_dpdd(TRIAL, SIZE).files == tuple(NAMES)
    assert len(wanted_dpdd(None, SIZE).files or ()) == 1000
    assert wanted_dpdd(TRIAL, SIZE).canonical("train_c/source/1P0A2538.png") is None
    assert wanted_dpdd(None, SIZE).canonical("train_c/source/1P0A2538.png") == "train_c/source/1P0A2538.png"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("train_c/source/1P0A0890.png", "train_c/source/1P0A0890.png"),
        ("a/dd_dp_dataset_png/train_c/target/1P0A0891.png", "train_c/target/1P0A0891.png"),
        ("DPDD/test_c/source/1P0A0917.PNG", "test_c/source/1P0A0917.png"),
        ("Datasets/val/DPDD/inputC/1P0A0894.png", "val_c/source/1P0A0894.png"),
        ("train/inputC/1P0A0890.png", "train_c/source/1P0A0890.png"),
        ("test/DPDD/target/1P0A0916.png", "test_c/target/1P0A0916.png"),
        ("inputC/1P0A0917.png", "test_c/source/1P0A0917.png"),  # the test set alone
        ("target/1P0A0916.png", "test_c/target/1P0A0916.png"),
        ("train_l/source/1P0A0890.png", None),
        ("x/test_r/source/1P0A0917.png", None),
        ("train_c/source/1P0A0890_L.png", None),
        ("test/DPDD/inputL/1P0A0917.png", None),
        ("test/DPDD/inputR/1P0A0917.png", None),
        ("train_c/target/1P0A0890.png", None),  # a source's name
        ("train_c/source/1P0A0891.png", None),  # a target's name
        ("1P0A0890.png", None),
        ("train_c/source/1P0A0890.jpg", None),
        ("train_c/source/1P0A9999.png", None),
        ("train_c/source/._1P0A0890.png", None),
        ("__MACOSX/train_c/source/1P0A0890.png", None),
        ("previews/1P0A0890.png", None),
        ("README.md", None),
    ],
)
def test_a_file_is_known_by_its_name_and_folder(path: str, name: str | None) -> None:
    assert wanted_dpdd(None, SIZE).canonical(path) == name


@pytest.mark.parametrize("layout", ["hub", "zip", "restormer"])
def test_the_views_of_training_scenes_are_taken_in_where_they_are_asked_for(layout: str, tmp_path: Path) -> None:
    root = make_dpdd(tmp_path / layout, layout, trial=TRIAL, views=True)
    if layout == "zip":
        with zipfile.ZipFile(root) as archive:
            archive.extractall(tmp_path / "opened")
        root = tmp_path / "opened"
    wanted = wanted_dpdd(TRIAL, SIZE, views=True)
    assert wanted.needed == wanted_dpdd(TRIAL, SIZE).needed + 2 * TRIAL.train
    files = {name: path for path in root.rglob("*.png") if (name := wanted.name_of(str(path.relative_to(root))))}
    assert wanted.missing(set(files)) == ""
    digests = {name: sha256(path) for name, path in files.items()}
    scenes = index_dpdd(files, digests, SIZE, TRIAL, views=True)
    for scene in scenes:
        assert (scene.views is not None) == (scene.split == "train")
        if scene.views:
            left, right = (read_raw_rgb(view) for view in scene.views)
            assert (np.roll(left, 2, axis=1) == right).all() and scene.scene in scene.views[0].stem
    plain = {name: path for name, path in files.items() if not name.startswith(("train_l", "train_r"))}
    assert all(scene.views is None for scene in index_dpdd(plain, digests, SIZE, TRIAL))
    with pytest.raises(DDNetError, match=r"dpdd: lacks train_l/source/1P0A0890_L.png, a view of a training scene"):
        index_dpdd(plain, digests, SIZE, TRIAL, views=True)


@pytest.mark.parametrize(
    "path", ["val_l/source/1P0A0894_L.png", "train_l/source/1P0A0890_R.png", "train_l/1P0A9999.png"]
)
def test_other_views_are_left_aside(path: str) -> None:
    assert wanted_dpdd(None, SIZE, views=True).canonical(path) is None


def summary(scenes: list[Scene]) -> list[tuple[str, str, str]]:
    return [(scene.key, scene.location, scene.image_sha256 + scene.target_sha256) for scene in scenes]


def test_three_layouts_give_one_index(pristine: Path, tmp_path: Path) -> None:
    packed = make_dpdd(tmp_path / "zip", "zip", trial=TRIAL)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "opened")
    roots = [pristine, tmp_path / "opened", make_dpdd(tmp_path / "restormer", "restormer", trial=TRIAL)]
    indexes = [index_dpdd(*find(root), SIZE, TRIAL) for root in roots]
    assert [scene.key for scene in indexes[0]] == [
        "dpdd/train/1P0A0890", "dpdd/train/1P0A0892", "dpdd/train/1P0A0898", "dpdd/val/1P0A0894",
        "dpdd/test/1P0A0917", "dpdd/test/1P0A0933",
    ]  # fmt: skip
    assert summary(indexes[0]) == summary(indexes[1]) == summary(indexes[2])
    assert indexes[2][0].image == tmp_path / "restormer" / "train" / "DPDD" / "inputC" / "1P0A0890.png"
    scene = indexes[0][-1]
    assert (scene.height, scene.width, scene.bits, scene.location, scene.depth_m) == (*SIZE, 16, "outdoor", None)
    assert scene.target.name == "1P0A0932.png" and scene.target_sha256 == sha256(scene.target)


def test_all_of_dpdd_in_miniature(tmp_path: Path) -> None:
    root = make_dpdd(tmp_path, size=(8, 12))
    scenes = index_dpdd(*find(root, None), (8, 12), None)
    assert Counter(scene.split for scene in scenes) == {"train": 350, "val": 74, "test": 76}
    assert len({scene.image_sha256 for scene in scenes}) == 500
    (root / "train_c" / "target" / "1P0A2543.png").unlink()  # of the last pair
    with pytest.raises(DDNetError, match=r"pair 350 of train is 1P0A2544 / none .*349 targets, there must be 350"):
        index_dpdd(*find(root, None), (8, 12), None)


def test_the_miniature_needs_sixteen_bits_and_has_something_to_learn(pristine: Path) -> None:
    source = read_raw_rgb(pristine / "train_c" / "source" / "1P0A0890.png")
    target = read_raw_rgb(pristine / "train_c" / "target" / "1P0A0891.png")
    assert source.dtype == np.uint16 and (source % 257 != 0).mean() > 0.9
    assert np.abs(source.astype(float) - target).mean() > 500
    first, second = (np.abs(np.diff(image.astype(float), axis=1)).mean() for image in (source, target))
    assert first < 0.7 * second


def test_a_missing_file_is_the_first_deviation(root: Path) -> None:
    (root / "train_c" / "target" / "1P0A0893.png").unlink()
    refused(root, r"pair 2 of train is 1P0A0892 / 1P0A0899 \(source / target\), officially 1P0A0892 / 1P0A0893")
    (root / "test_c" / "source" / "1P0A0933.png").unlink()
    (root / "test_c" / "target" / "1P0A0916.png").rename(root / "train_c" / "target" / "1P0A0893.png")
    refused(root, r"pair 1 of test is 1P0A0917 / 1P0A0932 .* found 1 sources and 1 targets, there must be 2 of each")


def test_more_pairs_than_wanted_are_refused(pristine: Path) -> None:
    fewer = Trial(train=2, val=1, test=2, realdof=1)
    with pytest.raises(DDNetError, match="pair 3 of train is 1P0A0898 / 1P0A0899 .*officially none; found 3 sources"):
        index_dpdd(*find(pristine), SIZE, fewer)


def test_eight_bit_copies_are_refused(root: Path) -> None:
    path = root / "val_c" / "source" / "1P0A0894.png"
    raw = read_raw_rgb(path)
    write_png(path, (raw >> 8).astype(np.uint8))
    refused(root, r"1P0A0894.png: 8-bit file where DPDD is 16-bit: a preview or a converted copy; fetch the original")
    for spread in ((raw // 257) * 257, (raw >> 8) << 8):
        write_png(path, spread)
        refused(root, r"1P0A0894.png: 16-bit file with only 8-bit values")


def test_another_size_is_refused(root: Path) -> None:
    write_png(root / "test_c" / "target" / "1P0A0916.png", make_pair((32, 48), 0)[1])
    refused(root, r"1P0A0916.png: 48 x 32 where every image of DPDD must be 96 x 64")


@pytest.mark.parametrize("kept", [0, 40, 3000, -1, -12, -16])
def test_a_file_cut_short_is_refused(root: Path, kept: int) -> None:
    path = root / "train_c" / "source" / "1P0A0892.png"
    path.write_bytes(path.read_bytes()[:kept])
    refused(root, r"1P0A0892.png: not a readable image")


def test_a_damaged_file_is_refused(root: Path) -> None:
    path = root / "train_c" / "source" / "1P0A0892.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(root, r"1P0A0892.png: not a readable image")


def test_a_file_that_changed_since_it_was_fetched_is_refused(root: Path) -> None:
    files, digests = find(root)
    path = root / "test_c" / "source" / "1P0A0933.png"
    write_png(path, make_pair(SIZE, 99)[0])
    with pytest.raises(DDNetError, match=r"1P0A0933.png: its SHA-256 is not the one recorded"):
        index_dpdd(files, digests, SIZE, TRIAL)


def test_a_wrong_picture_is_refused_before_its_digest_is_recorded(root: Path) -> None:
    """What fetching asks at first sight: the same as the index, in words without the path."""
    problem = wanted_dpdd(TRIAL, SIZE).problem
    picture = root / "test_c/source/1P0A0917.png"
    assert problem(picture) == ""
    assert "64 where every image of DPDD must be 96 x 72" in wanted_dpdd(TRIAL, (72, 96)).problem(picture)
    picture.write_bytes(picture.read_bytes()[:-30])
    assert problem(picture).startswith("not a readable image")
