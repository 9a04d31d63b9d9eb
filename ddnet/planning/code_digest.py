"""Digests of the code that a job depends on, from syntax trees: nothing is imported.

Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from ddnet.errors import DDNetError

PACKAGES = ("ddnet", "baselines")

# No change in these folders and modules changes a number: settings reach the jobs as parameters, a file that is fetched
# is known by its SHA-256, and the rest is bookkeeping, messages, and what is shown while a job is at work.
NOT_DIGESTED = (
    "ddnet.cli", "ddnet.config", "ddnet.depth.preview", "ddnet.errors", "ddnet.fetch", "ddnet.io.contents",
    "ddnet.io.limits",
    "ddnet.planning", "ddnet.registry", "ddnet.report.mlflow_live", "ddnet.runtime",
)  # fmt: skip


def digest(files: Iterable[Path]) -> str:
    """One digest of several source files: 12 hexadecimal digits."""
    return hashlib.sha256("".join(_read(file).digest for file in files).encode()).hexdigest()[:12]


def closure(root: Path, modules: Sequence[str], script: Path | None = None) -> list[Path]:
    """Files of the modules and of all that they import from the packages under `root`, inside functions too.

    In the order of the modules' names: where the packages and the script lie must not matter to a digest of all.

    The packages that a module lies in are run when it is imported, and are followed like it. So is a module from
    elsewhere, such as an outside fusion's, within its own package. With a script, that file and all that it imports
    are among them. What is imported by a name (`import_module`) is not seen: it is for the caller to name.

    Raises:
        DDNetError: one of `modules` is not there: what it does would be in no digest.
    """
    seen: dict[str, Path] = {"": script} if script else {}
    queue = [*modules, *(_read(script).imports if script else ())]
    packages = {*PACKAGES, *(module.split(".")[0] for module in modules)}
    while queue:
        module = queue.pop()
        if module in seen or module.split(".")[0] not in packages or _is_left_out(module):
            continue
        file = _file_of(root, module)
        if file is None and module in modules:
            raise DDNetError(f"no module {module}, whose code a job depends on; correct its name, or install it again")
        if file is not None:
            seen[module] = file
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            queue += [resolve_name(name, package) for name in _read(file).imports if package or name[0] != "."]
            queue += [parent for parent in [module.rpartition(".")[0]] if parent and parent != "ddnet"]
    return list(dict.fromkeys(seen[module] for module in sorted(seen)))


def _is_left_out(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NOT_DIGESTED)


def declared_needs(file: Path, name: str = "needs") -> frozenset[str]:
    """What a class in a file needs, `needs = frozenset({...})`, or another such set; empty where there is none."""
    if not file.is_file():
        return frozenset()
    for node in ast.walk(_tree(file)):
        named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        if named:
            return frozenset(str(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return frozenset()


def declared_keys(file: Path, name: str) -> list[str]:
    """Keys of the dictionary that a class in a file calls `name`; none where it has no such dictionary."""
    for node in ast.walk(_tree(file)):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def keywords_of(file: Path, function: str) -> list[str] | None:
    """Keyword-only arguments of a function or method in a file; None where there is no such function."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return [argument.arg for argument in node.args.kwonlyargs]
    return None


def declared_value(file: Path, name: str) -> Any:
    """The plain value that a class or module in a file gives a name, such as a text or a dictionary; else None."""
    for node in ast.walk(_tree(file)) if file.is_file() else ():
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            with suppress(ValueError):  # no plain value
                return ast.literal_eval(node.value)
    return None


def constructor_of(file: Path, name: str) -> tuple[list[str], int] | None:
    """What a class in a file is constructed with: names without `self`, and how many of them have no default.

    None where the class is not in the file, says nothing of it, or takes anything.
    """
    readable = file.suffix == ".py" and file.is_file()
    for made in _tree(file).body if readable else ():
        if not isinstance(made, ast.ClassDef) or made.name != name:
            continue
        for node in made.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                given = node.args
                if given.kwarg or given.vararg:
                    return None
                names = [argument.arg for argument in (*given.posonlyargs, *given.args)][1:]
                required = len(names) - len(given.defaults)
                return names + [argument.arg for argument in given.kwonlyargs], required
    return None


def has_base(file: Path, base: str) -> bool:
    """Whether a class in a file derives from one called `base`."""
    classes = [node for node in ast.walk(_tree(file)) if isinstance(node, ast.ClassDef)]
    return any(isinstance(parent, ast.Name) and parent.id == base for node in classes for parent in node.bases)


def _file_of(root: Path, module: str) -> Path | None:
    """File of a module of these packages, or of an outside fusion's; None where there is none."""
    base = root.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None if module.split(".")[0] in PACKAGES else outside_file(module)


def outside_file(module: str) -> Path | None:
    """File of an installed module of another package; None where there is none.

    Unlike `find_spec` alone, it does not import the package to find a module in it.
    """
    first, *rest = module.split(".")
    name, spec = first, find_spec(first)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


@dataclass(frozen=True)
class _Source:
    """What a digest needs of one file; imports relative to its package begin with as many dots."""

    imports: tuple[str, ...]
    digest: str


def _read(file: Path) -> _Source:
    return _read_version(file, file.stat().st_mtime_ns)


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DDNetError(f"{file}, line {error.lineno}: {error.msg}") from None


def _tree(file: Path) -> ast.Module:
    """A file's syntax tree, to be looked at only; parsed anew where the file has changed."""
    return _tree_version(file, file.stat().st_mtime_ns)


@cache
def _tree_version(file: Path, version: int) -> ast.Module:
    return _parsed(file)


@cache
def _read_version(file: Path, version: int) -> _Source:
    """Imports, and the digest of the syntax tree without docstrings and positions."""
    if file.suffix != ".py":  # compiled: an outside fusion may be
        return _Source((), hashlib.sha256(file.read_bytes()).hexdigest())
    tree = _parsed(file)
    imports: list[str] = []
    for node in _run(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import name` may name a module: whatever is no file drops out later.
            source = "." * node.level + (node.module or "")
            joint = "." if node.module else ""
            imports += [source, *(f"{source}{joint}{alias.name}" for alias in node.names)]
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = inner.body[0] if inner.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                inner.body = inner.body[1:]
    return _Source(tuple(imports), hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a syntax tree but those that only a type checker looks at."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _run(node)
