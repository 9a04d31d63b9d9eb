"""Image pairs out of parquet files, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from remote import png

from ddnet.fetch import Wanted
from ddnet.fetch.parquet import contents, find_pair, list_urls, read_table
from ddnet.fetch.policy import SourceFailed

WANTED = Wanted(lambda path: path if path.endswith(".png") else None, None, 12)
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _cell(seed: int, path: str | None = None) -> dict[str, Any]:
    return {"bytes": png(seed=seed), "path": path}


def _write(path: Path, columns: dict[str, list[Any]], kind: Any = IMAGE) -> Path:
    arrays = [pa.array(values, type=kind) for values in columns.values()]
    pq.write_table(pa.Table.from_arrays(arrays, names=list(columns)), path, row_group_size=3)
    return path


def _contents(files: list[Path]) -> dict[str, bytes]:
    table = read_table(files)
    return {name: b"".join(blocks) for name, blocks in contents(table, WANTED, table.names(WANTED))}


def test_images_of_several_files_keep_their_order_and_bytes(tmp_path: Path) -> None:
    first = _write(
        tmp_path / "0.parquet", {"blur": [_cell(k) for k in range(5)], "sharp": [_cell(k + 50) for k in range(5)]}
    )
    second = _write(tmp_path / "1.parquet", {"blur": [_cell(5)], "sharp": [_cell(55)]})
    found = _contents([first, second])
    assert list(found) == [f"{side}/{row:04d}.png" for row in range(6) for side in ("source", "target")]
    for row in range(6):
        assert found[f"source/{row:04d}.png"] == png(seed=row) and found[f"target/{row:04d}.png"] == png(seed=row + 50)


def test_plain_binary_columns_are_read(tmp_path: Path) -> None:
    file = _write(tmp_path / "0.parquet", {"LQ": [png(seed=1)], "GT": [png(seed=2)]}, pa.large_binary())
    assert _contents([file]) == {"source/0000.png": png(seed=1), "target/0000.png": png(seed=2)}


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


def test_an_image_that_is_not_there_is_empty(tmp_path: Path) -> None:
    cells = [None, {"bytes": None, "path": None}]
    file = _write(tmp_path / "0.parquet", {"source": [_cell(0), _cell(1)], "target": cells})
    assert [len(content) for content in _contents([file]).values()] == [3000, 0, 3000, 0]


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
        _contents([file])


def test_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    files = [_write(tmp_path / f"{k}.parquet", {"source": [_cell(0)], name: [_cell(1)]}) for k, name in enumerate("ab")]
    with pytest.raises(SourceFailed, match="differ in their columns"):
        read_table(files)
    with pytest.raises(SourceFailed, match="no known pair"):
        read_table(files[:1])


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
