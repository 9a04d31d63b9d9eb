import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ddnet.cli.main import CONFIG
from ddnet.config import LearnedSystem, Variant, load_baselines, load_settings, load_variants, validate_settings
from ddnet.errors import DDNetError
from ddnet.planning import baselines as planning_systems
from ddnet.planning import plan as planning
from ddnet.planning.plan import CLAIMED, Plan, depth_needs, slug


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that may be edited."""
    for name in ("ddnet", "workflow", "baselines"):
        shutil.copytree(planning.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(planning, "ROOT", tmp_path)
    monkeypatch.setattr(planning, "PROJECT", tmp_path)
    return tmp_path


def make(**changes: object) -> Plan:
    return Plan(load_settings(CONFIG / "embedded.yaml", changes), load_variants(CONFIG / "variants.yaml"))


def digests(plan: Plan) -> dict[str, str]:
    return {name: plan.code("train", variant=name) for name in plan.variants}


def changed(source: Path, file: str, edit: str) -> set[str]:
    before = digests(make())
    path = source / file
    path.write_text(path.read_text() + edit)
    after = digests(make())
    return {name for name in before if before[name] != after[name]}


def test_a_comment_or_docstring_concerns_nobody(source: Path) -> None:
    assert changed(source, "ddnet/training/train.py", "\n\n# a remark\n") == set()
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
    for file in ("ddnet/training/train.py", "ddnet/training/losses.py", "ddnet/data/patches.py"):
        assert changed(source, file, "\nX = 1\n") == everyone, file


def test_settings_and_bookkeeping_are_not_code(source: Path) -> None:
    for file in (
        "ddnet/config/settings.py",
        "ddnet/runtime/provenance.py",
        "ddnet/report/tables.py",
        "ddnet/depth/sources/constant.py",
    ):
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
    assert plan.tables == ["table1", "table2", "table4", "tableS3_claims"]
    assert "ddnet_1b" in plan.study_variants("fusion")
    with pytest.raises(DDNetError, match="'fusoin' has no table"):
        make(studies=["fusoin"])


def test_claims_compare_what_the_chosen_studies_train_and_nothing_more() -> None:
    assert set(make().table_variants("tableS3_claims")) == set(CLAIMED)
    assert make(studies=["fusion"]).table_variants("tableS3_claims") == ["ddnet_1b", "fusion_input", "fusion_conv"]
    assert set(make().table_variants("tableS3_claims")) <= set(make().selected)


def test_controls_have_every_source_for_both_fusions_and_networks_of_the_grus_size() -> None:
    plan = make()
    controls = plan.study_variants("controls")
    for fusion in ("gru", "input"):
        sources = {plan.depth_source(name) for name in controls if plan.variants[name].fusion == fusion}
        assert sources == {"monodepth2", "rendered", "noisy(0.1)", "constant", "shuffled"}
    assert {"unet_rcab", "unet_rcab_matched", "fusion_conv_matched"} < set(controls)
    assert not {"tableS4_controls", "tableS5_readings"} & set(plan.tables)
    beyond = make(studies=["controls", "readings"])
    assert {"tableS4_controls", "tableS5_readings"} < set(beyond.tables)
    photographs = {paper().depth_source(name) for name in paper().study_variants("controls")}
    assert photographs == {None, "monodepth2", "constant", "shuffled"}


def test_more_fusions_are_held_against_the_gru_beyond_the_default_run() -> None:
    assert "tableS6_fusions" not in make().tables and "tableS6_fusions" in make(studies=["fusions"]).tables
    assert make().study_variants("fusions") == [
        "unet_rcab", "ddnet_1b", "fusion_input", "fusion_conv", "fusion_film", "fusion_cross_attention", "fusion_coc",
    ]  # fmt: skip


def test_of_variants_that_a_preset_makes_the_same_the_first_is_kept() -> None:
    assert "output_residual" not in make().study_variants("readings")  # the embedded preset's own output form
    assert "output_sigmoid" in make().study_variants("readings")
    assert "output_sigmoid" not in paper().study_variants("readings")
    rendered = make(depth={"source": "rendered", "fit": None}).study_variants("controls")
    assert {"ddnet_1b", "fusion_input"} < set(rendered)
    assert not {"ddnet_1b_rendered", "fusion_input_rendered"} & set(rendered)


def test_a_variant_may_have_seeds_of_its_own() -> None:
    plan = make(seeds=2, seeds_of={"ddnet_1b": 4})
    assert [run.seed for run in plan.runs(["ddnet_1b", "unet"])] == [0, 1, 2, 3, 0, 1]
    assert paper().seeds("unet_rcab") == paper().seeds("ddnet_1b") == (0, 1, 2, 3, 4)
    with pytest.raises(DDNetError, match="seeds_of: no variant 'ddnet_1c'; did you mean 'ddnet_1b'"):
        make(seeds_of={"ddnet_1c": 3})


def test_what_a_variant_is_called_and_where_it_stands_trains_nothing_anew() -> None:
    unet = make().variants["unet"]
    renamed = unet.model_copy(update={"label": "U-Net", "study": ("modules", "controls"), "aliases": ("base",)})
    assert renamed.trained() == unet.trained() != unet.model_copy(update={"branches": (1,)}).trained()
    assert Variant(**unet.trained()).label == "unet"


def test_depth_sources() -> None:
    plan = make()
    assert plan.depth_source("ddnet_1b") == "monodepth2"
    assert plan.depth_source("ddnet_1b_rendered") == "rendered"
    assert plan.depth_source("unet_rcab") is None
    assert slug("noisy(0.1)") == "noisy-0.1"
    assert slug("monodepth2") == "monodepth2"


def test_an_unknown_fusion_names_the_file_to_write(tmp_path: Path) -> None:
    table = tmp_path / "variants.yaml"
    table.write_text((CONFIG / "variants.yaml").read_text() + "\nfusion_additive: {fusion: additive, study: fusion}\n")
    with pytest.raises(DDNetError, match=r"no fusion 'additive'.*ddnet/models/fusion/additive.py"):
        Plan(load_settings(CONFIG / "embedded.yaml"), load_variants(table))


def test_two_fusions_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("film", "json.decoder:JSONDecoder", "ddnet.fusion")
    monkeypatch.setattr(planning, "entry_points", lambda group: [point])
    with pytest.raises(DDNetError, match=r"several fusions are called 'film', from json.decoder and ddnet; uninstall"):
        make(studies=["fusions"])
    assert make().selected


def test_an_unknown_depth_source_names_the_nearest() -> None:
    with pytest.raises(DDNetError, match="no depth source 'monodeth2'; did you mean 'monodepth2'"):
        make(depth={"source": "monodeth2"})
    assert make(depth={"source": "noisy(0.2)"}).depth_source("ddnet_1b") == "noisy(0.2)"


def paper(**changes: object) -> Plan:
    return Plan(load_settings(CONFIG / "paper.yaml", changes), load_variants(CONFIG / "variants.yaml"))


def photos(**changes: object) -> Plan:
    data = {"kind": "folder", "path": "mine", **changes}
    settings = load_settings(CONFIG / "embedded.yaml").model_dump(mode="json") | {"data": data}
    settings["depth"] |= {"source": "constant", "fit": None}
    settings["systems"] = {}
    return Plan(validate_settings(settings, "here"), load_variants(CONFIG / "variants.yaml"))


def test_the_paper_preset_fetches_two_datasets_and_one_network() -> None:
    plan = paper()
    assert plan.items == ["dpdd", "realdof", "monodepth2"]
    assert plan.datasets == ("dpdd", "realdof") and plan.tables[0] == "table1"
    assert paper(depth={"source": "depth_anything"}).items == ["dpdd", "realdof", "depth_anything"]
    assert make().items == []


def test_photographs_have_no_true_depth() -> None:
    assert "ddnet_1b_rendered" in make().study_variants("depth")
    assert paper().study_variants("depth") == ["unet_rcab", "ddnet_1b", "ddnet_1b_constant"]
    with pytest.raises(DDNetError, match=r"'noisy\(0.1\)' needs true depth, which data of kind 'dpdd' does not have"):
        paper(depth={"source": "noisy(0.1)"})
    with pytest.raises(DDNetError, match="has no true depth to fit a network on; write fit: null"):
        paper(depth={"fit": {"steps": 3}})


def test_an_own_folder_may_have_one_test_set() -> None:
    assert photos().datasets == ("photos",) and photos().tables[0] == "table2"
    assert photos(second="others", name="mine").datasets == ("mine", "mine_second")
    assert photos(second="others").tables[0] == "table1"
    with pytest.raises(DDNetError, match="belongs to another dataset"):
        photos(name="dpdd_mine")


def test_an_own_folders_pictures_are_inputs(tmp_path: Path) -> None:
    for name in ("source/a.png", "target/a.png", "source/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert photos(path=tmp_path).settings.data.pictures() == [
        str(tmp_path / name) for name in ("source/a.png", "target/a.png")
    ]
    with pytest.raises(DDNetError, match=r"data.second: no pictures in .*nowhere; name a folder that holds source/"):
        photos(path=tmp_path, second=tmp_path / "nowhere").settings.data.pictures()
    (tmp_path / "source" / "{b}.png").write_bytes(b"x")
    with pytest.raises(DDNetError, match=r"data.path: .*\{b\}.png.*braces .* rename it"):
        photos(path=tmp_path).settings.data.pictures()


def test_depth_of_patches_is_for_networks_on_sizes_they_take() -> None:
    assert paper(depth={"training": "patch"}).settings.depth.training == "patch"
    with pytest.raises(DDNetError, match="'constant' runs none, write image"):
        paper(depth={"training": "patch", "source": "constant"})
    with pytest.raises(DDNetError, match="multiple of 32, at least 64, not 80"):
        paper(depth={"training": "patch"}, training={"patches": {"size": 80}})


def test_the_needs_of_a_depth_source_are_read_from_its_file() -> None:
    assert depth_needs("monodepth2") == {"model"}
    assert depth_needs("noisy(0.1)") == {"true_depth"}
    assert depth_needs("constant") == depth_needs("of_another_package") == frozenset()


def with_systems(**systems: object) -> Plan:
    baselines = load_baselines(CONFIG / "baselines.yaml")
    settings = load_settings(CONFIG / "embedded.yaml").model_dump(mode="json") | {"systems": systems}
    return Plan(validate_settings(settings, "here"), load_variants(CONFIG / "variants.yaml"), baselines)


def test_a_system_without_weights_is_left_out_and_the_others_are_measured() -> None:
    plan = with_systems(jnb={"weights": "train"}, dmenet={"weights": "none"})
    assert {"blurred", "ebdb", "jnb"} <= set(plan.measured_baselines) == set(plan.table_baselines("table2"))
    assert not {"dmenet", "dmenet_rl"} & set(plan.measured_baselines)
    assert (plan.systems_with("train"), plan.systems_with("official")) == (["jnb"], [])
    assert set(plan.map_systems) == {"ebdb", "jnb"}
    assert set(with_systems().map_systems) == {"ebdb"}


def test_official_weights_are_fetched() -> None:
    assert with_systems(defocusgan={"weights": "official"}).table_baselines("table1") == ["blurred", "defocusgan"]
    plan = with_systems(dmenet={"weights": "official"})
    assert plan.systems_with("official") == ["dmenet"] and "dmenet" in plan.items
    assert "dmenet" not in with_systems(dmenet={"weights": "train"}).items


def test_weights_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(DDNetError, match=r"systems: no compared system 'dmnet' needs weights; did you mean 'dmenet'\?"):
        with_systems(dmnet={"weights": "train"})
    with pytest.raises(DDNetError, match=r"no compared system 'ebdb' needs weights"):
        with_systems(ebdb={"weights": "train"})
    with pytest.raises(DDNetError, match=r"systems\.dmenet\.training: unknown key 'stepz'; did you mean 'steps'\?"):
        with_systems(dmenet={"weights": "train", "training": {"stepz": 3}})
    with pytest.raises(DDNetError, match=r"systems\.jnb\.weights: its authors' file is not public"):
        with_systems(jnb={"weights": "official"})
    baselines = load_baselines(CONFIG / "baselines.yaml")
    without = baselines | {"kpac": baselines["kpac"].model_copy(update={"recipe": None})}
    preset = load_settings(CONFIG / "embedded.yaml", {"systems": {"kpac": {"weights": "train"}}})
    with pytest.raises(DDNetError, match=r"systems\.kpac\.weights: nothing says how to train it; give its line"):
        Plan(preset, load_variants(CONFIG / "variants.yaml"), without)
    photographs = load_settings(CONFIG / "folder.yaml", {"systems": {"dmenet": {"weights": "train"}}})
    with pytest.raises(DDNetError, match=r"systems\.dmenet\.weights: it learns from the true blur"):
        Plan(photographs, load_variants(CONFIG / "variants.yaml"), baselines)


def test_a_network_is_trained_by_its_own_recipe_or_by_the_presets() -> None:
    plan = with_systems(
        dpdnet={"weights": "train", "training": {"width": 8, "steps": 50}},
        kpac={"weights": "train", "recipe": "common", "training": {"batch": 3}},
        jnb={"weights": "train"},
    )
    own, common = plan.training_of("dpdnet"), plan.training_of("kpac")
    assert (own["loss"], own["lr"], own["batch"], own["crop"]) == ({"mse": 1.0}, 2e-5, 5, None)
    assert (own["width"], own["steps"], own["milestones"]) == (8, 50, [0.3, 0.6, 0.9])
    training = plan.settings.training
    assert (common["loss"], common["lr"], common["batch"]) == ({"l1": 1.0}, training.lr, 3)
    assert common["perceptual"] == training.perceptual.model_dump() and common["steps"] == training.steps
    assert plan.training_of("jnb") == {}
    assert [plan.learned_systems[name]["recipe"] for name in ("dpdnet", "kpac", "jnb")] == ["own", "common", ""]


def test_the_trunks_of_all_losses_are_fetched() -> None:
    assert with_systems().trunks == ["vgg16"]
    assert with_systems(defocusgan={"weights": "train"}).trunks == ["vgg16", "vgg19"]
    assert with_systems(defocusgan={"weights": "official"}).trunks == ["vgg16"]


@pytest.mark.parametrize(
    ("system", "entry", "message"),
    [
        ("dpdnet", {"training": {"stepz": 3}}, r"systems\.dpdnet\.training: unknown key 'stepz'; did you mean 'steps'"),
        ("dpdnet", {"training": {"crop": 100}}, r"systems\.dpdnet\.training: 'crop' is 100"),
        ("ifan", {"training": {"crop": None}}, r"systems\.ifan\.training: .*scale needs crop to be a number"),
        ("ifan", {"training": {"steps": None}}, r"systems\.ifan\.training: .*write steps, or epochs with crop"),
        ("jnb", {"recipe": "common"}, r"systems\.jnb\.recipe: the common one is for networks that restore"),
    ],
)
def test_recipes_are_checked_when_planning(system: str, entry: dict, message: str) -> None:
    with pytest.raises(DDNetError, match=message) as caught:
        with_systems(**{system: {"weights": "train", **entry}})
    assert "\n" not in str(caught.value)


def test_terms_that_need_views_are_read_from_the_code() -> None:
    assert planning_systems.view_terms("mdpnet") == {"views", "difference"}
    assert planning_systems.view_terms("ifan") == {"disparity"} and planning_systems.view_terms("kpac") == set()


@pytest.mark.parametrize(
    ("system", "message", "terms"),
    [
        (
            "mdpnet",
            "systems.mdpnet.training.loss: difference and views need the two views of a dual-pixel sensor, which data "
            "of kind 'folder' does not have; write training: {loss: {difference: 0, views: 0}}",
            {"difference": 0, "views": 0},
        ),
        (
            "ifan",
            "systems.ifan.training.loss: disparity needs the two views of a dual-pixel sensor, which data of kind "
            "'folder' does not have; write training: {loss: {disparity: 0}}",
            {"disparity": 0},
        ),
    ],
)
def test_a_folder_has_no_views_to_compare_with(system: str, message: str, terms: dict[str, int]) -> None:
    def photographs(**entry: object) -> Plan:
        chosen = {system: LearnedSystem.model_validate({"weights": "train", **entry})}
        settings = load_settings(CONFIG / "folder.yaml").model_copy(update={"systems": chosen})
        return Plan(settings, load_variants(CONFIG / "variants.yaml"), load_baselines(CONFIG / "baselines.yaml"))

    with pytest.raises(DDNetError) as caught:
        photographs()
    assert str(caught.value) == message
    assert photographs(training={"loss": terms}).systems_with("train") == [system]


def test_turns_and_views_are_refused_when_planning() -> None:
    with pytest.raises(DDNetError) as caught:
        with_systems(ifan={"weights": "train", "training": {"augment": ["turns"]}})
    assert str(caught.value) == (
        "systems.ifan.training.augment: a turned picture has no left and right view, which the loss's disparity "
        "compares with; leave turns out, or write loss: {disparity: 0}"
    )


def test_views_of_dpdd_are_asked_for_where_a_loss_compares_with_them() -> None:
    def photographs(data: dict, **training: object) -> Plan:
        chosen = {"mdpnet": LearnedSystem.model_validate({"weights": "train", "training": training})}
        settings = load_settings(CONFIG / "paper.yaml", {"data": data}).model_copy(update={"systems": chosen})
        return Plan(settings, load_variants(CONFIG / "variants.yaml"), load_baselines(CONFIG / "baselines.yaml"))

    with pytest.raises(DDNetError, match=r"difference and views need the two views .* write data: \{kind: dpdd, views"):
        photographs({})
    assert photographs({"views": True}).training_of("mdpnet")["loss"]["views"] == 0.2
    assert photographs({}, loss={"views": 0, "difference": 0}).training_of("mdpnet")["loss"]["mse"] == 1
