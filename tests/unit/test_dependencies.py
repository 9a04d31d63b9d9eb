"""What the package imports, an installation of it without extras brings along."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ddnet.runtime.paths import ROOT

EXTRAS = {"transformers": "depth-anything"}  # imported where it is asked for
OWN = {"ddnet", "baselines", "snakemake"}


def installed_with(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of a distribution and of all that pip installs for it on this machine."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for line in requires(one[0]) or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *one[1])):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return {found_name for found_name, _ in found}


def imported(folder: Path) -> set[str]:
    """Top-level modules that the Python files below a folder import from elsewhere."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - OWN - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", ["ddnet", "baselines", "workflow"])
def test_what_is_imported_is_installed(folder: str) -> None:
    brought = installed_with("ddnet-bench")
    distributions = packages_distributions()
    for module in sorted(imported(ROOT / folder)):
        extra = frozenset({EXTRAS[module]} if module in EXTRAS else ())
        owners = {canonicalize_name(owner) for owner in distributions.get(module, ())} or {module}
        assert owners & (brought | (installed_with("ddnet-bench", extra) if extra else set())), module


def test_what_snakemake_s_report_asks_for_is_installed() -> None:
    assert "pygments" in installed_with("ddnet-bench")
