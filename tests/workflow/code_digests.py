"""What the digests of a copy of the project cover; run in it.

`python code_digests.py edits PATTERN...` says which jobs of the default preset an edit would make anew: `{pattern:
["rule subject", ...]}` as JSON. The Snakefile is loaded once; after an edit of all files of a pattern, which is then
taken back, every digest that the rules asked for is made again.

`python code_digests.py files CONFIG` gives the files behind every job of a preset: `{"rule subject": [path, ...]}`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from ddnet.planning.plan import Plan, slug

Call = tuple[str, tuple[str, ...], str | None]


def wildcards_of(rule: Any, plan: Plan) -> Iterator[tuple[str, SimpleNamespace]]:
    """Every subject that a rule has in the preset, by the one wildcard that says it."""
    subjects = {
        "variant": plan.selected, "system": plan.systems_with("train"), "baseline": plan.measured_baselines,
        "source": [slug(source) for source in plan.depth_sources], "map": [*plan.map_systems, "true", "constant"],
    }  # fmt: skip
    for name in rule.wildcard_names & subjects.keys():
        for subject in subjects[name]:
            if name != "baseline" or rule.name != "count_system" or subject in plan.counted_baselines:
                yield subject, SimpleNamespace(**{name: subject})


def calls(project: Path, configs: list[Path]) -> tuple[Plan, dict[str, Call]]:
    """The plan, and for each rule and subject the arguments of its digest."""
    asked: list[tuple[Plan, Call]] = []
    found: dict[str, Call] = {}
    real = Plan.code

    def code(self: Plan, script: str, modules: Any = (), variant: str | None = None) -> str:
        asked.append((self, (script, tuple(modules), variant)))
        return real(self, script, modules, variant)

    Plan.code = code  # type: ignore[method-assign]
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(
            ResourceSettings(cores=2), ConfigSettings(configfiles=configs), snakefile=project / "Snakefile"
        )
        rules = list(loaded._workflow.rules)
    Plan.code = real  # type: ignore[method-assign]
    plan = asked[0][0]
    found |= {f"{call[0]} ": call for _, call in asked}
    plan.code = lambda *arguments, **named: (*arguments, named)  # type: ignore[method-assign, assignment]
    for rule in rules:
        given = rule.params.get("code") if rule.params else None
        for subject, wildcards in wildcards_of(rule, plan) if callable(given) else ():
            script, *modules, named = given(wildcards)
            variant = named.get("variant") or (modules[1] if len(modules) > 1 else None)
            found[f"{rule.name} {subject}"] = (script, tuple(modules[0]) if modules else (), variant)
    del plan.code
    return plan, found


def files(project: Path, config: Path) -> None:
    """Of every job, relative to the project."""
    plan, asked = calls(project, [config])
    behind = {name.strip(): plan.code_files(*call) for name, call in asked.items()}
    found = {name: [str(file.relative_to(project)) for file in of_it] for name, of_it in behind.items()}
    sys.stdout.write(json.dumps(found))


def edits(project: Path, patterns: list[str]) -> None:
    """For every pattern: edit, compare, take back."""
    plan, asked = calls(project, [])
    before = {name: plan.code(*call) for name, call in asked.items()}
    changed = {}
    for pattern in patterns:
        kept = {path: path.read_text(encoding="utf-8") for path in project.glob(pattern)}
        assert kept, f"no file {pattern}"
        for path, text in kept.items():
            path.write_text(f"{text}\nEDITED = 1\n", encoding="utf-8")
        changed[pattern] = [name.strip() for name, call in asked.items() if plan.code(*call) != before[name]]
        for path, text in kept.items():
            path.write_text(text, encoding="utf-8")
    sys.stdout.write(json.dumps({"every job": list(map(str.strip, asked)), **changed}))


if __name__ == "__main__":
    if sys.argv[1] == "files":
        files(Path.cwd(), Path(sys.argv[2]))
    else:
        edits(Path.cwd(), sys.argv[2:])
