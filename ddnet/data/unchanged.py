"""Whether pictures are still those that were indexed, so that no result rests on others than it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddnet.data.index import Scene, read_index
from ddnet.errors import DDNetError
from ddnet.io.contents import Contents
from ddnet.io.files import sha256


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


def require_unchanged_since(index: Path, made_from: Sequence[Path], contents: Contents) -> None:
    """Refuse results of pictures that were changed, replaced or removed after they were indexed.

    Args:
        index: the index of scenes; where there is none yet, nothing is to be refused.
        made_from: what it was made from; while that is missing or newer, the index is about to be made anew.
        contents: what is known of the pictures; only those are read that may have changed since.

    Raises:
        DDNetError: says how many, the first of them, and both ways out.
    """
    if not index.is_file():
        return
    made = index.stat().st_mtime_ns
    if any(not path.is_file() or path.stat().st_mtime_ns > made for path in made_from):
        return
    files = [file for scene in read_index(index) for file in _files(scene)]
    with ThreadPoolExecutor() as pool:
        same = pool.map(lambda file: file[0].is_file() and contents.digest(file[0]) == file[1], files)
        changed = [path for (path, _), kept in zip(files, same, strict=True) if not kept]
    if changed:
        raise DDNetError(
            f"{changed[0]}: changed or gone since it was indexed, as are {len(changed) - 1} other pictures; results "
            f"here rest on the old ones: put them back, or move {made_from[0]} aside to make all anew"
        )


def remember_pictures(scenes: Iterable[Scene], contents: Contents, read_ns: int) -> None:
    """Save the digests of pictures that were just indexed, so that none is read again to look for changes.

    Args:
        read_ns: when the first of them was read, in ns of the epoch.
    """
    for scene in scenes:
        for path, digest in _files(scene):
            contents.remember(path, digest, read_ns)
    contents.save()


def _files(scene: Scene) -> list[tuple[Path, str]]:
    """A scene's pictures with their digests in the index."""
    files = [(scene.image, scene.image_sha256), (scene.target, scene.target_sha256)]
    if scene.views:
        files += list(zip(scene.views, (scene.left_sha256, scene.right_sha256), strict=True))
    return files
