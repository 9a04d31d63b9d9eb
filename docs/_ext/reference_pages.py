"""Reference pages made of the code when the site is built: settings, command line, errors, sources, citation."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Message = tuple[str, int, str]  # file, line, template


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")


def settings(root: Path) -> str:
    """Every setting of a preset with its default, what is allowed, and what it means."""
    from ddnet.config import Settings

    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    text = ""
    waiting, done = [("", schema)], set()
    while waiting:
        path, model = waiting.pop(0)
        rows = []
        for key, field in model["properties"].items():
            name = f"{path}.{key}" if path else key
            for part in models(field):
                kinds = definitions[part]["properties"].get("kind", {})
                inner = f"{name} (kind: {kinds['const']})" if "const" in kinds else name
                if (inner, part) not in done:
                    done.add((inner, part))
                    waiting.append((inner, definitions[part]))
            nested = bool(models(field)) and not field.get("description")
            described = field.get("description") or (
                definitions[models(field)[0]].get("description", "") if nested else ""
            )
            rows.append(f"| `{key}` | {default(field, key, model)} | {allowed(field)} | {escaped(described)} |\n")
        title = f"## `{path}`" if path else "## At the top level"
        about = " ".join(model.get("description", "").split())
        text += f"{title}\n\n{about}\n\n| setting | default | allowed | meaning |\n|---|---|---|---|\n{''.join(rows)}\n"
    return text


def models(field: dict[str, Any]) -> list[str]:
    """Names of the models that a field holds."""
    found = re.findall(r"'\$ref': '#/\$defs/(\w+)'", repr(field))
    return list(dict.fromkeys(found))


def default(field: dict[str, Any], key: str, model: dict[str, Any]) -> str:
    """A field's default as it is written in YAML."""
    if key in model.get("required", ()):
        return "required"
    if models(field) and field.get("default") not in (None, {}):
        return "its own defaults"
    value = yaml.safe_dump(field.get("default"), default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return f"`{value}`"


def allowed(field: dict[str, Any]) -> str:
    """A field's type and range in a few words."""
    if "$ref" in field or "discriminator" in field:
        return "the section below"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(allowed(part) for part in field["anyOf"]))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kinds = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true`, `false`", "null": "`null`",
             "array": "list", "object": "`{name: ...}`"}  # fmt: skip
    words = [kinds.get(field.get("type", ""), "any value")]
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    words += [f"{sign} {field[key]:g}".replace("<", "\\<") for key, sign in signs if key in field]
    if "multipleOf" in field:
        words.append(f"a multiple of {field['multipleOf']}")
    if "minItems" in field:
        words.append(f"at least {field['minItems']} of them")
    if "pattern" in field:
        words.append("like `{}`".format(field["pattern"].replace("|", "\\|")))
    return ", ".join(words)


def command_line(root: Path) -> str:
    """The help of every command, as the terminal shows it."""
    from ddnet.cli.main import parser

    kept = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        return "".join(helps(parser(), 2))
    finally:
        if kept is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = kept


def helps(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """A heading and the help of a command, and of the commands below it."""
    yield f"{'#' * level} `{parser.prog}`\n\n```text\n{parser.format_help().strip()}\n```\n\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from helps(below, min(level + 1, 4))


def messages(root: Path) -> list[Message]:
    """Every message that ends a command in one line, values in it as `‹expression›`."""
    found = []
    for package in ("ddnet", "baselines"):
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "DDNetError":
                    text = template(node.args[0])
                    if text:
                        found.append((str(path.relative_to(root)), node.lineno, text))
    return sorted(found)


def template(node: ast.expr) -> str:
    """A string's text, with `‹expression›` for what is put in; empty where no text stands in the code."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [
            part.value if isinstance(part, ast.Constant) else f"‹{ast.unparse(part.value)}›" for part in node.values
        ]  # type: ignore[attr-defined]
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = template(node.left), template(node.right)
        return f"{left or f'‹{ast.unparse(node.left)}›'}{right or f'‹{ast.unparse(node.right)}›'}"
    return ""


def errors(root: Path) -> str:
    """The messages by file."""
    text, last = "", ""
    for file, _, message in messages(root):
        if file != last:
            text += f"\n## `{file}`\n\n"
            last = file
        fence = "`" * (max((len(run) for run in re.findall("`+", message)), default=0) + 1)
        text += f"- {fence} {' '.join(message.split())} {fence}\n"
    return text


def sources(root: Path) -> str:
    """What each dataset and each set of weights is bound to."""
    from ddnet.config import load_sources

    text = "| item | what | licence | by hand | GB |\n|---|---|---|---|--:|\n"
    for name, item in load_sources(root / "workflow" / "config" / "sources.yaml").items():
        cells = [escaped(cell) for cell in (item.about, item.licence, item.by_hand)]
        text += f"| `{name}` | {' | '.join(cells)} | {item.gigabytes:g} |\n"
    return text


def citation(root: Path) -> str:
    """CITATION.cff as BibTeX: this software, and the paper that it examines."""
    cff = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    software = {
        "title": f"{{{cff['title']}}}",
        "author": authors(cff),
        "version": cff["version"],
        "license": cff["license"],
    }
    text = bibtex("software", "ddnet_bench", software)
    for paper in cff["references"]:
        entry = {"title": paper["title"], "author": authors(paper), "booktitle": paper["collection-title"]}
        key = f"{paper['authors'][0]['family-names'].lower()}{paper['year']}ddnet"
        text += "\n" + bibtex("inproceedings", key, entry | {"year": paper["year"]})
    return f"{cff['message']}\n\n```bibtex\n{text}```\n"


def authors(entry: dict[str, Any]) -> str:
    """People as `Family, Given and ...`; anyone else in braces."""
    people = entry["authors"]
    return " and ".join(
        f"{p['family-names']}, {p['given-names']}" if "family-names" in p else f"{{{p['name']}}}" for p in people
    )


def bibtex(kind: str, key: str, fields: dict[str, Any]) -> str:
    """One entry."""
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}}}\n"


MAKERS: dict[str, Callable[[Path], str]] = {
    "settings": settings,
    "command line": command_line,
    "errors": errors,
    "sources": sources,
    "citation": citation,
}
