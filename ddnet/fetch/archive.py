"""Wanted members out of a zip from anywhere, extracted one by one and without a step outside the folder."""

from __future__ import annotations

import errno
import hashlib
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.wanted import Wanted, is_plain
from ddnet.files import atomic_path
from ddnet.log import format_bytes

BLOCK = 1 << 20
MAX_ENTRY_BYTES = 1 << 30
MAX_TIMES = 10  # the declared sizes of all wanted members may be so many times what the item is known to take


@dataclass(frozen=True)
class Member:
    """One wanted entry of a zip."""

    name: str  # canonical
    info: zipfile.ZipInfo

    @property
    def size(self) -> int:
        """Declared size in bytes; more than that is never read."""
        return self.info.file_size


def wanted_members(archive: Path, wanted: Wanted, gigabytes: float) -> dict[str, Member]:
    """The wanted entries of a zip by canonical name, after a look at every entry's name, kind and size.

    Args:
        gigabytes: about how much the item takes on disk.

    Raises:
        SourceFailed: no zip, truncated, or an entry that no honest archive of the item would have.
    """
    members: dict[str, Member] = {}
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
                raise SourceFailed(f"entries {members[name].info.filename} and {entry} both stand for {name}")
            members[name] = Member(name, info)
    total = sum(member.size for member in members.values())
    if total > MAX_TIMES * gigabytes * 1e9:
        raise SourceFailed(
            f"its entries claim {format_bytes(total)} where about {format_bytes(gigabytes * 1e9)} belong"
        )
    return members


def _problem(info: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.file_size > MAX_ENTRY_BYTES:
        return f"claims {format_bytes(info.file_size)}; more than {format_bytes(MAX_ENTRY_BYTES)} cannot be"
    return ""


def extract(
    archive: Path,
    members: list[Member],
    folder: Path,
    recorded: Callable[[str], str | None],
    done: Callable[[str, Path, str], None],
    advance: Callable[[int], None],
    require_content: Callable[[str, Path], None],
) -> None:
    """Extract members to `folder/<canonical name>`, each one only when its content holds.

    Args:
        recorded: canonical name -> the SHA-256 it must have, None where nothing is recorded.
        done: called with canonical name, path and SHA-256 of each file that stands.
        advance: called with the number of bytes extracted.
        require_content: raises where a file's content cannot be what its canonical name says.

    Raises:
        SourceFailed: damaged entry, wrong digest, empty file, or no PNG under such a name.
        OSError: the disk is full or cannot be written.
    """
    with _opened(archive) as opened:
        for member in members:
            target = folder / member.name
            with atomic_path(target) as temporary:
                digest = _copy(opened, member, temporary, advance)
                require_content(member.name, temporary)
                expected = recorded(member.name)
                if expected not in (None, digest):
                    raise SourceFailed(f"{member.name}: its SHA-256 {digest[:12]} is not the recorded {expected[:12]}")
            done(member.name, target, digest)


def _copy(opened: zipfile.ZipFile, member: Member, temporary: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with _entry(opened, member) as source, temporary.open("wb") as stream:
        while block := source.read(BLOCK):
            digest.update(block)
            stream.write(block)
            advance(len(block))
    return digest.hexdigest()


_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        opened = zipfile.ZipFile(archive)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a broken directory points before the file's start
            raise
        raise SourceFailed("no zip, or cut short") from None
    except _DAMAGE:
        raise SourceFailed("no zip, or cut short") from None
    with opened:
        yield opened


@contextmanager
def _entry(opened: zipfile.ZipFile, member: Member) -> Iterator[zipfile.ZipExtFile]:
    """One entry for reading; whatever a damaged one raises is the source's failure, a full disk is not."""
    try:
        with opened.open(member.info) as source:
            yield source  # type: ignore[misc]
    except NotImplementedError:
        raise SourceFailed(
            f"entry {member.info.filename} is packed in a way Python cannot read; unpack the zip with another tool"
        ) from None
    except _DAMAGE as error:
        raise SourceFailed(f"entry {member.info.filename} is damaged ({error})") from None
