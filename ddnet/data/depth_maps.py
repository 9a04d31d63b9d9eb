"""Depth maps of scenes: the true ones, and the estimated ones that lie in files, read with their digests checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnet.data.index import Scene, normalised_inverse_depth
from ddnet.errors import DDNetError
from ddnet.io.arrays import read_npy
from ddnet.io.files import read_rows, sha256
from ddnet.io.images import FloatArray, quantise, read_depth16

COLUMNS = ("dataset", "split", "scene", "path", "sha256")  # of `index.csv`


def true_depth(scene: Scene) -> FloatArray:
    """The scene's true normalised inverse depth, (H, W) float32 in [0, 1].

    Raises:
        DDNetError: it is unknown (photographs without measured depth), or its file is gone.
    """
    if scene.depth_m is None:
        raise DDNetError(f"{scene.key}: its true depth is unknown; use the depth source monodepth2 or constant")
    if not scene.depth_m.is_file():
        raise DDNetError(f"{scene.depth_m}: no such file; render the scenes again (rule render_scenes)")
    depth_m = read_npy(scene.depth_m, "render the scenes again (rule render_scenes)")
    if depth_m.shape != (scene.height, scene.width) or depth_m.dtype.kind != "f" or not (depth_m > 0).all():
        raise DDNetError(
            f"{scene.depth_m}: is {depth_m.dtype} {depth_m.shape}; it must be metres above 0 of {scene.height} x "
            f"{scene.width} pixels: render the scenes again (rule render_scenes)"
        )
    return normalised_inverse_depth(depth_m)


class DepthStore:
    """The maps that `ddnet.depth.estimate` wrote into a folder.

    Each file's SHA-256 is compared with `index.csv` when it is first read, so that a result never rests on a
    depth map that somebody edited or that a broken disk returned.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self.folder / "index.csv"
        if not index.is_file():
            raise DDNetError(f"{index}: no depth was estimated there; run the rule estimate_depth")
        rows = read_rows(index, COLUMNS, "move the folder aside and estimate again")
        self._rows = {f"{row['dataset']}/{row['split']}/{row['scene']}": row for row in rows}
        self._verified: set[str] = set()

    def __call__(self, scene: Scene) -> FloatArray:
        """Depth of one scene, (H, W) float32 in [0, 1].

        Raises:
            DDNetError: not in the index, the file is missing or altered, or its size is not the image's.
        """
        row = self._rows.get(scene.key)
        if row is None:
            raise DDNetError(
                f"{self.folder}: no depth for scene {scene.key}; move index.csv there aside and estimate again"
            )
        path = self.folder / row["path"]
        fix = f"move {self.folder} aside and run the rule estimate_depth again"
        if not path.is_file():
            raise DDNetError(f"{path}: listed in index.csv but missing; {fix}")
        if scene.key not in self._verified:
            if sha256(path) != row["sha256"]:
                raise DDNetError(f"{path}: content differs from its SHA-256 in index.csv; {fix}")
            self._verified.add(scene.key)
        depth = read_depth16(path)
        if depth.shape != (scene.height, scene.width):
            raise DDNetError(f"{path}: {depth.shape}, but the image is {(scene.height, scene.width)}; {fix}")
        return depth

    def raw(self, scene: Scene) -> NDArray[np.uint16]:
        """Depth of one scene as stored, (H, W) uint16, 65535 nearest: half the memory of `__call__`.

        Raises:
            DDNetError: as `__call__`.
        """
        return quantise(self(scene), 16)  # exact: float32 tells all of k/65535 apart
