"""Pictures of a few scenes: restored images with a zoomed crop, and the GRU's update gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnet.data.index import Scene, panel_scenes
from ddnet.errors import DDNetError
from ddnet.io.arrays import read_npz
from ddnet.io.images import read_depth16, read_image
from ddnet.report.collect import RunRef
from ddnet.report.style import PALETTE, PICTURE_BYTES, TEXT_WIDTH, house_style, new_figure, save, wrapped
from ddnet.report.wording import format_number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GATE_SCALES = ("z_full", "z_half", "z_quarter", "z_eighth")
SHOWN_PIXELS = 420  # a picture is hardly ever shown wider than 400 dots: four beside each other fill a page
CROP_PIXELS = 168  # a crop of at most this side is never shown smaller than it is
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PanelScene:
    """A scene to show: paths of its image, its target, and the depth map (16-bit PNG) where there is one."""

    dataset: str
    scene: str
    location: str
    image: Path
    target: Path
    depth: Path | None = None

    @property
    def caption(self) -> str:
        """What stands beside its row; a long name (a user's file) keeps its two ends."""
        name = self.scene if len(self.scene) <= 18 else f"{self.scene[:8]}…{self.scene[-9:]}"
        return f"{name}\n{self.location}" if self.location else name


def panel_inputs(scenes: Sequence[Scene], count: int, depth: Path | None) -> list[PanelScene]:
    """What the panel figures show; `depth` is the folder of estimated maps, if any."""
    return [
        PanelScene(
            scene.dataset,
            scene.scene,
            scene.location,
            scene.image,
            scene.target,
            depth / f"{scene.key}.png" if depth else None,
        )
        for scene in panel_scenes(scenes, count)
    ]


def most_blurred(image: FloatArray, target: FloatArray, size: int) -> tuple[int, int]:
    """Top and left of the size×size window in which image and target differ most.

    Sums of |difference| over every window through an integral image; ties go to the first.
    """
    difference = np.abs(image - target).mean(axis=2, dtype=np.float64)
    integral = np.pad(difference, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = integral[size:, size:] - integral[:-size, size:] - integral[size:, :-size] + integral[:-size, :-size]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def _psnr(images: pd.DataFrame, ref: RunRef, scene: PanelScene) -> float:
    same = images["seed"].isna() if ref.seed is None else images["seed"] == ref.seed
    row = images[
        same.fillna(False)
        & (images["variant"] == ref.variant)
        & (images["metric"] == "psnr")
        & (images["dataset"] == scene.dataset)
        & (images["scene"] == scene.scene)
    ]
    return float(row["value"].iloc[0]) if len(row) else float("nan")


def psnr_of(image: FloatArray, target: FloatArray) -> float:
    """PSNR in dB of an input as it is read, for the corner of its picture."""
    error = float(np.mean((image.astype(np.float64) - target) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def reduced(picture: FloatArray, width: int = SHOWN_PIXELS) -> FloatArray:
    """A picture (H, W) or (H, W, 3), made smaller by area means where it is at least twice as wide as `width`."""
    factor = picture.shape[1] // width
    if factor < 2:
        return picture
    import cv2

    size = (round(picture.shape[1] / factor), max(1, round(picture.shape[0] / factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def depth_scale(scenes: Sequence[PanelScene]) -> tuple[float, str]:
    """The depth that is shown brightest, the same for all scenes, and the column's heading.

    Published Monodepth2 weights give photographs a fraction of [0, 1]: on the full scale all would be black.
    """
    maps = [scene.depth for scene in scenes if scene.depth is not None]
    greatest = max((float(read_depth16(path).max()) for path in maps), default=1.0)
    return (1.0, "Depth") if greatest > 0.5 or greatest <= 0.005 else (greatest, f"Depth 0 to {greatest:.2f}")


def _show(axes: Axes, image: FloatArray, corner: str = "", size: Sequence[int] = (), **options: Any) -> Any:
    """Draw a picture; `size` is the (H, W) of the one that it was reduced from, in whose pixels the axes count."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    height, width = size or image.shape[:2]
    options["extent"] = (-0.5, width - 0.5, height - 0.5, -0.5)
    shown = axes.imshow(np.clip(image, 0, 1) if image.ndim == 3 else image, interpolation="antialiased", **options)
    if corner:
        axes.text(
            0.97, 0.96, corner, transform=axes.transAxes, ha="right", va="top", fontsize=5.2, color="white",
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "edgecolor": "none"},
        )  # fmt: skip
    return shown


def _frame(axes: Axes, top: int, left: int, size: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=PALETTE[5], linewidth=0.9))


def _read_restored(ref: RunRef, scene: PanelScene) -> FloatArray:
    path = ref.folder / "restored" / scene.dataset / f"{scene.scene}.png"
    if not path.is_file():
        raise DDNetError(f"{path}: no such file; panels show restored images, so set evaluation.save to panels or all")
    return read_image(path)


@dataclass(frozen=True)
class _Row:
    """A scene as the figure needs it, a few hundred pixels of each picture instead of all of them.

    Attributes:
        size: (H, W) of the scene.
        crop: top, left and side of the window that is shown enlarged.
        pictures: per column the reduced picture, the crop, and the words in the corner.
    """

    scene: PanelScene
    size: tuple[int, int]
    crop: tuple[int, int, int]
    pictures: list[tuple[FloatArray, FloatArray, str]]


def _read_row(scene: PanelScene, runs: Sequence[RunRef], images: pd.DataFrame) -> _Row:
    image, target = read_image(scene.image), read_image(scene.target)
    side = max(8, min(min(image.shape[:2]) // 4, CROP_PIXELS))
    top, left = most_blurred(image, target, side)

    def cut(picture: FloatArray, corner: str = "") -> tuple[FloatArray, FloatArray, str]:
        return reduced(picture), picture[top : top + side, left : left + side].copy(), corner

    pictures = [cut(image, f"{format_number(psnr_of(image, target), 2)} dB")]
    pictures += [cut(_read_restored(ref, scene), f"{format_number(_psnr(images, ref, scene), 2)} dB") for ref in runs]
    pictures.append(cut(target))
    if scene.depth is not None:
        pictures.append(cut(read_depth16(scene.depth)))
    return _Row(scene, (image.shape[0], image.shape[1]), (top, left, side), pictures)


def draw_panels(
    title: str, runs: Sequence[RunRef], scenes: Sequence[PanelScene], images: pd.DataFrame, path: str | Path
) -> Path:
    """Per scene two rows, whole pictures and a crop: input, every run, target, depth; PSNR in the corner.

    The crop is where the input differs most from its target, so it is chosen by the data and not by its
    outcome. Whole pictures are reduced for the figure, a crop never is; scenes may differ in size.

    Raises:
        DDNetError: no scene, or a restored image is missing.
    """
    if not scenes:
        raise DDNetError(f"panels of '{title}': no scene was chosen; set evaluation.panels to 1 or more")
    depth_limit, depth_heading = depth_scale(scenes)
    with_depth = any(scene.depth for scene in scenes)
    headings = ["Input", *(ref.label for ref in runs), "Target", *([depth_heading] if with_depth else [])]
    rows = [_read_row(scene, runs, images) for scene in scenes]
    with house_style():
        width = (TEXT_WIDTH - 0.5) / len(headings)
        heights = [height for row in rows for height in (width * row.size[0] / row.size[1], width)]
        figure = new_figure(TEXT_WIDTH, sum(heights) + 0.06 * len(heights) + 0.6)
        figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(heights), len(headings), squeeze=False, height_ratios=heights)
        for position, row in enumerate(rows):
            for column in range(len(headings)):
                whole, crop = grid[2 * position, column], grid[2 * position + 1, column]
                if column >= len(row.pictures):
                    whole.set_axis_off()
                    crop.set_axis_off()
                    continue
                picture, window, corner = row.pictures[column]
                options: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": depth_limit} if picture.ndim == 2 else {}
                _show(whole, picture, corner, row.size, **options)
                _frame(whole, *row.crop)
                _show(crop, window, **options)
            grid[2 * position, 0].set_ylabel(row.scene.caption, fontsize=6, parse_math=False)
            grid[2 * position + 1, 0].set_ylabel("crop", fontsize=6.5)
        for axes, heading in zip(grid[0], wrapped(headings, 15), strict=True):
            axes.set_title(heading, fontsize=6.5, fontweight="normal")
        seeds = ", ".join(sorted({str(ref.seed) for ref in runs if ref.seed is not None})) or "none"
        heading = f"{title}: test scenes, and the crop with most blur (seed {seeds})"
        figure.suptitle(heading, x=0.01, ha="left", fontweight="bold", fontsize=7.5)
        return save(figure, path, PICTURE_BYTES)


def read_gates(path: Path) -> list[FloatArray]:
    """The update gates of one scene, each (h, w) in [0, 1], from 1/8 of the picture's size to all of it.

    Raises:
        DDNetError: no such file, or another one than `write_gate_maps` writes.
    """
    gates = read_npz(path, GATE_SCALES, "evaluate the run again")
    if any(gate.ndim != 2 or gate.dtype.kind != "f" or not np.isfinite(gate).all() for gate in gates):
        raise DDNetError(f"{path}: gate maps must be finite numbers of two dimensions; evaluate the run again")
    return gates


def _gates(runs: Sequence[RunRef], reference: str, scenes: Sequence[PanelScene]) -> tuple[RunRef, list[PanelScene]]:
    """The run whose gates are shown (the reference's, else the first with some), and its scenes."""
    for ref in sorted(runs, key=lambda item: item.variant != reference):
        found = [s for s in scenes if (ref.folder / "gates" / s.dataset / f"{s.scene}.npz").is_file()]
        if found:
            return ref, found
    raise DDNetError(
        f"no gates/<dataset>/<scene>.npz of {', '.join(ref.name for ref in runs)}: evaluate a variant with "
        "GRU fusion on the panel scenes, or leave the kind 'gates' out"
    )


def draw_gates(
    title: str, runs: Sequence[RunRef], reference: str, scenes: Sequence[PanelScene], path: str | Path
) -> Path:
    """Input, depth and the update gate z at the four scales, mean over channels, on one colour scale.

    h' = (1 − z)·h + z·q: where z is near 0 the blur feature passes unchanged, where it is near 1 the depth
    rewrites it.

    Raises:
        DDNetError: no run has gate maps for any of the scenes.
    """
    ref, shown = _gates(runs, reference, scenes)
    depth_limit, depth_heading = depth_scale(shown)
    with house_style():
        inputs, sizes, stored = [], [], []
        for scene in shown:
            image = read_image(scene.image)
            inputs.append(reduced(image))
            sizes.append((image.shape[0], image.shape[1]))
            gates = read_gates(ref.folder / "gates" / scene.dataset / f"{scene.scene}.npz")
            stored.append([reduced(gate) for gate in gates])
        values = np.concatenate([gate.ravel() for gates in stored for gate in gates])
        low, high = (float(value) for value in np.quantile(values, [0.005, 0.995]))
        heights = [(TEXT_WIDTH - 0.8) / 6 * height / width for height, width in sizes]
        figure = new_figure(TEXT_WIDTH, 0.98 * sum(heights) + 0.5)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(shown), 6, squeeze=False, height_ratios=heights)
        gate_image: Any = None
        for row, scene, image, gates in zip(grid, shown, inputs, stored, strict=True):
            _show(row[0], image)
            row[0].set_ylabel(scene.caption, fontsize=6, parse_math=False)
            if scene.depth is None:
                row[1].set_axis_off()
            else:
                _show(row[1], reduced(read_depth16(scene.depth)), cmap="magma", vmin=0, vmax=depth_limit)
            for axes, gate in zip(row[2:], gates, strict=True):
                gate_image = _show(axes, gate, cmap="viridis", vmin=low, vmax=high)
        headings = ("Input", depth_heading, "z, full size", "z, 1/2", "z, 1/4", "z, 1/8")
        for axes, heading in zip(grid[0], headings, strict=True):
            axes.set_title(heading, fontsize=6.5, fontweight="normal")
        bar = figure.colorbar(gate_image, ax=grid[:, 2:], shrink=0.9, aspect=18, pad=0.015, extend="both")
        bar.set_label("update gate z (channel mean)", fontsize=6.5)
        heading = f"{title}: update gates of {ref.label} ({ref.name})"
        figure.suptitle(heading, x=0.01, ha="left", fontweight="bold", fontsize=7.5)
        return save(figure, path, PICTURE_BYTES)
