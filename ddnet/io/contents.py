"""What files hold decides what has to be made, not when they were written: a folder may be moved, copied or unpacked.

Snakemake compares times first, and a copy, an archive or `touch` changes those. So before it looks, the times of files
that jobs made are put right by the jobs' manifests (`ddnet/runtime/job.py`): what was made of its inputs as they are
now is no older than they are, and what was made of others is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError
from ddnet.io.files import read_json, sha256, write_json, write_text

# Of a larger file, such as the stacked depth maps of all patches, samples count.
HASHED_BYTES, SAMPLES, SAMPLE_BYTES = 64 * 1024**2, 64, 1024**2
SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system: what was changed so lately may change unseen
SECOND_NS = 10**9


class Contents:
    """SHA-256 of files, read again only where size, time of writing or time of change differ from those remembered.

    The time of change (ctime) is the file system's own: no copy, archive or `touch` sets it to an older one.
    """

    def __init__(self, store: Path) -> None:
        self._store, self._new = store, False
        self._known: dict[str, Any] = {}
        with suppress(OSError, DDNetError):  # it only saves time
            self._known = read_json(store, "")

    def digest(self, path: str | os.PathLike[str], read: Callable[[str], str] = sha256) -> str:
        """What `read` says of a file: by default its hex SHA-256.

        Raises:
            OSError: it cannot be read.
        """
        key, signature = f"{read.__name__} {os.fspath(path)}", _signature(path)
        known = self._known.get(key)
        if isinstance(known, list) and known[:-1] == signature:
            return str(known[-1])
        digest = read(os.fspath(path))
        self._keep(key, signature, digest, time.time_ns() - SETTLED_NS)
        return digest

    def remember(self, path: str | os.PathLike[str], digest: str, read_ns: int) -> None:
        """Take a file's SHA-256 from whoever read it, if nothing has changed it since that moment (ns of the epoch)."""
        with suppress(OSError):
            self._keep(f"{sha256.__name__} {os.fspath(path)}", _signature(path), digest, read_ns - SETTLED_NS)

    def _keep(self, key: str, signature: list[int], digest: str, before: int) -> None:
        if signature[-1] < before:
            self._known[key] = [*signature, digest]
            self._new = True

    def save(self) -> None:
        """Remember for the next process; where nothing can be written, that one reads again."""
        if self._new:
            with suppress(OSError):
                write_json(self._store, self._known)


def known_contents(preset: str) -> Contents:
    """What is known of the files of a preset in the working directory."""
    return Contents(Path(".snakemake") / f"ddnet-{preset}.contents.json")


def _signature(path: str | os.PathLike[str]) -> list[int]:
    stat = Path(path).stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def content_digest(path: str) -> str:
    """SHA-256 of a file; of a large one that of its size and of samples from end to end; of a folder that it is one."""
    if not Path(path).is_file():
        return "folder"
    size = Path(path).stat().st_size
    if size <= HASHED_BYTES:
        return sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as stream:
        for number in range(SAMPLES):
            stream.seek(number * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def joint_digest(paths: Iterable[str], digest: Callable[[str], str] = content_digest) -> str:
    """One digest of the contents of several files: 12 hexadecimal digits."""
    return hashlib.sha256("".join(map(digest, paths)).encode()).hexdigest()[:12]


def write_listing(listing: Path, files: Sequence[str], contents: Contents) -> None:
    """Write the names and digests of a user's files, where they are not written so already.

    A job has this list for its input instead of the files: their times, which may be of any year, do not matter then.
    """

    def digest(name: str) -> str:
        try:
            return contents.digest(name)
        except OSError as error:
            return f"not readable: {error.strerror}"  # the job that needs it says so

    with ThreadPoolExecutor() as pool:
        text = json.dumps(dict(zip(files, pool.map(digest, files), strict=True)), indent=1) + "\n"
    if not listing.is_file() or listing.read_text(encoding="utf-8") != text:
        write_text(listing, text)


@dataclass(frozen=True)
class _Made:
    """What a manifest says that a job read and made, and files that are as old as what it made."""

    inputs: list[str]
    digest: str
    outputs: list[str]
    beside: list[str]


def put_times_right(places: Iterable[Path], contents: Contents, given: Iterable[Path] = ()) -> None:
    """Set the times of files that jobs made by what these were made of, as their manifests say.

    No file keeps a time to come, as one does that was unpacked in another time zone: Snakemake fails where an input is
    newer than what was just made of it. Other files that no manifest tells of keep theirs; where times cannot be set,
    all do.

    Args:
        places: folders with manifests at any depth, or manifests; what they name is relative to the working directory.
        given: files that came with the project and are inputs of jobs.
    """
    with suppress(OSError):
        _leave_the_future(given)
    found = [path for place in places for path in ([place] if place.is_file() else place.rglob("*manifest.json"))]
    jobs = [made for made in map(_read_made, found) if made]
    maker = {name: number for number, made in enumerate(jobs) for name in made.outputs}
    needs = {number: {maker[name] for name in made.inputs if name in maker} for number, made in enumerate(jobs)}
    with suppress(CycleError):  # no job can have made that
        for number in TopologicalSorter(needs).static_order():
            with suppress(OSError):
                _settle(jobs[number], contents)


def _read_made(manifest: Path) -> _Made | None:
    """What a manifest says; None for one of something else than a job here, or of a job whose inputs lie elsewhere."""
    with suppress(OSError, DDNetError):
        said = read_json(manifest, "")
        inputs, outputs, digest, log = (said.get(key) for key in ("inputs", "outputs", "inputs_digest", "log"))
        if isinstance(inputs, list) and isinstance(outputs, dict) and isinstance(digest, str):
            made = [*outputs, manifest.as_posix()] if manifest.name == "manifest.json" else [*outputs]
            benchmark = [Path(log).with_suffix(".tsv").as_posix()] if isinstance(log, str) and log else []
            if all(isinstance(name, str) and _is_inside(name) for name in [*inputs, *made, *benchmark]):
                return _Made(inputs, digest, made, benchmark)
    return None


def _is_inside(name: str) -> bool:
    """Whether a name in a manifest is that of a file below the working directory; of others it has no folder."""
    path = Path(name)
    return "\0" not in name and len(path.parts) > 1 and not path.is_absolute() and ".." not in path.parts


def _settle(made: _Made, contents: Contents) -> None:
    outputs = [_timed(name) for name in made.outputs]
    alike = outputs + [path for path in map(Path, made.beside) if path.is_file()]
    _leave_the_future([*map(Path, made.inputs), *alike])
    if not made.inputs:
        return
    newest = max(_time(Path(name)) for name in made.inputs)
    if joint_digest(made.inputs, lambda name: contents.digest(name, content_digest)) == made.digest:
        _set_times([path for path in alike if _time(path) < newest], newest)
    elif min(map(_time, outputs)) >= newest:
        _set_times(outputs[:1], newest - SECOND_NS)


def _leave_the_future(paths: Iterable[Path]) -> None:
    now = time.time_ns()
    _set_times([path for path in paths if _time(path) > now], now)


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _set_times(paths: Iterable[Path], moment: int) -> None:
    for path in paths:
        os.utime(path, ns=(moment, moment))


def _timed(name: str) -> Path:
    """The file whose time Snakemake takes for that of an output; a folder has one inside."""
    inside = Path(name) / ".snakemake_timestamp"
    return inside if inside.is_file() else Path(name)
