"""The table of sources: where datasets and weights can be had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from ddnet.config._base import Strict, nearest, read_entries
from ddnet.errors import DDNetError


class Source(Strict):
    """One place where an item can be had; exactly one of `files`, `file`, `archive` and `parquet`."""

    files: str | None = Field(None, description="URL of a folder at a pinned revision; each file is one request")
    file: str | None = Field(None, description="URL of an item's only file: direct, or a Dropbox or Google Drive link")
    archive: str | None = Field(None, description="URL of a zip: direct, or a Dropbox or Google Drive link")
    parquet: str | None = Field(None, description="URL of a JSON list of parquet files that hold the images")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="published digest of the file or archive")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="published digest of the file or archive")

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if sum(value is not None for value in (self.files, self.file, self.archive, self.parquet)) != 1:
            raise ValueError("give exactly one of files, file, archive and parquet")
        return self

    @property
    def url(self) -> str:
        """The address, whatever kind it is."""
        return self.files or self.file or self.archive or self.parquet or ""


class Item(Strict):
    """A dataset or a set of weights that can be fetched, and where from, in the order to try."""

    about: str = Field(description="what it is, in a line")
    licence: str = Field(description="what its use is bound to, in a line or two")
    by_hand: str = Field(description="what a person downloads where every source fails, and from which page")
    gigabytes: float = Field(gt=0, description="about how much disk it takes, for the check before starting")
    sources: tuple[Source, ...] = ()


def load_sources(path: Path) -> dict[str, Item]:
    """Read the table of sources, `{item: where it can be had}`.

    Raises:
        DDNetError: bad key or value.
    """
    return read_entries(path, Item, "item")


def source_of(item: str, sources: Mapping[str, Item]) -> Item:
    """An item's entry in the table of sources.

    Raises:
        DDNetError: it has none.
    """
    if item not in sources:
        raise DDNetError(f"the table of sources has no item '{item}'{nearest(item, list(sources))}")
    return sources[item]
