"""Restore test scenes, measure each against its target, and write what tables and figures are made of.

Whole images, never resized, never tiled: channel attention pools globally, so tiles give other results.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch

from ddnet.data.index import Scene
from ddnet.data.unchanged import require_unchanged
from ddnet.errors import DDNetError
from ddnet.evaluation.metrics._base import Metric
from ddnet.io.files import atomic_path, write_json
from ddnet.io.images import FloatArray, read_image, write_image
from ddnet.io.tensors import channels_last, crop_to, pad_to_multiple, to_array, to_tensor
from ddnet.models import banded
from ddnet.runtime.malloc import freed_memory_kept

log = logging.getLogger(__name__)

Row = dict[str, Any]
Save = Literal["all", "panels", "none"]
Depths = Callable[[Scene], FloatArray | None]

SCENE_COLUMNS = ("dataset", "scene", "location")
METRIC_COLUMNS = ("psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze")
GATE_NAMES = ("z_eighth", "z_quarter", "z_half", "z_full")  # the order of a branch's cells, coarse to fine


class Restorer(Protocol):
    """Anything that turns a defocused image into a sharp one: a model here, a baseline, the identity."""

    def restore(self, image: FloatArray, depth: FloatArray | None) -> FloatArray:
        """(H, W, 3) RGB in [0, 1] and, where there is one, (H, W) depth in [0, 1] -> (H, W, 3), any range."""
        ...


@runtime_checkable
class Finished(Protocol):
    """Pictures that were restored before, by code that is not run here."""

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Called once with all scenes; refuses them where a picture is missing or does not fit."""
        ...

    def restore_scene(self, scene: Scene) -> FloatArray:
        """The picture of one of these scenes: (H, W, 3) RGB."""
        ...


def _model_inputs(
    model: torch.nn.Module, image: FloatArray, depth: FloatArray | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    multiple = int(getattr(model, "multiple", 16))
    if not getattr(model, "uses_depth", True):
        depth = None
    elif depth is None:
        raise DDNetError(f"{type(model).__name__} needs a depth map and got none; estimate the depth first")
    elif depth.shape != image.shape[:2]:
        raise DDNetError(f"the depth map is {depth.shape}, the image {image.shape[:2]}; depth is never resized here")

    def prepare(array: FloatArray) -> torch.Tensor:
        padded, _ = pad_to_multiple(to_tensor(array), multiple)
        return padded.to(device).contiguous(memory_format=torch.channels_last)

    return prepare(image), None if depth is None else prepare(depth)


def _device_of(model: torch.nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


class ModelRestorer:
    """A torch model with `forward(image, depth)` as a `Restorer`.

    Pads both inputs by reflection to a multiple of `model.multiple` (16 if unset), crops the output and clips
    it to [0, 1]. A model whose `uses_depth` is False gets `None` as depth. Runs on `device`, to which the model
    is moved, or where that is None on the model's own. With `half`, layers that autocast knows run in bfloat16, which
    changes a value by about 1/256: faster, and never used in evaluation.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device | None = None, half: bool = False) -> None:
        self.model = channels_last(model.eval().to(device or _device_of(model)))
        self.half = half

    def restore(self, image: FloatArray, depth: FloatArray | None) -> FloatArray:
        """Restore one whole image; see `Restorer`.

        Raises:
            DDNetError: the model uses depth and there is none, or it is not of the image's size.
        """
        device = _device_of(self.model)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            output = banded.forward(self.model, *_model_inputs(self.model, image, depth, device)).float()
            return to_array(crop_to(output, (image.shape[0], image.shape[1])).clamp(0.0, 1.0))


def _read_pair(scene: Scene) -> tuple[FloatArray, FloatArray]:
    require_unchanged(scene)
    image, target = read_image(scene.image), read_image(scene.target)
    expected = (scene.height, scene.width, 3)
    for path, pixels in ((scene.image, image), (scene.target, target)):
        if pixels.shape != expected:
            raise DDNetError(
                f"{path}: is {pixels.shape}, the index says {expected}; make the index anew, do not resize"
            )
    return image, target


def _rounded(value: float) -> float:
    # Rounded where it is made, so that the CSV, its means and everything downstream rest on the same numbers.
    return float(f"{value:.8g}")


def _evaluate_scene(
    restorer: Restorer | Finished, scene: Scene, depth: FloatArray | None, metrics: Mapping[str, Metric]
) -> tuple[Row, FloatArray]:
    image, target = _read_pair(scene)
    timed: Row = {}
    if isinstance(restorer, Finished):
        output = np.asarray(restorer.restore_scene(scene))
    else:
        start = time.perf_counter()
        output = np.asarray(restorer.restore(image, depth))
        timed["seconds"] = _rounded(time.perf_counter() - start)
    if output.shape != target.shape:
        raise DDNetError(f"restored is {output.shape}, target {target.shape}; a restorer keeps the size")
    restored = np.clip(output, 0.0, 1.0).astype(np.float32)
    row: Row = {column: getattr(scene, column) for column in SCENE_COLUMNS}
    with freed_memory_kept():
        row |= {name: _rounded(metric(restored, target)) for name, metric in metrics.items()}
    return row | timed, restored


@contextmanager
def _on_device(scene: Scene) -> Iterator[None]:
    """Convolutions of a GPU in IEEE float32, not in TF32 (10 bits), and repeatable; too little memory in one line."""
    cudnn: Any = torch.backends.cudnn
    try:
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    except torch.OutOfMemoryError:
        raise DDNetError(
            f"{scene.image}: {scene.width}x{scene.height} px do not fit into the GPU's memory; "
            "use a GPU with more, or set CUDA_VISIBLE_DEVICES= (empty) to run on the processor"
        ) from None


def _require_distinct(scenes: Sequence[Scene]) -> None:
    seen: set[tuple[str, str]] = set()
    for scene in scenes:
        if (scene.dataset, scene.scene) in seen:
            raise DDNetError(
                f"scene {scene.dataset}/{scene.scene} comes twice; evaluate one split of a dataset at a time"
            )
        seen.add((scene.dataset, scene.scene))
    if not scenes:
        raise DDNetError("there are no scenes to evaluate; check the dataset and split names against index.csv")


def evaluate(
    restorer: Restorer | Finished,
    scenes: Sequence[Scene],
    depths: Depths,
    metrics: Mapping[str, Metric],
    out: str | Path,
    save: Save = "panels",
    panels: Iterable[str] = (),
    bits: int = 16,
) -> list[Row]:
    """Restore and measure every scene.

    Writes `out/restored/<dataset>/<scene>.png`. Metrics see the restored image as float, clipped to
    [0, 1] and not quantised.

    Args:
        restorer: what is evaluated; finished pictures have no time.
        scenes: test scenes; dataset and scene name together must be distinct.
        depths: depth map of a scene, (H, W) in [0, 1], or None.
        metrics: from `ddnet.evaluation.metrics.build_metrics`; the CSV column of one left out is empty.
        out: run folder.
        save: which restored images to keep: all, those named in `panels`, or none.
        panels: `Scene.key` of the scenes shown in figures; `bits` (8 or 16) are those of each channel of what is kept.

    Returns:
        One row per scene, in their order: dataset, scene, location, the metrics, seconds of wall time.

    Raises:
        DDNetError: sizes that differ, NaN, repeated or no scenes, too little GPU memory; the message names the scene.
    """
    if save not in ("all", "panels", "none"):
        raise DDNetError(f"save is '{save}'; allowed are all, panels and none")
    _require_distinct(scenes)
    if isinstance(restorer, Finished):
        restorer.prepare(scenes)
    shown, rows = set(panels), []
    for number, scene in enumerate(scenes, 1):
        try:
            with _on_device(scene):
                row, restored = _evaluate_scene(restorer, scene, depths(scene), metrics)
        except DDNetError as error:
            raise DDNetError(f"{scene.key}: {error}") from error
        if save == "all" or (save == "panels" and scene.key in shown):
            write_image(Path(out, "restored", scene.dataset, f"{scene.scene}.png"), restored, bits)
        rows.append(row)
        log.info("%d/%d %s %.2f s", number, len(scenes), scene.key, row.get("seconds", 0.0))
    return rows


def write_per_image(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV: the fixed columns, and metrics beyond them; absent values are empty cells.

    The same weights on the same machine give the same bytes, so times are not among them: `write_timing`.
    """
    known = {*SCENE_COLUMNS, *METRIC_COLUMNS, "seconds"}
    extra = [name for name in (rows[0] if rows else ()) if name not in known]
    _write_rows(path, (*SCENE_COLUMNS, *METRIC_COLUMNS, *extra), rows)


def write_timing(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the seconds of wall time that each scene's restoration took as CSV; no cell for a finished picture."""
    _write_rows(path, (*SCENE_COLUMNS, "seconds"), rows)


def _write_rows(path: str | Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _means(rows: Iterable[Row]) -> dict[str, float]:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in (*SCENE_COLUMNS, "seconds"):
                columns.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}


def write_evaluation(
    path: str | Path,
    rows: Sequence[Row],
    unavailable: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `evaluation.json`: means over images per dataset, and per location within it.

    Args:
        path: the JSON file.
        rows: from `evaluate`.
        unavailable: `{metric: reason}` from `build_metrics`.
        extra: further entries (depth source, parameters, provenance).

    Returns:
        What was written: `metrics`, `by_location`, `images` (counts), `unavailable`, and `extra`. An infinite mean
        is the text "inf" in the file.

    Raises:
        DDNetError: an entry of `extra` would replace one of these.
    """
    by_dataset: dict[str, list[Row]] = {}
    for row in rows:
        by_dataset.setdefault(row["dataset"], []).append(row)
    result: dict[str, Any] = {
        "metrics": {dataset: _means(group) for dataset, group in by_dataset.items()},
        "by_location": {
            dataset: {
                location: _means(row for row in group if row["location"] == location)
                for location in sorted({row["location"] for row in group})
            }
            for dataset, group in by_dataset.items()
        },
        "images": {dataset: len(group) for dataset, group in by_dataset.items()},
        "unavailable": dict(unavailable),
    }
    if clash := sorted(result.keys() & (extra or {}).keys()):
        raise DDNetError(f"{path}: extra entries {clash} are reserved; name them otherwise")
    result |= extra or {}
    write_json(path, _for_json(result))
    return result


def _for_json(value: Any) -> Any:
    """Infinite numbers, which JSON does not have, as in the CSV: the PSNR of pictures that equal their targets."""
    if isinstance(value, Mapping):
        return {name: _for_json(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def gate_maps(model: torch.nn.Module, image: FloatArray, depth: FloatArray | None) -> dict[str, FloatArray]:
    """Update gates of the first branch's ConvGRU cells for one image: where the depth stream is let in.

    Args:
        model: a network with `cells[branch][scale]`, each called with `(blur, depth)` features and offering
            `gate(blur, depth) -> (B, C, h, w)`; scales run 1/8, 1/4, 1/2, 1.
        image: (H, W, 3) RGB in [0, 1].
        depth: (H, W) in [0, 1].

    Returns:
        `{"z_eighth", "z_quarter", "z_half", "z_full"}`: channel means in [0, 1], each at its own resolution
        (H and W over the scale, rounded up), without the padding. Empty for a fusion without gates.
    """
    branches = getattr(model, "cells", None)
    cells: list[Any] = list(branches[0]) if branches is not None and len(branches) else []
    if not cells or not all(hasattr(cell, "gate") for cell in cells):
        return {}
    seen: dict[int, tuple[torch.Tensor, ...]] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for number, cell in enumerate(cells):

            def remember(_: Any, inputs: tuple[torch.Tensor, ...], number: int = number) -> None:
                seen[number] = inputs

            hooks.enter_context(cell.register_forward_pre_hook(remember))
        blurred, inverse_depth = _model_inputs(model, image, depth, _device_of(model))
        model.eval()(blurred, inverse_depth)
        maps = {}
        for number, name in enumerate(GATE_NAMES):
            gate = cells[number].gate(*seen[number]).mean(dim=1)[0]
            scale = blurred.shape[-2] // gate.shape[-2]
            rows, columns = -(-image.shape[0] // scale), -(-image.shape[1] // scale)
            maps[name] = gate[:rows, :columns].float().cpu().numpy().copy()
    return maps


def write_gate_maps(model: torch.nn.Module, scenes: Iterable[Scene], depths: Depths, out: str | Path) -> list[Path]:
    """Write `out/gates/<dataset>/<scene>.npz` for each scene; nothing for a model without gates.

    Returns:
        The files written.
    """
    written = []
    for scene in scenes:
        with _on_device(scene):
            maps = gate_maps(model, read_image(scene.image), depths(scene))
        if maps:
            path = Path(out, "gates", scene.dataset, f"{scene.scene}.npz")
            with atomic_path(path) as temporary:
                np.savez_compressed(temporary, **maps)  # type: ignore[arg-type]
            written.append(path)
    return written
