import shutil
from pathlib import Path

import pytest

from ddnet import plan as planning
from ddnet.cli import CONFIG
from ddnet.config import load_settings, load_variants
from ddnet.errors import DDNetError
from ddnet.plan import Plan, slug

TRAIN = ["ddnet.engine.train"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that may be edited."""
    for name in ("ddnet", "workflow", "baselines"):
        shutil.copytree(planning.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(planning, "ROOT", tmp_path)
    return tmp_path


def make(**changes: object) -> Plan:
    return Plan(load_settings(CONFIG / "embedded.yaml", changes), load_variants(CONFIG / "variants.yaml"))


def digests(plan: Plan) -> dict[str, str]:
    return {name: plan.code(TRAIN, name, "train") for name in plan.variants}


def changed(source: Path, file: str, edit: str) -> set[str]:
    before = digests(make())
    path = source / file
    path.write_text(path.read_text() + edit)
    after = digests(make())
    return {name for name in before if before[name] != after[name]}


def test_a_comment_or_docstring_concerns_nobody(source: Path) -> None:
    assert changed(source, "ddnet/engine/train.py", "\n\n# a remark\n") == set()
    path = source / "ddnet/models/fusion/gru.py"
    before = digests(make())
    path.write_text(path.read_text().replace("One fusion cell of the decoder", "A cell"))
    assert digests(make()) == before


def test_the_gru_concerns_only_gru_variants(source: Path) -> None:
    variants = make().variants
    assert changed(source, "ddnet/models/fusion/gru.py", "\nX = 1\n") == {
        name for name, variant in variants.items() if variant.fusion == "gru"
    }


def test_the_u_net_concerns_only_the_base_row(source: Path) -> None:
    assert changed(source, "ddnet/models/unet.py", "\nX = 1\n") == {"unet"}


def test_the_training_loop_and_what_it_imports_concern_all(source: Path) -> None:
    everyone = set(make().variants)
    for file in ("ddnet/engine/train.py", "ddnet/losses.py", "ddnet/data/patches.py", "workflow/scripts/train.py"):
        assert changed(source, file, "\nX = 1\n") == everyone, file


def test_settings_and_bookkeeping_are_not_code(source: Path) -> None:
    for file in ("ddnet/config.py", "ddnet/provenance.py", "ddnet/report/tables.py", "ddnet/depth/constant.py"):
        assert changed(source, file, "\nX = 1\n") == set(), file


def test_tables_share_the_one_branch_network() -> None:
    plan = make()
    assert set(plan.table_variants("table3")) == {"unet", "unet_rcab", "ddnet_1b", "ddnet_2b", "ddnet_3b"}
    assert set(plan.table_variants("table4")) == {"ddnet_1b", "fusion_input", "fusion_conv"}
    assert plan.table_variants("table1") == ["ddnet_1b"]
    assert "ddnet_1b" in plan.table_variants("tableS1_depth")
    names = [run.name for run in plan.runs(plan.selected)]
    assert len(names) == len(set(names)) == len(plan.selected) * len(plan.settings.seeds)


def test_a_study_brings_its_reference_along() -> None:
    plan = make(studies=["fusion"])
    assert plan.tables == ["table1", "table2", "table4"]
    assert "ddnet_1b" in plan.study_variants("fusion")
    with pytest.raises(DDNetError, match="'fusoin' has no table"):
        make(studies=["fusoin"])


def test_depth_sources() -> None:
    plan = make()
    assert plan.depth_source("ddnet_1b") == "monodepth2"
    assert plan.depth_source("ddnet_1b_rendered") == "rendered"
    assert plan.depth_source("unet_rcab") is None
    assert slug("noisy(0.1)") == "noisy-0.1"
    assert slug("monodepth2") == "monodepth2"


def test_an_unknown_fusion_names_the_file_to_write(tmp_path: Path) -> None:
    table = tmp_path / "variants.yaml"
    table.write_text((CONFIG / "variants.yaml").read_text() + "\nfusion_film: {fusion: film, study: fusion}\n")
    with pytest.raises(DDNetError, match=r"no fusion 'film'.*ddnet/models/fusion/film.py"):
        Plan(load_settings(CONFIG / "embedded.yaml"), load_variants(table))


def test_an_unknown_depth_source_names_the_nearest() -> None:
    with pytest.raises(DDNetError, match="no depth source 'monodeth2'; did you mean 'monodepth2'"):
        make(depth={"source": "monodeth2"})
    assert make(depth={"source": "noisy(0.2)"}).depth_source("ddnet_1b") == "noisy(0.2)"


@pytest.mark.parametrize("preset", ["paper", "paper-short"])
def test_presets_without_data_say_so_at_once(preset: str) -> None:
    with pytest.raises(DDNetError, match=f"preset {preset}: data of kind 'dpdd' cannot be fetched yet"):
        Plan(load_settings(CONFIG / f"{preset}.yaml"), load_variants(CONFIG / "variants.yaml"))
