"""The small networks that the package carries: `ddnet.load("default")`, ready where nothing was trained or imported.

Two of them, since a network that learned with true depth wants a depth map, and one that learned with a constant map
wants none. `make release` trains them by the preset `release` and takes them in, with a card of what they learned from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddnet.config import Photometric
from ddnet.data.embedded.textures import photograph_names
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path, read_json, sha256, write_json, write_text
from ddnet.planning.plan import WITH_DEPTH, WITHOUT_DEPTH
from ddnet.runtime.paths import ROOT
from ddnet.training.checkpoint import Run, load_run

RELEASE = ROOT / "ddnet" / "release"
MANIFEST, MODEL, CARD = "manifest.json", "model.pt", "README.md"
KEPT = ("commit", "date", "preset", "seed", "steps", "best_val_psnr", "parameters", "training_scenes")
MOST_BYTES = 5_000_000  # of all files together
AGAIN = "install this package again"
FACTS = {
    "sha256": str, "commit": str, "preset": str, "seed": int, "steps": int, "batch": int, "best_val_psnr": float,
    "parameters": int, "training_scenes": dict, "photometric": dict,
}  # fmt: skip


def carried_facts(variant: str, folder: Path = RELEASE) -> dict[str, Any]:
    """What the manifest says of a carried network: sha256, commit, preset, seed, steps, batch, best_val_psnr (dB),
    parameters, training_scenes (how many of which dataset) and photometric (the augmentation's settings).

    Raises:
        DDNetError: there is none, or the manifest is damaged.
    """
    facts = read_json(folder / MANIFEST, AGAIN).get(variant)
    if not isinstance(facts, dict) or not _complete(facts):
        raise DDNetError(f"{folder / MANIFEST}: says nothing of {variant}, or too little; {AGAIN}")
    return facts


def _complete(facts: dict[str, Any]) -> bool:
    return all(isinstance(facts.get(name), kind) for name, kind in FACTS.items())


def load_carried(variant: str, folder: Path = RELEASE) -> Run:
    """One of the carried networks.

    Raises:
        DDNetError: there is none, or its file is not the one that the manifest speaks of.
    """
    file, facts = folder / f"{variant}.pt", carried_facts(variant, folder)
    if not file.is_file() or sha256(file) != facts["sha256"]:
        raise DDNetError(f"{file}: missing, or its SHA-256 is not that of the manifest; {AGAIN}")
    return load_run(file)


def make_release(runs: Path, folder: Path = RELEASE) -> dict[str, dict[str, Any]]:
    """Take the best of the finished seeds of both variants, by validation, into the package.

    Args:
        runs: a preset's runs, such as `results/runs/embedded`.
        folder: where the networks go.

    Returns:
        What the manifest says, by variant.

    Raises:
        DDNetError: a variant has no run, or one that is not finished or not of committed code, or all are too large.
    """
    chosen = {variant: _best(runs, variant) for variant in (WITHOUT_DEPTH, WITH_DEPTH)}
    size = sum((run / MODEL).stat().st_size for run, _ in chosen.values())
    if size > MOST_BYTES:
        raise DDNetError(f"{runs}: the networks have {size} bytes; a package carries {MOST_BYTES} at most")
    for variant, (run, _) in chosen.items():
        with atomic_path(folder / f"{variant}.pt") as temporary:
            temporary.write_bytes((run / MODEL).read_bytes())
    manifest = {variant: facts for variant, (_, facts) in chosen.items()}
    write_json(folder / MANIFEST, manifest)
    write_text(folder / CARD, release_card(manifest))
    return manifest


def learned_from(facts: dict[str, Any]) -> str:
    """In words what a carried network learned from, by its facts."""
    scenes = ", ".join(f"{count} training scenes of {name}" for name, count in facts["training_scenes"].items())
    spec = Photometric.model_validate(facts["photometric"])
    jpeg = f"JPEG of quality {spec.jpeg} to 100 for half of the crops" if spec.jpeg else "no JPEG"
    return (
        f"{scenes}, with exposure (± {spec.exposure:g} stops), contrast (± {spec.contrast:.0%}), Gaussian noise "
        f"(sigma up to {spec.noise:g} of the range) and {jpeg}"
    )


def release_card(manifest: dict[str, dict[str, Any]]) -> str:
    """The model card of the carried networks as Markdown."""
    rows = [
        f"| `{variant}.pt` | {facts['parameters']:,} | {facts['steps']} steps of {facts['batch']} crops, seed "
        f"{facts['seed']} of {len(facts['of_seeds'])} | {facts['best_val_psnr']:.2f} dB | {facts['commit'][:12]} |"
        for variant, facts in manifest.items()
    ]
    used = [f"- `{variant}`: {learned_from(facts)}." for variant, facts in manifest.items()]
    presets = ", ".join(sorted({f"`{facts['preset']}`" for facts in manifest.values()}))
    photographs = ", ".join(photograph_names("train"))
    return "\n".join(
        [
            "# The networks that the package carries",
            "",
            f"Written by `ddnet release` from runs of the preset {presets}. `{WITHOUT_DEPTH}` restores a",
            f"photograph alone, `{WITH_DEPTH}` one with a depth map.",
            "",
            "| file | parameters | training | best validation | commit |",
            "|---|--:|---|--:|---|",
            *rows,
            "",
            "## What they learned from",
            "",
            *used,
            "",
            "The scenes of `embedded` are textured planes rendered through a thin lens. Their textures are photographs",
            f"that scikit-image, scikit-learn and Matplotlib ship, under the licences these state: {photographs}.",
            "No photograph with real defocus was learned from, and nothing was chosen by one.",
            "",
            "## Limits",
            "",
            "- Not where a picture is evidence or a measurement: a restored detail is an estimate.",
            "- For defocus of up to some ten pixels across. Not for motion blur, and not for removing noise.",
            "",
        ]
    )


def _best(runs: Path, variant: str) -> tuple[Path, dict[str, Any]]:
    """A variant's run of the best validation, and what is kept of its record."""
    folders = sorted(runs.glob(f"{variant}-seed*"))
    if not folders:
        raise DDNetError(f"{runs}: has no run of {variant}; run the preset `release` first (`make release`)")
    found = {folder: _facts(folder, variant) for folder in folders}
    best = max(found, key=lambda folder: found[folder]["best_val_psnr"])
    return best, found[best] | {"of_seeds": sorted(facts["seed"] for facts in found.values())}


def _facts(folder: Path, variant: str) -> dict[str, Any]:
    if not ((folder / MODEL).is_file() and (folder / MANIFEST).is_file()):
        raise DDNetError(f"{folder}: this training is not finished; finish it (`make release`)")
    record = read_json(folder / MANIFEST, "train it again")
    digest = sha256(folder / MODEL)
    try:
        facts = {name: record[name] for name in KEPT}
        training = record["settings"]["training"]
        facts |= {"sha256": digest, "batch": training["batch"], "photometric": training["photometric"]}
        recorded, dirty = record["outputs"].values(), record["dirty"]
        right, complete = digest in recorded and record["variant"] == variant, _complete(facts)
    except (KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise DDNetError(f"{folder / MANIFEST}: not the record of a finished training; train it again")
    if not right or load_run(folder / MODEL).variant.name != variant:
        raise DDNetError(f"{folder / MODEL}: not the {variant} that the manifest beside it tells of; train it again")
    if dirty:
        raise DDNetError(f"{folder}: trained by code that was not committed; commit it, and train again")
    return facts
