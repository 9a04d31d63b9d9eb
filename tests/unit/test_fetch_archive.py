"""Zips from anywhere: only wanted members, nothing outside the folder, nothing damaged."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from remote import PNG, png

from ddnet.config import Item
from ddnet.fetch import Policy, Wanted
from ddnet.fetch.manifest import Manifest
from ddnet.fetch.place import Place
from ddnet.fetch.policy import SourceFailed
from ddnet.fetch.sources import from_archive


def canonical(path: str) -> str | None:
    """`source/x.png` and `target/x.png`, under any folder."""
    parts = path.split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] in ("source", "target") else None


WANTED = Wanted(canonical, None, 2)


def _zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, data in entries.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as given: the constructor would tidy it up
            info.compress_type = compression
            opened.writestr(info, data)
    return path


def _extract(path: Path, folder: Path, recorded: dict[str, str] | None = None) -> dict[str, str]:
    """Canonical name -> SHA-256 of what a zip gave."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(folder)
    manifest.entries = {name: {"sha256": sha256, "bytes": 1, "source": ""} for name, sha256 in (recorded or {}).items()}
    item = Item(about="", licence="", by_hand="", gigabytes=0.001)
    place = Place("dpdd", item, WANTED, folder, manifest, Policy())
    from_archive(place, path, "a zip")
    for name, file in place.files.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == place.digests[name]
    return place.digests


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_wanted_members_are_extracted_and_no_others(tmp_path: Path, compression: int) -> None:
    path = _zip(
        tmp_path / "a.zip",
        {
            "DPDD/": b"", "DPDD/source/1.png": png(seed=1), "DPDD/target/2.png": png(seed=2), "readme.txt": b"hello",
            "__MACOSX/DPDD/source/1.png": png(seed=3), "DPDD/source/._1.png": png(seed=4), "DPDD/l/1.png": png(),
        },
        compression,
    )  # fmt: skip
    digests = _extract(path, tmp_path / "out")
    assert _files(tmp_path / "out") == ["source/1.png", "target/2.png"] == sorted(digests)
    assert (tmp_path / "out" / "source" / "1.png").read_bytes() == png(seed=1)


@pytest.mark.parametrize(
    "entry",
    ["../source/1.png", "a/../../source/1.png", "/source/1.png", "C:/source/1.png", "C:source/1.png",
     "..\\source\\1.png", "a\\source/1.png", "source/..", "source/1.png\0.txt"],
)  # fmt: skip
def test_an_entry_that_leads_outside_is_refused_and_nothing_is_written(tmp_path: Path, entry: str) -> None:
    (tmp_path / "room" / "out").mkdir(parents=True)
    path = _zip(tmp_path / "a.zip", {"source/0.png": png(), entry: png()})
    with pytest.raises(SourceFailed, match="leads outside the folder") as caught:
        _extract(path, tmp_path / "room" / "out")
    assert repr(entry) in str(caught.value)
    assert _files(tmp_path) == ["a.zip"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as opened:
        info = zipfile.ZipInfo("source/1.png")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(SourceFailed, match=r"entry source/1.png is a symbolic link"):
        _extract(path, tmp_path / "out")


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SourceFailed, match=r"entry source/1.png is encrypted"):
        _extract(path, tmp_path / "out")


def test_two_entries_for_one_name_are_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a/source/1.png": png(seed=1), "b/source/1.png": png(seed=2)})
    with pytest.raises(SourceFailed, match=r"a/source/1.png and b/source/1.png both stand for source/1.png"):
        _extract(path, tmp_path / "out")


def _declare(path: Path, size: int) -> None:
    """Let the directory claim another size of the first entry."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    path.write_bytes(data)


def test_an_absurd_entry_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    _declare(path, 3_000_000_000)
    with pytest.raises(SourceFailed, match=r"entry source/1.png claims 3 GB"):
        _extract(path, tmp_path / "out")


def test_an_absurd_total_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    _declare(path, 11_000_000)
    with pytest.raises(SourceFailed, match=r"claim 11 MB where about 1 MB belong"):
        _extract(path, tmp_path / "out")


def test_more_data_than_declared_is_damage(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png(3000)}, zipfile.ZIP_DEFLATED)
    _declare(path, 1000)
    with pytest.raises(SourceFailed, match="is damaged"):
        _extract(path, tmp_path / "out")
    assert _files(tmp_path / "out") == []


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 and no more"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SourceFailed, match="no zip, or cut short"):
        _extract(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("left", [0.3, 0.9, 0.99])
def test_a_truncated_zip_is_refused(tmp_path: Path, left: float) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png(), "target/1.png": png()})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(SourceFailed, match="no zip, or cut short"):
        _extract(path, tmp_path / "out")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_entry_leaves_nothing_of_itself(tmp_path: Path, compression: int) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png(seed=1), "target/1.png": png(seed=2)}, compression)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x03\x04") + 1500] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(SourceFailed, match=r"entry target/1.png is damaged"):
        _extract(path, tmp_path / "out")
    assert _files(tmp_path / "out") == ["source/1.png"]


def test_an_unknown_compression_says_what_to_do(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\x03\x04") + 8, 9)  # Deflate64, as some systems write large zips
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 10, 9)
    path.write_bytes(data)
    with pytest.raises(SourceFailed, match="unpack the zip with another tool"):
        _extract(path, tmp_path / "out")


@pytest.mark.parametrize(("data", "match"), [(b"", "an empty file"), (b"\xff\xd8\xff\xe0 JFIF", "JPEG"), (b"x", "PNG")])
def test_what_is_no_png_is_refused(tmp_path: Path, data: bytes, match: str) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": data})
    with pytest.raises(SourceFailed, match=f"source/1.png: .*{match}"):
        _extract(path, tmp_path / "out")
    assert _files(tmp_path / "out") == []


def test_a_recorded_digest_is_enforced_before_the_file_stands(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    digest = hashlib.sha256(png()).hexdigest()
    with pytest.raises(SourceFailed, match=f"its SHA-256 {digest[:12]} is not the recorded 000000000000"):
        _extract(path, tmp_path / "out", {"source/1.png": "0" * 64})
    assert _files(tmp_path / "out") == []
    assert _extract(path, tmp_path / "out", {"source/1.png": digest}) == {"source/1.png": digest}


def test_a_full_disk_is_an_oserror_and_not_the_zips_fault(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"source/1.png": png()})
    (tmp_path / "out" / ".partial").mkdir(parents=True)
    (tmp_path / "out" / ".partial" / "source%2F1.png.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        _extract(path, tmp_path / "out")
    assert _files(tmp_path / "out") == []


def test_a_broken_directory_offset_is_no_zip(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("source/1.png", PNG)
    data = bytearray(stream.getvalue())
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 0x00FFFFFF)  # size of the directory
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SourceFailed, match="no zip, or cut short"):
        _extract(tmp_path / "a.zip", tmp_path / "out")
