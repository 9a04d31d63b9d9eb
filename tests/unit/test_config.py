import json
import re
from pathlib import Path

import pytest
import yaml

from ddnet.cli.main import CONFIG, PRESETS
from ddnet.config import Settings, find_variant, load_baselines, load_settings, load_variants
from ddnet.errors import DDNetError
from ddnet.planning.plan import Plan


@pytest.mark.parametrize("preset", PRESETS)
def test_every_shipped_preset_is_valid_and_named_after_its_file(preset: str) -> None:
    assert load_settings(CONFIG / f"{preset}.yaml").preset == preset


def test_presets_share_one_protocol_outside_the_declared_scale() -> None:
    """What the reduced scale does not name is as in the paper preset."""
    paper, embedded = (load_settings(CONFIG / f"{name}.yaml") for name in ("paper", "embedded"))
    assert paper.training.perceptual.weight == 0.012 and embedded.training.perceptual.weight > 0
    assert embedded.evaluation.metrics == paper.evaluation.metrics
    assert embedded.training.patches.stride == paper.training.patches.stride == 0.4
    assert embedded.training.patches.drop == paper.training.patches.drop == 0.3
    assert embedded.studies == paper.studies
    assert embedded.complexity == paper.complexity


def test_paper_short_is_the_paper_with_a_tenth_of_the_steps() -> None:
    paper, short = (load_settings(CONFIG / f"{name}.yaml") for name in ("paper", "paper-short"))
    assert short.training.steps == 7000 * paper.training.epochs // paper.training.batch // 10
    own = load_baselines(CONFIG / "baselines.yaml")
    for name, short_system in short.systems.items():
        changed = {key: value for key, value in short_system.training.items() if key != "loss"}
        assert changed == {key: getattr(own[name].recipe, key) // 10 for key in changed}
        assert set(changed) <= {"steps", "epochs"}
        assert short_system.training.get("loss") == paper.systems[name].training.get("loss")
    same = {"training": {"steps", "epochs", "validate_every"}, "preset": True, "seeds": True, "seeds_of": True}
    same |= {"systems": {name: {"training"} for name in short.systems}}
    assert short.model_dump(exclude=same) == paper.model_dump(exclude=same)


@pytest.mark.parametrize(
    ("change", "wrong", "nearest"),
    [
        ({"sedes": 2}, "sedes", "seeds"),
        ({"training": {"stepz": 3}}, "training.stepz", "steps"),
        ({"training": {"perceptual": {"wieght": 0.1}}}, "training.perceptual.wieght", "weight"),
        ({"training": {"patches": {"sise": 64}}}, "training.patches.sise", "size"),
        ({"data": {"lens_sample": 64}}, "data.lens_sample", "lens_samples"),
        ({"depth": {"fit": {"step": 3}}}, "depth.fit.step", "steps"),
        ({"model": {"widht": 16}}, "model.widht", "width"),
        ({"evaluation": {"metric": ["psnr"]}}, "evaluation.metric", "metrics"),
    ],
)
def test_a_typo_in_any_key_is_one_line_with_the_nearest_key(change: dict, wrong: str, nearest: str) -> None:
    with pytest.raises(DDNetError) as caught:
        load_settings(CONFIG / "embedded.yaml", change)
    message = str(caught.value)
    assert "\n" not in message
    assert f"unknown key '{wrong}'; did you mean '{nearest}'?" in message


def test_every_key_of_every_preset_is_guarded() -> None:
    """Appending a letter to any key anywhere must be refused: no free-form section swallows a typo."""

    def paths(values: dict, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for key, value in values.items():
            found.append((*prefix, key))
            if isinstance(value, dict):
                found += paths(value, (*prefix, key))
        return found

    values, variants = yaml.safe_load((CONFIG / "embedded.yaml").read_text()), load_variants(CONFIG / "variants.yaml")
    baselines = load_baselines(CONFIG / "baselines.yaml")
    for path in paths(values):
        change: dict = {path[-1] + "x": 1}
        for key in reversed(path[:-1]):
            change = {key: change}
        whole, last = re.escape(".".join(path)), path[-1]
        with pytest.raises(DDNetError, match=rf"unknown key '([\w.]+\.)?{last}x'|'{whole}x' is 1: "):
            Plan(load_settings(CONFIG / "embedded.yaml", change), variants, baselines)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"seeds": 0}, "seeds"), ({"training": {"lr": -1}}, "training.lr"), ({"data": {"size": 100}}, "data.size")],
)
def test_a_bad_value_names_its_key(change: dict, words: str) -> None:
    with pytest.raises(DDNetError, match=words):
        load_settings(CONFIG / "embedded.yaml", change)


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2\nb: }")
    for path in (broken, tmp_path / "missing.yaml"):
        with pytest.raises(DDNetError) as caught:
            load_settings(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_seeds_may_be_a_count() -> None:
    assert load_settings(CONFIG / "embedded.yaml", {"seeds": 3}).seeds == (0, 1, 2)
    assert load_settings(CONFIG / "embedded.yaml", {"seeds": [4, 7]}).seeds == (4, 7)


def test_variants_table(tmp_path: Path) -> None:
    variants = load_variants(CONFIG / "variants.yaml")
    assert find_variant(variants, "fusion_gru") is variants["ddnet_1b"]
    with pytest.raises(DDNetError, match="did you mean 'ddnet_2b'"):
        find_variant(variants, "ddnet_2")
    table = tmp_path / "variants.yaml"
    table.write_text("a: {study: fusion, fusoin: gru}")
    with pytest.raises(DDNetError, match="variant 'a'.*'fusoin'; did you mean 'fusion'"):
        load_variants(table)
    table.write_text("a: {study: fusion, aliases: [b]}\nb: {study: fusion}")
    with pytest.raises(DDNetError, match="name used twice: b"):
        load_variants(table)
    table.write_text("a: {study: fusion, arch: unet}")
    with pytest.raises(DDNetError, match="fusion: none"):
        load_variants(table)


def test_the_schema_for_editors_is_up_to_date() -> None:
    stored = json.loads((CONFIG / "schema.json").read_text())
    assert stored == Settings.model_json_schema(), "run `ddnet schema > workflow/config/schema.json`"
    for preset in PRESETS:
        assert (CONFIG / f"{preset}.yaml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")
