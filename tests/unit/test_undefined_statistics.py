"""What cannot be told from one image, one seed or equal values says so in every output form, and stops nothing."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_runs import INFO, LEVELS, PAPER, VARIANTS, World, make_world

from ddnet.report.claims import CLAIMS, UNMEASURED, UNRESOLVED, claims_text
from ddnet.report.collect import VariantInfo, collect
from ddnet.report.controls_figure import draw_controls
from ddnet.report.defocus import map_sources, table_s2
from ddnet.report.evidence import Evidence, gather
from ddnet.report.figures import Study, draw_ablation, draw_curves, draw_psnr_params
from ddnet.report.formats import FORMATS, grids, write_table
from ddnet.report.layout import Table
from ddnet.report.mlflow_items import run_item
from ddnet.report.model_card import model_card
from ddnet.report.page import PageInputs, write_page
from ddnet.report.page_pictures import PageScenes
from ddnet.report.page_tables import read_claims
from ddnet.report.statistics import FEWEST_RANKED, paired_difference, signed_rank, summarise
from ddnet.report.tables import BUILDERS

UNPRINTABLE = re.compile(r"(?<![\w-])(nan|inf)(?![\w-])|\bNone\b")


def world_of(root: Path, images: int, seeds: int, varied: bool, datasets: tuple[str, ...]) -> World:
    """Runs with so many test images and seeds; unless `varied`, a variant has one PSNR for all of them."""
    world = make_world(root, tuple(range(seeds)), datasets=datasets)
    for ref in world.runs:
        path = ref.folder / "per_image.csv"
        frame = pd.read_csv(path, keep_default_na=False).groupby("dataset", sort=False).head(images)
        frame["psnr"] = frame["psnr"] if varied else LEVELS[ref.variant]
        frame.to_csv(path, index=False)
    return world


def evidence_of(world: World, datasets: tuple[str, ...]) -> Evidence:
    second = datasets[1] if len(datasets) > 1 else None
    return gather(
        world.runs, paper=PAPER, preset="tiny", dataset=datasets[0], ood_dataset=second,
        complexity=world.complexity, variants=VARIANTS, draws=50,
    )  # fmt: skip


def shown_texts(table: Table) -> Iterator[str]:
    """All cells that readers see, but for ticks, which are left blank."""
    for _, columns in table.sections:
        ticks = {column.header for column in columns if table.frame[column.name].dtype == bool}
        for grid in [grid for grid in grids(table) if len(grid.headers) == len(columns)]:
            for row in grid.rows:
                yield from (c.text for c, header in zip(row, grid.headers, strict=True) if header not in ticks)


def check_table(table: Table, folder: Path, infinite: bool = False) -> None:
    """Every form is written, without a number that is none; a measured difference without interval has a reason."""
    paths = write_table(table, folder)
    for form in FORMATS:
        text = paths[form].read_text(encoding="utf-8")
        assert (form == "csv" and infinite) or not UNPRINTABLE.search(text), f"{table.name}.{form}"
    assert all(shown_texts(table)), table.name
    for row in table.frame.to_dict("records"):
        for name in [name for name in row if name.endswith("_low")]:
            mean = name.removesuffix("_low")
            mean = mean if mean in row else f"{mean}_delta"
            if row.get("n_images") and np.isfinite(row[mean]) and np.isnan(row[name]) and row[mean] != 0:
                assert "image" in row["note"] + " ".join(table.footnotes), (table.name, name)


CASES = [(images, seeds, varied) for images in (1, 2, 3) for seeds in (1, 2) for varied in (False, True)]


@pytest.mark.parametrize(("images", "seeds", "varied"), CASES)
def test_every_report_of_little_is_written_and_says_what_it_cannot_tell(
    images: int, seeds: int, varied: bool, tmp_path: Path
) -> None:
    datasets = ("photos", "photos_second") if seeds == 1 else ("embedded", "embedded_ood")
    world = world_of(tmp_path, images, seeds, varied, datasets)
    evidence = evidence_of(world, datasets)
    tables = {name: build(evidence) for name, build in BUILDERS.items()}
    for table in tables.values():
        check_table(table, tmp_path / "tables")
    claims = tables["tableS3_claims"].frame
    assert set(claims["verdict"]) == {UNRESOLVED}
    why = [word for word, single in (("one image", images == 1), ("one seed", seeds == 1)) if single]
    why = why or ([] if varied else ["no variance"])
    assert all(word in note for note in claims["note"] for word in why)
    assert claims["resolvable"].isna().all() == bool(why)

    head, *lines = claims_text(tmp_path / "tables" / "tableS3_claims.csv").splitlines()
    assert f"{images} image{'s' if images > 1 else ''} of" in head and len(lines) == len(CLAIMS)
    for line in lines:
        assert not UNPRINTABLE.search(line)
        assert (f"resolvable — ({' and '.join(why)})" in line) == bool(why)
        assert ("[" in line) == (images > 1)

    shown = read_claims(tmp_path / "tables" / "tableS3_claims.csv")
    assert (shown.images, shown.seeds) == (images, seeds)
    for claim in shown.rows:
        assert claim.mean is not None and "—" not in claim.measured and not UNPRINTABLE.search(claim.detail)
        assert (claim.low is None) == (images == 1)
        assert all(word in claim.detail for word in why)


@pytest.mark.parametrize(("images", "seeds", "varied"), [(1, 1, False), (3, 2, True)])
def test_figures_cards_page_and_export_of_little(images: int, seeds: int, varied: bool, tmp_path: Path) -> None:
    datasets = ("embedded", "embedded_ood")
    world = world_of(tmp_path, images, seeds, varied, datasets)
    long, sizes = collect(world.runs), {p.stem: json.loads(p.read_text()) for p in world.complexity}
    study = Study("modules", VARIANTS[:5], "unet")
    draw_ablation(study, long, "embedded", tmp_path / "ablation.png")
    draw_psnr_params(study, long, sizes, "embedded", tmp_path / "psnr_params.png")
    draw_curves(study, world.runs, tmp_path / "curves.png")
    draw_controls(VARIANTS, long, "embedded", tmp_path / "controls.png")
    ref = next(ref for ref in world.runs if ref.variant == "ddnet_1b")
    card = model_card(ref, INFO["ddnet_1b"], {}, depth={"source": "constant", "fit": None, "training": "image"})
    assert ("One image of embedded: no interval" in card) == (images == 1)
    assert not re.search(r"\b(nan|inf)\b", card)
    item = run_item(ref, INFO["ddnet_1b"], {}, {}, [], datasets, {})
    assert np.isfinite(list(item.metrics.values())).all() and np.isfinite([value for _, value, *_ in item.curves]).all()
    write_table(BUILDERS["tableS3_claims"](evidence_of(world, datasets)), tmp_path / "tables")
    table = tmp_path / "tables" / "tableS3_claims.html"
    inputs = PageInputs("tiny", datasets, [table], [], [], PageScenes([], world.runs[:1], {}, 840))
    text = write_page(tmp_path / "page" / "index.html", inputs, long, {}).read_text(encoding="utf-8")
    style_and_script = r"<(style|script)>.*?</\1>"
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", re.sub(style_and_script, "", text, flags=re.S))
    assert f"on {images} test image{'s' if images > 1 else ''}," in text


def test_an_infinite_psnr_is_shown_and_no_difference_is_made_of_it(tmp_path: Path) -> None:
    world = world_of(tmp_path, 3, 2, True, ("embedded", "embedded_ood"))
    evidence = evidence_of(world, ("embedded", "embedded_ood"))
    images = evidence.images.copy()
    of_it = (images["metric"] == "psnr") & (images["scene"] == "s00") & images["variant"].isin(["unet", "blurred"])
    images.loc[of_it, "value"] = np.inf
    evidence = dataclasses.replace(evidence, images=images)
    tables = {name: build(evidence) for name, build in BUILDERS.items()}
    for table in tables.values():
        check_table(table, tmp_path / "tables", infinite=True)
    claim = tables["tableS3_claims"].frame.set_index("key").loc["rcab"]
    assert claim["verdict"] == UNMEASURED and "finite" in claim["note"]
    assert "∞" in (tmp_path / "tables" / "table3.md").read_text(encoding="utf-8")
    assert 'data-value="Infinity"' in (tmp_path / "tables" / "table3.html").read_text(encoding="utf-8")
    text = claims_text(tmp_path / "tables" / "tableS3_claims.csv")
    assert "finite" in text and not UNPRINTABLE.search(text)
    for variants in (VARIANTS[:5], VARIANTS[:1]):
        study = Study("modules", variants, "unet")
        draw_ablation(study, images, "embedded", tmp_path / "ablation.png")
        sizes = {variant.name: {"params_m": 2.0} for variant in variants}
        draw_psnr_params(study, images, sizes, "embedded", tmp_path / "psnr_params.png")
    images.loc[(images["metric"] == "psnr") & (images["variant"] == "depth_true"), "value"] = np.inf
    draw_controls(VARIANTS, images, "embedded", tmp_path / "controls.png")


def test_rows_without_a_common_seed_have_no_difference_and_say_so(tmp_path: Path) -> None:
    world = make_world(tmp_path, (0, 1))
    moved = [
        dataclasses.replace(ref, seed=ref.seed + 7) if ref.variant == "ddnet_1b" and ref.seed is not None else ref
        for ref in world.runs
    ]
    world = dataclasses.replace(world, runs=moved)
    evidence = evidence_of(world, ("embedded", "embedded_ood"))
    for build in BUILDERS.values():
        check_table(build(evidence), tmp_path / "tables")
    text = claims_text(tmp_path / "tables" / "tableS3_claims.csv")
    assert text.count("no seed in common") == 4
    controls = (*VARIANTS, VariantInfo("ddnet_1b", "DDNet", ("controls",), fusion="gru"))
    draw_controls(controls, evidence.images, "embedded", tmp_path / "controls.png")


def test_a_table_of_an_earlier_version_with_empty_cells_is_still_read(tmp_path: Path) -> None:
    world = world_of(tmp_path, 1, 2, True, ("photos",))
    table = BUILDERS["tableS3_claims"](evidence_of(world, ("photos",)))
    write_table(table, tmp_path)
    path = tmp_path / "tableS3_claims.csv"
    for undefined in ("", "—", "nan", "NA"):
        frame = table.frame.assign(note="")
        frame.to_csv(path, index=False, na_rep=undefined)
        assert claims_text(path).count("resolvable — (one image)") == len(CLAIMS)
        assert read_claims(path).images == 1


@pytest.mark.parametrize("images", [1, 2, 4])
@pytest.mark.parametrize("infinite", [False, True])
def test_a_defocus_map_of_few_images(images: int, infinite: bool, tmp_path: Path) -> None:
    files = []
    for name, ranks in (("true", 1.0), ("constant", None), ("jnb", None)):
        folder = tmp_path / name
        folder.mkdir()
        rows: list[dict[str, Any]] = [
            {
                "dataset": "embedded", "scene": f"s{number}", "location": "indoor", "mae_px": 0.2, "bias_px": 0.1,
                "spearman": ranks, "psnr_input": np.inf if infinite and number == 0 else 26.0,
                "psnr_hyper_laplacian": np.inf if infinite and number == 0 else 27.0, "psnr_richardson_lucy": 26.5,
            }
            for number in range(images)
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(folder / "per_image.csv", index=False)
        settings = {"alpha": 1.5, "lam": 16.8, "iterations": 10}
        scores = {"mae_px": 0.2, "bias_px": 0.1, "mean_px": 0.8, "pixels": 9, "textured_pixels": 7, "spearman": ranks}
        (folder / "scores.json").write_text(json.dumps(scores | {"settings": settings}))
        files.append(folder / "scores.json")
    table = table_s2(map_sources(files, {"jnb": "JNB"}), "tiny", draws=50)
    check_table(table, tmp_path / "tables", infinite=True)
    notes = table.frame.set_index("key")["note"]
    assert f"not defined in {images} of {images} images" in notes["jnb"]
    assert all(("finite" in note) == infinite for note in notes)
    assert any("no interval" in note for note in table.footnotes) == (images == 1)
    assert table.frame["mae_px_low"].isna().all() == (images == 1)


def test_the_fewest_images_of_the_rank_test() -> None:
    values = np.arange(1.0, 20.0)[None]
    assert signed_rank(values[:, :FEWEST_RANKED]) < 0.05 <= signed_rank(values[:, : FEWEST_RANKED - 1])


def test_differences_of_one_image_or_of_infinity() -> None:
    one = pd.DataFrame([[27.0], [28.0]], index=[0, 1], columns=["a"])
    difference = paired_difference(one, one - 0.5)
    assert (difference.mean, difference.improved) == (0.5, 1.0)
    assert np.isnan([difference.low, difference.high, difference.p]).all()
    endless = pd.DataFrame([[27.0, np.inf]], index=[0], columns=["a", "b"])
    assert np.isnan(paired_difference(endless, endless).mean)
    assert summarise(pd.concat([endless, endless])).mean == np.inf
