"""The small networks that the package carries: `ddnet.load("default")`, ready where nothing was trained or imported.

Two of the default preset's, since a network that learned with true depth wants a depth map, and one that learned with a
constant map wants none. `make release` takes them from finished runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddnet.engine.checkpoint import Run, load_run
from ddnet.errors import DDNetError
from ddnet.files import atomic_path, read_json, sha256, write_json
from ddnet.places import ROOT
from ddnet.plan import WITH_DEPTH, WITHOUT_DEPTH

RELEASE = ROOT / "ddnet" / "release"
MANIFEST, MODEL = "manifest.json", "model.pt"
MOST_BYTES = 5_000_000  # of all files together
AGAIN = "install this package again"
FACTS = {"sha256": str, "commit": str, "preset": str, "seed": int, "steps": int, "batch": int, "best_val_psnr": float}


def carried_facts(variant: str, folder: Path = RELEASE) -> dict[str, Any]:
    """What the manifest says of a carried network: sha256, commit, preset, seed, steps, batch, best_val_psnr (dB).

    Raises:
        DDNetError: there is none, or the manifest is damaged.
    """
    facts = read_json(folder / MANIFEST, AGAIN).get(variant)
    if not isinstance(facts, dict) or any(not isinstance(facts.get(name), kind) for name, kind in FACTS.items()):
        raise DDNetError(f"{folder / MANIFEST}: says nothing of {variant}, or too little; {AGAIN}")
    return facts


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
    return manifest


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
        raise DDNetError(f"{folder}: this training is not finished; finish it, or move the folder elsewhere")
    record = read_json(folder / MANIFEST, "train it again")
    digest = sha256(folder / MODEL)
    try:
        facts = {name: record[name] for name in ("commit", "preset", "seed", "steps", "best_val_psnr", "date")}
        facts |= {"sha256": digest, "batch": record["settings"]["training"]["batch"]}
        recorded, dirty = record["outputs"].values(), record["dirty"]
        right = digest in recorded and record["variant"] == variant
    except (KeyError, TypeError, AttributeError):
        raise DDNetError(f"{folder / MANIFEST}: not the record of a finished training; train it again") from None
    if not right or load_run(folder / MODEL).variant.name != variant:
        raise DDNetError(f"{folder / MODEL}: not the {variant} that the manifest beside it tells of; train it again")
    if dirty:
        raise DDNetError(f"{folder}: trained by code that was not committed; commit it, and train again")
    return facts
