"""Synthetic run folders with known numbers, shared by the tests of `ddnet.report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ddnet.io.images import write_depth16, write_image
from ddnet.report.collect import RunRef, VariantInfo
from ddnet.report.panels import PanelScene

PAPER = Path(__file__).parents[2] / "results" / "paper"
SCENES = [(f"s{number:02d}", "indoor" if number % 2 == 0 else "outdoor") for number in range(6)]
SECOND = ("embedded_ood", "realdof", "photos_second")
LEVELS = {  # mean PSNR of a variant, before the seed's and the image's own offsets
    "blurred": 24.0, "unet": 25.0, "unet_rcab": 25.3, "ddnet_1b": 26.0, "ddnet_2b": 26.1, "ddnet_3b": 26.15,
    "fusion_input": 25.7, "fusion_conv": 25.8, "fusion_film": 25.9, "depth_true": 26.4,
    "depth_shuffled": 25.2,
}  # fmt: skip
PARAMS = {
    "unet": 2.539427, "unet_rcab": 2.085, "ddnet_1b": 2.646308, "ddnet_2b": 4.090948, "ddnet_3b": 6.131076,
    "fusion_input": 2.086, "fusion_conv": 2.277156, "fusion_film": 2.3, "depth_true": 2.646308,
    "depth_shuffled": 2.646308,
}  # fmt: skip
VARIANTS = (
    VariantInfo("unet", "Base (U-Net)", ("modules",), "unet"),
    VariantInfo("unet_rcab", "RCAB, no depth", ("modules", "depth")),
    VariantInfo(
        "ddnet_1b", "DDNet (1-branch)", ("modules", "fusion", "depth"), fusion="gru",
        depth_source="monodepth2", config={"arch": "ddnet", "rcabs": [3]},
    ),
    VariantInfo("ddnet_2b", "DDNet (2-branch)", ("modules",), fusion="gru", branches=2),
    VariantInfo("ddnet_3b", "DDNet (3-branch)", ("modules",), fusion="gru", branches=3),
    VariantInfo("fusion_input", "Input fusion", ("fusion",), fusion="input"),
    VariantInfo("fusion_conv", "Convolution fusion", ("fusion",), fusion="conv"),
    VariantInfo("fusion_film", "FiLM", ("fusion",), fusion="film"),
    VariantInfo("depth_true", "GRU, true depth", ("depth",), fusion="gru", depth_source="rendered"),
    VariantInfo("depth_shuffled", "GRU, shuffled depth", ("depth",), fusion="gru", depth_source="shuffled"),
)  # fmt: skip
PHOTOGRAPHS = tuple(variant for variant in VARIANTS if variant.depth_source != "rendered")
LOCATED = ("embedded", "embedded_ood", "dpdd")  # datasets that tell indoor from outdoor
INFO = {variant.name: variant for variant in VARIANTS}
MANIFEST = {
    "commit": "abc1234", "dirty": True, "config_hash": "0123abcd", "device": "cpu, 2 threads",
    "date": "2026-11-23",
    "versions": {"ddnet": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A small results folder: its runs, complexity files and panel scenes."""

    root: Path
    runs: list[RunRef]
    complexity: list[Path]
    scenes: list[PanelScene]


def psnr(variant: str, seed: int, position: int, dataset: str) -> float:
    """The number that stands in the fixture; nothing random, so that tests can recompute it."""
    wobble = 0.05 * ((7 * position + 3 * len(variant) + 5 * seed) % 5 - 2)
    return LEVELS[variant] + 0.5 * position + 0.04 * seed + wobble - (1.0 if dataset in SECOND else 0.0)


def per_image(variant: str, seed: int | None, datasets: Sequence[str] = ("embedded", "embedded_ood")) -> pd.DataFrame:
    """The per-image CSV of one run, with SqueezeNet's LPIPS unavailable; `datasets` has one name or two."""
    rows = []
    for dataset, scenes in zip(datasets, (SCENES, SCENES[:4]), strict=False):
        for position, (scene, location) in enumerate(scenes):
            value = psnr(variant, seed or 0, position, dataset)
            rows.append(
                {
                    "dataset": dataset,
                    "scene": scene,
                    "location": location if dataset in LOCATED else "",
                    "psnr": value,
                    "psnr_8bit": value - 0.01,
                    "ssim": 0.7 + 0.01 * (value - 24),
                    "mae": 0.05 - 0.002 * (value - 24),
                    "lpips_alex": 0.2 - 0.01 * (value - 24),
                    "lpips_squeeze": np.nan,
                    "seconds": 0.5,
                }
            )
    return pd.DataFrame(rows)


def write_run(
    root: Path, variant: str, seed: int | None, datasets: Sequence[str] = ("embedded", "embedded_ood")
) -> RunRef:
    """Write one run folder without pictures."""
    label = INFO[variant].label if variant in INFO else "Blurred input"
    ref = RunRef(variant, seed, label, root / "runs" / (variant if seed is None else f"{variant}-seed{seed}"))
    ref.folder.mkdir(parents=True, exist_ok=True)
    per_image(variant, seed, datasets).to_csv(ref.folder / "per_image.csv", index=False)
    evaluation = {
        "unavailable": {"lpips_squeeze": "weights unavailable: no network"},
        "depth_source": "monodepth2",
    }
    (ref.folder / "evaluation.json").write_text(json.dumps(evaluation))
    if seed is not None:
        (ref.folder / "manifest.json").write_text(json.dumps(MANIFEST))
        steps = np.arange(1, 11) * 60
        reached = LEVELS[variant] - 2.5 * np.exp(-steps / 200) + 0.05 * seed
        history = {
            "step": steps,
            "epoch": steps // 60,
            "lr": 2e-4,
            "loss": 0.1 - 1e-4 * steps,
            "val_psnr": reached,
        }
        pd.DataFrame({**history, "val_l1": np.nan, "seconds": steps * 0.1}).to_csv(
            ref.folder / "history.csv", index=False
        )
    return ref


def write_complexity(root: Path) -> list[Path]:
    """Complexity JSON files of all variants."""
    folder = root / "complexity"
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in PARAMS.items():
        value = {"variant": name, "params_m": size, "macs_g": 60 * size, "size": 512, "width": 64}
        (folder / f"{name}.json").write_text(json.dumps(value))
    return sorted(folder.glob("*.json"))


def _picture(height: int, width: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([0.5 + 0.4 * np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c)) for c in range(3)], axis=-1)
    return np.clip(image + 0.05 * generator.standard_normal(image.shape), 0, 1).astype(np.float32)


def _blur(image: np.ndarray, radius: int) -> np.ndarray:
    import cv2

    return np.asarray(cv2.blur(image, (2 * radius + 1, 2 * radius + 1)), dtype=np.float32)


def write_pictures(root: Path, runs: list[RunRef], height: int = 64, width: int = 96) -> list[PanelScene]:
    """Write input, target, depth, restored images and gates of one indoor and one outdoor scene."""
    scenes = []
    for number, (scene, location) in enumerate(SCENES[:2]):
        target = _picture(height, width, number)
        image = target.copy()
        image[:, width // 2 :] = _blur(target, 4)[:, width // 2 :]
        depth = np.tile(np.linspace(0.1, 0.9, width, dtype=np.float32), (height, 1))
        folder = root / "scenes" / scene
        write_image(folder / "image.png", image)
        write_image(folder / "target.png", target)
        write_depth16(folder / "depth.png", depth)
        scenes.append(
            PanelScene("embedded", scene, location, folder / "image.png", folder / "target.png", folder / "depth.png")
        )
        for ref in runs:
            write_image(ref.folder / "restored" / "embedded" / f"{scene}.png", 0.5 * (image + target))
            if ref.variant in INFO and INFO[ref.variant].fusion == "gru":
                path = ref.folder / "gates" / "embedded" / f"{scene}.npz"
                path.parent.mkdir(parents=True, exist_ok=True)
                names = ("z_full", "z_half", "z_quarter", "z_eighth")
                gates = {name: (0.2 + 0.5 * depth)[:: 2**n, :: 2**n] for n, name in enumerate(names)}
                np.savez_compressed(path, **gates)
    return scenes


def make_world(
    root: Path,
    seeds: tuple[int, ...] = (0, 1),
    pictures: bool = False,
    datasets: Sequence[str] = ("embedded", "embedded_ood"),
) -> World:
    """Write a whole results folder for all variants and the blurred input."""
    runs = [write_run(root, "blurred", None, datasets)]
    runs += [write_run(root, variant.name, seed, datasets) for variant in VARIANTS for seed in seeds]
    scenes = write_pictures(root, runs) if pictures else []
    return World(root, runs, write_complexity(root), scenes)
