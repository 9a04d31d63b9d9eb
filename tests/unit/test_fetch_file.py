"""One file behind a link, and files that a person puts into an item's folder."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from remote import Remote, cut, drive_page, page

from ddnet.config import Item, Source
from ddnet.errors import DDNetError
from ddnet.fetch import Fetched, Policy, Wanted, by_name, fetch_item, put, put_item, unpack_zip
from ddnet.fetch.place import LOCK

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()
ONE, TWO = by_name("90_models.pth"), by_name("encoder.pth", "depth.pth")
QUICK = Policy(attempts=2, backoff_s=0.001, backoff_cap_s=0.002, connect_s=2.0, read_s=5.0, connections=3)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Remote({"/file/d/1t46/view": DATA}) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "weights" / "defocusgan"


def _item(*sources: Source) -> Item:
    return Item(about="weights", licence="not stated", by_hand="90_models.pth", gigabytes=0.001, sources=sources)


def _link(remote: Remote, **digests: str) -> Source:
    return Source(file=remote.url + "/file/d/1t46/view", **digests)


def _fetch(folder: Path, *sources: Source, wanted: Wanted = ONE) -> Fetched:
    return fetch_item("defocusgan", _item(*sources), wanted, folder, None, QUICK)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def _recorded(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


# By its link


def test_a_file_behind_a_link_gets_its_canonical_name_and_is_not_asked_for_again(remote: Remote, folder: Path) -> None:
    fetched = _fetch(folder, _link(remote))
    assert fetched.files["90_models.pth"].read_bytes() == DATA and fetched.digests == {"90_models.pth": DIGEST}
    assert _names(folder) == {"90_models.pth", "manifest.json", "LICENCE.txt"}
    assert fetched.source == remote.url + "/file/d/1t46/view" == _recorded(folder)["90_models.pth"]["source"]
    remote.behave()
    assert _fetch(folder, _link(remote)) == fetched
    assert remote.requests == []


def test_a_cut_link_is_resumed_by_the_next_call(remote: Remote, folder: Path) -> None:
    remote.misbehave("/file/d/1t46/view", cut(3000), cut(0), cut(0))
    with pytest.raises(DDNetError, match="2 attempts in vain"):
        _fetch(folder, _link(remote))
    assert not (folder / "90_models.pth").exists()
    assert _fetch(folder, _link(remote)).digests == {"90_models.pth": DIGEST}
    assert remote.asked("/file/d/1t46/view")[-1].range == "bytes=3000-"


def test_a_consent_page_before_a_file_is_answered_and_any_other_page_is_no_file(remote: Remote, folder: Path) -> None:
    remote.files["/download"] = DATA
    remote.misbehave("/file/d/1t46/view", page(), drive_page("/download", confirm="t"))
    with pytest.raises(DDNetError, match="an HTML page instead of the file"):
        _fetch(folder, _link(remote))
    assert _fetch(folder, _link(remote)).digests == {"90_models.pth": DIGEST}


def test_a_file_is_held_to_a_stated_digest_and_to_the_recorded_one(remote: Remote, folder: Path) -> None:
    with pytest.raises(DDNetError, match="its SHA-256 .* is not 000000000000"):
        _fetch(folder, _link(remote, sha256="0" * 64))
    assert not (folder / "90_models.pth").exists()
    _fetch(folder, _link(remote, sha256=DIGEST, md5=hashlib.md5(DATA).hexdigest()))
    (folder / "90_models.pth").unlink()
    remote.files["/file/d/1t46/view"] = DATA[::-1]
    with pytest.raises(DDNetError, match=f"is not {DIGEST[:12]}, what is recorded"):
        _fetch(folder, _link(remote))
    with pytest.raises(DDNetError, match=f"its stated SHA-256 000000000000 is not the recorded {DIGEST[:12]}"):
        _fetch(folder, _link(remote, sha256="0" * 64))
    assert not (folder / "90_models.pth").exists()


def test_a_link_to_one_file_is_no_source_of_two(remote: Remote, folder: Path) -> None:
    with pytest.raises(DDNetError, match="it is one file where 2 belong"):
        _fetch(folder, _link(remote), wanted=TWO)
    assert remote.requests == []


def test_a_content_that_the_item_refuses_gets_no_name(remote: Remote, folder: Path) -> None:
    with pytest.raises(DDNetError, match="not the generator"):
        _fetch(folder, _link(remote), wanted=Wanted(ONE.canonical, ONE.files, problem=lambda path: "not the generator"))
    assert not (folder / "90_models.pth").exists()


def test_a_source_is_of_one_kind() -> None:
    assert Source(file="https://example.org/a").url == "https://example.org/a"
    with pytest.raises(ValidationError, match="give exactly one of files, file, archive and parquet"):
        Source(file="https://example.org/a", archive="https://example.org/a.zip")


# By hand


def _at_hand(tmp_path: Path, **files: bytes) -> dict[str, Path]:
    found = {}
    for stem, data in files.items():
        found[f"{stem}.pth"] = tmp_path / f"downloaded {stem}"
        found[f"{stem}.pth"].write_bytes(data)
    return found


def _put(folder: Path, files: dict[str, Path], **more: Any) -> Fetched:
    return put_item("monodepth2", _item(), TWO, folder, files, "imported from x.zip", **more)


def test_what_is_put_is_what_a_fetch_finds_and_records(folder: Path, tmp_path: Path) -> None:
    files = _at_hand(tmp_path, encoder=DATA, depth=DATA[:99])
    fetched = _put(folder, files)
    assert {name: path.read_bytes() for name, path in fetched.files.items()} == {
        "encoder.pth": DATA, "depth.pth": DATA[:99],
    }  # fmt: skip
    assert _names(folder) == {"encoder.pth", "depth.pth", "manifest.json", "LICENCE.txt"}
    assert _recorded(folder)["encoder.pth"] == {"sha256": DIGEST, "bytes": len(DATA), "source": "imported from x.zip"}
    found = fetch_item("monodepth2", _item(), TWO, folder)
    assert (found.files, found.digests, found.source) == (fetched.files, fetched.digests, "imported from x.zip")
    before = (folder / "encoder.pth").stat().st_mtime_ns
    assert _put(folder, files) == fetched and (folder / "encoder.pth").stat().st_mtime_ns == before


def test_another_file_is_never_put_over_one_that_is_there(folder: Path, tmp_path: Path) -> None:
    _put(folder, _at_hand(tmp_path, encoder=DATA, depth=b"depth"))
    other = _at_hand(tmp_path, encoder=DATA, depth=b"other")
    with pytest.raises(DDNetError) as caught:
        _put(folder, other)
    assert f"monodepth2: {folder / 'depth.pth'} is another file, of SHA-256" in str(caught.value)
    assert f"move the folder {folder} aside and try again" in str(caught.value)
    assert (folder / "depth.pth").read_bytes() == b"depth"
    (folder / "depth.pth").unlink()  # what was recorded still counts
    with pytest.raises(DDNetError, match="is another file"):
        _put(folder, other)
    shutil.rmtree(folder)
    assert _put(folder, other).files["depth.pth"].read_bytes() == b"other"


def test_a_file_that_lies_in_the_folder_already_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    (folder / "mono").mkdir(parents=True)
    for name, path in _at_hand(tmp_path, encoder=DATA, depth=b"depth").items():
        path.rename(folder / "mono" / name)
    fetched = _put(folder, {name: folder / "mono" / name for name in TWO.files or ()})
    assert fetched.files["depth.pth"] == folder / "mono" / "depth.pth"
    assert _names(folder) == {"encoder.pth", "depth.pth", "manifest.json", "LICENCE.txt"}


def test_an_incomplete_or_a_changing_file_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    files = _at_hand(tmp_path, encoder=DATA, depth=b"depth")
    with pytest.raises(DDNetError, match="lacks 1 of 2 files, first: depth.pth"):
        _put(folder, {"encoder.pth": files["encoder.pth"]})
    assert not folder.exists()
    with pytest.raises(DDNetError, match="changed while it was read"):
        _put(folder, files, expected={"encoder.pth": DIGEST, "depth.pth": DIGEST})
    assert _names(folder) == set()


def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(put.shutil, "copyfile", full)
    with pytest.raises(DDNetError, match="monodepth2: the disk is full at"):
        _put(folder, _at_hand(tmp_path, encoder=DATA, depth=b"depth"))
    assert _names(folder) == set()


def test_a_zip_is_unpacked_if_it_has_all_of_an_item(tmp_path: Path) -> None:
    path, out = tmp_path / "x.zip", tmp_path / "out"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("mono/encoder.pth", DATA)
    assert unpack_zip(path, TWO, out, 0.001, "x.zip") == {} and not out.exists()
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("mono/depth.pth", b"depth")
        opened.writestr("mono/pose.pth", b"pose")
    files = unpack_zip(path, TWO, out, 0.001, "x.zip")
    assert {name: file.read_bytes() for name, file in files.items()} == {"encoder.pth": DATA, "depth.pth": b"depth"}
    assert _names(out) == {"encoder.pth", "depth.pth"}
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DDNetError, match=r"x\.zip: no zip, or cut short; download it again"):
        unpack_zip(path, TWO, out, 0.001, "x.zip")
