"""What every workflow job leaves beside its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddnet.errors import DDNetError
from ddnet.io.contents import HASHED_BYTES, content_digest
from ddnet.io.files import sha256
from ddnet.runtime import provenance
from ddnet.runtime.job import workflow_job
from ddnet.runtime.provenance import peak_memory_mib


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job as a script sees it, in a working directory of its own."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(here)
    Path("in.csv").write_text("a\n1\n")
    (elsewhere / "photo.png").write_bytes(b"pixels")
    return SimpleNamespace(
        rule="evaluate", log="logs/job.log", threads=1, input=["in.csv", str(elsewhere / "photo.png")],
        output=["out/table.csv", "out/table.md"], wildcards={"preset": "smoke", "seed": "3"},
        params={"width": 4, "code": "0123456789ab"},
    )  # fmt: skip


def run(job: Any) -> dict[str, Any]:
    with workflow_job(job):
        for path in job.output:
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_text("done\n")
    return dict(json.loads(Path("out/table.manifest.json").read_text()))


def test_a_manifest_says_what_made_the_output_from_what_and_on_what(job: Any) -> None:
    manifest = run(job)
    assert (manifest["rule"], manifest["preset"], manifest["seed"]) == ("evaluate", "smoke", 3)
    assert manifest["code_digest"] == "0123456789ab"
    assert manifest["inputs"] == ["photo.png", "in.csv"] or manifest["inputs"] == ["in.csv", "photo.png"]
    assert manifest["outputs"] == {path: sha256(path) for path in job.output}
    for key in (
        "commit",
        "dirty",
        "config_hash",
        "data_digest",
        "device",
        "versions",
        "wall_s",
        "startup_s",
        "processors",
    ):
        assert manifest[key] not in (None, ""), key
    assert str(Path.cwd().parent) not in json.dumps(manifest)  # no path of this machine


def test_its_digests_follow_settings_and_inputs_not_times(job: Any) -> None:
    first, again = run(job), run(job)
    assert [first[key] for key in ("config_hash", "data_digest")] == [again["config_hash"], again["data_digest"]]
    job.params["width"] = 8
    assert run(job)["config_hash"] != first["config_hash"]
    job.params |= {"width": 4, "code": "ba9876543210"}
    assert run(job)["config_hash"] == first["config_hash"]
    Path("in.csv").write_text("a\n2\n")
    assert run(job)["data_digest"] != first["data_digest"]


def test_a_job_that_fails_leaves_no_manifest_not_even_an_older_one(job: Any) -> None:
    run(job)
    with pytest.raises(SystemExit), workflow_job(job):
        raise DDNetError("in.csv: broken; write it anew")
    assert not Path("out/table.manifest.json").exists()
    assert "in.csv: broken" in Path("logs/job.log").read_text()


def test_a_manifest_of_the_job_s_own_is_completed_and_stays_the_only_one(job: Any) -> None:
    job.output = ["out/model.pt", "out/manifest.json"]
    with workflow_job(job):
        Path("out").mkdir()
        Path("out/model.pt").write_bytes(b"weights")
        Path("out/manifest.json").write_text('{"steps": 8, "config_hash": "of the training", "data_digest": "its own"}')
    assert {path.name for path in Path("out").iterdir()} == {"model.pt", "manifest.json"}
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert (manifest["steps"], manifest["config_hash"]) == (8, "of the training")
    assert manifest["data_digest"] == "its own" and len(manifest["inputs_digest"]) == 12
    assert manifest["outputs"] == {"out/model.pt": sha256("out/model.pt")}
    assert (manifest["rule"], manifest["seed"], manifest["code_digest"]) == ("evaluate", 3, "0123456789ab")


def test_the_commit_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda: ("first", False))
    watch = provenance.Stopwatch()
    monkeypatch.setattr(provenance, "git_state", lambda: ("second", True))
    manifest = watch.manifest()
    assert (manifest["commit"], manifest["dirty"]) == ("first", False)


def test_large_files_count_by_their_size_and_samples(tmp_path: Path) -> None:
    large = tmp_path / "images.npy"
    with large.open("wb") as stream:
        stream.truncate(HASHED_BYTES + 1)  # sparse
    before = content_digest(str(large))
    with large.open("r+b") as stream:
        stream.seek(HASHED_BYTES)
        stream.write(b"x")
    assert content_digest(str(large)) != before
    assert content_digest(str(tmp_path)) == "folder"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux only")
def test_peak_memory_is_this_process_s_and_not_its_parent_s() -> None:
    held = bytearray(os.urandom(1)) * (200 * 1024**2)  # what a child started now would inherit in ru_maxrss
    code = "from ddnet.runtime.provenance import peak_memory_mib; print(peak_memory_mib())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_memory_mib() > len(held) / 1024**2
    assert 5 < float(done.stdout) < 100


def test_changed_code_is_dirty_and_a_changed_record_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ddnet" / "provenance.py"
    record = tmp_path / "results" / "reference" / "step.csv"
    for path in (package, record):
        path.parent.mkdir(parents=True)
        path.write_text("1\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "first")):
        subprocess.run(("git", "-C", str(tmp_path), *command), check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commit, dirty = provenance.git_state()
    assert len(commit) == 40 and not dirty
    record.write_text("2\n")
    assert provenance.git_state() == (commit, False)
    package.write_text("2\n")
    assert provenance.git_state() == (commit, True)
