"""Image pairs out of parquet files, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from remote import png

from ddnet.fetch import Wanted
from ddnet.fetch.checks import content_problem
from ddnet.fetch.parquet import find_pair, list_urls, read_table, write_images
from ddnet.fetch.policy import SourceFailed

WANTED = Wanted(lambda path: path if path.endswith(".png") else None, None, 12)
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _cell(seed: int, path: str | None = None) -> dict[str, Any]:
    return {"bytes": png(seed=seed), "path": path}


def _write(path: Path, columns: dict[str, list[Any]], kind: Any = IMAGE) -> Path:
    arrays = [pa.array(values, type=kind) for values in columns.values()]
    pq.write_table(pa.Table.from_arrays(arrays, names=list(columns)), path, row_group_size=3)
    return path


def require_content(name: str, path: Path) -> None:
    if problem := content_problem(name, path):
        raise SourceFailed(f"{name}: {problem}")


def _extract(files: list[Path], folder: Path, recorded: dict[str, str] | None = None) -> list[str]:
    done: list[str] = []
    table = read_table(files)

    def count(name: str, path: Path, digest: str) -> None:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        done.append(name)

    names = set(table.names(WANTED))
    write_images(table, names, WANTED, folder, (recorded or {}).get, count, lambda size: None, require_content)
    return done


def test_images_of_several_files_keep_their_order_and_bytes(tmp_path: Path) -> None:
    first = _write(
        tmp_path / "0.parquet", {"blur": [_cell(k) for k in range(5)], "sharp": [_cell(k + 50) for k in range(5)]}
    )
    second = _write(tmp_path / "1.parquet", {"blur": [_cell(5)], "sharp": [_cell(55)]})
    done = _extract([first, second], tmp_path / "out")
    assert done == [f"{side}/{row:04d}.png" for row in range(6) for side in ("source", "target")]
    for row in range(6):
        assert (tmp_path / "out" / "source" / f"{row:04d}.png").read_bytes() == png(seed=row)
        assert (tmp_path / "out" / "target" / f"{row:04d}.png").read_bytes() == png(seed=row + 50)


@pytest.mark.parametrize(
    ("source", "target", "stems"),
    [
        (["a/x1.png", "a/x2.png"], ["b/x1.png", "b/x2.png"], ["x1", "x2"]),
        (["x1.png", "x1.png"], ["x1.png", "x1.png"], ["0000", "0001"]),  # not unique
        (["x1.png", "x2.png"], ["y1.png", "y2.png"], ["0000", "0001"]),  # would not pair by name
        (["x1.png", None], ["x1.png", "x2.png"], ["0000", "0001"]),
        (["../x1.png", ".x2.png"], ["../x1.png", ".x2.png"], ["0000", "0001"]),
    ],
)
def test_stems_are_kept_where_they_pair_and_are_unique(
    tmp_path: Path, source: list[str | None], target: list[str | None], stems: list[str]
) -> None:
    columns = {"source": [_cell(k, path) for k, path in enumerate(source)],
               "target": [_cell(k, path) for k, path in enumerate(target)]}  # fmt: skip
    assert read_table([_write(tmp_path / "0.parquet", columns)]).stems == stems


def test_plain_binary_columns_are_read(tmp_path: Path) -> None:
    file = _write(tmp_path / "0.parquet", {"LQ": [png(seed=1)], "GT": [png(seed=2)]}, pa.large_binary())
    assert _extract([file], tmp_path / "out") == ["source/0000.png", "target/0000.png"]
    assert (tmp_path / "out" / "target" / "0000.png").read_bytes() == png(seed=2)


@pytest.mark.parametrize("pair", ["source/target", "Blurred/Sharp", "input/gt", "image/target", "image/label", "lq/gt"])
def test_known_pairs_are_found_among_other_columns(pair: str) -> None:
    first, second = pair.split("/")
    schema = pa.schema([("id", pa.int64()), (second, IMAGE), ("name", pa.string()), (first, IMAGE)])
    image, target = find_pair(schema)
    assert (image.column, target.column) == (first, second)


def test_unknown_columns_are_named() -> None:
    schema = pa.schema([("left", IMAGE), ("right", IMAGE), ("source", pa.string()), ("target", pa.string())])
    with pytest.raises(SourceFailed, match="image columns among left, right, source, target"):
        find_pair(schema)


@pytest.mark.parametrize(
    ("data", "kind"), [(b"\xff\xd8\xff\xe0 JFIF", "JPEG"), (b"RIFF", "something"), (None, "empty")]
)
def test_previews_are_refused(tmp_path: Path, data: bytes | None, kind: str) -> None:
    cells = [_cell(0), {"bytes": data, "path": None}]
    file = _write(tmp_path / "0.parquet", {"source": [_cell(0), _cell(1)], "target": cells})
    with pytest.raises(SourceFailed, match=f"target/0001.png: .*{kind}"):
        _extract([file], tmp_path / "out")
    assert not (tmp_path / "out" / "target" / "0001.png").exists()


def test_a_recorded_digest_is_enforced(tmp_path: Path) -> None:
    file = _write(tmp_path / "0.parquet", {"source": [_cell(0)], "target": [_cell(1)]})
    with pytest.raises(SourceFailed, match=r"target/0000.png: its SHA-256 .* is not the recorded 000000000000"):
        _extract([file], tmp_path / "out", {"target/0000.png": "0" * 64})
    assert not (tmp_path / "out" / "target" / "0000.png").exists()


@pytest.mark.parametrize("left", [0, 100, -100])
def test_a_damaged_file_is_refused(tmp_path: Path, left: int) -> None:
    file = _write(tmp_path / "0.parquet", {"source": [_cell(0)], "target": [_cell(1)]})
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(SourceFailed, match="a parquet file cannot be read"):
        read_table([file])


def test_damaged_pages_are_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "0.parquet", {"source": [_cell(0)], "target": [_cell(1)]})
    data = bytearray(file.read_bytes())
    data[4:400] = bytes(396)
    file.write_bytes(data)
    with pytest.raises(SourceFailed, match="a parquet file cannot be read"):
        _extract([file], tmp_path / "out")


def test_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    files = [_write(tmp_path / f"{k}.parquet", {"source": [_cell(0)], name: [_cell(1)]}) for k, name in enumerate("ab")]
    with pytest.raises(SourceFailed, match="no known pair"):
        read_table(files)
    good = _write(tmp_path / "2.parquet", {"source": [_cell(0)], "target": [_cell(1)]})
    with pytest.raises(SourceFailed, match="differ in their columns"):
        read_table([good, *files])


@pytest.mark.parametrize(
    ("listing", "urls"),
    [(["b", "a"], ["b", "a"]), ({"default": {"train": ["u0", "u1"], "test": ["u2"]}}, ["u0", "u1", "u2"])],
)
def test_lists_of_files_are_read_in_their_order(tmp_path: Path, listing: Any, urls: list[str]) -> None:
    (tmp_path / "list").write_text(json.dumps(listing))
    assert list_urls(tmp_path / "list") == urls


@pytest.mark.parametrize(("text", "match"), [("[", "not JSON"), ("[1]", "not JSON"), ("{}", "empty"), ("[]", "empty")])
def test_other_lists_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(SourceFailed, match=match):
        list_urls(tmp_path / "list")
