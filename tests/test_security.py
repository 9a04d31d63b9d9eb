"""No file that this suite reads can execute code, and nothing comes over the network unprotected."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddnet.cli.main import CONFIG
from ddnet.config import load_sources
from ddnet.fetch.links import require_safe
from ddnet.fetch.policy import SourceFailed
from ddnet.runtime.paths import ROOT

SOURCES = [file for part in ("ddnet", "baselines", "workflow/scripts") for file in sorted((ROOT / part).rglob("*.py"))]
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "dill.load",
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "tempfile.mktemp", "pd.read_pickle", "pandas.read_pickle", "shutil.unpack_archive",
}  # fmt: skip
METHODS = {"extractall", "extract"}  # of archives: entries are read one by one and written under names of our own


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def option(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def unsafe(file: Path) -> list[str]:
    """Calls that would execute, unpack or trust what they are given."""
    found = []
    for name, call in calls(file):
        wrong = name in FORBIDDEN or name.rpartition(".")[2] in METHODS
        wrong |= name == "torch.load" and option(call, "weights_only") != "True"
        wrong |= name in ("np.load", "numpy.load") and option(call, "allow_pickle") not in (None, "False")
        wrong |= name.startswith("subprocess.") and option(call, "shell") not in (None, "False")
        wrong |= option(call, "verify") == "False" or option(call, "trust_remote_code") == "True"
        if wrong:
            found.append(f"{file.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}")
    return found


def test_nothing_that_is_read_can_execute_code() -> None:
    assert len(SOURCES) > 150
    assert [line for file in SOURCES for line in unsafe(file)] == []


@pytest.mark.parametrize(
    "line",
    ["eval(x)", "pickle.loads(x)", "yaml.load(x)", "torch.load(x)", "np.load(x, allow_pickle=True)", "os.system(x)",
     "archive.extractall(x)", "subprocess.run(x, shell=True)", "session.get(x, verify=False)"],
)  # fmt: skip
def test_the_check_sees_what_it_looks_for(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_security.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(line)
    assert unsafe(tmp_path / "a.py") == [f"a.py:1: {line}"]


def test_pickles_are_read_by_readers_of_arrays_only() -> None:
    """The published KPAC file and a source archive hold pickles; their readers allow three names of NumPy's."""
    readers = {}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and any("Unpickler" in ast.unparse(base) for base in node.bases):
                readers[file.relative_to(ROOT).as_posix()] = node
    assert set(readers) == {"ddnet/models/pretrained.py", "baselines/kpac/baseline.py"}
    for node in readers.values():
        allowed = next(part for part in node.body if isinstance(part, ast.Assign))
        names = ast.literal_eval(allowed.value)
        assert set(names) == {"numpy.dtype", "numpy.ndarray", "numpy._core.multiarray._reconstruct"}


def test_every_download_is_by_tls_and_another_is_refused() -> None:
    for name, item in load_sources(CONFIG / "sources.yaml").items():
        assert all(source.url.startswith("https://") for source in item.sources), name
    for url in ("http://example.org/RealDOF.zip", "ftp://example.org/a.zip", "file:///etc/passwd", "example.org/a.zip"):
        with pytest.raises(SourceFailed, match="only https is allowed"):
            require_safe(url)
    insecure = re.compile(r"""["']http://(?!127\.0\.0\.1|localhost|\[::1\]|["'])""")
    assert [file for file in SOURCES if insecure.search(file.read_text())] == []


def test_the_mlflow_server_of_every_documented_command_is_for_this_machine_alone_and_tells_nobody() -> None:
    documents = [ROOT / name for name in ("Makefile", "README.md", "CONTRIBUTING.md", "results/README.md")]
    documents += (ROOT / "docs").glob("*.md")
    commands = [
        line for file in documents for line in file.read_text().splitlines() if re.search("mlflow (ui|server)", line)
    ]
    for wanted in ("--host 127.0.0.1", "MLFLOW_DISABLE_TELEMETRY=true"):
        assert commands and all(wanted in line for line in commands)


def test_every_dependency_is_pinned_in_one_file() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(pins) > 150 and all(re.match(r"[A-Za-z0-9_.-]+(\[\w+\])?==[^\s*]+( ;.*)?$", pin) for pin in pins)
    text = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'^    "([A-Za-z0-9_-]+)[>=<\[]', text, re.M)
    pinned = {re.split(r"[=\[ ]", pin)[0].lower().replace("_", "-") for pin in pins}
    assert not {name.lower().replace("_", "-") for name in named} - pinned - {"ddnet-bench", "setuptools"}
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text()
