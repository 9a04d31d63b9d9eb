"""The documentation site builds without a warning, and names only what exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from ddnet.cli.main import parser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
sys.path.insert(0, str(DOCS / "_ext"))

import project_pages  # noqa: E402
import reference_pages  # noqa: E402

# Words that say what is allowed or to be done; otherwise it stands behind a semicolon.
REMEDY = re.compile(
    r"; |\b(give|use|allowed|must|needs?|set|run|delete|evaluate|only|at least|takes?|expected|from|such as|are)\b"
)
# What stands in these is another message, which has its own remedy, or what a program or a server said.
FORWARDED = re.compile(
    r"‹[^›]*(error|errors|problems|words|failed|returncode|stderr|fix|did_you_mean|nearest)\b[^›]*›(‹more›)?$"
)


def commands() -> list[tuple[str, str]]:
    """Every command line of `ddnet` and `snakemake` in the pages: (page, line)."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [
            line for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S) for line in block.splitlines()
        ]
        for line in [*lines, *re.findall(r"`((?:ddnet|snakemake) [^`]+)`", text)]:
            if line.strip().startswith(("ddnet ", "snakemake ")):
                found.append((page.name, line.strip()))
    return found


def test_the_pages_name_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("page, line", commands())
def test_a_command_line_can_be_given(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "snakemake":
        for option, value in pairwise(words):
            if option == "--configfile":
                assert (ROOT / value).is_file(), f"{page}: {line}"
        return
    try:
        parser().parse_args(words[1:])
    except SystemExit as end:
        said = capsys.readouterr().err
        spoken_of = len(words) == 2 and "arguments are required" in said  # a command's name, not a line to type
        assert end.code == 0 or spoken_of, f"{page}: {line}: {said}"


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"
        for path in re.findall(r"`((?:workflow|ddnet|tests|docs)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_a_missing_section_or_file_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no heading 'Nowhere'"):
        project_pages.included("README.md, section Nowhere", DOCS / "x.md")
    with pytest.raises(ValueError, match="is linked and not there"):
        project_pages.LINK.sub(lambda m: project_pages.link(m, ROOT, DOCS / "x.md"), "[a](no/such.md)")


def test_every_message_says_what_to_do() -> None:
    messages = reference_pages.messages(ROOT)
    assert len(messages) > 300
    bare = [f"{file}:{line}: {text}" for file, line, text in messages if not says_what_to_do(text)]
    assert not bare, "\n".join(bare)


def says_what_to_do(message: str) -> bool:
    return bool(REMEDY.search(message) or FORWARDED.search(message))


def test_a_message_without_a_remedy_is_noticed() -> None:
    assert not says_what_to_do("‹path›: no such file") and not says_what_to_do("‹path› is damaged")


def test_the_citation_names_paper_and_software() -> None:
    text = reference_pages.citation(ROOT)
    assert "@software{ddnet_bench," in text and "@inproceedings{zhai2024ddnet," in text
    assert "Zhai, Jucai and Liu, Yang" in text and text.count("{") == text.count("}")


def test_every_setting_is_documented() -> None:
    from ddnet.config import Settings

    text = reference_pages.settings(ROOT)
    schema = Settings.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for key in model["properties"]:
            assert f"| `{key}` |" in text, key


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d", str(out / "trees"), "-b", "html"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command += [str(DOCS), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.glob("*.html")}
    assert len(pages) > 15
    for page, text in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = page.parent / path.split("?")[0] if path else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor and file.suffix == ".html" and file in pages:
                assert f'id="{anchor}"' in pages[file], f"{page.name}: {target}"


def test_the_site_is_read_offline(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:)?//', text) + re.findall(
            r'<link[^>]*rel="(?:stylesheet|preload)"[^>]*href="(?:https?:)?//', text
        )
        assert not fetched, page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import [\"']?http", sheet.read_text(encoding="utf-8")), (
            sheet.name
        )
    assert "Zhai, Jucai and Liu, Yang" in (site / "cite.html").read_text(encoding="utf-8")


def test_the_site_has_the_reference_run_s_tables(site: Path) -> None:
    text = (site / "results.html").read_text(encoding="utf-8")
    for number in ("1", "2", "3", "4", "S1", "S2", "S3", "S4", "S5"):
        assert re.search(rf"<h3>Table {number}\.", text), number
