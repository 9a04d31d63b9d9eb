"""What a preset asks for: runs, paths, and digests of the code that each job depends on.

Standard library and pydantic only: a dry run of the workflow takes a second or two.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ddnet.config import Settings, Variant
from ddnet.errors import DDNetError

ROOT = Path(__file__).resolve().parent.parent

# A change in these changes no number by itself: settings reach the jobs as parameters, and the rest is bookkeeping.
_NOT_DIGESTED = frozenset(f"ddnet.{name}" for name in ("config", "plan", "provenance", "registry", "errors"))

# Table -> the study whose variants are its rows. Tables 1 and 2 compare systems and have fixed rows.
TABLES = {"table1": None, "table2": None, "table3": "modules", "table4": "fusion", "tableS1_depth": "depth"}
# Rows of Tables 1 and 2 that this suite trains.
HEADLINE = {"table1": ("ddnet_1b",), "table2": ("ddnet_1b", "ddnet_2b")}
# The row that a study's differences refer to; it is trained even where its own study is not asked for.
REFERENCE = {"modules": "unet", "fusion": "ddnet_1b", "depth": "unet_rcab"}


@dataclass(frozen=True)
class Run:
    """One training: a variant and a seed."""

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Folder name under `results/runs/<preset>`."""
        return f"{self.variant}-seed{self.seed}"


def slug(source: str) -> str:
    """A depth source as a folder name: `noisy(0.1)` -> `noisy-0.1`."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", source).strip("-")


def gpu_count() -> int:
    """NVIDIA GPUs that the driver shows, without importing torch."""
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def job_threads(cores: int) -> int:
    """Threads of a job that was given `cores` of Snakemake's cores, of which several may share a processor."""
    return max(1, cores // int(os.environ.get("DDNET_CORES_PER_CPU", "1")))


class Plan:
    """Runs and dependencies of one preset.

    Args:
        settings: the preset.
        variants: the whole table of variants.

    Raises:
        DDNetError: a study that no variant belongs to; a fusion or depth source that does not exist;
            a kind of data that is not there yet.
    """

    def __init__(self, settings: Settings, variants: dict[str, Variant]) -> None:
        self.settings = settings
        self.variants = variants
        known = {study for variant in variants.values() for study in variant.study}
        for study in settings.studies:
            if study not in TABLES.values():
                allowed = ", ".join(study for study in TABLES.values() if study)
                raise DDNetError(f"studies: '{study}' has no table; allowed: {allowed}")
            if study not in known:
                raise DDNetError(f"studies: no variant belongs to '{study}'; give one `study: {study}`")
        if settings.data.kind != "embedded":
            raise DDNetError(
                f"preset {settings.preset}: data of kind '{settings.data.kind}' cannot be fetched yet; what runs is "
                "kind 'embedded' (presets embedded and smoke)"
            )
        for name in self.selected:
            self._model_modules(name)
            _require_depth_source(self.depth_source(name) or settings.depth.source, name)

    @property
    def tables(self) -> list[str]:
        """Tables of the chosen studies; Tables 1 and 2 always."""
        return [name for name, study in TABLES.items() if study is None or study in self.settings.studies]

    def table_variants(self, table: str) -> list[str]:
        """Variants that a table measures, in the order of the variants file."""
        study = TABLES[table]
        if study is None:
            return [name for name in self.variants if name in HEADLINE[table]]
        return self.study_variants(study)

    def study_variants(self, study: str) -> list[str]:
        """Variants of a study, its reference row included."""
        return [name for name, v in self.variants.items() if study in v.study or name == REFERENCE[study]]

    @property
    def selected(self) -> list[str]:
        """All variants that the preset's tables need."""
        needed = {name for table in self.tables for name in self.table_variants(table)}
        return [name for name in self.variants if name in needed]

    def runs(self, variants: Iterable[str]) -> list[Run]:
        """Every variant with every seed."""
        return [Run(name, seed) for name in variants for seed in self.settings.seeds]

    def depth_source(self, variant: str) -> str | None:
        """Depth source of a variant; None for one without depth."""
        chosen = self.variants[variant]
        return (chosen.depth_source or self.settings.depth.source) if chosen.uses_depth else None

    def code(self, modules: Sequence[str], variant: str | None = None, script: str | None = None) -> str:
        """Digest of the code behind a job: the given modules, all they import from this package, and its script.

        Comments, docstrings and layout do not count. With a variant, the network's own files are added, so that
        editing one fusion concerns only the variants that use it.
        """
        files = _closure([*modules, *(self._model_modules(variant) if variant else [])])
        if script:
            files = [*files, ROOT / "workflow" / "scripts" / f"{script}.py"]
        return hashlib.sha256("".join(_read(file).digest for file in files).encode()).hexdigest()[:12]

    def _model_modules(self, variant: str) -> list[str]:
        chosen = self.variants[variant]
        modules = ["ddnet.models", f"ddnet.models.{chosen.arch}"]
        if chosen.fusion not in ("none", "input"):
            inside = ROOT / "ddnet" / "models" / "fusion" / f"{chosen.fusion}.py"
            external = [point.module for point in entry_points(group="ddnet.fusion") if point.name == chosen.fusion]
            if not inside.is_file() and not external:
                raise DDNetError(
                    f"variant '{variant}': no fusion '{chosen.fusion}'; allowed: none, input, "
                    f"{', '.join(sorted(p.stem for p in inside.parent.glob('[!_]*.py')))}; "
                    f"or write ddnet/models/fusion/{chosen.fusion}.py"
                )
            modules += [f"ddnet.models.fusion.{chosen.fusion}"] if inside.is_file() else external
        return modules

    @property
    def datasets(self) -> tuple[str, str]:
        """Names of the test sets: the main one, and the one of Table 1."""
        return ("embedded", "embedded_ood") if self.settings.data.kind == "embedded" else ("dpdd", "realdof")

    def part(self, *names: str) -> dict[str, Any]:
        """The named sections of the settings as plain values: what a job is handed, and reruns for."""
        return self.settings.model_dump(mode="json", include=set(names))


def _require_depth_source(spec: str, variant: str) -> None:
    inside = {path.stem for path in (ROOT / "ddnet" / "depth").glob("[!_]*.py")}
    known = sorted(inside | {point.name for point in entry_points(group="ddnet.depth")})
    name = spec.split("(")[0]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise DDNetError(f"variant '{variant}': no depth source '{spec}'{hint} (allowed: {', '.join(known)})")


def _file_of(module: str) -> Path | None:
    """Source file of a module of this package, or of an external fusion; None for anything else."""
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    if module.split(".")[0] in ("ddnet", "baselines"):
        return None
    spec = find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def _closure(modules: Sequence[str]) -> list[Path]:
    """Files of the modules and of all that they import at module level from `ddnet` and `baselines`."""
    seen: dict[str, Path] = {}
    queue = list(modules)
    while queue:
        module = queue.pop()
        if module in seen or module in _NOT_DIGESTED:
            continue
        file = _file_of(module)
        if file is not None:
            seen[module] = file
            queue += [name for name in _read(file).imports if name.split(".")[0] in ("ddnet", "baselines")]
    return sorted(set(seen.values()))


@dataclass(frozen=True)
class _Source:
    """What a digest needs of one file."""

    imports: tuple[str, ...]
    digest: str


def _read(file: Path) -> _Source:
    return _read_version(file, file.stat().st_mtime_ns)


@cache
def _read_version(file: Path, version: int) -> _Source:
    """Module-level imports, and the digest of the syntax tree without docstrings and positions."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise DDNetError(f"{file}, line {error.lineno}: {error.msg}") from None
    imports: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import name` may name a module: whatever is no file drops out later.
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = inner.body[0] if inner.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                inner.body = inner.body[1:]
    return _Source(tuple(imports), hashlib.sha256(ast.dump(tree).encode()).hexdigest())
