from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest
from report_runs import INFO, PARAMS, per_image, write_complexity, write_run

from ddnet.report.model_card import model_card, write_model_card
from ddnet.report.wording import TRIAL_NOTE

FITTED = {"source": "monodepth2", "fit": {"steps": 400}, "training": "image"}
PUBLISHED = {**FITTED, "fit": None}
SETTINGS = {"training": {"steps": 600, "betas": [0.9, 0.999]}, "preset": "embedded"}


def test_the_card_says_what_where_and_how(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 1)
    [size] = [path for path in write_complexity(tmp_path) if path.stem == "ddnet_1b"]
    path = write_model_card(ref.folder / "model_card.md", INFO["ddnet_1b"], 1, ref.folder, size, SETTINGS, depth=FITTED)
    text = path.read_text(encoding="utf-8")
    psnr = per_image("ddnet_1b", 1).groupby("dataset")["psnr"].mean()
    for part in (
        "# DDNet (1-branch), seed 1",
        f"{PARAMS['ddnet_1b']:.2f} M parameters",
        "It is not DPDD",
        "fitted on this benchmark from scratch",
        f"{psnr['embedded']:.2f}",
        f"{psnr['embedded_ood']:.2f}",
        "`lpips_squeeze` is missing: weights unavailable: no network",
        "- steps: `600`",
        "- rcabs: `3`",
        "- commit: `abc1234`",
        'load_run(Path("results/runs/runs/ddnet_1b-seed1/model.pt"))',
        "under the MIT licence",
        "come with scikit-image and scikit-learn",
    ):
        assert part in text, part
    assert "non-commercial" not in text and TRIAL_NOTE not in text


def test_a_mean_stands_in_its_interval_over_images(tmp_path: Path) -> None:
    text = model_card(write_run(tmp_path, "ddnet_1b", 1), INFO["ddnet_1b"], {}, depth=FITTED)
    row = next(line for line in text.splitlines() if line.startswith("| embedded "))
    values = per_image("ddnet_1b", 1)
    values = values[values["dataset"] == "embedded"]["psnr"]
    mean, low, high = map(float, re.findall(r"(\d+\.\d+) \[(\d+\.\d+), (\d+\.\d+)\]", row)[0])
    assert mean == pytest.approx(values.mean(), abs=0.005) and low < mean < high
    half = 1.96 * values.std(ddof=0) / len(values) ** 0.5
    assert high - low == pytest.approx(2 * half, rel=0.1)


def test_the_python_of_a_card_names_what_there_is(tmp_path: Path) -> None:
    for variant, depth in (("ddnet_1b", True), ("unet", False)):
        text = model_card(write_run(tmp_path, variant, 0), INFO[variant], {}, depth=PUBLISHED)
        [code] = re.findall(r"```python\n(.*?)```", text, re.S)
        names: dict[str, object] = {}
        imports = "\n".join(line for line in code.splitlines() if line.startswith("from "))
        exec(compile(imports, "card", "exec"), names)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                assert node.id in names or node.id in ("run", "restored")
        assert ("read_depth16" in code) is depth


def test_every_card_has_the_sections_of_a_model_card(tmp_path: Path) -> None:
    text = model_card(write_run(tmp_path, "unet", 0, ("dpdd",)), INFO["unet"], {}, depth=PUBLISHED)
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sections[:6] == ["Intended use", "Training data", "Depth", "Licence", "Limitations", "Results"]
    assert "this network sees the photograph alone" in text and "ECCV 2020" in text and "rendered" not in text


def test_a_network_without_depth_mentions_no_depth_licence(tmp_path: Path) -> None:
    text = model_card(write_run(tmp_path, "unet_rcab", 0), INFO["unet_rcab"], {}, depth=PUBLISHED)
    assert "without depth" in text and "Monodepth2" not in text and "Size at" not in text


@pytest.mark.parametrize(
    ("datasets", "said", "unsaid"),
    [
        (("dpdd", "realdof"), ("training split of DPDD", "| DPDD ", "| RealDOF "), ("embedded", "not DPDD", "| dpdd ")),
        (("photos", "photos_second"), ("split of `photos`", "not DPDD", "| photos_second "), ("embedded", "Canon")),
        (("photos",), ("split of `photos`",), ("photos_second",)),
    ],
)
def test_training_data_and_names_follow_the_test_sets(
    tmp_path: Path, datasets: tuple[str, ...], said: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    text = model_card(write_run(tmp_path, "ddnet_1b", 0, datasets), INFO["ddnet_1b"], {}, depth=PUBLISHED)
    assert all(part in text for part in said), text
    assert not any(part in text for part in unsaid), text


def test_depth_licences_are_those_of_the_weights_that_were_used(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0, ("dpdd", "realdof"))

    def card(variant: str, own: str = "", **depth: object) -> str:
        info = dataclasses.replace(INFO[variant], depth_source=own or INFO[variant].depth_source)
        return model_card(ref, info, {}, depth={**PUBLISHED, **depth})

    published, anything = card("ddnet_1b"), card("ddnet_1b", "depth_anything", source="depth_anything")
    assert "non-commercial" in published and "Apache" not in published and "each patch alone" not in published
    assert "Apache-2.0" in anything and "Monodepth2" not in anything
    assert "non-commercial" in card("depth_shuffled")  # another scene's map of the same network
    constant = card("ddnet_1b", "constant", training="patch")
    assert "Monodepth2" not in constant and "each patch alone" not in constant
    assert "each patch alone" in card("ddnet_1b", training="patch")


def test_a_trial_s_card_says_so_before_any_number(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 0, ("dpdd", "realdof"))
    text = model_card(ref, INFO["ddnet_1b"], {}, depth=PUBLISHED, trial=True)
    assert 0 < text.index(TRIAL_NOTE) < text.index("## Results")
