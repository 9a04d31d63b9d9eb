"""The record of what each file was at first sight; whatever differs later is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.io.files import write_json

MANIFEST_FILE = "manifest.json"
FLUSH_S = 3.0


class Manifest:
    """`manifest.json` of an item's folder: `{canonical name: {sha256, bytes, source}}`; any thread may record.

    A file that does not lie at `<folder>/<canonical name>` has its `path` there, too.

    Raises:
        DDNetError: the file is not the record of an earlier fetch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / MANIFEST_FILE
        self.entries: dict[str, dict[str, Any]] = self._read()
        self._lock = threading.Lock()
        self._changed = False
        self._written = time.monotonic()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            good = all(
                isinstance(entry["sha256"] + entry["source"] + entry.get("path", ""), str) and int(entry["bytes"]) > 0
                for entry in entries.values()
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            good = False
        if not good:
            raise DDNetError(
                f"{self.path}: not a record of digests; restore it, or move it aside to record the files "
                "as they are now"
            )
        return dict(entries)

    def recorded(self, name: str) -> str | None:
        """The SHA-256 that a file must have; None at first sight."""
        entry = self.entries.get(name)
        return entry["sha256"] if entry else None

    def path_of(self, name: str) -> Path:
        """Where a recorded file was seen last."""
        return self.folder / self.entries[name].get("path", name)

    def sources(self, names: Iterable[str]) -> str:
        """Where recorded files came from, each place once."""
        return "; ".join(dict.fromkeys(str(self.entries[name]["source"]) for name in names if name in self.entries))

    def accept(self, name: str, path: Path, digest: str, source: str) -> None:
        """Record a file at first sight; afterwards hold it to the record.

        Raises:
            DDNetError: its digest is another one now.
        """
        known = self.recorded(name)
        if known not in (None, digest):
            raise DDNetError(
                f"{path}: its SHA-256 {digest[:12]} is not the recorded {known[:12]}; restore the file, or where the "
                f"change is meant take its entry '{name}' (or all) out of {self.path}"
            )
        inside = path.is_relative_to(self.folder)
        where = path.relative_to(self.folder).as_posix() if inside else str(path.resolve())
        with self._lock:
            before = self.entries.get(name)
            entry = {"sha256": digest, "bytes": path.stat().st_size, "source": before["source"] if before else source}
            if where != name:
                entry["path"] = where
            if entry != before:
                self.entries[name] = entry
                self._changed = True
            if time.monotonic() - self._written > FLUSH_S:
                self._write()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._changed:
            write_json(self.path, self.entries)
            self._changed = False
        self._written = time.monotonic()
