"""The container recipes name files that exist, and install as the Makefile does."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from ddnet.places import ROOT, WORKFLOW

RECIPES = {name: (ROOT / "containers" / name).read_text() for name in ("Dockerfile", "ddnet.def")}
INSTALL = r"uv pip install --quiet (?:--no-cache )?--python \S+ -c constraints\.txt -e '\.\[\w+\]'"


def copied(name: str) -> set[str]:
    if name == "Dockerfile":
        words = [line.split()[2:-1] for line in RECIPES[name].splitlines() if line.startswith("COPY ")]
        return {word for line in words for word in line if "[" not in word}
    section = RECIPES[name].split("%files")[1].split("%post")[0]
    return {line.split()[0] for line in section.splitlines() if line.strip()}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_copied_exists_and_is_all_that_the_workflow_needs(name: str) -> None:
    assert all((ROOT / path).exists() for path in copied(name))
    assert copied(name) >= {*WORKFLOW, "ddnet", "baselines", "pyproject.toml", "setup.py", "README.md", "LICENSE"}


@pytest.mark.parametrize("name", RECIPES)
def test_it_installs_as_the_makefile_does_on_an_allowed_python(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    uv = re.findall(r"uv==[\d.]+", makefile)
    assert uv and re.findall(r"uv==[\d.]+", RECIPES[name]) == uv
    assert re.search(INSTALL, makefile) and re.search(INSTALL, RECIPES[name])
    assert set(re.findall(r"-e '\.\[(\w+)\]'", RECIPES[name])) <= set(project["optional-dependencies"])
    python = re.search(r"ARG PYTHON=([\d.]+)|python:([\d.]+)", RECIPES[name])
    assert python and (python[1] or python[2]) in SpecifierSet(project["requires-python"])


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line and line[0] not in "#!"] == ["*", "**/__pycache__"]
    assert {line[1:] for line in lines if line.startswith("!")} == copied("Dockerfile") | {"wheels"}


def test_the_image_is_not_run_by_root() -> None:
    lines = RECIPES["Dockerfile"].splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER ddnet"]
