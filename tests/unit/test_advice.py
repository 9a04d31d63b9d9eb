"""What messages advise: never to delete a file, which could be somebody's only copy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from ddnet.runtime.paths import ROOT

# Advice begins a clause, or follows "or", "and", "then", "to": "; delete it", "restore it, or remove the pair".
VERBS = r"delete|remove|erase|discard|wipe|purge|unlink|trash|throw (?:it |them )?away|get rid of|rm|drop the|empty the"
ADVICE = re.compile(
    rf"(?:^|[;:,.(`]\s*|\b(?:or|and|then|to|please|must|should|can|first)\s+)(?:{VERBS})\s+(?:-\w+\s+)?[\w'‹/{{]|"
    r"\bkeep (?:only )?one of|\b(?:be|is|are) (?:safely )?(?:deleted|removed)\b",
    re.IGNORECASE,
)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and words of every string but docstrings; what is put into an f-string is ‹›."""
    tree = ast.parse(source)
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "‹›" for part in node.values),
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def test_no_message_advises_to_delete_a_file() -> None:
    files = [file for part in ("ddnet", "baselines", "workflow") for file in sorted((ROOT / part).rglob("*.py"))]
    assert len(files) > 150
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file in files
        for line, text in texts(file.read_text(encoding="utf-8"))
        if ADVICE.search(text)
    ]
    rules = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
    for file in rules:
        for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not text.lstrip().startswith("#") and ADVICE.search(text):
                found.append(f"{file.relative_to(ROOT)}:{line}: {text}")
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'raise DDNetError(f"{path}: damaged; delete it and fetch again")',
        'FIX = "delete the folder and extract the patches again"',
        'fix = f"delete {folder} and run again"',
        'x = "put it back, or remove the pair"',
        'x = f"{a}: changed; restore it, or delete its entry"',
        'x = f"{a} and {b} both stand for it; keep one of them"',
        'x = "run `rm -r results` first"',
        'x = "the database can be deleted at any time"',
        'x = f"not read; please erase {a}"',
    ],
)
def test_the_check_sees_advice(code: str) -> None:
    assert any(ADVICE.search(text) for _, text in texts(code))


@pytest.mark.parametrize(
    "code",
    [
        '"""Delete temporary files."""',
        'x = name.removeprefix("a")',
        'log.info("removing %s: not among the planned scenes", a)',
        'x = "it removes optical defocus."',
        'x = f"{a}: damaged; move it aside and fetch again"',
    ],
)
def test_the_check_lets_other_words_pass(code: str) -> None:
    assert not any(ADVICE.search(text) for _, text in texts(code))
