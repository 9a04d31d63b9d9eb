"""The page of a finished run: verdicts, tables that sort, test scenes to compare, figures, model cards, provenance.

One HTML file with its style and its script inside, and a folder of pictures and files beside it; nothing is fetched.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ddnet.io.files import atomic_path, write_text
from ddnet.report.claims import CONTRADICTED, NAME, SUPPORTED, UNMEASURED, UNRESOLVED
from ddnet.report.collect import collect
from ddnet.report.figures import TITLES
from ddnet.report.footnotes import provenance_facts
from ddnet.report.page_pictures import INPUT, TARGET, PageScenes, write_pictures
from ddnet.report.page_tables import Claims, read_claims, read_table
from ddnet.report.style import PALETTE
from ddnet.report.wording import TRIAL_NOTE, display_name

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

ASSETS = Path(__file__).with_name("assets")
FILES = "files"  # the folder beside the page
SYMBOLS = {SUPPORTED: "✓", CONTRADICTED: "✗", UNRESOLVED: "?", UNMEASURED: "–"}
FIGURES = {
    "ablation": "PSNR of every variant, one dot per seed",
    "psnr_params": "PSNR against parameters at the paper's width",
    "curves": "validation PSNR while training",
    "panels": "test scenes and the crop with most blur, first seed",
    "gates": "where the GRU rewrites the blur feature (z near 1)",
    "defocus_maps": "defocus maps of the compared systems against the true blur",
    "depth_controls": "what every control of depth gains over no depth",
}


@dataclass(frozen=True)
class PageInputs:
    """What a page is made of.

    Attributes:
        tables: the tables' HTML files, in the order shown, Table S3 (the claims) among them; its CSV lies beside it,
            as do the other forms of each.
        figures: PNG files `<study>/<kind>.png`; a PDF of the same name beside one is linked.
        cards: model cards, `<run>/model_card.md`.
        shown: scenes and runs with pictures.
        settings: the preset's, for the reader.
        reference: the variant that is chosen first.
        depth_of: variant -> its depth source; the others see none.
    """

    preset: str
    datasets: Sequence[str]
    tables: Sequence[Path]
    figures: Sequence[Path]
    cards: Sequence[Path]
    shown: PageScenes
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: str = "ddnet_1b"
    depth_of: Mapping[str, str] = field(default_factory=dict)
    trial: bool = False


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _copy(source: Path, folder: Path, name: str) -> str:
    """Copy a file to the folder beside the page; its address."""
    place = folder / name
    with atomic_path(place) as temporary:
        shutil.copyfile(source, temporary)
    return f"{FILES}/{quote(name)}"


def _tables(files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    shown = []
    for file in files:
        table = read_table(file)
        forms = [(form.upper(), file.with_suffix(f".{form}")) for form in ("csv", "tex", "md")]
        links = [(label, _copy(path, folder, f"tables/{path.name}")) for label, path in forms if path.is_file()]
        shown.append({"name": table.name, "title": table.title, "body": table.body, "links": links})
    return shown


def _figures(files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """The figures by study, in the order of the files."""
    studies: dict[str, list[dict[str, str]]] = {}
    for file in files:
        study, kind = file.parent.name, file.stem
        pdf = file.with_suffix(".pdf")
        studies.setdefault(study, []).append(
            {
                "kind": kind,
                "words": FIGURES.get(kind, kind.replace("_", " ")),
                "png": _copy(file, folder, f"figures/{study}-{file.name}"),
                "pdf": _copy(pdf, folder, f"figures/{study}-{pdf.name}") if pdf.is_file() else "",
            }
        )
    return [{"study": study, "title": _title(study), "figures": shown} for study, shown in studies.items()]


def _title(study: str) -> str:
    return TITLES.get(study, "Compared systems" if study == "comparison" else study.replace("_", " ").capitalize())


def _cards(files: Sequence[Path], folder: Path, environment: Environment) -> list[tuple[str, str]]:
    """Every card as a page of its own: (run, address)."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    template, links = environment.get_template("card.html"), []
    for file in files:
        run = file.parent.name
        body = markdown.render(file.read_text(encoding="utf-8", errors="replace"))
        name = f"cards/{run}.html"
        write_text(folder / name, template.render(run=run, body=body, palette=PALETTE, style=_asset("page.css")))
        links.append((run, f"{FILES}/{quote(name)}"))
    return links


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _provenance(inputs: PageInputs, images: pd.DataFrame, records: Mapping[str, Any]) -> list[tuple[str, str]]:
    measured = images[images["metric"] == "psnr"]
    seeds = ", ".join(map(str, sorted(set(measured["seed"].dropna().astype(int))))) or "none"
    networks = len(measured.dropna(subset=["seed"]).drop_duplicates(["variant", "seed"]))
    systems = len(measured[measured["seed"].isna()].drop_duplicates("variant"))
    counts = measured.drop_duplicates(["dataset", "scene"]).groupby("dataset").size()
    scenes = ", ".join(f"{display_name(name)} {counts.get(name, 0)}" for name in inputs.datasets)
    facts = [
        ("preset", inputs.preset), ("test scenes", scenes), ("seeds", seeds),
        ("trained networks", str(networks)), ("compared systems", str(systems)),
    ]  # fmt: skip
    return facts + provenance_facts(records)


def _methods(inputs: PageInputs, scenes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a side of the slider may show: input, target, and every run that has a picture of any scene."""
    with_picture = {name for scene in scenes for name in scene["pictures"]}
    methods: list[dict[str, Any]] = [{"name": INPUT, "label": "Input", "group": "Scene", "depth": ""}]
    methods.append({"name": TARGET, "label": "Target", "group": "Scene", "depth": ""})
    for ref in inputs.shown.runs:
        if ref.variant in with_picture:
            group = "Compared systems" if ref.seed is None else "Networks of this suite"
            depth = inputs.depth_of.get(ref.variant, "")
            methods.append({"name": ref.variant, "label": ref.label, "group": group, "depth": depth})
    return methods


def write_page(index: str | Path, inputs: PageInputs, images: pd.DataFrame, records: Mapping[str, Any]) -> Path:
    """Write the page, and the folder `files` beside it, which is made anew.

    Args:
        index: the HTML file.
        images: the long frame of `collect.collect` over all runs.
        records: what `collect.merge_provenance` says of all runs.

    Raises:
        DDNetError: a table, a picture or a depth map is missing or broken.
    """
    index = Path(index)
    folder = index.parent / FILES
    index.unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    claims: Claims | None = None
    if claimed := next((path for path in inputs.tables if path.stem == NAME), None):
        claims = read_claims(claimed.with_suffix(".csv"))
    environment = _environment()
    scenes = write_pictures(inputs.shown, collect(inputs.shown.runs), folder / "pictures", f"{FILES}/pictures")
    methods = _methods(inputs, scenes)
    known = {method["name"] for method in methods}
    right = inputs.reference if inputs.reference in known else methods[-1]["name"]
    text = environment.get_template("page.html").render(
        preset=inputs.preset,
        trial=TRIAL_NOTE if inputs.trial else "",
        claims=claims,
        symbols=SYMBOLS,
        tables=_tables(inputs.tables, folder),
        studies=_figures(inputs.figures, folder),
        cards=_cards(inputs.cards, folder, environment),
        provenance=_provenance(inputs, images, records),
        settings=dict(inputs.settings),
        scenes=scenes,
        datasets=[(name, display_name(name)) for name in inputs.datasets if any(s["dataset"] == name for s in scenes)],
        methods=methods,
        data={
            "scenes": scenes, "methods": methods, "left": INPUT, "right": right, "input": INPUT, "target": TARGET,
            "depth": next(iter(inputs.shown.depths), ""),
        },
        palette=PALETTE,
        style=_asset("page.css"),
        script=_asset("page.js"),
    )  # fmt: skip
    write_text(index, text)
    return index
