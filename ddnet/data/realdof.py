"""RealDOF (Lee et al. 2021): 50 pairs for testing only, indexed as they are found and never resized."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ddnet.config import Trial
from ddnet.data.folder import SUFFIXES, by_stem, pair_by_order, pair_by_stem, scene_names, stem_of
from ddnet.data.index import PairFiles, Scene, describe_pairs, image_problem
from ddnet.errors import DDNetError
from ddnet.fetch import Wanted

log = logging.getLogger(__name__)

PAIRS = 50
ROLES = ("source", "target")


def _canonical(path: str) -> str | None:
    file = PurePosixPath(path)
    if "__MACOSX" in file.parts or file.name.startswith(".") or file.suffix.lower() not in SUFFIXES:
        return None
    return f"{file.parent.name}/{file.name}" if file.parent.name in ROLES else None


def wanted_realdof() -> Wanted:
    """Both folders of RealDOF, under any others; all of it for a trial, too, because its names are not known."""
    return Wanted(_canonical, None, 2 * PAIRS, problem=image_problem)


def index_realdof(files: Mapping[str, Path], digests: Mapping[str, str], trial: Trial | None) -> list[Scene]:
    """Check the files of RealDOF and make their index entries: dataset `realdof`, split `test`, no location.

    Pairs have equal stems where all stems agree; otherwise they follow the order of names.

    Args:
        files: canonical name (`source/<name>.png`) -> file.
        digests: canonical name -> SHA-256 of when the file was first seen.
        trial: the first scenes by name only; None for all 50.

    Raises:
        DDNetError: not 50 pairs, or a file is unreadable, changed, or differs from its partner in size or bit depth.
    """
    sources, targets = (by_stem(file for name, file in files.items() if name.startswith(f"{role}/")) for role in ROLES)
    if (len(sources), len(targets)) != (PAIRS, PAIRS):
        raise DDNetError(
            f"realdof: found {len(sources)} images in source/ and {len(targets)} in target/; there must be {PAIRS} of "
            "each: move what does not belong there elsewhere, or fetch it again"
        )
    pairs = pair_by_stem(sources, targets)
    if pairs is None:
        pairs = pair_by_order(sources, targets)
        first = " with ".join(file.name for file in pairs[0])
        log.info("realdof: names in source/ and target/ differ; paired by order, first %s", first)
    if trial:
        pairs = pairs[: trial.realdof]
    names = scene_names([stem_of(source) for source, _ in pairs])
    listed = [PairFiles("test", name, "", *pair) for name, pair in zip(names, pairs, strict=True)]
    return describe_pairs("realdof", listed, {file: digests.get(name, "") for name, file in files.items()})
