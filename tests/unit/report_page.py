"""A small page of results, made of `report_runs`' synthetic runs, for the tests of the page and those in a browser."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from report_runs import PAPER, VARIANTS, World, make_world

from ddnet.data.index import Scene
from ddnet.report.collect import collect, read_json
from ddnet.report.evidence import gather
from ddnet.report.figures import Study, draw_study
from ddnet.report.formats import write_table
from ddnet.report.model_card import write_model_card
from ddnet.report.page import PageInputs, write_page
from ddnet.report.page_pictures import PageScenes, first_seeds
from ddnet.report.tables import BUILDERS

TABLES = ("table3", "table4", "tableS3_claims")
DEPTH = {"source": "monodepth2", "fit": None, "training": "image"}


@dataclass(frozen=True)
class SmallPage:
    """A page that was written, and what it was made of."""

    world: World
    inputs: PageInputs
    index: Path


def scenes_of(world: World, depth: Path) -> list[Scene]:
    """The world's two scenes as an index has them; their depth maps are copied to where a depth store keeps them."""
    scenes = []
    for shown in world.scenes:
        scene = Scene(
            "embedded", "test", shown.scene, shown.location, shown.image, shown.target, None, 64, 96, 16, "", ""
        )
        place = depth / f"{scene.key}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        if shown.depth is not None:
            shutil.copy(shown.depth, place)
        scenes.append(scene)
    return scenes


def make_page(root: Path) -> SmallPage:
    """Runs of two seeds, three tables, the figures of one study, one model card, two scenes with pictures."""
    world = make_world(root, pictures=True, seeds=(0, 1))
    evidence = gather(
        world.runs, paper=PAPER, preset="embedded", dataset="embedded", ood_dataset="embedded_ood",
        complexity=world.complexity, variants=VARIANTS, draws=200,
    )  # fmt: skip
    tables = [write_table(BUILDERS[name](evidence), root / "tables")["html"] for name in TABLES]
    study = Study("fusion", tuple(v for v in VARIANTS if "fusion" in v.studies), "ddnet_1b")
    sizes = {path.stem: read_json(path) for path in world.complexity}
    images = collect(world.runs)
    kinds = ("ablation", "curves")
    figures = draw_study(study, world.runs, images, sizes, "embedded", world.scenes, root / "figures" / "fusion", kinds)
    card = next(ref for ref in world.runs if ref.variant == "ddnet_1b").folder / "model_card.md"
    write_model_card(card, VARIANTS[2], 0, card.parent, sizes["ddnet_1b"], depth=DEPTH)
    depth = root / "depth" / "monodepth2"
    inputs = PageInputs(
        preset="embedded",
        datasets=("embedded", "embedded_ood"),
        tables=tables,
        figures=[path for path in figures if path.suffix == ".png"],
        cards=[card],
        shown=PageScenes(scenes_of(world, depth), first_seeds(world.runs), {"monodepth2": depth}, 840),
        settings={"preset": "embedded", "depth": DEPTH},
        depth_of={variant.name: "monodepth2" for variant in VARIANTS if variant.uses_depth},
    )
    index = write_page(root / "report" / "index.html", inputs, images, evidence.provenance)
    return SmallPage(world, inputs, index)
