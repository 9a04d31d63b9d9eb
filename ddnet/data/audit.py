"""A look at every picture before anything is concluded from it: swapped and mismatched pairs, leaks, resized files.

The index says which files belong together; whether they do is seen in the pictures alone. The limits below were set on
the embedded benchmark, where right pairs keep a wide distance from them (`audit.json` records the worst of each).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddnet.data.index import MOST_THREADS, Scene
from ddnet.errors import DDNetError
from ddnet.io.files import read_json
from ddnet.io.images import FloatArray, read_image
from ddnet.runtime.log import Progress
from ddnet.runtime.resources import cpu_count

# A target holds more detail than its defocused image: squared gradients, image over target. Rendered pairs reach 0.93.
SWAPPED_RENDERED, SWAPPED = 1.05, 1.25
# Image and target show the same thing: correlation of 16 x 16 thumbnails. Rendered pairs have at least 0.96.
MISMATCHED = 0.8
# Two pictures are one: correlation of 32 x 32 thumbnails. Rendered scenes of different splits reach 0.56.
SAME = 0.98
FLAT = 0.005  # a thumbnail with a smaller standard deviation has nothing to correlate
OFFICIAL = ("dpdd", "realdof")  # whose pairs and splits are their authors': a suspicion about one pair is a warning
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """What is seen of one pair.

    Attributes:
        detail: squared gradients of the image over those of the target, smoothed against noise.
        correlation: of the two thumbnails; NaN where one is flat.
        thumbnail: 32 x 32 of the target, without its mean, of unit length; zeros where it is flat.
    """

    scene: Scene
    detail: float
    correlation: float
    thumbnail: FloatArray


def _detail(luma: FloatArray) -> float:
    import cv2

    smooth = cv2.GaussianBlur(luma, (0, 0), 1.0)
    down, right = np.diff(smooth, axis=0), np.diff(smooth, axis=1)
    return float(np.mean(down**2) + np.mean(right**2))


def _thumbnail(luma: FloatArray, side: int) -> FloatArray:
    import cv2

    small = cv2.resize(luma, (side, side), interpolation=cv2.INTER_AREA)
    small = small - small.mean()
    flat = float(small.std()) < FLAT
    return np.zeros_like(small) if flat else np.asarray(small / np.linalg.norm(small), np.float32)


def look(scene: Scene) -> Look:
    """Read one pair.

    Raises:
        DDNetError: a file that is not of the size in the index.
    """
    lumas = []
    for path in (scene.image, scene.target):
        picture = read_image(path)
        if picture.shape[:2] != (scene.height, scene.width):
            height, width = picture.shape[:2]
            raise DDNetError(
                f"{path}: is {width}x{height}, the index says {scene.width}x{scene.height}; put the original back, "
                "pictures are never resized"
            )
        lumas.append(picture @ _LUMA)
    thumbnails = [_thumbnail(luma, 16) for luma in lumas]
    correlation = float((thumbnails[0] * thumbnails[1]).sum()) if all(map(np.any, thumbnails)) else np.nan
    detail = [_detail(luma) for luma in lumas]
    return Look(scene, detail[0] / max(detail[1], 1e-12), correlation, _thumbnail(lumas[1], 32))


def _group(scene: Scene) -> str:
    """Scenes that may share pictures: one split of one dataset; the depth network learns from training pictures."""
    return f"{scene.dataset}/{scene.split.removesuffix('_depth')}"


def _may_share(first: Scene, second: Scene) -> bool:
    """Whether it does no harm if two scenes are of one picture: within a split, or in two test sets."""
    return _group(first) == _group(second) or first.split == second.split == "test"


def _pairs(looks: Sequence[Look]) -> tuple[list[str], list[str]]:
    """Errors and warnings about single pairs, and about a dataset whose pairs are mostly the wrong way round."""
    errors: list[str] = []
    warnings: list[str] = []
    for dataset in dict.fromkeys(one.scene.dataset for one in looks):
        ratios = [one.detail for one in looks if one.scene.dataset == dataset]
        if len(ratios) > 1 and np.median(ratios) > 1:
            errors.append(f"{dataset}: most images hold more detail than their targets; swap the two folders")
    for one in looks:
        found = warnings if one.scene.dataset in OFFICIAL else errors
        if one.detail > (SWAPPED_RENDERED if one.scene.depth_m else SWAPPED):
            found.append(
                f"{one.scene.image}: holds {one.detail:.2f} times the detail of its target {one.scene.target}; "
                "image and target look swapped, swap the files"
            )
        elif one.correlation < MISMATCHED:
            found.append(
                f"{one.scene.image}: does not show what its target {one.scene.target} shows (correlation "
                f"{one.correlation:.2f}, at least {MISMATCHED} expected); pair the files anew"
            )
    return errors, warnings


def _leaks(looks: Sequence[Look]) -> tuple[list[str], list[str], float]:
    """Errors and warnings about pictures that two splits share, and the highest correlation between splits."""
    errors: list[str] = []
    warnings: list[str] = []
    seen: dict[str, Scene] = {}
    for one in looks:
        for digest in (one.scene.image_sha256, one.scene.target_sha256):
            other = seen.setdefault(digest, one.scene)
            if not _may_share(other, one.scene):
                errors.append(_leak(other, one.scene, "are the same file"))
    thumbnails = np.stack([one.thumbnail.ravel() for one in looks])
    groups, tested = (
        np.array([_group(one.scene) for one in looks]),
        np.array([one.scene.split == "test" for one in looks]),
    )
    alike = thumbnails @ thumbnails.T
    alike[(groups[:, None] == groups) | (tested[:, None] & tested)] = -1.0  # `_may_share`
    for first, second in np.argwhere(np.triu(alike) > SAME):
        a, b = looks[first].scene, looks[second].scene
        official = a.dataset in OFFICIAL and b.dataset in OFFICIAL
        (warnings if official else errors).append(_leak(a, b, "show the same picture"))
    return errors, warnings, float(alike.max(initial=-1.0))


def _leak(first: Scene, second: Scene, how: str) -> str:
    return (
        f"{first.target} ({_group(first)}) and {second.target} ({_group(second)}) {how}: a network would be tested on "
        "what it learned from; leave one of the two out"
    )


def _photographs(looks: Sequence[Look]) -> list[str]:
    """Errors about texture photographs that two splits of rendered scenes share, by the scenes' own records."""
    used: dict[str, str] = {}
    errors = []
    for one in looks:
        record = one.scene.image.with_name("scene.json")
        if one.scene.depth_m is None or not record.is_file():
            continue
        names = read_json(record, "render the scene again").get("photographs")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DDNetError(f"{record}: 'photographs' must be a list of names; render the scene again")
        for name in names:
            other = used.setdefault(name, _group(one.scene))
            if other != _group(one.scene):
                errors.append(
                    f"{record}: uses the photograph '{name}', which {other} uses, too; render the scenes again"
                )
    return errors


def audit(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Look at every pair of an index.

    What it does not see: a single pair that is sharp everywhere and swapped, and a picture that was shrunk and enlarged
    again.

    Returns:
        How many scenes of each split, the worst value of each check beside its limit, and warnings.

    Raises:
        DDNetError: the first thing that is wrong, and how many more there are.
    """
    progress = Progress("audit", len(scenes))

    def watched(scene: Scene) -> Look:
        seen = look(scene)
        progress.advance()
        return seen

    with ThreadPoolExecutor(min(MOST_THREADS, cpu_count())) as pool:
        looks = list(pool.map(watched, scenes))
    if not looks:
        raise DDNetError("audit: the index has no scene; make it anew")
    (errors, warnings), (leaks, doubts, alike) = _pairs(looks), _leaks(looks)
    errors += [*leaks, *_photographs(looks)]
    if errors:
        more = f" ({len(errors) - 1} more such)" if len(errors) > 1 else ""
        raise DDNetError(errors[0] + more)
    counts: dict[str, int] = {}
    for one in looks:
        name = f"{one.scene.dataset}/{one.scene.split}"
        counts[name] = counts.get(name, 0) + 1
    rendered = all(one.scene.depth_m for one in looks)
    worst = [one.correlation for one in looks if not np.isnan(one.correlation)]
    return {
        "scenes": counts,
        "detail_of_image_over_target": {
            "largest": round(max(one.detail for one in looks), 4), "limit": SWAPPED_RENDERED if rendered else SWAPPED,
        },
        "correlation_of_image_and_target": {"smallest": round(min(worst, default=1.0), 4), "limit": MISMATCHED},
        "correlation_between_splits": {"largest": round(alike, 4), "limit": SAME},
        "warnings": [*warnings, *doubts],
    }  # fmt: skip
