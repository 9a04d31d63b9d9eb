"""A row whose pictures equal their targets: PSNR ∞ in every form of a table, in the export, and no difference to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import INFO, PAPER, VARIANTS, World, make_world, per_image

from ddnet.report import wording
from ddnet.report.collect import collect, read_images, read_run
from ddnet.report.evidence import gather
from ddnet.report.figures import Study, draw_ablation, draw_psnr_params
from ddnet.report.formats import write_table
from ddnet.report.mlflow_items import mean_metrics
from ddnet.report.model_card import metric_table
from ddnet.report.tables import table2, table3


@pytest.fixture(scope="module", params=["one", "all"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The blurred input and one seed of the reference equal their targets, in one picture of each dataset or in all."""
    made = make_world(tmp_path_factory.mktemp("infinite"))
    for ref in made.runs:
        if ref.name in ("blurred", "unet-seed0"):
            frame = per_image(ref.variant, ref.seed)
            frame.loc[frame["scene"] == "s01" if request.param == "one" else slice(None), ["psnr", "psnr_8bit"]] = (
                np.inf
            )
            frame.to_csv(ref.folder / "per_image.csv", index=False)
    return made


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_every_form_of_a_table_says_infinite_and_gives_no_difference(world: World, tmp_path: Path) -> None:
    evidence = gather(
        world.runs, paper=PAPER, preset="embedded", dataset="embedded", ood_dataset="embedded_ood",
        complexity=world.complexity, variants=VARIANTS, width=16, depth_source="monodepth2", draws=200,
    )  # fmt: skip
    for build in (table2, table3):
        table = build(evidence)
        paths = write_table(table, tmp_path)
        texts = {form: path.read_text(encoding="utf-8") for form, path in paths.items()}
        assert "∞" in texts["md"] and "∞" in texts["html"] and r"$\infty$" in texts["tex"]
        assert not re.search(r"\b(nan|inf)\b", texts["md"] + texts["tex"], re.IGNORECASE)
        read = pd.read_csv(paths["csv"])
        assert np.isinf(read["psnr"]).any()
    row = table.frame.set_index("method").loc["unet_rcab"]
    assert np.isnan(row["delta_psnr"]) and wording.NOT_FINITE in row["note"]


def test_the_export_the_card_and_the_figures_take_it(world: World, tmp_path: Path) -> None:
    blurred = next(ref for ref in world.runs if ref.name == "blurred")
    metrics = mean_metrics(blurred, "embedded", "embedded_ood")
    assert "psnr" not in metrics and np.isfinite(metrics["ssim"])
    json.dumps(metrics, allow_nan=False)
    assert np.isinf(read_images(blurred.folder / "per_image.csv")["psnr"]).any()
    assert "∞" in metric_table(read_run(blurred.folder))
    images, study = collect(world.runs), Study("modules", (INFO["unet"], INFO["ddnet_1b"]), "ddnet_1b")
    complexity = {path.stem: json.loads(path.read_text()) for path in world.complexity}
    for path in (
        draw_ablation(study, images, "embedded", tmp_path / "a.png"),
        draw_psnr_params(study, images, complexity, "embedded", tmp_path / "b.png"),
    ):
        assert path.stat().st_size > 1000
