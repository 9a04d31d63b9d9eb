from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import INFO, PAPER, PARAMS, PHOTOGRAPHS, SCENES, VARIANTS, World, make_world, psnr, write_run

from ddnet.config import Baseline, load_baselines
from ddnet.errors import DDNetError
from ddnet.report.evidence import Evidence, gather
from ddnet.report.footnotes import PAPER_TEST_SET
from ddnet.report.formats import grids, write_table
from ddnet.report.inputs import test_sets as split_test_sets
from ddnet.report.layout import Table
from ddnet.report.rows import TABLE4, RowSpec, comparison_rows
from ddnet.report.statistics import holm
from ddnet.report.supplementary import table_s1, table_s4, table_s5, table_s6
from ddnet.report.tables import BUILDERS, table1, table2, table3, table4
from ddnet.report.wording import TRIAL_NOTE


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("tables"))


def evidence_of(world: World, **changes: object) -> Evidence:
    return gather(
        world.runs,
        paper=PAPER,
        preset="embedded",
        dataset="embedded",
        ood_dataset="embedded_ood",
        complexity=world.complexity,
        variants=VARIANTS,
        width=16,
        depth_source="monodepth2",
        **{"draws": 500, **changes},  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def evidence(world: World) -> Evidence:
    return evidence_of(world)


def rows(table: Table) -> pd.DataFrame:
    return table.frame.set_index("key")


def mean_psnr(variant: str, dataset: str = "embedded", positions: range = range(6)) -> float:
    return float(np.mean([psnr(variant, seed, i, dataset) for seed in (0, 1) for i in positions]))


def test_table1_is_measured_on_the_second_test_set(evidence: Evidence) -> None:
    table = rows(table1(evidence))
    assert list(table.index) == ["blurred", "defocusgan", "ddnet_1b"]
    ours = table.loc["ddnet_1b"]
    assert ours["psnr"] == pytest.approx(mean_psnr("ddnet_1b", "embedded_ood", range(4)))
    assert (ours["paper_psnr"], ours["paper_macs_g"]) == (24.35, 163.9)
    assert ours["diff_psnr"] == pytest.approx(ours["psnr"] - 24.35)
    assert ours["diff_params_m"] == pytest.approx(PARAMS["ddnet_1b"] - 2.65)
    assert (ours["source"], ours["n_images"], ours["seeds"]) == ("measured", 4, "0 1")


def test_a_system_that_is_not_built_keeps_its_printed_numbers_only(evidence: Evidence) -> None:
    other = rows(table1(evidence)).loc["defocusgan"]
    assert np.isnan(other["psnr"]) and np.isnan(other["diff_psnr"])
    assert other["paper_psnr"] == 24.08
    assert (other["source"], other["note"]) == (
        "paper",
        "not measured: this preset gives it no weights; choose some under `systems`",
    )


def test_table2_strata_and_the_papers_lpips(evidence: Evidence) -> None:
    table = table2(evidence)
    ours = rows(table).loc["ddnet_2b"]
    assert ours["indoor_psnr"] == pytest.approx(mean_psnr("ddnet_2b", positions=range(0, 6, 2)))
    assert ours["outdoor_psnr"] == pytest.approx(mean_psnr("ddnet_2b", positions=range(1, 6, 2)))
    assert (ours["paper_lpips_squeeze"], ours["paper_indoor_lpips_squeeze"]) == (0.109, 0.084)
    assert not [name for name in table.frame.columns if "lpips_alex" in name and name.startswith(("paper", "diff"))]
    assert ours["note"] == "LPIPS-squeeze: weights unavailable: no network"
    assert np.isnan(ours["lpips_squeeze"]) and np.isnan(ours["diff_lpips_squeeze"])
    extra = rows(table).loc["ddnet_1b"]
    assert np.isnan(extra["paper_psnr"]) and extra["source"] == "measured"
    assert len(table.frame) == 11


def test_table3_differences_to_the_base(evidence: Evidence) -> None:
    table = rows(table3(evidence))
    assert list(table.index) == ["base", "rcab", "gru", "gru-2branch", "gru-3branch"]
    gru = table.loc["gru"]
    assert gru["delta_psnr"] == pytest.approx(mean_psnr("ddnet_1b") - mean_psnr("unet"))
    assert gru["delta_psnr_low"] < gru["delta_psnr"] < gru["delta_psnr_high"]
    assert gru["delta_psnr_improved"] == 1.0
    assert gru["paper_delta_psnr"] == pytest.approx(0.75)
    assert gru["diff_delta_psnr"] == pytest.approx(gru["delta_psnr"] - 0.75)
    assert gru["psnr_sd"] == pytest.approx(np.std([np.mean(
        [psnr("ddnet_1b", seed, i, "embedded") for i in range(6)]) for seed in (0, 1)], ddof=1))  # fmt: skip
    assert table.loc["base", "delta_psnr"] == 0.0 and np.isnan(table.loc["base", "delta_psnr_low"])
    ticks = table[["base", "rcab", "gru", "branches_2", "branches_3"]].astype(int).to_numpy().tolist()
    assert ticks == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 1]]


def test_table4_refers_to_the_gru_and_appends_a_users_fusion(evidence: Evidence) -> None:
    table = rows(table4(evidence))
    assert list(table.index) == ["input", "conv", "gru", "fusion_film"]
    film = table.loc["fusion_film"]
    assert film["label"] == "FiLM" and np.isnan(film["paper_psnr"])
    assert film["delta_psnr"] == pytest.approx(mean_psnr("fusion_film") - mean_psnr("ddnet_1b"))
    assert table.loc["conv", "paper_delta_psnr"] == pytest.approx(25.23 - 25.52)


def test_table4_without_the_users_variant_has_the_papers_rows(evidence: Evidence) -> None:
    table = table4(dataclasses.replace(evidence, variants=()))
    assert len(table.frame) == len(TABLE4)


def test_table_s1_against_no_depth_and_true_depth(evidence: Evidence) -> None:
    table = rows(table_s1(evidence))
    assert list(table.index) == ["unet_rcab", "depth_true", "ddnet_1b", "depth_shuffled"]
    assert list(table["depth"]) == ["none", "rendered", "monodepth2", "shuffled"]
    shuffled = table.loc["depth_shuffled"]
    assert shuffled["delta_none"] == pytest.approx(mean_psnr("depth_shuffled") - mean_psnr("unet_rcab"))
    assert shuffled["delta_true"] == pytest.approx(mean_psnr("depth_shuffled") - mean_psnr("depth_true"))
    assert np.isnan(table.loc["unet_rcab", "delta_true"])


def test_p_values_are_corrected_over_all_contrasts_of_a_table(evidence: Evidence) -> None:
    for table, names in ((table3(evidence), ["delta_psnr"]), (table_s1(evidence), ["delta_none", "delta_true"])):
        raw = np.concatenate([table.frame[f"{name}_p"] for name in names])
        shown = np.concatenate([table.frame[f"{name}_p_holm"] for name in names])
        np.testing.assert_allclose(shown, holm(raw))
        assert np.isfinite(shown).sum() >= 4


def test_table_s4_has_constant_depth_as_a_reference_within_each_fusion(evidence: Evidence) -> None:
    added = [
        RowSpec("flat", "GRU, constant", "depth_shuffled", marks={"fusion": "gru", "depth": "constant"}),
        RowSpec("ours", "GRU", "ddnet_1b", marks={"fusion": "gru", "depth": "monodepth2"}),
        RowSpec("input", "Input", "fusion_input", marks={"fusion": "input", "depth": "monodepth2"}),
    ]
    table = rows(table_s4(evidence, added))
    expected = mean_psnr("ddnet_1b") - mean_psnr("depth_shuffled")
    assert table.loc["ours", "delta_constant"] == pytest.approx(expected)
    assert np.isnan(table.loc["input", "delta_constant"]) and "delta_true" in table


def test_table_s5_holds_every_reading_against_the_default_one(evidence: Evidence) -> None:
    film = dataclasses.replace(INFO["fusion_film"], studies=("readings",))
    table = table_s5(dataclasses.replace(evidence, variants=(film, INFO["unet"], INFO["ddnet_1b"])))
    assert list(table.frame["key"]) == ["ddnet_1b", "fusion_film"]
    expected = mean_psnr("fusion_film") - mean_psnr("ddnet_1b")
    assert rows(table).loc["fusion_film", "delta_psnr"] == pytest.approx(expected)


def test_table_s6_holds_other_fusions_and_no_depth_against_the_gru(evidence: Evidence) -> None:
    chosen = [dataclasses.replace(INFO[name], studies=("fusions",)) for name in ("unet_rcab", "fusion_film")]
    table = table_s6(dataclasses.replace(evidence, variants=(*chosen, INFO["unet"], INFO["ddnet_1b"])))
    assert list(table.frame["key"]) == ["ddnet_1b", "unet_rcab", "fusion_film"]
    expected = mean_psnr("fusion_film") - mean_psnr("ddnet_1b")
    assert rows(table).loc["fusion_film", "delta_psnr"] == pytest.approx(expected)


def test_missing_runs_and_sizes_are_said_in_the_note(world: World, tmp_path: Path) -> None:
    runs = [ref for ref in world.runs if ref.variant in ("ddnet_1b", "fusion_conv")]
    evidence = evidence_of(World(world.root, runs, world.complexity[:1], []))
    table = rows(table4(evidence))
    assert table.loc["input", "note"] == "not measured: no run of fusion_input on embedded among the inputs"
    assert table.loc["input", "source"] == "paper"
    assert "size not counted: no complexity file of fusion_conv" in table.loc["conv", "note"]
    assert np.isnan(table.loc["conv", "params_m"]) and not np.isnan(table.loc["conv", "delta_psnr"])


def test_rows_without_a_common_seed_have_no_difference_and_say_so(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "ddnet_1b", 0), write_run(tmp_path, "fusion_conv", 1)]
    table = rows(table4(evidence_of(World(tmp_path, runs, [], []))))
    assert np.isnan(table.loc["conv", "delta_psnr"])
    assert "no difference to ddnet_1b: no seed in common" in table.loc["conv", "note"]


def test_footnotes_name_dataset_widths_seeds_and_provenance(evidence: Evidence) -> None:
    text = " ".join(table3(evidence).footnotes)
    for part in (
        f"embedded: {len(SCENES)} test images (3 indoor, 3 outdoor)",
        "Embedded benchmark, not DPDD",
        "not reproduction errors",
        "seeds (0, 1)",
        "500 draws",
        "Trained at width 16",
        "width 64 at 512×512",
        "Depth: monodepth2",
        "commit abc1234 (+dirty)",
        "config hash 0123abcd",
        "torch 2.13.0",
        "date 2026-11-23",
    ):
        assert part in text


SHIPPED = load_baselines(Path(__file__).parents[2] / "workflow" / "config" / "baselines.yaml")
DIFFERENT = [baseline for baseline in SHIPPED.values() if baseline.differs]


def test_every_system_says_what_its_authors_do_otherwise_once() -> None:
    told = [baseline.system for baseline in DIFFERENT]
    assert sorted(told) == sorted({baseline.system for baseline in SHIPPED.values()} - {"blurred"})
    for baseline in DIFFERENT:
        assert all(text and not text.endswith((".", ";")) and "  " not in text for text in baseline.differs.values())


@pytest.mark.parametrize("baseline", DIFFERENT, ids=lambda baseline: baseline.name)
@pytest.mark.parametrize(
    ("chosen", "asked"),
    [
        ({}, ("always",)),
        ({"weights": "official", "recipe": "own", "training": {}}, ("always", "official")),
        ({"weights": "train", "recipe": "own", "training": {}}, ("always", "train")),
        ({"weights": "train", "recipe": "", "training": {}}, ("always", "train")),
        ({"weights": "train", "recipe": "common", "training": {}}, ("always",)),
    ],
)
def test_a_footnote_says_what_differs_with_the_weights_that_a_row_has(
    evidence: Evidence, baseline: Baseline, chosen: dict[str, object], asked: tuple[str, ...]
) -> None:
    systems = {baseline.system: chosen} if chosen else {}
    table = table2(dataclasses.replace(evidence, baselines=tuple(SHIPPED.values()), systems=systems))
    [note] = [note for note in table.footnotes if note.startswith(f"{baseline.label} differs from")]
    for when, text in baseline.differs.items():
        assert (text in note) is (when in asked)
    lines = [note for note in table.footnotes if " differs from what its authors published: " in note]
    assert len(lines) == sum("always" in other.differs for other in DIFFERENT)
    alone = dataclasses.replace(evidence, baselines=(SHIPPED["blurred"], baseline), systems=systems)
    assert note in table1(alone).footnotes and note not in table3(alone).footnotes


def photographs(root: Path, datasets: tuple[str, ...], **changes: object) -> Evidence:
    main, second = split_test_sets(datasets)
    return gather(
        make_world(root, datasets=datasets).runs,
        paper=PAPER, preset="paper", dataset=main, ood_dataset=second, variants=PHOTOGRAPHS,
        depth_source="monodepth2", **{"draws": 200, **changes},
    )  # type: ignore[arg-type]  # fmt: skip


def test_on_the_papers_own_datasets_measured_and_printed_are_compared_without_a_warning(tmp_path: Path) -> None:
    evidence = photographs(tmp_path, ("dpdd", "realdof"))
    built = {name: build(evidence) for name, build in BUILDERS.items()}
    assert [table.title.split("(")[-1] for table in built.values()] == ["RealDOF)", *8 * ["DPDD)"]]
    for name, table in built.items():
        text = " ".join(table.footnotes)
        assert "another dataset" not in text and "not DPDD" not in text and "not RealDOF" not in text
        assert ("the paper's on the same test set." in text) is (name in PAPER_TEST_SET)
    assert "Measured on RealDOF: 4 test images, preset paper." in built["table1"].footnotes
    assert "Measured on DPDD: 6 test images (3 indoor, 3 outdoor), preset paper." in built["table2"].footnotes
    ours = rows(built["table2"]).loc["ddnet_2b"]
    assert ours["diff_indoor_psnr"] == pytest.approx(ours["indoor_psnr"] - 28.29)
    generalised = rows(built["table1"]).loc["ddnet_1b"]
    assert generalised["psnr"] == pytest.approx(mean_psnr("ddnet_1b", "realdof", range(4)))


def test_own_photographs_have_no_strata_and_are_not_the_printed_dataset(tmp_path: Path) -> None:
    evidence = photographs(tmp_path, ("photos", "photos_second"))
    table = table2(evidence)
    text = " ".join(table.footnotes)
    assert "Measured on photos: 6 test images, preset paper." in text and "0 indoor" not in text
    assert "photos, not DPDD: the printed numbers are of another dataset" in text
    assert "Which images are indoor and which outdoor is not known" in text
    indoor, _, both = grids(table)
    measured = [[cell.text for cell in row[1:5]] for row in indoor.rows]
    assert measured == [["—"] * 4] * len(table.frame)
    assert both.rows[-1][1].text.startswith(f"{mean_psnr('ddnet_2b', 'photos'):.2f} ±")
    assert "photos_second, not RealDOF: the printed numbers are of another dataset" in " ".join(
        table1(evidence).footnotes
    )


def test_without_a_second_test_set_all_but_table_1_can_be_built(tmp_path: Path) -> None:
    evidence = photographs(tmp_path, ("photos",))
    with pytest.raises(DDNetError, match=r"table1: preset paper has no second test set; name one \(data.second\)"):
        table1(evidence)
    for name, build in BUILDERS.items():
        if name != "table1":
            assert build(evidence).frame["n_images"].max() == len(SCENES)


def test_a_trial_says_so_in_every_form_of_every_table(tmp_path: Path) -> None:
    evidence = photographs(tmp_path, ("dpdd", "realdof"), trial=True)
    for build in BUILDERS.values():
        table = build(evidence)
        assert table.footnotes[0] == TRIAL_NOTE
        for form, path in write_table(table, tmp_path / "tables").items():
            assert (TRIAL_NOTE if form != "csv" else "trial on a few scenes; ") in path.read_text(encoding="utf-8")
    assert "same test set, of which this trial has a few scenes" in " ".join(table2(evidence).footnotes)
    assert TRIAL_NOTE not in table2(dataclasses.replace(evidence, trial=False)).footnotes


def test_table_s1_without_true_depth(tmp_path: Path, evidence: Evidence) -> None:
    table = table_s1(photographs(tmp_path, ("dpdd", "realdof")))
    assert list(rows(table).index) == ["unet_rcab", "ddnet_1b", "depth_shuffled"]
    shown = {column.name for _, columns in table.sections for column in columns}
    assert "delta_none" in shown and "delta_true" not in shown
    assert rows(table).loc["ddnet_1b", "delta_none"] == pytest.approx(
        mean_psnr("ddnet_1b", "dpdd") - mean_psnr("unet_rcab", "dpdd")
    )
    assert table.frame["delta_true"].isna().all() and not table.frame["note"].str.contains("no difference").any()
    assert "true" not in table.caption
    text = " ".join(table.footnotes)
    assert "difference to unet_rcab, with" in text
    assert "no row with true depth: it is not known for photographs" in text
    assert "not known for photographs" not in " ".join(table_s1(evidence).footnotes)
    assert list(table.frame.columns) == list(table_s1(evidence).frame.columns)


def test_unknown_paper_row_and_missing_printed_table_are_errors(evidence: Evidence, tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"no row 'gruu'.*did you mean 'gru'"):
        table4(evidence, [RowSpec("gru", "GRU", "ddnet_1b", paper_key="gruu")])
    with pytest.raises(DDNetError, match="no such file; the printed table is in version control"):
        table4(dataclasses.replace(evidence, paper=tmp_path))


@pytest.mark.parametrize("name", list(BUILDERS))
def test_columns_are_stable_and_shown_columns_exist(evidence: Evidence, name: str) -> None:
    table = BUILDERS[name](evidence)
    empty = BUILDERS[name](
        dataclasses.replace(evidence, images=evidence.images.iloc[:0], variants=tuple(INFO.values()))
    )
    assert list(table.frame.columns) == list(empty.frame.columns)
    assert list(table.frame.columns[-3:]) == ["source", "note", "provenance"]
    assert table.name == name
    for _, columns in table.sections:
        assert {column.name for column in columns} <= set(table.frame.columns)
    assert set(table.frame["source"]) <= {"measured", "paper", ""}


def test_a_second_line_of_a_system_stands_after_its_row_and_one_of_ones_own_at_the_end() -> None:
    lines = [("blurred", "blurred"), ("ebdb", "ebdb"), ("ebdb_rl", "ebdb"), ("mine", "mine")]
    keys = [
        row.key for row in comparison_rows(Baseline(name=name, system=system, label=name) for name, system in lines)
    ]
    assert keys[keys.index("ebdb") + 1] == "ebdb_rl" and keys.count("ebdb") == 1
    assert keys.index("mine") == keys.index("defocusgan") + 1
