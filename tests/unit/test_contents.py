"""Times of made files after a copy, an archive or `touch`, and the memory of what files hold."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ddnet.io import contents as module
from ddnet.io.contents import SECOND_NS, Contents, joint_digest, put_times_right, write_listing
from ddnet.io.files import sha256, write_json

# What each job made of what; the last of the second is the benchmark beside its log.
JOBS = {
    "data/p/index.csv": ["data/p/scenes.json"],
    "data/p/depth/index.csv": ["data/p/index.csv"],
    "results/runs/p/a/manifest.json": ["data/p/depth/index.csv", "data/p/index.csv"],
    "results/tables/p/table.csv": ["results/paper/table.csv", "results/runs/p/a/manifest.json"],
}
BENCHMARK = Path("logs/p/a.tsv")
PLACES = [Path("data/p"), Path("results/runs/p"), Path("results/tables/p")]


def made(output: str, inputs: list[str]) -> None:
    """What a job leaves behind; the training's declared manifest is its own."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"inputs": sorted(inputs), "inputs_digest": joint_digest(sorted(inputs)), "log": "logs/p/none.log"}
    if path.name == "manifest.json":
        path.with_name("model.pt").write_text(f"of {inputs}")
        BENCHMARK.write_text("seconds")
        write_json(
            path,
            said
            | {
                "data_digest": "of the training",
                "outputs": {str(path.with_name("model.pt")): ""},
                "log": "logs/p/a.log",
            },
        )
    else:
        path.write_text(f"of {inputs}")
        write_json(path.with_suffix(".manifest.json"), said | {"outputs": {output: ""}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished folder in miniature, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SETTLED_NS", -SECOND_NS)
    for source in ("data/p/scenes.json", "results/paper/table.csv", str(BENCHMARK)):
        Path(source).parent.mkdir(parents=True, exist_ok=True)
        Path(source).write_text("a source")
    for output, inputs in JOBS.items():
        made(output, inputs)
    return tmp_path


def outputs_of(output: str) -> list[Path]:
    path = Path(output)
    return [path, path.with_name("model.pt"), BENCHMARK] if path.name == "manifest.json" else [path]


def to_be_made() -> set[str]:
    """Outputs that Snakemake would make again: an input is newer than the oldest of what was made of it."""
    return {
        output
        for output, inputs in JOBS.items()
        if max(Path(name).stat().st_mtime for name in inputs) > min(p.stat().st_mtime for p in outputs_of(output))
    }


def disturb(way: str, seed: int) -> None:
    """Times as a copy, an archive, `touch` or another time zone leaves them."""
    files, now, draw = sorted(path for path in Path().rglob("*") if path.is_file()), time.time_ns(), random.Random(seed)
    draw.shuffle(files)
    for number, path in enumerate(files):
        moment = {
            "copied": now - SECOND_NS * (len(files) - number),
            "unpacked": path.stat().st_mtime_ns // (2 * SECOND_NS) * 2 * SECOND_NS,
            "touched": now,
            "ancient": 0,
            "other time zone": now + draw.randrange(9 * 3600) * SECOND_NS,
        }[way]
        os.utime(path, ns=(moment, moment))


WAYS = pytest.mark.parametrize("way", ["copied", "unpacked", "touched", "ancient", "other time zone"])
SEEDS = pytest.mark.parametrize("seed", range(4))


@WAYS
@SEEDS
def test_nothing_is_to_be_made_where_every_file_holds_what_it_did(folder: Path, way: str, seed: int) -> None:
    disturb(way, seed)
    put_times_right(PLACES, Contents(folder / "known.json"))
    assert to_be_made() == set()
    known = [*JOBS, *(name for inputs in JOBS.values() for name in inputs)]
    assert max(Path(name).stat().st_mtime_ns for name in known) <= time.time_ns()


@WAYS
@SEEDS
@pytest.mark.parametrize("changed", ["data/p/index.csv", "results/paper/table.csv", "data/p/scenes.json"])
def test_what_was_made_of_other_contents_is_made_again(folder: Path, way: str, seed: int, changed: str) -> None:
    """A run that was killed after it had made `changed`, or an edit, in a folder that was then copied."""
    Path(changed).write_text("something else")
    disturb(way, seed)
    put_times_right(PLACES, Contents(folder / "known.json"))
    users = {output for output, inputs in JOBS.items() if changed in inputs}
    assert to_be_made() == users


def test_what_is_in_order_is_left_alone_and_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disturb("copied", 1)
    for _ in range(2):  # times that were put right are themselves a change
        contents = Contents(folder / "known.json")
        put_times_right(PLACES, contents)
        contents.save()
    times = {path: path.stat().st_ctime_ns for path in Path().rglob("*") if path.is_file()}
    monkeypatch.setattr(module, "sha256", lambda path: pytest.fail(f"{path} is read again"))
    put_times_right(PLACES, Contents(folder / "known.json"))
    assert {path: path.stat().st_ctime_ns for path in times} == times


@pytest.mark.parametrize(
    "said",
    [
        b"", b"{", b"[]", b"\xff", b'{"inputs": 3, "outputs": [], "inputs_digest": null}',
        b'{"inputs": ["/etc/hosts"], "outputs": {"a/../../b": ""}, "inputs_digest": "0"}',
        b'{"inputs": ["data/p/gone"], "outputs": {"data/p/index.csv": ""}, "inputs_digest": "0"}',
        b'{"inputs": ["data/p/\\u0000"], "outputs": {"data/p/index.csv": ""}, "inputs_digest": "0"}',
        b'{"inputs": ["data/p/index.csv"], "outputs": {"data/p/index.csv": ""}, "inputs_digest": "0"}',
    ],
)  # fmt: skip
def test_a_damaged_manifest_changes_no_time(folder: Path, said: bytes) -> None:
    Path("data/p/index.manifest.json").write_bytes(said)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    put_times_right(PLACES, Contents(folder / "known.json"))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_where_times_cannot_be_set_they_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    disturb("copied", 2)
    monkeypatch.setattr(os, "utime", refuse)
    put_times_right(PLACES, Contents(folder / "known.json"))


def replaced(path: Path) -> None:
    """Another file takes its place that is as large and as old."""
    times, other = path.stat(), path.with_name("other")
    other.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    time.sleep(0.02)  # the file system's clock ticks
    other.replace(path)


def rewritten(path: Path) -> None:
    """The same file, written again under its old time."""
    times = path.stat()
    time.sleep(0.02)
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, rewritten])
@pytest.mark.parametrize("behind_a_link", [False, True])
def test_a_change_that_keeps_size_and_time_is_seen(
    folder: Path, change: Callable[[Path], None], behind_a_link: bool
) -> None:
    picture = folder / "picture"
    picture.write_bytes(b"pixels")
    name = folder / "link" if behind_a_link else picture
    if behind_a_link:
        name.symlink_to(picture)
    contents = Contents(folder / "known.json")
    before = contents.digest(name)
    contents.save()
    change(picture)
    assert Contents(folder / "known.json").digest(name) == sha256(picture) != before


def test_the_list_of_pictures_changes_with_what_they_hold_and_with_nothing_else(folder: Path) -> None:
    listing, names = folder / "pictures.json", ["b\udcff.png", "a.png"]
    for name in names:
        Path(name).write_text(name.encode(errors="replace").decode())
    write_listing(listing, names, Contents(folder / "known.json"))
    assert list(json.loads(listing.read_text())) == names
    written = listing.stat().st_mtime_ns
    disturb("touched", 0)
    os.utime(listing, ns=(written, written))
    write_listing(listing, names, Contents(folder / "known.json"))
    assert listing.stat().st_mtime_ns == written
    Path("a.png").write_text("other pixels")
    write_listing(listing, [*names, "gone.png"], Contents(folder / "known.json"))
    said = json.loads(listing.read_text())
    assert said["a.png"] == sha256("a.png") and said["gone.png"].startswith("not readable")


@pytest.mark.parametrize("known", [b"", b"{", b"[1]", b'{"sha256 a": 3}', b'{"sha256 a": []}', b'{"sha256 a": [1, 2]}'])
def test_a_damaged_memory_costs_reading_and_no_more(folder: Path, known: bytes) -> None:
    Path("a").write_text("a")
    Path("known.json").write_bytes(known)
    assert Contents(Path("known.json")).digest("a") == sha256("a")
