"""The model card of a run: what it is and is for, its data and their licences, how well it does, its limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.io.files import write_text
from ddnet.report.collect import METRICS, RunRef, RunResult, VariantInfo, read_json, read_run
from ddnet.report.footnotes import plain_text
from ddnet.report.statistics import DRAWS, interval
from ddnet.report.wording import TRIAL_NOTE, depth_weights, display_name, format_number, is_rendered

if TYPE_CHECKING:
    import pandas as pd

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


_LICENCE_CODE = "The code, and the network that it defines, are under the MIT licence."
_LICENCE_DATA = {
    "embedded": "The photographs behind the scenes come with scikit-image and scikit-learn, under the licences that "
    "those two packages state for each; the rendered scenes and these weights add no condition of their own.",
    "dpdd": "DPDD is published with its authors' code under MIT; whoever uses these weights cites Abuolaim and Brown, "
    '"Defocus deblurring using dual-pixel data", ECCV 2020.',
    "own": "Whose photographs these are, and what they allow of weights learned from them, is known to whoever made "
    "this run.",
}


def _training_data(result: RunResult) -> str:
    """Told from the test sets: a preset is trained on the training split of its first one."""
    datasets = {str(name) for name in result.images["dataset"]}
    if any(map(is_rendered, datasets)):
        return _EMBEDDED_DATA
    # The second test set of a folder is called `<name>_second`.
    return _DPDD_DATA if "dpdd" in datasets else _OWN_DATA.format(name=f"`{min(datasets, key=len)}`")


def _licence(result: RunResult) -> str:
    datasets = {str(name) for name in result.images["dataset"]}
    kind = "embedded" if any(map(is_rendered, datasets)) else "dpdd" if "dpdd" in datasets else "own"
    return _LICENCE_DATA[kind]


def _mean(values: pd.Series[Any], metric: str) -> str:
    """Mean of a metric over images, with its 95 % interval where it is known for several."""
    decimals, text = _DECIMALS[metric], format_number(float(values.mean(skipna=False)), _DECIMALS[metric])
    if not np.isfinite(values).all() or len(values) < 2:
        return text
    low, high = interval(values.to_numpy(float)[None, :], DRAWS)
    return f"{text} [{format_number(low, decimals)}, {format_number(high, decimals)}]"


def metric_table(result: RunResult) -> str:
    """Mean of every metric on every test set with its 95 % interval over images, as a Markdown table."""
    import pandas as pd

    rows = []
    for dataset, part in result.images.groupby("dataset"):
        cells: dict[str, str] = {"dataset": display_name(str(dataset)), "images": str(len(part))}
        for metric in METRICS:
            if metric in _DECIMALS:
                cells[metric] = _mean(part[metric], metric)
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


def _intended(result: RunResult) -> list[str]:
    training = ((result.manifest or {}).get("settings") or {}).get("training") or {}
    added = training.get("photometric") or {}
    seen = [f"noise of sigma up to {added['noise']:g}"] if added.get("noise") else []
    seen += [f"JPEG of quality {added['jpeg']} and more"] if added.get("jpeg") else []
    other = " and ".join(
        name for name, part in (("compression artefacts", "jpeg"), ("noise", "noise")) if not added.get(part)
    )
    return [
        "For research on defocus deblurring and for comparing network designs: it removes optical defocus.",
        f"Not for motion blur{f', {other}' if other else ''}, which it was not trained on.",
        *([f"Trained with {' and '.join(seen)} in its input."] if seen else []),
        "Not where an image is evidence or a measurement: restored detail is an estimate.",
    ]


def _depth(variant: VariantInfo, depth: Mapping[str, Any]) -> list[str]:
    if not variant.uses_depth:
        return ["None: this network sees the photograph alone."]
    source = variant.depth_source or depth["source"]
    said = [
        f"It needs a depth map of the photograph (source here: {source}): normalised inverse depth in [0, 1], near is "
        "1; wrong depth can make the result worse."
    ]
    # Shuffled depth is another scene's depth of the preset's own source.
    if weights := depth_weights(depth["source"] if source == "shuffled" else source, depth["fit"] is not None):
        said.append(weights)
        if depth["training"] == "patch" and source != "shuffled":
            said.append(
                "In training, depth was estimated from each patch alone, as in the released code; a test image's depth "
                "comes from the whole image."
            )
    return said


def _limits(result: RunResult) -> list[str]:
    datasets = sorted(map(str, result.images["dataset"].unique()))
    limits = [
        f"Measured on {', '.join(map(display_name, datasets))} and on nothing else; these numbers say nothing of other "
        "cameras, lenses and apertures.",
        "One training: another seed gives another network. The intervals below are over test images, not over seeds; "
        "the tables of the run have both.",
        "A picture is restored as a whole: memory grows with its size, and channel attention sees all of it.",
    ]
    if any(map(is_rendered, datasets)):
        limits.insert(
            0, "Trained on rendered scenes of textured planes: photographs look different, and so may results."
        )
    return limits


def _loading(model: str, with_depth: bool) -> list[str]:
    """Python that restores a photograph with the network in `model`."""
    names = "read_depth16, read_image, write_image" if with_depth else "read_image, write_image"
    depth = 'read_depth16("depth.png")' if with_depth else "None"
    return [
        "```python",
        "from pathlib import Path",
        "",
        "from ddnet.training.checkpoint import load_run",
        "from ddnet.evaluation.evaluate import ModelRestorer",
        f"from ddnet.io.images import {names}",
        "",
        f'run = load_run(Path("{model}"))',
        f'restored = ModelRestorer(run.model).restore(read_image("photo.png"), {depth})',
        'write_image("restored.png", restored)',
        "```",
    ]


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
    lines += ["", "## Intended use", "", *(f"- {text}" for text in _intended(result))]
    lines += ["", "## Training data", "", _training_data(result)]
    lines += ["", "## Depth", "", *(f"- {text}" for text in _depth(variant, depth))]
    lines += ["", "## Licence", "", f"- {_LICENCE_CODE}", f"- {_licence(result)}"]
    lines += ["", "## Limitations", "", *(f"- {text}" for text in _limits(result))]
    lines += [
        "",
        "## Results",
        "",
        "One value per test image, then the mean with its 95 % interval (bootstrap over the images); images are never "
        "resized.",
        "",
    ]
    lines += [metric_table(result)]
    single = [str(name) for name, part in result.images.groupby("dataset") if len(part) == 1]
    lines += [f"\nOne image of {display_name(name)}: no interval, as others are not known." for name in single]
    lines += [f"\n`{metric}` is missing: {reason}." for metric, reason in sorted(result.unavailable.items())]
    lines += ["", "## How it was made", "", *_listing({"model": dict(variant.config), **(settings or {})})]
    if result.manifest:
        lines += ["", "## Provenance of the training", "", *_listing(result.manifest)]
    lines += [
        "",
        "## How to load it",
        "",
        *_loading(f"results/runs/{preset}/{ref.name}/model.pt", variant.uses_depth),
        "",
    ]
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
