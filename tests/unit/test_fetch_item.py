"""Whole items: copies at hand, sources in order, interruptions, the manifest, room on the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from remote import Remote, content, cut, drive_page, page, png, slow, status, wait_until, wrong_length

from ddnet.config import Item, Source
from ddnet.errors import DDNetError
from ddnet.fetch import Fetched, Policy, Wanted, fetch_item, manifest, status_item, verify_item
from ddnet.fetch.http import Client
from ddnet.fetch.place import LOCK, Place

NAMES = tuple(f"{split}_c/{side}/{k}.png" for split in ("train", "test") for side in ("source", "target") for k in "12")
DATA = {name: png(2000, seed) for seed, name in enumerate(NAMES)}
QUICK = Policy(attempts=2, backoff_s=0.001, backoff_cap_s=0.002, connect_s=2.0, read_s=5.0, connections=3)


def canonical(path: str) -> str | None:
    parts = path.split("/")
    return "/".join(parts[-3:]) if len(parts) >= 3 and parts[-3].endswith("_c") and path.endswith(".png") else None


def either(path: str) -> str | None:
    parts = path.split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] in ("source", "target") else None


KNOWN = Wanted(canonical, NAMES)
UNKNOWN = Wanted(either, None, 4)
PAIRS = {f"{side}/{k}.png": png(2000, k + 10 * (side == "target")) for side in ("source", "target") for k in (1, 2)}


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Remote({f"/data/{name}": data for name, data in DATA.items()}) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "dpdd"


def _item(*sources: Source, gigabytes: float = 0.001) -> Item:
    return Item(
        about="DPDD in small", licence="for research;\n cite it", by_hand="dpdd.zip from example.org",
        gigabytes=gigabytes, sources=sources,
    )  # fmt: skip


def _files(remote: Remote) -> Source:
    return Source(files=remote.url + "/data")


def _fetch(folder: Path, *sources: Source, wanted: Wanted = KNOWN, local: Path | None = None) -> Fetched:
    return fetch_item("dpdd", _item(*sources), wanted, folder, local, QUICK)


def _zip_bytes(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return stream.getvalue()


def _put(folder: Path, entries: dict[str, bytes]) -> Path:
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _assert_complete(fetched: Fetched, entries: dict[str, bytes] = DATA) -> None:
    assert {name: path.read_bytes() for name, path in fetched.files.items()} == entries
    assert fetched.digests == {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}


def _recorded(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def _listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def _one_line(caught: pytest.ExceptionInfo[DDNetError]) -> str:
    text = str(caught.value)
    assert "\n" not in text and text.startswith("dpdd: ")
    return text


# Files by URL


def test_files_are_fetched_recorded_and_not_asked_for_again(remote: Remote, folder: Path) -> None:
    fetched = _fetch(folder, _files(remote))
    _assert_complete(fetched)
    assert fetched.source == remote.url + "/data"
    assert _listing(folder) == {*NAMES, "manifest.json", "LICENCE.txt"}
    assert _recorded(folder)[NAMES[0]] == {
        "sha256": hashlib.sha256(DATA[NAMES[0]]).hexdigest(), "bytes": 2000, "source": remote.url + "/data",
    }  # fmt: skip
    remote.behave()
    assert _fetch(folder, _files(remote)) == fetched
    assert remote.requests == []


def test_names_are_quoted_in_urls_and_nothing_else_changes(remote: Remote, folder: Path) -> None:
    name = "train_c/source/a b#1?.png"
    remote.files[f"/data/{name}"] = png()
    fetched = _fetch(folder, Source(files=remote.url + "/data/"), wanted=Wanted(canonical, (name,)))
    _assert_complete(fetched, {name: png()})


def test_an_interrupted_fetch_goes_on_where_it_ended(remote: Remote, folder: Path) -> None:
    broken = f"/data/{NAMES[-1]}"
    remote.misbehave(broken, cut(700), *[status(500)] * 2)
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, _files(remote))
    assert f"{NAMES[-1]}: HTTP 500 (2 attempts in vain)" in _one_line(caught)
    assert not (folder / NAMES[-1]).exists()
    finished = {name for name in NAMES if (folder / name).exists()}
    assert finished and finished == set(_recorded(folder))
    remote.behave()
    _assert_complete(_fetch(folder, _files(remote)))
    assert {request.path for request in remote.requests} <= {f"/data/{name}" for name in set(NAMES) - finished}
    assert [request.range for request in remote.asked(broken)] == ["bytes=700-"]
    assert not (folder / ".partial").exists()


def test_a_killed_fetch_loses_only_what_was_not_written_down(remote: Remote, folder: Path) -> None:
    _put(folder, {NAMES[0]: DATA[NAMES[0]]})  # complete, but the process died before the manifest was written
    _assert_complete(_fetch(folder, _files(remote)))
    assert remote.asked(f"/data/{NAMES[0]}") == []
    assert _recorded(folder)[NAMES[0]]["source"] == "found in the folder"


def test_the_manifest_is_written_on_the_way(remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FLUSH_S", 0.0)
    seen: list[int] = []
    write = manifest.write_json

    def count(path: Path, entries: dict[str, Any]) -> None:
        seen.append(len(entries))
        write(path, entries)

    monkeypatch.setattr(manifest, "write_json", count)
    _fetch(folder, _files(remote))
    assert seen == list(range(1, len(NAMES) + 1))


def test_the_first_failure_ends_the_other_transfers(remote: Remote, folder: Path) -> None:
    remote.misbehave("*", slow(30, block=100), times=None)
    remote.misbehave(f"/data/{NAMES[0]}", status(404))
    with pytest.raises(DDNetError, match="HTTP 404"):
        _fetch(folder, _files(remote))
    assert not any((folder / name).exists() for name in NAMES)
    assert len(remote.requests) <= QUICK.connections + 1  # the thread that failed may have begun another


def test_an_interrupt_ends_all_transfers_and_keeps_what_came(
    remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.misbehave("*", slow(30, block=100), times=None)
    for name in NAMES[:2]:
        remote.misbehave(f"/data/{name}", content(DATA[name]))
    from ddnet.fetch import place

    def interrupted(futures: Any) -> Iterator[Any]:
        for number, future in enumerate(as_completed(futures), start=1):
            yield future
            if number == 2:
                raise KeyboardInterrupt

    as_completed = place.as_completed
    monkeypatch.setattr(place, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _fetch(folder, _files(remote))
    assert set(_recorded(folder)) == set(NAMES[:2])
    assert {name for name in NAMES if (folder / name).exists()} == set(NAMES[:2])


# Sources in order


def test_a_source_that_fails_is_passed_over_with_a_line(
    remote: Remote, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    remote.files["/dpdd.zip"] = _zip_bytes({f"DPDD/{name}": data for name, data in DATA.items()} | {"DPDD/x.txt": b"x"})
    fetched = _fetch(folder, Source(files=remote.url + "/gone"), Source(archive=remote.url + "/dpdd.zip"))
    _assert_complete(fetched)
    assert fetched.source == remote.url + "/dpdd.zip"
    assert any("HTTP 404, not there; trying what comes next" in line for line in caplog.messages)
    assert _listing(folder) == {*NAMES, "manifest.json", "LICENCE.txt"}  # our own archive is gone


def test_what_one_source_gave_is_completed_by_the_next(remote: Remote, folder: Path) -> None:
    remote.misbehave(f"/data/{NAMES[-1]}", status(404), times=None)
    other = {f"/other/{name}": data for name, data in DATA.items()}
    remote.files |= other
    _assert_complete(_fetch(folder, _files(remote), Source(files=remote.url + "/other")))
    assert remote.asked(f"/other/{NAMES[-1]}")


def test_when_no_source_is_left_one_line_says_it_all(remote: Remote, folder: Path) -> None:
    remote.misbehave("/login", page(), times=None)
    remote.files |= {"/no.zip": b"hello", "/some.zip": _zip_bytes({f"a/{NAMES[0]}": DATA[NAMES[0]]})}
    sources = (
        Source(files=remote.url + "/gone"), Source(archive=remote.url + "/login"),
        Source(archive=remote.url + "/no.zip"), Source(archive=remote.url + "/some.zip"),
        Source(archive="http://127.0.0.1:9/x.zip"), Source(files="ftp://x/y"),
    )  # fmt: skip
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, *sources)
    text = _one_line(caught)
    assert text.startswith(f"dpdd: lacks 8 of 8 files, first: {NAMES[0]}, and no source gave them (127.0.0.1:")
    for reason in (
        "HTTP 404, not there", "an HTML page instead of the file (login, quota or consent page)",
        "no zip, or cut short", f"lacks 7 of 8 files, first: {NAMES[1]}",
        "127.0.0.1:9: connection refused", "ftp:// is refused",
    ):  # fmt: skip
        assert reason in text
    assert text.endswith(f"by hand: get dpdd.zip from example.org and put it into {folder} or set data.dpdd to it, "
                         "then run again")  # fmt: skip
    assert not any(path.suffix == ".png" for path in folder.rglob("*"))


def test_an_item_without_a_config_key_does_not_name_one(folder: Path) -> None:
    with pytest.raises(DDNetError, match=r"no source is listed.*put it into [^ ]+, then run again"):
        fetch_item("monodepth2", _item(), KNOWN, folder, None, QUICK)


def test_the_licence_is_logged_once_and_kept(remote: Remote, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(DDNetError):
        _fetch(folder, Source(files=remote.url + "/gone"))
    _fetch(folder, _files(remote))
    assert [line for line in caplog.messages if "licence" in line] == ["dpdd: licence: for research; cite it"]
    assert (folder / "LICENCE.txt").read_text() == "DPDD in small\n\nfor research;\n cite it\n"


@pytest.mark.parametrize(
    ("data", "match"), [(b"", "an empty file"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"hi", "something else")]
)
def test_what_is_no_png_never_gets_the_name(remote: Remote, folder: Path, data: bytes, match: str) -> None:
    remote.misbehave(f"/data/{NAMES[2]}", content(data), times=None)
    with pytest.raises(DDNetError, match=rf"\(127.0.0.1:\d+: {NAMES[2]}: ({match})"):
        _fetch(folder, _files(remote))
    assert not (folder / NAMES[2]).exists()


# Archives


def _archive(remote: Remote, entries: dict[str, bytes], **stated: str) -> Source:
    remote.files["/dpdd.zip"] = _zip_bytes(entries)
    return Source(archive=remote.url + "/dpdd.zip", **stated)


def test_an_archive_download_is_resumed_and_checked(remote: Remote, folder: Path) -> None:
    source = _archive(remote, DATA)
    whole = hashlib.md5(remote.files["/dpdd.zip"]).hexdigest()
    remote.misbehave("/dpdd.zip", cut(5000), status(503), status(503))
    with pytest.raises(DDNetError, match="HTTP 503"):
        _fetch(folder, source)
    _assert_complete(_fetch(folder, source.model_copy(update={"md5": whole})))
    assert [request.range for request in remote.asked("/dpdd.zip")][-1] == "bytes=5000-"


def test_an_archive_with_another_digest_is_not_unpacked(remote: Remote, folder: Path) -> None:
    with pytest.raises(DDNetError, match="its MD5 [0-9a-f]{12} is not 000000000000, what its publisher states"):
        _fetch(folder, _archive(remote, DATA, md5="0" * 32))
    assert not any(path.suffix in (".png", ".zip", ".part") for path in folder.rglob("*"))


def test_an_unsafe_archive_leaves_nothing_anywhere(remote: Remote, folder: Path, tmp_path: Path) -> None:
    entries = {f"DPDD/{name}": data for name, data in DATA.items()} | {"../../evil/train_c/source/1.png": png()}
    with pytest.raises(DDNetError, match="entry '../../evil/train_c/source/1.png' leads outside the folder"):
        _fetch(folder, _archive(remote, entries))
    assert _listing(tmp_path) == {"data/dpdd/LICENCE.txt"}


def test_the_rest_of_an_interrupted_extraction_is_taken_from_the_archive_at_hand(
    remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _archive(remote, DATA)
    add = Place.add

    def interrupted(self: Place, name: str, *rest: Any) -> None:
        if name == NAMES[3]:
            raise KeyboardInterrupt
        add(self, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Place, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _fetch(folder, source)
    assert set(_recorded(folder)) == set(NAMES[:3])
    _assert_complete(_fetch(folder, source))
    assert len(remote.asked("/dpdd.zip")) == 1


def test_a_drive_page_on_the_way_to_an_archive_is_answered(remote: Remote, folder: Path) -> None:
    source = _archive(remote, DATA)
    remote.misbehave("/share", drive_page("/dpdd.zip", confirm="t"), times=None)
    _assert_complete(_fetch(folder, source.model_copy(update={"archive": remote.url + "/share"})))


def test_a_zip_put_there_by_hand_is_used_and_stays(remote: Remote, folder: Path) -> None:
    halves = [dict(list(DATA.items())[:4]), dict(list(DATA.items())[4:])]
    _put(
        folder, {f"part{k}.zip": _zip_bytes({f"x/y/{n}": d for n, d in half.items()}) for k, half in enumerate(halves)}
    )
    fetched = _fetch(folder, _files(remote))
    _assert_complete(fetched)
    assert fetched.source == "part1.zip, put there by hand; part0.zip, put there by hand"
    assert {"part0.zip", "part1.zip"} <= _listing(folder) and remote.requests == []
    assert not (folder / "LICENCE.txt").exists()


def test_a_broken_zip_put_there_by_hand_is_passed_over(remote: Remote, folder: Path) -> None:
    _put(folder, {"dpdd.zip": b"hello"})
    _assert_complete(_fetch(folder, _files(remote)))
    with pytest.raises(DDNetError, match=r"\(dpdd.zip: no zip, or cut short\)"):
        _fetch(_put(folder.parent / "other", {"dpdd.zip": b"hello"}))


# Names that are not known beforehand, parquet


def test_an_archive_of_unknown_names_is_complete_by_its_count(remote: Remote, folder: Path) -> None:
    source = _archive(remote, {f"RealDOF/{name}": data for name, data in PAIRS.items()})
    _assert_complete(_fetch(folder, source, wanted=UNKNOWN), PAIRS)


@pytest.mark.parametrize(
    ("change", "match"), [(-1, "lacks 1 of 4 files"), (1, "127.0.0.1:[0-9]+: holds 5 files where 4 belong")]
)
def test_another_count_is_refused_before_anything_is_unpacked(
    remote: Remote, folder: Path, change: int, match: str
) -> None:
    entries = dict(PAIRS)
    if change < 0:
        entries.pop("target/2.png")
    else:
        entries["source/3.png"] = png()
    with pytest.raises(DDNetError, match=match):
        _fetch(folder, _archive(remote, entries), wanted=UNKNOWN)
    assert _listing(folder) == {"LICENCE.txt"}


def test_sources_that_name_files_differently_are_not_mixed(remote: Remote, folder: Path) -> None:
    _put(folder, {"source/other.png": png()})
    with pytest.raises(DDNetError, match=r"names its files differently .* \(first there: source/other.png\)"):
        _fetch(folder, _archive(remote, PAIRS), wanted=UNKNOWN)
    assert _listing(folder) == {"source/other.png", "manifest.json", "LICENCE.txt"}


def test_a_folder_of_urls_needs_names(remote: Remote, folder: Path) -> None:
    with pytest.raises(DDNetError, match="the names to ask for are not known beforehand"):
        _fetch(folder, _files(remote), wanted=UNKNOWN)


def _parquet(remote: Remote, tmp_path: Path, sharp: list[bytes]) -> Source:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for row in range(2):
        columns = [[{"bytes": png(2000, row + 1), "path": None}], [{"bytes": sharp[row], "path": None}]]
        table = pa.Table.from_arrays([pa.array(cells, type=kind) for cells in columns], names=["blur", "sharp"])
        pq.write_table(table, tmp_path / "x.parquet")
        remote.files[f"/hub/{row}.parquet"] = (tmp_path / "x.parquet").read_bytes()
    urls = [f"{remote.url}/hub/{row}.parquet" for row in range(2)]
    remote.files["/hub"] = json.dumps({"default": {"test": urls}}).encode()
    return Source(parquet=remote.url + "/hub")


def test_images_in_parquet_become_files(remote: Remote, folder: Path, tmp_path: Path) -> None:
    source = _parquet(remote, tmp_path, [png(2000, 11), png(2000, 12)])
    remote.misbehave("/hub/1.parquet", cut(500))
    expected = {f"{side}/000{int(Path(name).stem) - 1}.png": data for name, data in PAIRS.items()
                for side in [name.split("/")[0]]}  # fmt: skip
    _assert_complete(_fetch(folder, source, wanted=UNKNOWN), expected)
    assert _listing(folder) == {*expected, "manifest.json", "LICENCE.txt"}
    assert [request.range for request in remote.asked("/hub/1.parquet")] == [None, "bytes=500-"]


def test_previews_in_parquet_are_no_source(remote: Remote, folder: Path, tmp_path: Path) -> None:
    source = _parquet(remote, tmp_path, [b"\xff\xd8\xff JFIF"] * 2)
    with pytest.raises(DDNetError, match="target/0000.png: JPEG under the name of a PNG file"):
        _fetch(folder, source, wanted=UNKNOWN)


# Local copies


def test_a_local_folder_is_read_in_place(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    local = _put(
        tmp_path / "copy", {f"dd/png/{name}": data for name, data in DATA.items()} | {"dd/b.txt": b"", "a": b""}
    )
    before = _listing(local)
    fetched = _fetch(folder, local=local)
    _assert_complete(fetched)
    assert fetched.source == f"local copy {local}"
    assert all(path.is_relative_to(local) for path in fetched.files.values()) and _listing(local) == before
    assert f"dpdd: local copy {local}: 2 other files are not needed, first: a" in caplog.messages
    assert _listing(folder) == {"manifest.json"}


def test_a_local_folder_behind_links_is_read_and_circles_end(folder: Path, tmp_path: Path) -> None:
    _put(tmp_path / "disk", DATA)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "dpdd").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "copy")
    _assert_complete(_fetch(folder, local=tmp_path / "copy"))


def test_an_incomplete_local_copy_is_an_error_even_with_sources(remote: Remote, folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path / "copy", dict(list(DATA.items())[:5]))
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, _files(remote), local=local)
    assert _one_line(caught) == (
        f"dpdd: local copy {local} lacks 3 of 8 files, first: {NAMES[5]}; correct that, or data.dpdd"
    )
    assert remote.requests == []


def test_too_many_files_of_unknown_names_are_an_error(folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path / "copy", PAIRS | {"source/3.png": png()})
    with pytest.raises(DDNetError, match="holds 5 files where 4 belong"):
        _fetch(folder, wanted=UNKNOWN, local=local)
    with pytest.raises(DDNetError, match="holds 5 files where 4 belong"):
        _fetch(local, wanted=UNKNOWN)


def test_two_files_for_one_name_are_an_error(folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path / "copy", {f"{top}/{NAMES[0]}": png() for top in "ab"})
    with pytest.raises(DDNetError, match=f"a/{NAMES[0]} and .*b/{NAMES[0]} both stand for {NAMES[0]}"):
        _fetch(folder, local=local)


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_a_local_file_that_is_no_png_is_an_error(folder: Path, tmp_path: Path, data: bytes) -> None:
    local = _put(tmp_path / "copy", DATA | {NAMES[3]: data})
    with pytest.raises(DDNetError, match=rf"{local / NAMES[3]}: .*; replace it or move it aside"):
        _fetch(folder, local=local)


def test_what_the_item_says_of_a_content_is_asked_before_it_is_recorded(
    remote: Remote, folder: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    def problem(path: Path) -> str:
        asked.append(path.name)
        return "of another kind" if path.read_bytes() == DATA[NAMES[3]] + b"!" else ""

    wanted = replace(KNOWN, problem=problem)
    local = _put(tmp_path / "copy", DATA | {NAMES[3]: DATA[NAMES[3]] + b"!"})
    with pytest.raises(DDNetError, match=rf"{local / NAMES[3]}: of another kind; replace it or move it aside"):
        _fetch(folder, local=local, wanted=wanted)
    _put(local, {NAMES[3]: DATA[NAMES[3]]})
    _assert_complete(_fetch(folder, local=local, wanted=wanted))
    asked.clear()
    _fetch(folder, local=local, wanted=wanted)
    assert not asked


def test_a_download_of_another_kind_never_stands(remote: Remote, folder: Path) -> None:
    wanted = replace(KNOWN, problem=lambda path: "" if path.read_bytes() != DATA[NAMES[3]] else "of another kind")
    with pytest.raises(DDNetError, match=f"{NAMES[3]}: of another kind"):
        _fetch(folder, _files(remote), wanted=wanted)
    assert not (folder / NAMES[3]).exists()


def test_a_local_zip_is_extracted_and_stays(folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path, {"copy.zip": _zip_bytes({f"a/{name}": data for name, data in DATA.items()})}) / "copy.zip"
    fetched = _fetch(folder, local=local)
    _assert_complete(fetched)
    assert all(path == folder / name for name, path in fetched.files.items()) and local.exists()
    local.write_bytes(b"gone bad")
    with pytest.raises(DDNetError, match="no zip, or cut short; correct data.dpdd"):
        _fetch(folder, local=local)


def test_a_copy_at_hand_leaves_a_begun_download_alone(remote: Remote, folder: Path, tmp_path: Path) -> None:
    source = _archive(remote, DATA)
    remote.misbehave("/dpdd.zip", cut(5000), status(403))
    with pytest.raises(DDNetError, match="HTTP 403"):
        _fetch(folder, source)
    _assert_complete(_fetch(folder, local=_put(tmp_path / "copy", DATA)))
    _assert_complete(_fetch(folder, source))
    assert remote.asked("/dpdd.zip")[-1].range == "bytes=5000-"


def test_an_incomplete_local_zip_is_an_error(folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path, {"copy.zip": _zip_bytes({NAMES[0]: DATA[NAMES[0]]})}) / "copy.zip"
    with pytest.raises(DDNetError, match=rf"local copy {local}: lacks 7 of 8 files, first: {NAMES[1]}"):
        _fetch(folder, local=local)


def test_a_local_copy_that_is_not_there_or_no_copy_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="none does not exist; correct data.dpdd or leave it out"):
        _fetch(folder, local=tmp_path / "none")
    _put(tmp_path, {"x.tar": b"hello"})
    with pytest.raises(DDNetError, match="x.tar is neither a folder nor a zip"):
        _fetch(folder, local=tmp_path / "x.tar")


def test_an_unreadable_folder_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    local = _put(tmp_path / "copy", DATA)
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, local=local)
    assert _one_line(caught) == f"dpdd: {local}: Permission denied; correct that and run again"


# The manifest


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["folder", "local"])
def test_a_file_that_changed_since_it_was_recorded_is_an_error(
    remote: Remote, folder: Path, tmp_path: Path, where: str
) -> None:
    local = _put(tmp_path / "copy", DATA) if where == "local" else None
    path = _fetch(folder, _files(remote), local=local).files[NAMES[4]]
    _change(path)
    remote.behave()
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, _files(remote), local=local)
    text = str(caught.value)
    old, new = (hashlib.sha256(data).hexdigest()[:12] for data in (DATA[NAMES[4]], path.read_bytes()))
    assert text == (
        f"{path}: its SHA-256 {new} is not the recorded {old}; restore the file, or where the change is meant "
        f"take its entry '{NAMES[4]}' (or all) out of {folder / 'manifest.json'}"
    )
    assert remote.requests == []
    entries = _recorded(folder)
    del entries[NAMES[4]]
    (folder / "manifest.json").write_text(json.dumps(entries))
    _fetch(folder, _files(remote), local=local)
    assert _recorded(folder)[NAMES[4]]["sha256"].startswith(new)


def test_a_lost_file_comes_back_only_as_it_was(remote: Remote, folder: Path) -> None:
    _fetch(folder, _files(remote))
    (folder / NAMES[1]).unlink()
    remote.misbehave(f"/data/{NAMES[1]}", content(png(2000, 99)), times=None)
    with pytest.raises(DDNetError, match=f"{NAMES[1]}: its SHA-256 .* is not .*, what is recorded"):
        _fetch(folder, _files(remote))
    assert not (folder / NAMES[1]).exists()
    remote.behave()
    _assert_complete(_fetch(folder, _files(remote)))


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {}}', '{"a": {"sha256": 1, "bytes": 2, "source": ""}}'])
def test_a_damaged_manifest_is_an_error(folder: Path, text: str) -> None:
    _put(folder, {"manifest.json": text.encode()})
    with pytest.raises(DDNetError, match="manifest.json: not a record of digests; restore it, or move it aside"):
        _fetch(folder)


def test_files_unpacked_by_hand_are_used_where_they_lie(folder: Path) -> None:
    _put(folder, {f"dd/png/{name}": data for name, data in DATA.items()})
    fetched = _fetch(folder)
    _assert_complete(fetched)
    assert fetched.source == "found in the folder" and fetched.files[NAMES[0]] == folder / "dd/png" / NAMES[0]
    assert verify_item("dpdd", KNOWN, folder) == (8, [])


def test_verify_names_what_is_missing_and_what_changed(remote: Remote, folder: Path, tmp_path: Path) -> None:
    local = _put(tmp_path / "copy", DATA)
    for source in (None, local):
        files = _fetch(folder, _files(remote), local=source).files
        assert verify_item("dpdd", KNOWN, folder) == (8, [])
        _change(files[NAMES[0]])
        files[NAMES[1]].unlink()
        count, problems = verify_item("dpdd", KNOWN, folder)
        changed, missing = sorted(problems, key=lambda line: "missing" in line)
        assert count == 6 and missing == f"dpdd: {files[NAMES[1]]} is missing"
        assert changed.startswith(f"dpdd: {files[NAMES[0]]}: its SHA-256 ") and "is not the recorded" in changed


def test_what_was_never_fetched_is_not_verified(remote: Remote, folder: Path) -> None:
    where = f"not fetched yet: nothing is recorded in {folder / 'manifest.json'}"
    assert verify_item("dpdd", KNOWN, folder) == (0, [f"dpdd: 8 of 8 files, first: {NAMES[0]}, {where}"])
    remote.misbehave(f"/data/{NAMES[-1]}", status(404))
    with pytest.raises(DDNetError):
        _fetch(folder, _files(remote))
    count, problems = verify_item("dpdd", KNOWN, folder)
    assert 0 < count < 8 and len(problems) == 1 and problems[0].startswith(f"dpdd: {8 - count} of 8 files, first: ")
    assert verify_item("dpdd", UNKNOWN, folder.parent)[1][0].startswith("dpdd: 4 of 4 files, not fetched yet")


# Status


def test_status_tells_of_downloads_that_were_begun(remote: Remote, folder: Path) -> None:
    source = _archive(remote, DATA)
    remote.misbehave("/dpdd.zip", cut(5000), status(403))
    with pytest.raises(DDNetError):
        _fetch(folder, source)
    assert 5000 <= status_item("dpdd", _item(source), KNOWN, folder).begun < 5500
    _fetch(folder, source)
    assert status_item("dpdd", _item(source), KNOWN, folder).begun == 0


def test_status_counts_without_reading_or_asking(remote: Remote, folder: Path, tmp_path: Path) -> None:
    item = _item(_files(remote))

    def status_of(local: Path | None = None, wanted: Wanted = KNOWN) -> tuple[int, int, int, str, bool]:
        found = status_item("dpdd", item, wanted, folder, local)
        return found.have, found.needed, found.bytes, found.source, found.complete

    assert status_of() == (0, 8, 0, "", False)
    assert not folder.exists()
    _put(folder, {NAMES[0]: DATA[NAMES[0]]})
    assert status_of() == (1, 8, 2000, "found in the folder", False)
    _fetch(folder, _files(remote))
    remote.behave()
    assert status_of() == (8, 8, 16000, f"{remote.url}/data; found in the folder", True)
    local = _put(tmp_path / "copy", dict(list(DATA.items())[:3]))
    lacks = f"lacks 5 of 8 files, first: {NAMES[3]}"
    assert status_of(local) == (3, 8, 6000, f"local copy {local} ({lacks})", False)
    _put(tmp_path, {"copy.zip": _zip_bytes(DATA), "bad.zip": b"x"})
    assert status_of(tmp_path / "copy.zip") == (8, 8, 16000, f"local copy {tmp_path / 'copy.zip'}", True)
    assert status_of(tmp_path / "bad.zip")[3:] == (f"local copy {tmp_path / 'bad.zip'} (no zip, or cut short)", False)
    assert status_of(tmp_path / "none")[3:] == (f"local copy {tmp_path / 'none'} (does not exist)", False)
    assert status_of(_put(tmp_path / "pairs", PAIRS), UNKNOWN)[::4] == (4, True)
    assert remote.requests == []


# Room on the disk

Usage = namedtuple("Usage", "total used free")


def _free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, free))


def test_files_that_do_not_fit_are_not_begun(remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 15_999)
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, _files(remote), Source(archive="https://example.org/never-asked.zip"))
    assert _one_line(caught) == (
        f"dpdd: needs 16 kB, {folder} has 16 kB free; free some space or make the folder a link to a larger disk, "
        "and run again"
    )
    assert not any(path.suffix in (".png", ".part") for path in folder.rglob("*"))
    _free(monkeypatch, 16_000)
    _assert_complete(_fetch(folder, _files(remote)))


def test_only_what_lacks_must_fit(remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(folder, dict(list(DATA.items())[:6]))
    _free(monkeypatch, 3_999)
    with pytest.raises(DDNetError, match="needs 4 kB"):
        _fetch(folder, _files(remote))
    assert remote.requests == []  # the files at hand say how large the others are
    _free(monkeypatch, 4_000)
    _assert_complete(_fetch(folder, _files(remote)))


def test_a_few_large_files_first_do_not_ask_for_more_than_the_item_takes(
    remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.files[f"/data/{NAMES[0]}"] = png(500_000)
    _free(monkeypatch, 1_100_000)  # 8 x 500 kB would not fit; the item takes 1 MB
    fetched = _fetch(folder, _files(remote))
    assert fetched.files[NAMES[0]].stat().st_size == 500_000


def test_an_archive_must_fit_with_its_contents(remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _archive(remote, DATA)
    size = len(remote.files["/dpdd.zip"])
    _free(monkeypatch, 2 * size - 1)
    with pytest.raises(DDNetError, match="needs 34 kB"):  # what is unpacked, too, as far as its size can be told
        _fetch(folder, source)
    assert not any(path.suffix in (".part", ".zip") for path in folder.rglob("*"))
    answers = iter([2 * size, 15_999])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, next(answers)))
    with pytest.raises(DDNetError, match="needs 16 kB"):
        _fetch(folder, source)
    _free(monkeypatch, 16_000)
    remote.behave()
    _assert_complete(_fetch(folder, source))  # the archive was kept
    assert remote.requests == []


def test_a_disk_that_fills_up_is_one_line_and_keeps_what_came(
    remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Client.fetch

    def full(self: Client, order: Any) -> str:
        def fill(size: int, have: int) -> None:
            wait_until(lambda: all((folder / name).exists() for name in NAMES[:2]))
            order.partial.with_name(order.partial.name + ".part").symlink_to("/dev/full")

        return fetch(self, replace(order, expect=fill) if order.name == NAMES[2] else order)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "fetch", full)
        with pytest.raises(DDNetError) as caught:
            _fetch(folder, _files(remote), Source(archive="https://example.org/never-asked.zip"))
    assert _one_line(caught) == (
        f"dpdd: the disk is full at {folder}; what has come so far is kept: free some space and run again"
    )
    assert not (folder / NAMES[2]).exists() and NAMES[2] not in _recorded(folder)
    remote.behave()
    _assert_complete(_fetch(folder, _files(remote)))
    asked = {request.path for request in remote.requests}
    assert f"/data/{NAMES[2]}" in asked and not asked & {f"/data/{name}" for name in NAMES[:2]}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DDNetError) as caught:
        _fetch(tmp_path / "file" / "dpdd")
    assert "Not a directory" in _one_line(caught)


# Several processes


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_second_process_waits_for_the_first(remote: Remote, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder.mkdir(parents=True)
    with (folder / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fetched: list[Fetched] = []
        thread = _in_thread(lambda: fetched.append(_fetch(folder, _files(remote))))
        wait_until(lambda: caplog.messages)
        assert caplog.messages == [f"dpdd: another process is fetching into {folder}; waiting for it to end"]
        assert remote.requests == []
    thread.join(20)
    _assert_complete(fetched[0])


def test_two_at_once_ask_for_each_file_once(remote: Remote, folder: Path) -> None:
    fetched: list[Fetched] = []
    threads = [_in_thread(lambda: fetched.append(_fetch(folder, _files(remote)))) for _ in range(2)]
    for thread in threads:
        thread.join(20)
    assert len(fetched) == 2 and fetched[0] == fetched[1]
    _assert_complete(fetched[0])
    assert sorted(request.path for request in remote.requests) == sorted(f"/data/{name}" for name in NAMES)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_complete_item_in_a_folder_that_cannot_be_written_is_used(
    remote: Remote, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fetched = _fetch(folder, _files(remote))
    opened = Path.open

    def guarded(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode[0] != "r":
            raise OSError(code, "cannot be written", str(path))
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", guarded)
    assert _fetch(folder) == fetched
    (folder / NAMES[0]).unlink()
    with pytest.raises(DDNetError) as caught:
        _fetch(folder, _files(remote))
    assert "cannot be written; correct that and run again" in _one_line(caught)


def test_a_folder_that_links_to_a_lost_disk_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "dpdd").symlink_to(tmp_path / "disk")
    with pytest.raises(DDNetError, match=f"dpdd is a link to {tmp_path}/disk, which is not there"):
        _fetch(tmp_path / "dpdd")


def test_wanted_must_say_when_it_is_complete() -> None:
    with pytest.raises(ValueError, match="files or count"):
        Wanted(canonical, None)


def test_a_wrong_length_never_makes_a_file(remote: Remote, folder: Path) -> None:
    remote.misbehave(f"/data/{NAMES[0]}", wrong_length(2500), times=None)
    with pytest.raises(DDNetError, match=r"cut short \(2 attempts in vain\)|HTTP 416"):
        _fetch(folder, _files(remote))
    assert not (folder / NAMES[0]).exists()
