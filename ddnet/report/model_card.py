"""The model card of a run: what it is, what it was trained on, how well it does, its limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddnet.files import write_text
from ddnet.report.collect import METRICS, RunRef, RunResult, VariantInfo, read_json, read_run
from ddnet.report.footnotes import plain_text
from ddnet.report.formats import format_number
from ddnet.report.wording import TRIAL_NOTE, depth_weights, display_name, is_rendered

_DECIMALS = {"psnr": 2, "psnr_8bit": 2, "ssim": 3, "mae": 4, "lpips_alex": 3, "lpips_squeeze": 3}
_EMBEDDED_DATA = (
    "The embedded benchmark: scenes of textured planes rendered through a thin lens, made on the spot "
    "from photographs that ship with scikit-image and scikit-learn. It is not DPDD, and numbers measured on it "
    "say nothing about DPDD."
)
_DPDD_DATA = (
    "The training split of DPDD (350 image pairs, Canon EOS 5D Mark IV, Abuolaim and Brown 2020), single "
    "image in, all-in-focus image out."
)
_OWN_DATA = (
    "The training split of {name}, a folder of photographs that whoever made this run supplied. It is not DPDD, and "
    "numbers measured on it say nothing about DPDD."
)


def _training_data(result: RunResult) -> str:
    """Told from the test sets: a preset is trained on the training split of its first one."""
    datasets = {str(name) for name in result.images["dataset"]}
    if any(map(is_rendered, datasets)):
        return _EMBEDDED_DATA
    # The second test set of a folder is called `<name>_second`.
    return _DPDD_DATA if "dpdd" in datasets else _OWN_DATA.format(name=f"`{min(datasets, key=len)}`")


def metric_table(result: RunResult) -> str:
    """Mean of every metric on every test set, as a Markdown table."""
    import pandas as pd

    rows = []
    for dataset, part in result.images.groupby("dataset"):
        cells: dict[str, str] = {"dataset": display_name(str(dataset)), "images": str(len(part))}
        for metric in METRICS:
            if metric in _DECIMALS:
                cells[metric] = format_number(float(part[metric].mean(skipna=False)), _DECIMALS[metric])
        rows.append(cells)
    return str(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def _listing(values: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}- {key}:", *_listing(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}- {key}: `{plain_text(value)}`")
    return lines


def _limits(variant: VariantInfo, depth: Mapping[str, Any]) -> list[str]:
    limits = [
        "For research on defocus deblurring and for comparing network designs. It removes optical defocus "
        "from photographs; it is not made for motion blur, compression artefacts or noise.",
        "Restored detail is an estimate. Do not use it where an image is evidence or a measurement.",
    ]
    if variant.uses_depth:
        source = variant.depth_source or depth["source"]
        limits.append(f"It needs a depth map (source here: {source}); wrong depth can make the result worse.")
        # Shuffled depth is another scene's depth of the preset's own source.
        if weights := depth_weights(depth["source"] if source == "shuffled" else source, depth["fit"] is not None):
            limits.append(weights)
            if depth["training"] == "patch" and source != "shuffled":
                limits.append(
                    "In training, depth was estimated from each patch alone, as in the released code; a test image's "
                    "depth comes from the whole image."
                )
    return limits


def model_card(
    ref: RunRef,
    variant: VariantInfo,
    complexity: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    *,
    depth: Mapping[str, Any],
    trial: bool = False,
) -> str:
    """The card of one run as Markdown.

    Args:
        ref: the run; its folder `results/runs/<preset>/<run>` holds `per_image.csv`, and the files
            `evaluation.json` and `manifest.json` where they exist.
        complexity: {"params_m", "macs_g"} at the paper's width 64 and 512×512.
        settings: the resolved configuration of the preset, where the caller wants it on the card.
        depth: the preset's section `depth`; its `source`, `fit` (None: published weights) and `training` are read.
        trial: whether only a few scenes were used, so that the numbers mean nothing.
    """
    result = read_run(ref.folder)
    preset = ref.folder.parent.name
    size = ", ".join(
        f"{format_number(float(complexity[name]), decimals)} {unit}"
        for name, decimals, unit in (("params_m", 2, "M parameters"), ("macs_g", 1, "GMACs"))
        if complexity.get(name) is not None
    )
    lines = [
        f"# {variant.label}, seed {ref.seed}",
        "",
        f"`{ref.name}`, preset `{preset}`: {variant.arch} network for single-image defocus deblurring"
        + (f" with {variant.fusion} fusion of depth" if variant.uses_depth else " without depth")
        + f", {variant.branches} branch{'es' if variant.branches > 1 else ''}.",
        *(["", f"**{TRIAL_NOTE}**"] if trial else []),
    ]
    if size:
        lines += ["", f"Size at the paper's width 64 and 512×512: {size} (the depth network not included)."]
    lines += ["", "## Training data", "", _training_data(result)]
    lines += ["", "## Use and limits", "", *(f"- {text}" for text in _limits(variant, depth))]
    lines += [
        "",
        "## Results",
        "",
        "One value per test image, then the mean; images are never resized.",
        "",
    ]
    lines += [metric_table(result)]
    lines += [f"\n`{metric}` is missing: {reason}." for metric, reason in sorted(result.unavailable.items())]
    lines += ["", "## How it was made", "", *_listing({"model": dict(variant.config), **(settings or {})})]
    if result.manifest:
        lines += ["", "## Provenance of the training", "", *_listing(result.manifest)]
    lines += ["", "## How to load it", "", "```python", "from ddnet.engine.checkpoint import load_run", ""]
    lines += [f'run = load_run("results/runs/{preset}/{ref.name}/model.pt")', "```", ""]
    return "\n".join(lines)


def write_model_card(
    path: str | Path,
    variant: VariantInfo,
    seed: int,
    folder: str | Path,
    complexity: str | Path | Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    *,
    depth: Mapping[str, Any],
    trial: bool = False,
) -> Path:
    """Write the card of the run in `folder` to `path`; see `model_card`. `complexity` is a JSON file or its content."""
    size = complexity if isinstance(complexity, Mapping) else read_json(Path(complexity))
    ref = RunRef(variant.name, seed, variant.label, Path(folder))
    write_text(path, model_card(ref, variant, size, settings, depth=depth, trial=trial))
    return Path(path)
