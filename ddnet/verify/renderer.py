"""The embedded renderer against Mitsuba 3: the same scenes, defocused and all in focus."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import circle_of_confusion_px
from ddnet.data.embedded.render import Rendered, render
from ddnet.data.embedded.surfaces import SceneSpec
from ddnet.data.embedded.textures import FloatArray, linear_to_srgb
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path, write_json
from ddnet.io.images import read_image, write_image
from ddnet.runtime.log import Progress
from ddnet.runtime.provenance import Stopwatch
from ddnet.verify import mitsuba as theirs
from ddnet.verify.scenes import Case, cases

LEAST_DB = 38.0  # what two correct renderers reach at these samples
LENS_SAMPLES = 64  # ours, as in the preset
STEP = 0.05  # relative jump of depth between neighbours that makes an occlusion edge


@dataclass(frozen=True)
class Comparison:
    """One scene; PSNR in dB of sRGB-encoded pictures, before any noise of a sensor is added.

    Attributes:
        image_db: of the defocused image, with 64 lens samples of ours as the preset has them.
        edges_db: the same near occlusion edges alone, as far as blur reaches; NaN without any.
        target_db: of the all-in-focus target.
        noise_db: of Mitsuba's own image, by its two halves that were sampled with different seeds.
        widest_px: largest circle of confusion in view.
    """

    scene: str
    about: str
    size: int
    widest_px: float
    lens_samples: int
    mitsuba_samples: int
    seed: int
    image_db: float
    edges_db: float
    target_db: float
    noise_db: float

    @property
    def passed(self) -> bool:
        """Whether image and target agree."""
        return min(self.image_db, self.target_db) >= LEAST_DB


def encoded(light: FloatArray) -> FloatArray:
    """Linear light as pictures are compared: sRGB in [0, 1]."""
    return np.clip(linear_to_srgb(np.asarray(light, np.float32)), 0.0, 1.0).astype(np.float32)


def decibels(first: NDArray[Any], second: NDArray[Any]) -> float:
    """PSNR of two arrays of one shape with a peak of 1; infinite where they are equal, NaN where they are empty."""
    if not first.size:
        return math.nan
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def occlusion_edges(depth_m: FloatArray, spec: SceneSpec) -> NDArray[np.bool_]:
    """Pixels around jumps of depth, as far as the widest circle of confusion reaches: (H, W)."""
    import cv2

    log = np.log(depth_m.astype(np.float64))
    jump = np.zeros(depth_m.shape, np.uint8)
    jump[:, 1:] |= (np.abs(np.diff(log, axis=1)) > STEP).astype(np.uint8)
    jump[1:] |= (np.abs(np.diff(log, axis=0)) > STEP).astype(np.uint8)
    reach = 2 * math.ceil(widest_blur(depth_m, spec) / 2) + 1
    return cv2.dilate(jump, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0


def widest_blur(depth_m: FloatArray, spec: SceneSpec) -> float:
    """Diameter of the largest circle of confusion, pixels."""
    return float(np.abs(circle_of_confusion_px(depth_m, spec.lens, spec.size)).max())


def pictures(folder: Path, name: str) -> tuple[Path, Path]:
    """Mitsuba's defocused image and all-in-focus target of a scene, as 16-bit sRGB."""
    return folder / f"{name}_image.png", folder / f"{name}_target.png"


def compare(case: Case, ours: Rendered, folder: Path, samples: int, seed: int, noise_db: float) -> Comparison:
    """Ours against Mitsuba's stored pictures."""
    image, target = map(read_image, pictures(folder, case.name))
    edges = occlusion_edges(ours.depth_m, case.spec)
    return Comparison(
        case.name, case.about, case.spec.size, widest_blur(ours.depth_m, case.spec), LENS_SAMPLES, samples, seed,
        decibels(encoded(ours.image), image), decibels(encoded(ours.image)[edges], image[edges]),
        decibels(encoded(ours.target), target), noise_db,
    )  # fmt: skip


def _mitsubas(mi: Any, case: Case, samples: int, seed: int) -> tuple[FloatArray, FloatArray, float]:
    """Mitsuba's image and target in linear light, and how far its image is from what more samples would give, in dB."""
    with theirs.scene_of(mi, case.spec) as scene:
        halves = [theirs.render(mi, scene, case.spec, samples // 2, 2 * seed + half) for half in (0, 1)]
        target = theirs.render(mi, scene, case.spec, samples // 2, 2 * seed, pinhole=True)
    noise = decibels(*map(encoded, halves)) + 10 * math.log10(4)  # the mean has a quarter of the difference's variance
    return (halves[0] + halves[1]) / np.float32(2), target, noise


def verify_renderer(
    out: Path, samples: int, seed: int, tell: Callable[[Comparison], None], only: tuple[str, ...] = ()
) -> list[Comparison]:
    """Render every case twice and compare; writes `comparison.csv`, `comparison.png`, pictures and `manifest.json`.

    Args:
        samples: Mitsuba's samples per pixel, even.
        tell: called after each case.
        only: names of cases; all where empty.

    Raises:
        DDNetError: mitsuba is not installed, or a name that no case has.
    """
    watch, mi, chosen = Stopwatch(), theirs.load(), cases()
    if unknown := set(only) - {case.name for case in chosen}:
        raise DDNetError(f"no scene {sorted(unknown)[0]!r}; allowed: {', '.join(case.name for case in chosen)}")
    results, shown = [], []
    chosen = [case for case in chosen if not only or case.name in only]
    progress = Progress("verify renderer", len(chosen), "scenes")
    for case in chosen:
        image, target, noise = _mitsubas(mi, case, samples, seed)
        for path, light in zip(pictures(out, case.name), (image, target), strict=True):
            write_image(path, encoded(light))
        ours = render(case.spec, LENS_SAMPLES)
        results.append(compare(case, ours, out, samples, seed, noise))
        shown.append((results[-1], encoded(ours.image), encoded(image)))
        tell(results[-1])
        progress.advance()
    _write(out / "comparison.csv", results)
    _draw(out / "comparison.png", shown)
    facts = {"mitsuba": mi.__version__, "variant": theirs.VARIANT, "seed": seed, "samples": samples}
    write_json(out / "manifest.json", watch.manifest(**facts))
    return results


def _write(path: Path, results: list[Comparison]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(asdict(results[0]))
        writer.writerows(list(_cells(result)) for result in results)


def _cells(result: Comparison) -> Iterator[str | int]:
    for value in asdict(result).values():
        yield ("" if math.isnan(value) else f"{value:.2f}") if isinstance(value, float) else value


def _draw(path: Path, shown: list[tuple[Comparison, FloatArray, FloatArray]]) -> None:
    """Ours, Mitsuba's and ten times their difference, a row per scene."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.95 * len(shown) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for row, (result, ours, other) in enumerate(shown):
        difference = np.clip(0.5 + 10 * (ours - other), 0, 1)
        for column, (title, picture) in enumerate(
            (("this renderer", ours), ("Mitsuba 3", other), ("0.5 + 10 x difference", difference))
        ):
            axes = figure.add_subplot(len(shown), 3, 3 * row + column + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(title, fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{result.scene}\n{result.image_db:.1f} dB", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
