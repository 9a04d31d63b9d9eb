"""The record of where the files of a fetched item lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.fetch.item import Fetched
from ddnet.io.files import read_json, write_json


def write_fetched(path: str | Path, fetched: Fetched) -> None:
    """Record where the files of an item lie, and their digests."""
    files = {name: str(file) for name, file in fetched.files.items()}
    write_json(path, {"source": fetched.source, "files": files, "digests": fetched.digests})


def read_fetched(path: str | Path) -> Fetched:
    """Read the record that `write_fetched` made."""
    record = read_json(path, fix := "move it aside and fetch again")
    texts = [record.get("source"), *(item for key in ("files", "digests") for item in _texts(record.get(key)))]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise DDNetError(f"{path}: not the record of a fetch; {fix}")
    return Fetched(record["source"], {name: Path(file) for name, file in record["files"].items()}, record["digests"])


def _texts(value: Any) -> list[Any]:
    """The values of an object; of anything else one that is no text."""
    return list(value.values()) if isinstance(value, dict) else [None]


def network_path(fitted: str | Path | None, record: str | Path | None) -> Path | None:
    """Weights of a depth network: the fitted file, or the folder that a record names; None where there is neither."""
    if fitted:
        return Path(fitted)
    return next(iter(read_fetched(record).files.values())).parent if record else None
