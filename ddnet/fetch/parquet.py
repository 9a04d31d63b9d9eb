"""Image pairs out of parquet files, byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.wanted import Wanted
from ddnet.files import atomic_path

PAIRS = tuple(
    pair.split("/")
    for pair in (
        "source/target blur/sharp blurred/sharp blur/gt blurred/gt blurry/sharp defocus/sharp defocus/gt "
        "defocused/sharp input/target input/gt input/output lq/gt lq/hq image/target image/gt image/label "
        "source/gt source/label"
    ).split()
)
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
    """One image column: its name, and whether it is `struct<bytes, path>` instead of plain binary."""

    column: str
    struct: bool
    has_path: bool

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
            sides[field.name.lower()] = Side(field.name, struct, "path" in inner)
    for image, target in PAIRS:
        if image in sides and target in sides:
            return sides[image], sides[target]
    raise SourceFailed(f"no known pair of image columns among {', '.join(schema.names)}")


@dataclass(frozen=True)
class Table:
    """Parquet files of one dataset: the two image columns, and for each row the stem of its files."""

    files: list[Path]
    image: Side
    target: Side
    stems: list[str]
    bytes: int

    def names(self, wanted: Wanted) -> dict[str, int]:
        """Canonical names of all wanted images, with the row each comes from."""
        return {
            name: row
            for row, stem in enumerate(self.stems)
            for side in ("source", "target")
            if (name := wanted.name_of(f"{side}/{stem}.png")) is not None
        }


def read_table(files: list[Path]) -> Table:
    """Look into parquet files without reading an image.

    Raises:
        SourceFailed: damaged, or without a known pair of image columns.
    """
    import pyarrow.parquet as pq

    with _readable():
        first = pq.read_schema(files[0])
        image, target = find_pair(first)
        paths: list[tuple[str | None, ...]] = []
        size = 0
        for file in files:
            with pq.ParquetFile(file) as opened:
                if opened.schema_arrow.names != first.names:
                    raise SourceFailed("its parquet files differ in their columns")
                size += sum(opened.metadata.row_group(group).total_byte_size for group in range(opened.num_row_groups))
                columns = [_paths(opened, side) for side in (image, target)]
                paths += zip(*columns, strict=True)
    return Table(files, image, target, _stems(paths), size)


def _paths(opened: Any, side: Side) -> list[str | None]:
    if not side.has_path:
        return [None] * int(opened.metadata.num_rows)
    rows = opened.read(columns=[f"{side.column}.path"]).column(side.column).to_pylist()
    return [row and row["path"] for row in rows]


def _stems(paths: list[tuple[str | None, ...]]) -> list[str]:
    """The file names' own stems where both images of each row have one and the same and no two rows share it."""
    stems = [{PurePosixPath(path).stem if path else "" for path in pair} for pair in paths]
    own = [next(iter(pair)) if len(pair) == 1 else "" for pair in stems]
    usable = all(re.fullmatch(r"\w[\w.-]*", stem) for stem in own) and max(Counter(own).values(), default=0) == 1
    return own if usable else [f"{row:04d}" for row in range(len(paths))]


def write_images(
    table: Table,
    names: set[str],
    wanted: Wanted,
    folder: Path,
    recorded: Callable[[str], str | None],
    done: Callable[[str, Path, str], None],
    advance: Callable[[int], None],
    require_content: Callable[[str, Path], None],
) -> None:
    """Write images of a table to `folder/<canonical name>`, unchanged; arguments as for `archive.extract`.

    Args:
        names: canonical names to write; all others are passed by.

    Raises:
        SourceFailed: damaged file, no PNG (a preview, not the data), or a wrong digest.
        OSError: the disk is full or cannot be written.
    """
    import pyarrow.parquet as pq

    stems = iter(table.stems)
    for file in table.files:
        with _readable(), pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=_ROWS, columns=[table.image.column, table.target.column]):
                for row in batch.to_pylist():
                    stem = next(stems)
                    for folder_name, side in (("source", table.image), ("target", table.target)):
                        name = wanted.name_of(f"{folder_name}/{stem}.png")
                        if name is not None and name in names:
                            content = side.content(row[side.column])
                            digest = _write(folder / name, name, content, recorded(name), require_content)
                            done(name, folder / name, digest)
                            advance(len(content))


def _write(
    target: Path, name: str, content: bytes, expected: str | None, require_content: Callable[[str, Path], None]
) -> str:
    digest = hashlib.sha256(content).hexdigest()
    if expected not in (None, digest):
        raise SourceFailed(f"{name}: its SHA-256 {digest[:12]} is not the recorded {expected[:12]}")
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
        require_content(name, temporary)
    return digest


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
