"""One's own pictures: what they hold decides whether they are read anew, in a folder that is moved as well."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from projects import copy_project, planned, snakemake

from ddnet.cli.main import CONFIG
from ddnet.config import load_settings
from ddnet.io.images import write_image

TARGET = "data/own/patches/patches.csv"


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).random((96, 128, 3), np.float32))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with pairs in it, one behind a link, all from the future; their patches are cut."""
    folder = copy_project(tmp_path_factory.mktemp("own") / "project")
    settings = load_settings(CONFIG / "smoke.yaml").model_dump(mode="json")
    settings |= {"preset": "own", "data": {"kind": "folder", "path": "pairs", "name": "mine"}}
    settings["depth"] |= {"source": "constant", "fit": None}
    settings["systems"] = {}
    (folder / "own.yaml").write_text(yaml.safe_dump(settings))
    for number in range(12):
        for side in ("source", "target"):
            write_picture(folder / "pairs" / side / f"{number}.png", 2 * number + (side == "source"))
    elsewhere = folder / "elsewhere.png"
    (folder / "pairs/target/3.png").rename(elsewhere)
    (folder / "pairs/target/3.png").symlink_to("../../elsewhere.png")
    for path in [elsewhere, *(folder / "pairs").rglob("*.png")]:
        os.utime(path, (time.time() + 9 * 3600,) * 2)
    snakemake(folder, TARGET, "--cores", "2", "--configfile", "own.yaml")
    return folder


def replaced(path: Path) -> None:
    """Another picture of an older date takes its place, and of the same size in bytes where it can."""
    other = path.with_name("other.png")
    write_picture(other, 999)
    os.utime(other, (0, 0))
    other.replace(path)


def renamed(path: Path) -> None:
    for side in ("source", "target"):
        (path.parents[1] / side / path.name).rename(path.parents[1] / side / f"new-{path.name}")


def behind_a_link(path: Path) -> None:
    replaced(path.parents[2] / "elsewhere.png")


def untouched(path: Path) -> None:
    """Nothing but the move."""


@pytest.mark.parametrize("change", [untouched, replaced, renamed, behind_a_link])
def test_pictures_are_read_anew_where_they_changed_and_only_there(
    project: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(project, moved, symlinks=True, copy_function=shutil.copyfile)
    change(moved / "pairs" / "source" / "5.png")
    wanted = set() if change is untouched else {"index_photographs", "extract_patches"}
    assert {rule for rule, _ in planned(moved, "own.yaml", TARGET)} == wanted
