"""The structure that CONTRIBUTING.md describes, held by tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddnet.runtime.paths import ROOT

PACKAGE = sorted((ROOT / "ddnet").rglob("*.py")) + sorted((ROOT / "baselines").rglob("*.py"))


def test_floors_hold() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["report.tables", "report.figures", "report.inputs", "planning.plan"])
def test_reports_and_plans_never_import_torch(module: str) -> None:
    code = f"import sys, ddnet.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_planning_needs_no_heavy_package() -> None:
    heavy = ("torch", "numpy", "pandas", "cv2", "scipy", "matplotlib")
    code = f"import sys, ddnet.planning.plan; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_workflow_scripts_name_snakemake_and_only_the_export_imports_mlflow() -> None:
    for file in PACKAGE:
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        assert "snakemake" not in imported, file
        assert "mlflow" not in imported or file.name in ("mlflow_export.py", "mlflow_live.py"), file


def test_every_rule_has_a_log_and_a_script_of_its_name() -> None:
    rules = 0
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for name, body in re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |^\S|\Z)", file.read_text(), re.M | re.S):
            rules += 1
            assert "log:" in body, name
            assert f'"../scripts/{name}.py"' in body, name
    scripts = list((ROOT / "workflow" / "scripts").glob("*.py"))
    assert rules == len(scripts) > 10
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 60


def test_no_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split()] if listed.returncode == 0 else []
    for path in files:
        if path.suffix in (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".smk", ".json", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert f"{ROOT}/" not in text and f"{Path.home()}/" not in text, path


def test_what_reaches_a_terminal_goes_through_one_place() -> None:
    """Names of files may hold what steers a terminal; `say` of `ddnet.runtime.log` and its formatter stop it."""
    allowed = {"log.py", "main.py", "completion.py"}  # itself; JSON and code for a shell, without names of files
    for file in PACKAGE:
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id == "print") or file.name in allowed, file
            logs = isinstance(called, ast.Attribute) and called.attr in ("basicConfig", "StreamHandler", "FileHandler")
            assert not logs or file.name in ("log.py", "processes.py"), file
