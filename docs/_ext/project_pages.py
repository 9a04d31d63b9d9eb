"""Puts the project's own files and definitions into pages: nothing is written twice, so nothing can drift.

A page holds lines that are replaced when it is read:

    <!-- include FILE -->                    a Markdown file of the project
    <!-- include FILE, section HEADING -->   what stands below one of its headings
    <!-- include FILE, level 2 -->           with its highest heading at that level
    <!-- made NAME -->                       what `MAKERS` makes of the code
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from reference_pages import MAKERS

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^<!-- (include|made) (.+?) -->$", re.M)
OPTION = re.compile(r", (section|level) ")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
# Files of the project that are a page of the site, and headings of the README that are.
PAGES = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "results/README.md": "protocol",
    "CITATION.cff": "cite",
    "results/reference/reliability.md": "reliability",
}
SECTIONS = {"dpdd-realdof-and-your-own-photographs": "photographs"}


def blocks(text: str) -> list[tuple[bool, str]]:
    """The text as (is it a block of code, lines), in its order."""
    parts = re.split(r"(^ *```.*?^ *```$\n?)", text, flags=re.M | re.S)
    return [(part.lstrip().startswith("```"), part) for part in parts if part]


def section_of(text: str, heading: str, file: str) -> str:
    """What stands below a heading, down to the next one of its level or above."""
    found, level = "", 0
    for is_code, part in blocks(text):
        for line in [part] if is_code else part.splitlines(keepends=True):
            title = None if is_code else re.match(r"(#+) (.+)", line)
            if title and level and len(title[1]) <= level:
                return found
            if level:
                found += line
            elif title and title[2].strip() == heading:
                level = len(title[1])
    if not level:
        raise ValueError(f"{file} has no heading '{heading}'")
    return found


def with_level(text: str, level: int) -> str:
    """The same text, its highest heading at a level."""
    levels = [len(mark) for is_code, part in blocks(text) if not is_code for mark in re.findall(r"^(#+) ", part, re.M)]
    change = level - min(levels, default=level)

    def shifted(match: re.Match[str]) -> str:
        return "#" * (len(match[1]) + change) + " "

    return "".join(part if is_code else re.sub(r"^(#+) ", shifted, part, flags=re.M) for is_code, part in blocks(text))


def link(match: re.Match[str], folder: Path, page: Path) -> str:
    """A link of the project's texts as one of the site: to a page, or else to the file, which the site then carries."""
    mark, text, target = match.groups()
    if "://" in target:
        return match[0]
    path, _, anchor = target.partition("#")
    if not path:
        return f"[{text}]({SECTIONS[anchor]}.md)" if anchor in SECTIONS else text
    file = (folder / path).resolve()
    name = str(file.relative_to(ROOT))
    if not file.exists():
        raise ValueError(f"{page.name}: {name} is linked and not there")
    if name in PAGES:
        return f"[{text}]({PAGES[name]}.md)"
    if file.parent == ROOT / "docs" and file.suffix in (".md", ".ipynb"):
        return f"[{text}]({file.name})"
    if file.is_dir():
        return f"{text} (`{name}/`)" if text.strip("`/") != name else f"`{name}/`"
    relative = os.path.relpath(file, page.parent)
    return f"![{text}]({relative})" if mark else f"{{download}}`{text.replace('`', '')} <{relative}>`"


def included(what: str, page: Path) -> tuple[str, Path]:
    """The text that an `include` line stands for, and its file."""
    name, *options = OPTION.split(what)
    chosen = dict(zip(options[::2], options[1::2]))
    file = ROOT / name
    text = file.read_text(encoding="utf-8")
    if "section" in chosen:
        text = section_of(text, chosen["section"], name)
    text = with_level(text, int(chosen.get("level", 2 if "section" in chosen else 1)))
    parts = [
        part if is_code else LINK.sub(lambda m: link(m, file.parent, page), part) for is_code, part in blocks(text)
    ]
    return "".join(parts), file


def read(app: Any, docname: str, source: list[str]) -> None:
    """Replace a page's lines as it is read."""
    if "<!-- " not in source[0] or app.env.doc2path(docname).suffix != ".md":
        return
    page = Path(app.env.doc2path(docname))

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "made":
            return MAKERS[match[2]](ROOT)
        text, file = included(match[2], page)
        app.env.note_dependency(str(file), docname=docname)
        return text.strip()

    source[0] = LINE.sub(replaced, source[0])


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "version": "1"}
