"""Which network restores a photograph when nobody names one."""

from __future__ import annotations

from pathlib import Path

from ddnet.config import find_variant, load_variants
from ddnet.errors import DDNetError
from ddnet.planning.plan import WITH_DEPTH, WITHOUT_DEPTH
from ddnet.restoration.load import CARRIED, RELEASED, RUNS, Loaded, finished_runs, load, merit, run_record
from ddnet.restoration.release import carried_facts
from ddnet.runtime.paths import CONFIG

# A map of one's own is nothing to networks that learned to look at none.
UNGUIDED = ("constant", "shuffled")
RENDERED = "embedded"  # the dataset of the embedded benchmark's training scenes


def choose(depth_given: bool) -> tuple[Loaded, str]:
    """A network, and why it is this one, in words.

    The best finished run in the working directory among those that learned from no fewer pictures than the carried
    networks, and not from clean rendered scenes alone, which makes photographs worse; else the network with the
    weights that its authors published; else the carried one. What lacks its depth network is passed over; where depth
    is given, so is what is not guided by it.

    Raises:
        DDNetError: the carried networks are damaged.
    """
    carried = carried_facts(WITH_DEPTH if depth_given else WITHOUT_DEPTH)
    passed: list[str] = []
    runs = finished_runs()
    for run in sorted(runs, key=merit, reverse=True):
        loaded, reason = _usable(run, depth_given, carried["steps"] * carried["batch"])
        if loaded:
            return loaded, f"the best of {len(runs)} finished runs here, validation {merit(run)[1]:.2f} dB"
        passed.append(reason)
    none = f"no finished run in {RUNS} will do" if runs else f"no finished run in {RUNS}"
    if passed:
        none += f" ({passed[0]})"
    try:
        released = load(RELEASED)
        if not depth_given and released.depth:
            released.depth.require()
    except DDNetError:
        return load(CARRIED), f"the small one that comes with the package; {none}, and no published weights are here"
    return released, f"its authors' weights; {none}"


def _usable(run: Path, depth_given: bool, least: float) -> tuple[Loaded | None, str]:
    """The network of a run, or why it is passed over."""
    name = run.name.rpartition("-seed")[0]
    try:
        variant = find_variant(load_variants(CONFIG / "variants.yaml"), name)
        if variant.arch != "ddnet":
            return None, f"{name} is no DDNet"
        if depth_given and (not variant.uses_depth or variant.depth_source in UNGUIDED):
            return None, f"{name} is not guided by depth"
        if merit(run)[0] < least:
            return None, f"{name} learned from fewer pictures than the carried network"
        if _knows_clean_scenes_only(run):
            return None, f"{name} learned from rendered scenes without noise, and makes photographs worse"
        loaded = load(run)
    except DDNetError as error:
        return None, str(error)[:200]
    try:
        if loaded.depth and not depth_given:
            loaded.depth.require()
    except DDNetError:
        return None, f"what estimates the depth for {name} is not here"
    return loaded, ""


def _knows_clean_scenes_only(run: Path) -> bool:
    """Whether a run's training saw nothing of what a camera adds; so does one that does not say what it saw."""
    record = run_record(run)
    scenes, training = record.get("training_scenes", {RENDERED: 0}), record.get("settings", {}).get("training", {})
    return {*scenes} <= {RENDERED} and not training.get("photometric", {}).get("noise")
