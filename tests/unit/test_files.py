"""Atomic files, and what killed processes and full disks leave of them."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hostile import BRACED, MOST_BYTES, PLAIN, STEERING, of_bytes, possible

from ddnet.errors import DDNetError
from ddnet.io import files
from ddnet.io.files import atomic_path, expanded, listable, read_json, read_rows, write_json, write_text
from ddnet.runtime.log import disk_problem

KILLED = """
import os, signal, sys
from pathlib import Path
from ddnet.io.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
WRITER = "import sys; from ddnet.io.files import write_text; write_text(sys.argv[1], '')"
LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from ddnet.runtime.log import job_log
import numpy as np, torch
from ddnet.io.arrays import write_npy
from ddnet.io.files import write_text
from ddnet.io.images import write_image
from ddnet.io.torch_files import save_torch
folder, kind = Path(sys.argv[1]), sys.argv[2]
noise = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
write = {
    "text": lambda: write_text(folder / "a.txt", "new" * 5000),
    "picture": lambda: write_image(folder / "a.png", noise),
    "array": lambda: write_npy(folder / "a.npy", noise),
    "model": lambda: save_torch(folder / "a.pt", {"a": torch.from_numpy(noise)}),
}[kind]
with job_log(folder / "job.log"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk: any write beyond it fails
    write()
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "old")
    assert run(KILLED, str(tmp_path / "a.csv")).returncode == -signal.SIGKILL
    assert (tmp_path / "a.csv").read_text() == "old" and len(names(tmp_path)) == 2
    files._tidied.clear()
    write_text(tmp_path / "b.csv", "new")
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_what_another_process_is_writing_is_not_tidied_up(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.csv") as temporary:
        temporary.write_text("whole")
        assert run(WRITER, str(tmp_path / "b.csv")).returncode == 0
        assert temporary.is_file()
    assert (tmp_path / "a.csv").read_text() == "whole"


def _write(place: tuple[Path, int]) -> None:
    path, number = place
    for _ in range(50):
        write_json(path, {"writer": number, "content": [number] * 2000})


def test_eight_that_write_the_same_file_at_once_leave_one_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with ProcessPoolExecutor(8, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_write, [(path, number) for number in range(8)]))
    found = json.loads(path.read_text())
    assert found["content"] == [found["writer"]] * 2000 and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("kind", "name"), [("text", "a.txt"), ("picture", "a.png"), ("array", "a.npy"), ("model", "a.pt")]
)
def test_a_disk_that_takes_no_more_keeps_the_old_file_and_says_so_in_one_line(
    kind: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("old")
    done = run(LIMITED, str(tmp_path), kind)
    assert done.returncode == 1, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert "disk is full" in line
    assert "Traceback" not in done.stderr
    assert (tmp_path / name).read_text() == "old" and names(tmp_path) == [name, "job.log"]


def test_what_a_disk_refuses_is_said_and_what_is_a_mistake_of_ours_is_not_hidden() -> None:
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert "the disk is full at x.csv" in disk_problem(OSError(code, os.strerror(code), "x.csv"))
    assert disk_problem(OSError(errno.EROFS, "Read-only file system", "x.csv")).startswith(
        "x.csv: Read-only file system"
    )
    assert disk_problem(FileNotFoundError(errno.ENOENT, "No such file", "x.csv")) == ""


def test_json_and_csv_are_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, said in (("[1]", "holds a list"), ("{", "not JSON"), ("[" * 100_000, "not JSON"), ("\ud800", "not JSON")):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(DDNetError, match=said):
            read_json(path, "delete it")
    with pytest.raises(DDNetError, match="no such file; delete it"):
        read_json(tmp_path / "none.json", "delete it")
    path = tmp_path / "a.csv"
    cases = {
        "a,b\n1\n": "line 2 has 1 cells for 2",
        "a\n1\n": "columns must be a,b",
        'a,b\n"': "not a read",
        "": "not a",
    }
    for text, said in cases.items():
        path.write_text(text)
        with pytest.raises(DDNetError, match=said):
            read_rows(path, ("a", "b"), "delete it")
    path.write_text("a,b\n1,2\n")
    assert read_rows(path, ("a", "b"), "delete it") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("suffix", ["", ".png", ".写真", ".a b", "." + "x" * 60])
@pytest.mark.parametrize("letter", ["n", "写", "é", "📷"])
def test_what_has_a_name_that_fits_is_written_and_tidied_up(letter: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / (of_bytes(MOST_BYTES - len(suffix.encode()), letter) + suffix)
    with atomic_path(path) as temporary:
        assert temporary.name.endswith(suffix) == (suffix in ("", ".png", ".写真"))
        assert files._LEFTOVER.fullmatch(temporary.name)
        temporary.write_text("whole")
    assert names(tmp_path) == [path.name]
    with pytest.raises(OSError) as caught, atomic_path(path.with_name(f"x{path.name}")) as temporary:
        temporary.write_text("whole")
    assert "the name is too long" in disk_problem(caught.value) and names(tmp_path) == [path.name]


@pytest.mark.parametrize("stem", [*STEERING, *PLAIN, *BRACED])
def test_names_of_any_kind_are_written(stem: str, tmp_path: Path) -> None:
    for name in possible([stem], tmp_path, ".png"):
        write_text(tmp_path / f"{name}.png", "whole")
        assert names(tmp_path) == [f"{name}.png"]
        assert expanded(f"{name}.png") == Path(f"{name}.png")  # also where it begins as a home does


def test_a_home_is_expanded_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert expanded("~/a.png") == Path("/somewhere/a.png") and expanded("a/~") == Path("a/~")
    monkeypatch.delenv("HOME")
    assert expanded("~nobody-of-this-name/a.png") == Path("~nobody-of-this-name/a.png")


def test_what_may_stand_in_a_table() -> None:
    assert all(map(listable, PLAIN + BRACED)) and not any(map(listable, STEERING))
