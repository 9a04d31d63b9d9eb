"""What all settings share: strict models, errors in one line with the nearest allowed key, YAML files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ddnet.errors import DDNetError

MOST_VALUES = 100_000

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for position, value in enumerate(values) if value in values[:position]]:
        raise ValueError(f"{twice[0]} stands there twice; write it once")
    return values


Distinct = AfterValidator(_distinct)  # of a list that names things
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _field_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed beside the last element of an error's location."""
    for part in location[:-1]:
        if not isinstance(part, str):
            continue
        field = model.model_fields.get(part)
        candidates = [] if field is None else _models_in(field.annotation)
        if field is None:  # the tag of a discriminated union, e.g. ("data", "embedded", "sise")
            continue
        if len(candidates) > 1:
            tag = location[location.index(part) + 1]
            candidates = [m for m in candidates if tag in getattr(m.model_fields["kind"].annotation, "__args__", ())]
        if candidates:
            model = candidates[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def explain(error: ValidationError, model: type[BaseModel], where: str) -> DDNetError:
    """All problems of a validation in one line, unknown keys with the nearest allowed one."""
    problems = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in ("embedded", "dpdd", "folder"))
        if item["type"] == "extra_forbidden":
            allowed = _field_names(model, item["loc"])
            near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
            problems.append(f"unknown key '{path[:80]}'; {hint}")
        elif not path:  # of the values together
            problems.append(item["msg"].removeprefix("Value error, "))
        else:
            hint = _nearest_choice(item["input"], item.get("ctx", {}))
            said = item["msg"].removeprefix("Value error, ")[:300]
            problems.append(f"'{path[:80]}' is {brief(item['input'])}: {said}{hint}")
    more = f" | and {len(problems) - 8} more" if len(problems) > 8 else ""
    return DDNetError(f"{where}: " + " | ".join(problems[:8]) + more)


class _Loader(yaml.SafeLoader):
    """PyYAML's, but a key that is written twice is refused, and 1e-3 is a number as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:  # what `<<` brings along may be overridden, and is not among these yet
            name = key.value if key.tag == "tag:yaml.org,2002:merge" else self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{name}' is there twice, again in line {key.start_mark.line + 1}"
                )
            seen |= {name} if isinstance(name, Hashable) else set()
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _nearest_choice(value: Any, context: dict[str, Any]) -> str:
    """The nearest of the words that a setting may have, for the end of a message."""
    wrong = context.get("tag", value)
    choices = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags") or ""))
    near = difflib.get_close_matches(wrong, choices, n=1) if isinstance(wrong, str) else []
    return f"; did you mean '{near[0]}'?" if near else ""


def parse_yaml(text: str, where: Path | str) -> Any:
    """The plain values that a text stands for.

    Raises:
        DDNetError: it is not YAML, has a key twice, or stands for far more values than settings have.
    """
    try:
        values = _Loader(text).get_single_data()
        _require_modest(values, where)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # no date, unhashable keys, ...
        raise DDNetError(f"{where}: not valid YAML: {' '.join(str(error).split())[:300]}; correct it") from None
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a file, as plain values.

    Raises:
        DDNetError: no such file, not YAML, a key that is there twice, something else than keys and values, or far more
            of it than settings have.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise DDNetError(f"{path}: no such file; give the path of a YAML file") from None
    except ValueError as error:  # not UTF-8
        raise DDNetError(f"{path}: not valid YAML: {' '.join(str(error).split())[:300]}; correct it") from None
    values = parse_yaml(text, path)
    if not isinstance(values, dict):
        raise DDNetError(f"{path}: expected 'key: value' lines at the top level")
    return values


def given(files: Sequence[Path], entries: Sequence[str]) -> dict[str, Any]:
    """What `--configfile` and `--config` say together, the later winning; values of `--config` are read as in a file.

    Snakemake reads them too, but lets a key stand twice and takes every value inside `--config key='{...}'` for a text.

    Args:
        entries: such as `seeds=3` or `depth={fit: null}`.

    Raises:
        DDNetError: see `read_yaml`.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, read_yaml(file))
    for entry in entries:
        key, _, text = entry.partition("=")
        values = merge(values, {key: parse_yaml(text, f"--config {key}={text[:80]}")})
    return values


def _require_modest(values: Any, path: Path | str) -> None:
    """Refuse a few lines of references to references that stand for more values than memory holds."""
    left, waiting = MOST_VALUES, [values]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise DDNetError(f"{path}: more than {MOST_VALUES} values; settings have a few hundred")
        if isinstance(value, dict | list | tuple | set):
            waiting += [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the nearest one, and all that there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{hint} (allowed: {', '.join(known)})"


def brief(value: Any) -> str:
    """A value as it is written in Python, in no more characters than a message bears."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries merged, `changes` winning; one of another `kind` replaces the old one."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = (
            isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_entries(path: Path, model: type[M], what: str) -> dict[str, M]:
    """Read a file of `name: {key: value}` entries, each a `model`; one with a name is also called that by default.

    Args:
        what: what messages call an entry.

    Raises:
        DDNetError: bad key or value.
    """
    entries = {}
    for name, values in read_yaml(path).items():
        if not isinstance(name, str) or len(name) > 100 or not name.isprintable():
            raise DDNetError(f"{path}: {what} {brief(name)}: a name must be a text of up to 100 characters")
        if not isinstance(values, dict):
            keys = ", ".join(key for key in model.model_fields if key != "name")
            raise DDNetError(f"{path}: {what} '{name}' needs {{key: value}} after the colon; keys are {keys}")
        named = {"label": name, **values, "name": name} if "name" in model.model_fields else values
        try:
            entries[name] = model.model_validate(named)
        except ValidationError as error:
            raise explain(error, model, f"{path}, {what} '{name}'") from None
    return entries
