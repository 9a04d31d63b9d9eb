"""Whether pictures are still those that were indexed, so that no result rests on others than it says."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path

from ddnet.data.index import Scene, read_index
from ddnet.errors import DDNetError
from ddnet.files import links_to, sha256


def require_unchanged(scene: Scene) -> None:
    """Compare the bytes of a scene's image and target with their digests in the index.

    Raises:
        DDNetError: a file is another one now.
    """
    for path, digest in ((scene.image, scene.image_sha256), (scene.target, scene.target_sha256)):
        if path.is_file() and sha256(path) != digest:  # one that is missing is said by whoever reads it
            raise DDNetError(
                f"{path}: not the file that was indexed (its SHA-256 differs); put the original back, or move the "
                "index aside, and index and train anew"
            )


def require_unchanged_since(index: Path, made_from: Sequence[Path]) -> None:
    """Refuse results of pictures that were changed, replaced or removed after they were indexed.

    Costs a look at each file's date; only what is newer than the index is read.

    Args:
        index: the index of scenes; where there is none yet, nothing is to be refused.
        made_from: what it was made from; while that is missing or newer, the index is about to be made anew.

    Raises:
        DDNetError: says how many, the first of them, and both ways out.
    """
    if not index.is_file():
        return
    made = index.stat().st_mtime_ns
    if any(not path.is_file() or path.stat().st_mtime_ns > made for path in made_from):
        return
    aside = links_to([index])  # where the project itself lies
    changed = [path for scene in read_index(index) for path in _changed(scene, made, aside)]
    if changed:
        raise DDNetError(
            f"{changed[0]}: changed or gone since it was indexed, as are {len(changed) - 1} other pictures; results "
            f"here rest on the old ones: put them back, or move {made_from[0]} aside to make all anew"
        )


def _changed(scene: Scene, made: int, aside: Container[str]) -> list[Path]:
    files = [(scene.image, scene.image_sha256), (scene.target, scene.target_sha256)]
    if scene.views:
        files += list(zip(scene.views, (scene.left_sha256, scene.right_sha256), strict=True))
    return [
        path
        for path, digest in files
        if not path.is_file() or (_changed_ns(path, aside) > made and sha256(path) != digest)
    ]


def _changed_ns(path: Path, aside: Container[str]) -> int:
    """When a file was changed last, or a link on the way to it, which may lead to an older one now."""
    links = [os.lstat(link).st_mtime_ns for link in links_to([path]) if link not in aside]
    return max(path.stat().st_mtime_ns, *links, 0)
