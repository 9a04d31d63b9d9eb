"""`ddnet.load`: whatever was trained or imported here, ready to restore pictures."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ddnet.config import Baseline, Depth, Variant, load_baselines, load_sources, load_variants
from ddnet.data.fetch_data import WEIGHTS, folder_of
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import ModelRestorer, Restorer
from ddnet.fetch import scan_folder
from ddnet.io.images import FloatArray
from ddnet.io.tensors import best_device
from ddnet.io.torch_files import load_torch
from ddnet.models.released import load_released
from ddnet.planning.baselines import baseline_file, system_needs
from ddnet.planning.compared import compared_systems
from ddnet.planning.plan import WITH_DEPTH, WITHOUT_DEPTH
from ddnet.registry import did_you_mean
from ddnet.restoration.image_depth import PictureDepth, preset_of, project_of
from ddnet.restoration.import_weights import recognised
from ddnet.restoration.release import RELEASE, load_carried
from ddnet.restoration.tiles import restore_in_tiles
from ddnet.runtime.malloc import out_of_memory
from ddnet.runtime.paths import CONFIG
from ddnet.training.checkpoint import is_run, load_run

log = logging.getLogger(__name__)

RELEASED, CARRIED = "ddnet", "default"
RUNS, SYSTEMS = Path("results", "runs"), Path("results", "systems")
MODEL, MANIFEST, WEIGHTS_FILE = "model.pt", "manifest.json", "weights.npz"


@dataclass(frozen=True)
class Loaded:
    """A network or a compared system.

    Attributes:
        name: of the variant or the system.
        source: where its weights are from; empty for a system without any.
        restorer: what does the work.
        depth: how depth is estimated from a picture where none is given; None: it needs no depth.
        guided: what does the work where a depth map is given; None: the same.
    """

    name: str
    source: str
    restorer: Restorer
    depth: PictureDepth | None = None
    guided: Restorer | None = None

    def restore(self, image: FloatArray, depth: FloatArray | None = None, tile: int | None = None) -> FloatArray:
        """Restore one picture: as a whole, as all figures here are measured, or tile by tile.

        Args:
            image: (H, W, 3) float RGB in [0, 1], of any size.
            depth: (H, W) float normalised inverse depth in [0, 1], 1 nearest; None: estimated from the image as in the
                evaluation of the run's preset, where the network guided by depth has one. Not used by any other.
            tile: side of overlapping tiles in pixels, for a picture that memory does not hold; None: no tiles. The
                networks average over all that they see, so the result differs (`ddnet bench tiles`).

        Returns:
            (H, W, 3) float32 RGB in [0, 1].

        Raises:
            DDNetError: not such a picture or depth; depth is needed and cannot be estimated here; too little memory.
        """
        return self.restore_with_depth(image, depth, tile)[0]

    def restore_with_depth(
        self, image: FloatArray, depth: FloatArray | None = None, tile: int | None = None
    ) -> tuple[FloatArray, FloatArray | None]:
        """As `restore`, and the depth map that was used, (H, W); None where none is."""
        image, restorer = _checked(image, "the image", 3), self.restorer
        if self.depth is None:
            depth = None
        elif depth is None:
            depth = self.depth.estimate(image)
        else:
            depth, restorer = _checked(depth, "the depth", 2), self.guided or restorer
            if depth.shape != image.shape[:2]:
                raise DDNetError(f"the depth is {depth.shape}, the image {image.shape[:2]}; give depth of its size")
        cudnn: Any = torch.backends.cudnn
        try:
            with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):  # as evaluated
                if tile is None:
                    restored = np.asarray(restorer.restore(image, depth))
                else:
                    restored = restore_in_tiles(restorer.restore, image, depth, tile)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            larger = "use a GPU with more, or set CUDA_VISIBLE_DEVICES= (empty) to run on the processor"
            raise DDNetError(
                f"a picture of {image.shape[1]}x{image.shape[0]} px does not fit into memory; restore it in tiles "
                f"(--tile 512, in Python tile=512){f', {larger}' if torch.cuda.is_available() else ''}"
            ) from None
        return np.clip(restored, 0.0, 1.0).astype(np.float32), depth


def _checked(value: Any, what: str, dimensions: int) -> FloatArray:
    """An (H, W, 3) image or an (H, W) map as float32, refused where it is none in [0, 1]."""
    array = np.asarray(value)
    shape = "(H, W, 3)" if dimensions == 3 else "(H, W)"
    if array.ndim != dimensions or array.size == 0 or (dimensions == 3 and array.shape[2] != 3):
        raise DDNetError(f"{what} is {array.shape}; give {shape}")
    if array.dtype.kind != "f":
        hint = f"; divide by {np.iinfo(array.dtype).max}" if array.dtype.kind == "u" else ""
        raise DDNetError(f"{what} is of type {array.dtype}; give floating point in [0, 1]{hint}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # a NaN is neither
        raise DDNetError(f"{what} spans {low:.4g} to {high:.4g}; give values in [0, 1]")
    return array.astype(np.float32)


def load(path_or_name: str | Path, half: bool = False) -> Loaded:
    """Something that restores pictures, by where it lies or by its name; names are looked up in the working directory.

    Args:
        path_or_name: a run's folder (`results/runs/<preset>/<variant>-seed<n>`) or its model.pt; a compared system's
            folder (`results/systems/<preset>/<system>`) or its weights.npz; a file, folder or zip of published weights
            as `ddnet weights import` takes it, found out by what it holds; a variant's name, for the best of its
            finished runs; a compared system's name (a line of baselines.yaml), with its authors' weights where they
            were fetched or imported, otherwise with those that were learned last; `ddnet`, for the network with the
            weights that the paper's authors published; `default`, for the small networks that the package carries.
        half: restore in bfloat16: faster on GPUs and on processors that have it, and a value is about 1/256 off. For
            networks of this family only.

    Raises:
        DDNetError: no such thing, nothing trained or imported for it yet, or files that are damaged.
    """
    loaded = _find(path_or_name)
    return in_half(loaded) if half else loaded


def in_half(loaded: Loaded) -> Loaded:
    """The same, restoring in bfloat16.

    Raises:
        DDNetError: it has no half precision.
    """
    if not isinstance(loaded.restorer, ModelRestorer):
        raise DDNetError(f"{loaded.name}: it has no half precision; load it without half=True")
    for restorer in (loaded.restorer, loaded.guided):
        if isinstance(restorer, ModelRestorer):
            restorer.half = True
    return loaded


def _find(path_or_name: str | Path) -> Loaded:
    path, name = Path(path_or_name), str(path_or_name)
    plain = isinstance(path_or_name, str) and path.name == name and not path.suffix
    known = _known() if plain else {}
    if name in known:
        return known[name]()
    if path.is_dir() or path.is_file():
        return _load_path(path)
    if plain:
        raise DDNetError(f"nothing is called '{name}'{did_you_mean(name, known)}")
    raise DDNetError(f"{path}: no such file or folder; give a run's folder, or a name such as ddnet_1b")


def _known() -> dict[str, Callable[[], Loaded]]:
    """What each name stands for."""
    known: dict[str, Callable[[], Loaded]] = {}
    for run in finished_runs():
        variant = run.name.rpartition("-seed")[0]
        known[variant] = lambda variant=variant: _best_run(variant)  # type: ignore[misc]
    for name, line in _table("baselines.yaml", load_baselines).items():
        known[name] = lambda line=line: _compared(line)  # type: ignore[misc]
    for name, variant_line in _table("variants.yaml", load_variants).items():
        for called in (name, *variant_line.aliases):
            known[called] = lambda name=name: _best_run(name)  # type: ignore[misc]
    known[RELEASED], known[CARRIED] = _released, _carried
    return known


def _table(file: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    return read(CONFIG / file)


def _load_path(path: Path) -> Loaded:
    if path.is_dir():
        inside = [path / name for name in (MODEL, WEIGHTS_FILE) if (path / name).is_file()]
        if not inside:
            return _published(path, f"{path}: neither {MODEL} nor {WEIGHTS_FILE} is in it")
        path = inside[0]
    if _is_ours(path):
        system = path.absolute().parent.name
        if not baseline_file(system).is_file() or "weights" not in system_needs(system):
            raise DDNetError(f"{path}: no compared system '{system}' has weights; its folder must bear its name")
        return _built(Baseline(name=system, system=system, label=system), path, str(path))
    if _is_run(path):
        return _load_run(path)
    try:
        return _published(path, f"{path}: no model that this suite wrote")
    except DDNetError:
        if path.name == MODEL:
            return _load_run(path)  # which says what is wrong with a file of ours
        raise


def _is_run(path: Path) -> bool:
    """Whether a file has what a trained network of this suite is stored with."""
    try:
        return is_run(load_torch(path, ""))
    except DDNetError:
        return False


def _is_ours(path: Path) -> bool:
    """Whether a file is an .npz of a compared system as this suite writes them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "width.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _published(path: Path, otherwise: str) -> Loaded:
    """Published weights of any system, recognised by what they hold.

    Args:
        otherwise: what else it is not; begins the message.
    """
    with ExitStack() as stack:
        try:
            found = stack.enter_context(recognised(path, load_sources(CONFIG / "sources.yaml")))
        except DDNetError as error:
            words = str(error).removeprefix(f"{path}: ")
            raise DDNetError(f"{otherwise}, and {words}") from None
        source = f"its authors' weights, {path}"
        if found.name == RELEASED:
            return _released_from(next(iter(found.files.values())), str(path))
        if found.converted is None:
            raise DDNetError(
                f"{path}: weights of {found.name}, which estimates depth and restores no pictures; "
                f"`ddnet weights import` takes them in for that"
            )
        return _built(Baseline(name=found.name, system=found.name, label=found.name), found.converted, source)


def _load_run(path: Path) -> Loaded:
    run = load_run(path)
    folder = path.absolute().parent
    depth = None
    if run.variant.uses_depth:
        preset = folder.parent.name
        spec = run_record(folder).get("depth_source") or _depth_source(run.variant, preset)
        depth = PictureDepth(str(spec), preset, preset_of(preset), project_of(folder), f"{run.variant.name} ({path})")
    return Loaded(run.variant.name, str(path), ModelRestorer(run.model, best_device()), depth)


def _depth_source(variant: Variant, preset: str) -> str:
    """Of a run without a manifest."""
    return variant.depth_source or (preset_of(preset) or Depth()).source


def run_record(folder: Path) -> dict[str, Any]:
    """What a run's training wrote down; empty where it did not end."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def finished_runs() -> list[Path]:
    """Folders of the finished runs."""
    return [path.parent for path in sorted(RUNS.glob(f"*/*-seed*/{MODEL}")) if run_record(path.parent)]


def merit(run: Path) -> tuple[float, float]:
    """How many training pictures a run saw, and its best validation, in dB: the larger, the better.

    Validation compares runs of one preset; between presets, whose data differ, the longer training is taken.
    """
    facts = run_record(run)
    batch = facts.get("settings", {}).get("training", {}).get("batch", 1)
    return float(facts.get("steps", 0) * batch), float(facts.get("best_val_psnr", float("-inf")))


def _best_run(variant: str) -> Loaded:
    """The run of most merit."""
    runs = [run for run in finished_runs() if run.name.rpartition("-seed")[0] == variant]
    if not runs:
        raise DDNetError(
            f"variant '{variant}' has no finished run in {RUNS}; train it (`snakemake --cores 8 all`), or give the "
            "folder of a run that is elsewhere"
        )

    best = max(runs, key=merit)
    log.info("%s: %s, of %d finished runs; validation %.2f dB", variant, best, len(runs), merit(best)[1])
    return _load_run(best / MODEL)


def _compared(line: Baseline) -> Loaded:
    """A compared system with its authors' weights, or else with those that were learned last."""
    system = line.system
    if "pictures" in system_needs(system):
        raise DDNetError(f"{line.name}: its pictures were restored elsewhere; it can restore no others")
    if "weights" not in system_needs(system):
        return Loaded(line.name, "", compared_systems().build(line))
    found = sorted(SYSTEMS.glob(f"*/{system}/{WEIGHTS_FILE}"), key=lambda file: file.stat().st_mtime)
    official = [file for file in found if run_record(file.parent).get("weights") == "official"]
    if official:
        return _built(line, official[-1], f"its authors' weights, {official[-1]}")
    if system in WEIGHTS and (folder := _imported(system)):
        with TemporaryDirectory(prefix="ddnet-load-") as scratch:
            file = Path(scratch, WEIGHTS_FILE)
            compared_systems("official_weights").convert_official(system, folder, file)
            return _built(line, file, f"its authors' weights, {folder}")
    if not found:
        authors = "import its authors' file (`ddnet weights list` says where it is published), or "
        raise DDNetError(
            f"{line.name}: no weights of {system} are here; {authors if system in WEIGHTS else ''}train it: "
            f"`systems: {{{system}: {{weights: train}}}}` in a preset"
        )
    return _built(line, found[-1], f"learned, {found[-1]}")


def _built(line: Baseline, weights: Path, source: str) -> Loaded:
    log.info("%s: %s", line.name, source)
    return Loaded(line.name, source, compared_systems().build(line, weights))


def _imported(item: str) -> Path | None:
    """The folder that holds all files of an item of weights; None where they are not here."""
    folder, wanted = folder_of(item), WEIGHTS[item]()
    files = scan_folder(folder, wanted)[0] if folder.is_dir() else {}
    return None if wanted.missing(set(files)) else next(iter(files.values())).parent


def _released() -> Loaded:
    """The network with the weights that the paper's authors published."""
    folder, wanted = folder_of(RELEASED), WEIGHTS[RELEASED]()
    files = scan_folder(folder, wanted)[0] if folder.is_dir() else {}
    if not files:
        raise DDNetError(
            f"{RELEASED}: the weights that its authors published are not here; `ddnet weights list` says where they "
            "are published, `ddnet weights import FILE` takes them in"
        )
    [file] = files.values()
    return _released_from(file, str(file))


def _released_from(file: Path, source: str) -> Loaded:
    """The network of a file that the paper's authors published, with Monodepth2's own depth at its own size."""
    model = load_released(file)
    log.info("%s: its authors' weights, %s", RELEASED, source)
    published = Depth(fit=None)
    depth = PictureDepth(published.source, "", published, Path(), f"{RELEASED} ({source})")
    return Loaded(RELEASED, source, ModelRestorer(model, best_device()), depth)


def _carried() -> Loaded:
    """The small networks in the package: one for a picture alone, one for a picture and its depth."""
    alone, guided = (load_carried(variant) for variant in (WITHOUT_DEPTH, WITH_DEPTH))
    constant = PictureDepth(str(alone.variant.depth_source), "", None, Path(), CARRIED)
    restorers = [ModelRestorer(run.model, best_device()) for run in (alone, guided)]
    return Loaded(CARRIED, str(RELEASE), restorers[0], constant, restorers[1])
