from __future__ import annotations

from pathlib import Path

import pandas as pd
from report_runs import INFO, PARAMS, make_world, per_image, write_complexity, write_run

from ddnet.report.model_card import model_card, write_model_card

SETTINGS = {"training": {"steps": 600, "betas": [0.9, 0.999]}, "preset": "embedded"}


def test_the_card_says_what_where_and_how(tmp_path: Path) -> None:
    ref = write_run(tmp_path, "ddnet_1b", 1)
    [size] = [path for path in write_complexity(tmp_path) if path.stem == "ddnet_1b"]
    path = write_model_card(ref.folder / "model_card.md", INFO["ddnet_1b"], 1, ref.folder, size, SETTINGS)
    text = path.read_text(encoding="utf-8")
    psnr = per_image("ddnet_1b", 1).groupby("dataset")["psnr"].mean()
    for part in (
        "# DDNet (1-branch), seed 1",
        f"{PARAMS['ddnet_1b']:.2f} M parameters",
        "It is not DPDD",
        "non-commercial use",
        f"{psnr['embedded']:.2f}",
        f"{psnr['embedded_ood']:.2f}",
        "`lpips_squeeze` is missing: weights unavailable: no network",
        "- steps: `600`",
        "- rcabs: `3`",
        "- commit: `abc1234`",
        'load_run("results/runs/runs/ddnet_1b-seed1/model.pt")',
    ):
        assert part in text, part


def test_a_network_without_depth_mentions_no_depth_licence(tmp_path: Path) -> None:
    text = model_card(write_run(tmp_path, "unet_rcab", 0), INFO["unet_rcab"], {})
    assert "without depth" in text and "Monodepth2" not in text and "Size at" not in text


def test_training_data_follows_the_test_sets(tmp_path: Path) -> None:
    world = make_world(tmp_path, seeds=(0,))
    ref = next(ref for ref in world.runs if ref.variant == "ddnet_1b")
    images = pd.read_csv(ref.folder / "per_image.csv").replace({"embedded": "dpdd", "embedded_ood": "realdof"})
    images.to_csv(ref.folder / "per_image.csv", index=False)
    text = model_card(ref, INFO["ddnet_1b"], {})
    assert "training split of DPDD" in text and "embedded benchmark" not in text
