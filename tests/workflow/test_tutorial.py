"""The tutorial runs from top to bottom in a fresh copy of the project, as a reader would run it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from projects import copy_project

from ddnet.runtime.paths import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_project(tmp_path / "project")
    (project / "docs").mkdir()
    shutil.copy(TUTORIAL, project / "docs")
    monkeypatch.setenv("PYTHONPATH", str(project))
    notebook = nbformat.read(TUTORIAL, as_version=4)
    resources = {"metadata": {"path": str(project / "docs")}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute(env=dict(os.environ))
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert any("Table 4. Fusion methods" in output.get("data", {}).get("text/markdown", "") for output in shown)
    assert (project / "results/tables/smoke/table4.csv").is_file()


def test_the_tutorial_names_only_what_exists() -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, str(TUTORIAL), "exec")
            for line in cell.source.splitlines():
                if line.startswith("from ddnet"):
                    exec(line, {})
