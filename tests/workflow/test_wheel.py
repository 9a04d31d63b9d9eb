"""The built wheel: it carries the workflow, and `ddnet init` lays out a folder that it runs in."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ddnet.runtime.paths import ROOT, WORKFLOW

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked where nothing of the checkout is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    kept = [name for name in names if name and not name.startswith(("tests/", "results/reference/"))]
    assert kept, "the tests of the wheel need a checkout"
    for name in kept:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    said = os.environ | {"DDNET_COMMIT": COMMIT}  # as the container recipes do, which have no repository either
    done = subprocess.run([*build, str(folder), str(source)], env=said, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():  # of our own making
            target = folder / "site" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    return folder / "site"


def run(installed: Path, where: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-m", *command], cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def test_the_wheel_carries_the_workflow(installed: Path) -> None:
    for name in WORKFLOW:
        assert (installed / "ddnet" / "_project" / name).exists(), name
    assert list((installed / "ddnet" / "data" / "splits").glob("*.csv"))
    for name in ("manifest.json", "ddnet_1b_constant.pt", "ddnet_1b_rendered.pt"):
        assert (installed / "ddnet" / "release" / name).is_file(), name
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"ddnet", "baselines"}


def test_the_command_works_anywhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "ddnet.__main__", "list", "variants")
    assert "ddnet_1b" in where
    code = "import ddnet.runtime.paths as p; print(p.PROJECT)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()) == installed / "ddnet" / "_project"


def test_the_workflow_runs_in_a_folder_of_its_own(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "ddnet", "init", "study")
    study = tmp_path / "study"
    smoke = ("--configfile", "workflow/config/smoke.yaml")
    planned = run(installed, study, "snakemake", "all", "-n", "--cores", "2", *smoke)
    assert "train" in planned and "export_mlflow" in planned
    run(installed, study, "snakemake", "results/complexity/smoke/ddnet_1b.json", "--cores", "2", *smoke)
    made = study / "results" / "complexity" / "smoke"
    assert (made / "ddnet_1b.json").is_file()
    assert json.loads((made / "ddnet_1b.manifest.json").read_text())["commit"] == COMMIT
