"""Image pairs out of parquet files, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.wanted import Wanted

# What datasets call the columns of image and target, the surest names first.
IMAGES = ("source", "blur", "blurred", "blurry", "defocus", "defocused", "input", "lq", "image")
TARGETS = ("target", "sharp", "gt", "hq", "output", "label")
_ROWS = 4  # of a batch: about 60 MB of 16-bit images


def list_urls(file: Path) -> list[str]:
    """URLs in a JSON file that holds a list, or the hub's `{configuration: {split: [URLs]}}`, in its order.

    Raises:
        SourceFailed: something else, or no URL at all.
    """
    try:
        urls = list(_strings(json.loads(file.read_text(encoding="utf-8"))))
    except ValueError:
        raise SourceFailed("its list of parquet files is not JSON") from None
    if not urls:
        raise SourceFailed("its list of parquet files is empty")
    return urls


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value
    else:
        raise ValueError


@dataclass(frozen=True)
class Side:
    """One image column: its name, and whether it is `struct<bytes, ..>` instead of plain binary."""

    column: str
    struct: bool

    def content(self, cell: Any) -> bytes:
        """The bytes of one image; empty where there is none."""
        return (cell["bytes"] if self.struct and cell else cell) or b""


def find_pair(schema: Any) -> tuple[Side, Side]:
    """The columns of image and target, by the names that datasets give them.

    Raises:
        SourceFailed: no known pair among the image columns.
    """
    import pyarrow as pa

    sides = {}
    for field in schema:
        kind = field.type
        struct = pa.types.is_struct(kind)
        inner = [kind.field(position).name for position in range(kind.num_fields)] if struct else []
        if "bytes" in inner or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            sides[field.name.lower()] = Side(field.name, struct)
    pair = [next((sides[name] for name in known if name in sides), None) for known in (IMAGES, TARGETS)]
    if pair[0] is None or pair[1] is None:
        raise SourceFailed(f"no known pair of image columns among {', '.join(schema.names)}")
    return pair[0], pair[1]


@dataclass(frozen=True)
class Table:
    """Parquet files of one dataset: the two image columns; a row's files are named by its number."""

    files: list[Path]
    sides: dict[str, Side]
    rows: int
    bytes: int

    def names(self, wanted: Wanted) -> set[str]:
        """Canonical names of all wanted images."""
        named = (wanted.name_of(f"{folder}/{row:04d}.png") for row in range(self.rows) for folder in self.sides)
        return {name for name in named if name is not None}


def read_table(files: list[Path]) -> Table:
    """Look into parquet files without reading an image.

    Raises:
        SourceFailed: damaged, or without a known pair of image columns.
    """
    import pyarrow.parquet as pq

    with _readable():
        schemas = [pq.read_schema(file) for file in files]
        if any(schema.names != schemas[0].names for schema in schemas):
            raise SourceFailed("its parquet files differ in their columns")
        metadata = [pq.read_metadata(file) for file in files]
        size = sum(part.row_group(group).total_byte_size for part in metadata for group in range(part.num_row_groups))
        sides = dict(zip(("source", "target"), find_pair(schemas[0]), strict=True))
        return Table(files, sides, sum(part.num_rows for part in metadata), size)


def contents(table: Table, wanted: Wanted, names: set[str]) -> Iterator[tuple[str, list[bytes]]]:
    """Each named image (canonical name) and its content, unchanged, in the order of rows.

    Raises:
        SourceFailed: damaged file.
    """
    import pyarrow.parquet as pq

    number, columns = 0, [side.column for side in table.sides.values()]
    for file in table.files:
        with _readable(), pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=_ROWS, columns=columns):
                for row in batch.to_pylist():
                    for folder, side in table.sides.items():
                        if (name := wanted.name_of(f"{folder}/{number:04d}.png")) in names:
                            yield str(name), [side.content(row[side.column])]
                    number += 1


@contextmanager
def _readable() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not Arrow's word for a damaged file
            raise
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceFailed(f"a parquet file cannot be read ({first_line})") from None
