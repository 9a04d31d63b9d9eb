"""RealDOF: 50 pairs of unknown names, indexed as they are."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniature import make_pair, make_realdof, write_png

from ddnet.config import Trial
from ddnet.data.index import Scene
from ddnet.data.realdof import index_realdof, wanted_realdof
from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.io.images import read_raw_rgb

TRIAL = Trial(train=2, val=1, test=1, realdof=3)


def index(root: Path, trial: Trial | None = None) -> list[Scene]:
    wanted = wanted_realdof()
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    files = {name: path for path in paths if (name := wanted.canonical(path.relative_to(root).as_posix()))}
    return index_realdof(files, {name: sha256(path) for name, path in files.items()}, trial)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_realdof(tmp_path_factory.mktemp("realdof"), size=(24, 40))


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("RealDOF/source/1.png", "source/1.png"),
        ("a/b/RealDOF/target/x y.PNG", "target/x y.PNG"),
        ("target/1.png", "target/1.png"),
        ("__MACOSX/RealDOF/source/1.png", None),
        ("RealDOF/source/._1.png", None),
        ("RealDOF/source/Thumbs.db", None),
        ("RealDOF/other/1.png", None),
        ("1.png", None),
    ],
)
def test_a_file_is_known_by_its_folder(path: str, name: str | None) -> None:
    assert wanted_realdof().canonical(path) == name


def test_there_must_be_a_hundred_files_whatever_their_names() -> None:
    assert (wanted_realdof().files, wanted_realdof().count) == (None, 100)


def test_fifty_pairs_of_equal_names(pristine: Path) -> None:
    scenes = index(pristine)
    assert [scene.key for scene in scenes] == [f"realdof/test/{number:04d}" for number in range(50)]
    for scene in scenes:
        assert scene.image.name == scene.target.name and scene.image.parent.name == "source"
        assert (scene.height, scene.width, scene.bits, scene.location) == (24, 40, 16, "")
    assert [scene.key for scene in index(pristine, TRIAL)] == [f"realdof/test/{number:04d}" for number in range(3)]


def test_other_names_are_paired_by_order(root: Path, pristine: Path) -> None:
    for number, file in enumerate(sorted((root / "RealDOF" / "target").iterdir()), start=8):  # 8, 9, 10, ..: in between
        file.rename(file.with_name(f"DSC {number}.png"))
    scenes = index(root)
    assert [scene.target.name for scene in scenes] == [f"DSC {number}.png" for number in range(8, 58)]
    for found, original in zip(scenes, index(pristine), strict=True):
        assert found.target_sha256 == original.target_sha256 and found.scene == original.scene


@pytest.mark.parametrize("trial", [None, TRIAL])
def test_forty_nine_or_fifty_one_are_refused(root: Path, trial: Trial | None) -> None:
    file = root / "RealDOF" / "target" / "0049.png"
    shutil.copy(file, file.with_name("0050.png"))
    with pytest.raises(DDNetError, match=r"found 50 images in source/ and 51 in target/; there must be 50 of each"):
        index(root, trial)
    file.unlink()
    file.with_name("0050.png").unlink()
    with pytest.raises(DDNetError, match=r"found 50 images in source/ and 49 in target/"):
        index(root, trial)


def test_bit_depth_and_size_are_recorded_as_found_and_must_agree(root: Path) -> None:
    files = [root / "RealDOF" / role / "0007.png" for role in ("source", "target")]
    for file, raw in zip(files, make_pair((26, 30), 5), strict=True):
        write_png(file, (raw >> 8).astype(np.uint8))
    scene = index(root)[7]
    assert (scene.height, scene.width, scene.bits) == (26, 30, 8)
    write_png(files[1], make_pair((26, 30), 5)[1])
    with pytest.raises(DDNetError, match=r"0007.png: 30 x 26 at 8 bits, but its target .* is 30 x 26 at 16 bits"):
        index(root)
    write_png(files[1], make_pair((26, 32), 5)[1].astype(np.uint8))
    with pytest.raises(DDNetError, match=r"must agree in size and bit depth and is never resized"):
        index(root)


def test_a_changed_file_is_refused(root: Path) -> None:
    wanted = wanted_realdof()
    files = {f"{r}/{n:04d}.png": root / "RealDOF" / r / f"{n:04d}.png" for r in ("source", "target") for n in range(50)}
    assert all(wanted.canonical(name) == name for name in files)
    digests = {name: sha256(path) for name, path in files.items()}
    write_png(files["target/0031.png"], make_pair((24, 40), 99)[1])
    with pytest.raises(DDNetError, match=r"0031.png: its SHA-256 is not the one recorded"):
        index_realdof(files, digests, None)


def test_the_parquet_miniature_holds_the_same_pictures(pristine: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from PIL import Image

    make_realdof(tmp_path, size=(24, 40), layout="parquet")
    tables = [pq.read_table(file) for file in sorted(tmp_path.glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    assert len(tables) == 2 and len(rows) == 50
    assert rows[30]["target"]["bytes"] == (pristine / "RealDOF" / "target" / "0030.png").read_bytes()
    with Image.open(io.BytesIO(rows[0]["source"]["bytes"])) as image:
        assert image.size == (40, 24)
    assert read_raw_rgb(pristine / "RealDOF" / "source" / "0000.png").dtype == np.uint16
