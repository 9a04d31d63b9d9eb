"""A file that has not come completely yet: its bytes so far, and a note of which version of which URL they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from requests import Response

from ddnet.io.files import write_json


@dataclass(frozen=True)
class Version:
    """What a server said of a file: size in bytes, strong ETag, Last-Modified, SHA-256; empty or None where nothing."""

    size: int | None = None
    etag: str = ""
    modified: str = ""
    sha256: str | None = None

    @classmethod
    def of(cls, response: Response) -> Version:
        """What an answer's headers say; the SHA-256 is the hub's word, mostly on the way to another host."""
        size, etag = response.headers.get("Content-Length", ""), response.headers.get("ETag", "")
        linked = None
        for answer in (*response.history, response):
            digest = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
            linked = digest if re.fullmatch("[0-9a-f]{64}", digest) else linked
        return cls(
            size=int(size) if size.isdigit() else None,
            etag="" if etag.startswith("W/") else etag,
            modified=response.headers.get("Last-Modified", ""),
            sha256=linked,
        )


class Partial:
    """`<stem>.part` with the note `<stem>.json` beside it; bytes of another URL or without a note are thrown away."""

    def __init__(self, stem: Path, url: str) -> None:
        self.path = stem.with_name(stem.name + ".part")
        self._note = stem.with_name(stem.name + ".json")
        self.url = url
        self.end_reached = False
        self.gained = 0  # bytes since this object was made or started again
        self.version = self._read_note()
        self.have = self.path.stat().st_size if self.path.exists() else 0
        unknown = not (self.version.size or self.version.etag or self.version.modified)
        if self.have and (unknown or self.have > (self.version.size or self.have)):
            self.restart()
        self.resumed = self.have > 0

    def _read_note(self) -> Version:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return Version(**note["version"]) if note["url"] == self.url else Version()
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return Version()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to ask for."""
        return self.end_reached or (self.version.size is not None and 0 < self.version.size == self.have)

    def headers(self) -> dict[str, str]:
        """Request headers that ask for the rest, provided that the file is still the same version."""
        if not self.have:
            return {}
        validator = self.version.etag or self.version.modified
        return {"Range": f"bytes={self.have}-"} | ({"If-Range": validator} if validator else {})

    def continues(self, response: Response) -> bool:
        """Whether an answer with status 206 gives the rest of the bytes at hand."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not self.have or span is None or int(span[1]) != self.have:
            return False
        known, version = self.version, Version.of(response)
        size = None if span[2] == "*" else int(span[2])
        pairs = ((known.size, size), (known.etag, version.etag), (known.sha256, version.sha256))
        return all(old == new for old, new in pairs if old and new)

    def restart(self, version: Version | None = None) -> None:
        """Throw the bytes away; `version` says what comes now."""
        self.path.unlink(missing_ok=True)
        self.version = version or Version()
        self.have, self.gained, self.end_reached, self.resumed = 0, 0, False, False
        if version is None:
            self._note.unlink(missing_ok=True)
        else:
            write_json(self._note, {"url": self.url, "version": asdict(version)})

    @contextmanager
    def append(self) -> Iterator[Callable[[bytes], object]]:
        """Yield a function that appends bytes; what was written counts even where the block fails."""
        self.resumed = self.have > 0
        try:
            with self.path.open("ab") as stream:
                yield stream.write
        finally:
            before, self.have = self.have, self.path.stat().st_size
            self.gained += self.have - before

    def move_to(self, target: Path) -> None:
        """The file is whole: give it its name."""
        self.path.replace(target)
        self._note.unlink(missing_ok=True)
