"""What a preset has to fetch: which files make up each item, and where they are kept."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from ddnet.config import DpddData, FolderData, Item
from ddnet.data.depth_weights import wanted_depth_anything, wanted_monodepth2
from ddnet.data.dpdd import index_dpdd, wanted_dpdd
from ddnet.data.folder import index_folder
from ddnet.data.index import Scene
from ddnet.data.realdof import index_realdof, wanted_realdof
from ddnet.errors import DDNetError
from ddnet.fetch import Fetched, Wanted, by_name, read_fetched

log = logging.getLogger(__name__)

WEIGHTS: dict[str, Callable[[], Wanted]] = {
    "monodepth2": wanted_monodepth2,
    "depth_anything": wanted_depth_anything,
    "dmenet": lambda: by_name("DMENet_BDCS.npz"),
    "ifan": lambda: by_name("IFAN.pytorch"),
    "kpac": lambda: by_name("single_3level.npz"),
    "defocusgan": lambda: by_name("90_models.pth"),
    "dpdnet": lambda: _any_hdf5("dpdnet_single.hdf5"),
    "mdpnet": lambda: _any_hdf5("mdp_phase_2_wacv.hdf5"),
    "ddnet": lambda: _released("ddnet_models.pth"),
}


def _any_hdf5(name: str) -> Wanted:
    """The one HDF5 file of an item, whatever it was called where it came from."""
    suffixes = (".hdf5", ".h5")
    return Wanted(
        lambda path: name if PurePosixPath(path).suffix.lower() in suffixes else None, (name,),
        called="one .hdf5 or .h5 file",
    )  # fmt: skip


def _released(name: str) -> Wanted:
    """The one checkpoint of DDNet's authors, which is called after its epoch."""
    pattern = re.compile(rf"\d+_models\.pth|{re.escape(name)}")
    return Wanted(
        lambda path: name if pattern.fullmatch(PurePosixPath(path).name) else None, (name,), called="*_models.pth"
    )


def folder_of(item: str) -> Path:
    """Where an item is kept, relative to the working directory; shared by all presets."""
    return Path("data") / "weights" / item if item in WEIGHTS else Path("data") / item


def wanted_files(item: str, data: DpddData | None = None) -> Wanted:
    """The files that an item consists of; of DPDD, as `data` asks for it.

    Raises:
        DDNetError: nobody says what such an item consists of.
    """
    if item in WEIGHTS:
        return WEIGHTS[item]()
    if item == "realdof":
        return wanted_realdof()
    if item == "dpdd":
        data = data or DpddData(kind="dpdd")
        return wanted_dpdd(data.trial, data.size, data.views)
    raise DDNetError(f"no item '{item}' to fetch; known are dpdd, realdof, {', '.join(WEIGHTS)}")


def sized(name: str, item: Item, data: DpddData | None = None) -> Item:
    """The item with the size of what is asked for, where that is more than its usual files: DPDD with its views."""
    usual = wanted_files(name).needed
    return item.model_copy(update={"gigabytes": item.gigabytes * max(1.0, wanted_files(name, data).needed / usual)})


def _read_present(item: str, path: Path) -> Fetched:
    """Read a record whose files are all still there; Snakemake knows the record only, and would not fetch again."""
    fetched = read_fetched(path)
    if gone := [file for file in fetched.files.values() if not file.is_file()]:
        raise DDNetError(
            f"{item}: {len(gone)} of {len(fetched.files)} files are gone since they were fetched, first: {gone[0]}; "
            "put them back, or fetch them again: snakemake with --forcerun fetch_item"
        )
    return fetched


def index_photographs(data: DpddData | FolderData, fetched: Mapping[str, Path]) -> list[Scene]:
    """Check every pair of photographs and list them.

    Args:
        data: which photographs.
        fetched: for DPDD, the records of `dpdd` and `realdof`.

    Raises:
        DDNetError: a pair is missing, unreadable, or not what the dataset is known to be.
    """
    if isinstance(data, FolderData):
        return index_folder(data)
    dpdd, realdof = (_read_present(item, fetched[item]) for item in ("dpdd", "realdof"))
    scenes = index_dpdd(dpdd.files, dpdd.digests, data.size, data.trial, data.views)
    scenes += index_realdof(realdof.files, realdof.digests, data.trial)
    kinds = sorted({(scene.width, scene.height, scene.bits) for scene in scenes if scene.dataset == "realdof"})
    log.info("RealDOF as found: %s", ", ".join(f"{width} x {height} at {bits} bits" for width, height, bits in kinds))
    return scenes
