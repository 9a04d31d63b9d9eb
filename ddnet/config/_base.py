"""What all settings share: strict models, errors in one line with the nearest allowed key, YAML files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ddnet.errors import DDNetError

MOST_VALUES = 100_000

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
            problems.append(f"'{path[:80]}' is {brief(item['input'])}: {item['msg'][:300]}")
    more = f" | and {len(problems) - 8} more" if len(problems) > 8 else ""
    return DDNetError(f"{where}: " + " | ".join(problems[:8]) + more)


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a file, as plain values.

    Raises:
        DDNetError: no such file, not YAML, something else than keys and values, or far more of it than settings have.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        _require_modest(values, path)
    except (FileNotFoundError, IsADirectoryError):
        raise DDNetError(f"{path}: no such file; give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # not UTF-8, no date, unhashable keys, ...
        raise DDNetError(f"{path}: not valid YAML: {' '.join(str(error).split())[:300]}; correct it") from None
    if not isinstance(values, dict):
        raise DDNetError(f"{path}: expected 'key: value' lines at the top level")
    return values


def _require_modest(values: Any, path: Path) -> None:
    """Refuse a few lines of references to references that stand for more values than memory holds."""
    left, waiting = MOST_VALUES, [values]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise DDNetError(f"{path}: more than {MOST_VALUES} values; settings have a few hundred")
        if isinstance(value, dict | list | tuple | set):
            waiting += [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)


def brief(value: Any) -> str:
    """A value as it is written in Python, in no more characters than a message bears."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries merged, `changes` winning."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
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
