"""The container recipes take all that the wheel needs, and install what constraints.txt pins."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from ddnet.runtime.paths import ROOT, WORKFLOW

RECIPES = {name: (ROOT / "containers" / name).read_text() for name in ("Dockerfile", "ddnet.def")}


def taken(name: str) -> set[str]:
    """What an image is made of."""
    if name == "Dockerfile":  # all that .dockerignore lets through
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        assert [line for line in lines if line and line[0] not in "#!"] == ["*", "**/__pycache__"]
        return {line[1:] for line in lines if line.startswith("!")} - {"wheels"}
    section = RECIPES[name].split("%files")[1].split("%post")[0]
    return {line.split()[0] for line in section.splitlines() if line.strip()}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_taken_exists_and_is_all_that_the_wheel_needs(name: str) -> None:
    assert all((ROOT / path).exists() for path in taken(name))
    assert taken(name) == {*WORKFLOW, "ddnet", "baselines", "pyproject.toml", "setup.py", "README.md", "LICENSE"}


@pytest.mark.parametrize("name", RECIPES)
def test_it_installs_the_pinned_versions_with_the_makefiles_installer_on_an_allowed_python(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    uv = re.findall(r"uv==[\d.]+", (ROOT / "Makefile").read_text())
    assert uv and re.findall(r"uv==[\d.]+", RECIPES[name]) == uv
    extras = re.findall(r"-c constraints\.txt '\.\[(\w+)\]'", RECIPES[name])
    assert len(extras) == 1 and extras[0] in project["optional-dependencies"]
    python = re.search(r"ARG PYTHON=([\d.]+)|python:([\d.]+)", RECIPES[name])
    assert python and (python[1] or python[2]) in SpecifierSet(project["requires-python"])


def test_the_image_is_not_run_by_root() -> None:
    lines = RECIPES["Dockerfile"].splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER ddnet"]
