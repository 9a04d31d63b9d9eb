"""`ddnet data status` and `verify`, and files that are gone after they were fetched, on a miniature of DPDD."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from miniature import make_dpdd

from ddnet.cli.main import CONFIG, main
from ddnet.config import DpddData, Trial, load_settings, load_sources
from ddnet.data.fetch_data import folder_of, index_photographs, sized, wanted_files
from ddnet.errors import DDNetError
from ddnet.fetch import Fetched, fetch_item, write_fetched

TRIAL, SIZE = Trial(train=2, val=1, test=1, realdof=1), (16, 24)
ITEM = load_sources(CONFIG / "sources.yaml")["dpdd"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _preset(**data: str) -> str:
    settings = load_settings(CONFIG / "paper.yaml").model_dump(mode="json")
    settings["data"] = {"kind": "dpdd", "size": list(SIZE), "trial": TRIAL.model_dump(), **data}
    Path("mine.yaml").write_text(yaml.safe_dump(settings))
    return "mine.yaml"


def _fetch(local: Path | None = None) -> Fetched:
    data = DpddData(kind="dpdd", size=SIZE, trial=TRIAL)
    return fetch_item("dpdd", ITEM, wanted_files("dpdd", data), folder_of("dpdd"), local)


def _told(capsys: pytest.CaptureFixture[str], command: str, status: int, **data: str) -> str:
    """What a command says, runs of blanks as one."""
    assert main(["data", command, "--preset", _preset(**data)]) == status
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == status
    return re.sub(r"[ \n]+", " ", said.out + said.err)


def test_status_tells_what_is_here_and_how_much_is_to_come(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "status", 0)
    assert "dpdd: 0 of 8 files, 0 B in data/dpdd" in told
    assert "to be fetched: about 68 MB, first from https://huggingface.co/datasets/" in told  # 8 of 1,000 files
    make_dpdd(here / "data" / "dpdd", "hub", SIZE, TRIAL)
    begun = here / "data" / "realdof" / ".partial" / "x.zip.part"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(bytes(41_000))
    told = _told(capsys, "status", 0)
    assert re.search(r"dpdd: 8 of 8 files, \d+ kB in data/dpdd DPDD, 500 pairs .*? realdof: ", told)
    assert "realdof: 0 of 100 files, 0 B, 41 kB of downloads begun in data/realdof" in told
    (begun.parent.parent / "source").mkdir()
    for number in range(101):
        (begun.parent.parent / "source" / f"{number}.png").touch()
    assert "too many files; move those that do not belong there elsewhere" in _told(capsys, "status", 0)


def test_status_says_what_is_wrong_with_a_copy_at_hand(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    told = _told(capsys, "status", 0, dpdd="~/copy")
    assert f"local copy {here}/copy (does not exist); correct data.dpdd, or leave it out to fetch realdof:" in told
    make_dpdd(here / "copy", "hub", SIZE, TRIAL)
    assert "dpdd: 8 of 8 files" in _told(capsys, "status", 0, dpdd="~/copy")
    next((here / "copy" / "val_c" / "source").iterdir()).unlink()
    assert "copy (lacks 1 of 8 files, first: val_c/source/" in _told(capsys, "status", 0, dpdd="~/copy")


def test_verify_counts_what_is_as_recorded_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dpdd(here / "data" / "dpdd", "hub", SIZE, TRIAL)
    told = _told(capsys, "verify", 1)
    assert "dpdd: 0 files verified, problems: 1 " in told and "dpdd: 8 of 8 files, first: train_c/source/" in told
    files = _fetch().files
    assert "dpdd: 8 files verified realdof: 0 files verified, problems: 1" in _told(capsys, "verify", 1)
    changed, gone = list(files.values())[:2]
    changed.write_bytes(b"other")
    gone.unlink()
    told = _told(capsys, "verify", 1)
    assert "dpdd: 6 files verified, problems: 2" in told
    assert f"dpdd: {changed}: its SHA-256" in told and f"dpdd: {gone} is missing" in told
    assert told.rstrip().endswith("and fetch again: snakemake with --forcerun fetch_item")


def test_a_damaged_manifest_is_one_line_in_both(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dpdd(here / "data" / "dpdd", "hub", SIZE, TRIAL)
    (here / "data" / "dpdd" / "manifest.json").write_text(json.dumps({"a": {"sha256": "0", "bytes": 1, "path": 2}}))
    for command in ("status", "verify"):
        assert "data/dpdd/manifest.json: not a record of digests" in _told(capsys, command, 1)


def test_files_that_are_gone_since_they_were_fetched_are_named_with_the_way_back(here: Path) -> None:
    fetched = _fetch(make_dpdd(here / "copy", "hub", SIZE, TRIAL))
    write_fetched("dpdd.json", fetched)
    write_fetched("realdof.json", Fetched("", {}, {}))
    gone = fetched.files["val_c/source/1P0A0894.png"]
    gone.unlink()
    data = DpddData(kind="dpdd", size=SIZE, trial=TRIAL)
    records = {name: Path(f"{name}.json") for name in ("dpdd", "realdof")}
    with pytest.raises(DDNetError) as caught:
        index_photographs(data, records)
    assert str(caught.value) == (
        f"dpdd: 1 of 8 files are gone since they were fetched, first: {gone}; put them back, or fetch them again: "
        "snakemake with --forcerun fetch_item"
    )


def test_an_item_is_larger_where_more_of_it_is_asked_for() -> None:
    assert sized("dpdd", ITEM, DpddData(kind="dpdd")).gigabytes == ITEM.gigabytes
    assert sized("dpdd", ITEM, DpddData(kind="dpdd", views=True)).gigabytes == pytest.approx(1.7 * ITEM.gigabytes)
    few = DpddData(kind="dpdd", trial={"train": 2, "val": 1, "test": 1, "realdof": 1})
    assert sized("dpdd", ITEM, few).gigabytes == ITEM.gigabytes  # a bound, never less than what some source sends
