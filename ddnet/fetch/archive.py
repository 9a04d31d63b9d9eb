"""Wanted members of a zip from anywhere, read without trust in what it says of itself."""

from __future__ import annotations

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipInfo

from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.wanted import Wanted, is_plain
from ddnet.runtime.log import format_bytes

BLOCK = 1 << 20
MAX_ENTRY_BYTES = 1 << 30
MAX_TIMES = 10  # the declared sizes of all wanted members may be so many times what the item is known to take
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError)


def wanted_members(archive: Path, wanted: Wanted, gigabytes: float) -> dict[str, ZipInfo]:
    """The wanted entries of a zip by canonical name, after a look at every entry's name, kind and size.

    Args:
        gigabytes: about how much the item takes on disk.

    Raises:
        SourceFailed: no zip, truncated, or an entry that no honest archive of the item would have.
    """
    members: dict[str, ZipInfo] = {}
    with _opened(archive) as opened:
        for info in opened.infolist():
            entry = info.orig_filename
            if not is_plain(entry):
                raise SourceFailed(f"entry {entry!r} leads outside the folder")
            if info.is_dir() or (name := wanted.name_of(info.filename)) is None:
                continue
            if problem := _problem(info):
                raise SourceFailed(f"entry {entry} {problem}")
            if name in members:
                raise SourceFailed(f"entries {members[name].filename} and {entry} both stand for {name}")
            members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > MAX_TIMES * gigabytes * 1e9:
        raise SourceFailed(
            f"its entries claim {format_bytes(total)} where about {format_bytes(gigabytes * 1e9)} belong"
        )
    return members


def _problem(info: ZipInfo) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.file_size > MAX_ENTRY_BYTES:
        return f"claims {format_bytes(info.file_size)}; more than {format_bytes(MAX_ENTRY_BYTES)} cannot be"
    return ""


def contents(archive: Path, members: dict[str, ZipInfo], names: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each named member and its content in blocks, never more than it declares.

    Raises:
        SourceFailed: a damaged entry, also while its blocks are read.
    """
    with _opened(archive) as opened:
        for name in names:
            yield name, _blocks(opened, members[name])


def _blocks(opened: zipfile.ZipFile, info: ZipInfo) -> Iterator[bytes]:
    try:
        with opened.open(info) as source:
            while block := source.read(BLOCK):
                yield block
    except NotImplementedError:
        raise SourceFailed(
            f"entry {info.filename} is packed in a way Python cannot read; unpack the zip with another tool"
        ) from None
    except _DAMAGE as error:
        raise SourceFailed(f"entry {info.filename} is damaged ({error})") from None


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        opened = zipfile.ZipFile(archive)
    except (OSError, *_DAMAGE) as error:
        # A broken directory points before the file's start; other errors of the system are not the zip's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise SourceFailed("no zip, or cut short") from None
    with opened:
        yield opened
