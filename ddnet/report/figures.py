"""The figures of one study: ablation bars, PSNR against size, training curves, panels and gate maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddnet.errors import DDNetError
from ddnet.registry import did_you_mean
from ddnet.report.collect import RunRef, VariantInfo, read_history
from ddnet.report.panels import PanelScene, draw_gates, draw_panels
from ddnet.report.statistics import matrix
from ddnet.report.style import (
    COLUMN_WIDTH,
    GREY,
    PALETTE,
    TEXT_WIDTH,
    house_style,
    line_look,
    new_figure,
    save,
    wrapped,
)
from ddnet.report.wording import NOT_FINITE, display_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

MANY = 8  # variants whose names no longer stand below each other, nor beside their points in one column
KINDS = ("ablation", "psnr_params", "curves", "panels", "gates")
TITLES = {
    "modules": "Effects of each module", "fusion": "Fusion methods", "depth": "Depth controls",
    "controls": "All depth controls", "readings": "Which reading?", "fusions": "More fusions",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A study as its figures need it.

    Attributes:
        variants: in the order in which they are drawn.
        reference: the variant that the study's table compares with; its gates are shown.
        baseline: drawn as a dashed line; "" for none.
        trial: whether only a few scenes were used, which every figure then says.
    """

    name: str
    variants: tuple[VariantInfo, ...]
    reference: str = ""
    baseline: str = "blurred"
    trial: bool = False

    @property
    def title(self) -> str:
        """Heading of the study's figures."""
        title = TITLES.get(self.name, self.name.replace("_", " ").capitalize())
        return f"Trial, not results. {title}" if self.trial else title


def seed_means(images: pd.DataFrame, variant: str, dataset: str, metric: str = "psnr") -> np.ndarray[Any, Any]:
    """Mean over images of every seed, (seeds,); empty where nothing was measured, or a mean is not finite."""
    values = matrix(images, variant, metric, dataset)
    means = values.to_numpy(float).mean(axis=1) if values.size else np.empty(0)
    return means if np.isfinite(means).all() else np.empty(0)


def _any_run(study: Study, images: pd.DataFrame, dataset: str) -> bool:
    return any(matrix(images, variant.name, "psnr", dataset).size for variant in study.variants)


def _draw_nothing(study: Study, path: str | Path) -> Path:
    """A figure that says why it shows no value."""
    with house_style():
        figure = new_figure(COLUMN_WIDTH, 1.2)
        figure.suptitle(study.title, x=0.01, ha="left", fontweight="bold", fontsize=7.5)
        figure.text(0.5, 0.4, wrapped([f"— ({NOT_FINITE})"], 60)[0], ha="center", va="center")
        return save(figure, path)


def mean_curve(histories: Sequence[pd.DataFrame], column: str = "val_psnr") -> pd.DataFrame:
    """Mean, lowest and highest over seeds at the steps that every seed validated at.

    Returns:
        Index `step`; columns `mean`, `low`, `high`.
    """
    import pandas as pd

    series = [frame.dropna(subset=[column]).drop_duplicates("step").set_index("step")[column] for frame in histories]
    joined = pd.concat(series, axis=1, join="inner").sort_index() if series else pd.DataFrame()
    return pd.DataFrame({"mean": joined.mean(axis=1), "low": joined.min(axis=1), "high": joined.max(axis=1)})


def _axis_from(values: Iterable[float]) -> tuple[float, float]:
    """Limits a little below and above the values, the lower one a round number that the label can name."""
    numbers = np.asarray(list(values), dtype=float)
    low, high = float(numbers.min()), float(numbers.max())
    margin = max(0.15 * (high - low), 0.05)
    step = 0.5 if high - low > 1 else 0.1
    return float(np.floor((low - margin) / step) * step), high + 1.2 * margin


def draw_ablation(study: Study, images: pd.DataFrame, dataset: str, path: str | Path) -> Path:
    """Mean PSNR per variant: bars with s.d. over seeds, every seed a dot, the blurred input a dashed line."""
    measured = [(v.label, seed_means(images, v.name, dataset)) for v in study.variants]
    measured = [(label, means) for label, means in measured if means.size]
    if not measured:
        if _any_run(study, images, dataset):
            return _draw_nothing(study, path)
        raise DDNetError(
            f"study {study.name}: no run was measured on {display_name(dataset)}; evaluate its variants first"
        )
    blurred = seed_means(images, study.baseline, dataset)
    low, high = _axis_from([*np.concatenate([means for _, means in measured]), *blurred])
    with house_style():
        figure = new_figure(TEXT_WIDTH, 2.5 if len(measured) <= MANY else 3.2)
        axes: Axes = figure.add_subplot()
        for position, (_, means) in enumerate(measured):
            error = means.std(ddof=1) if means.size > 1 else None
            axes.bar(position, means.mean() - low, 0.62, bottom=low, color=PALETTE[0], alpha=0.35, zorder=2)
            axes.errorbar(position, means.mean(), error, color="#222222", capsize=3, lw=0.9, fmt="none", zorder=4)
            spread = np.linspace(-0.12, 0.12, means.size) if means.size > 1 else np.zeros(1)
            axes.scatter(position + spread, means, 18, color=PALETTE[0], edgecolor="white", linewidth=0.5, zorder=3)
            top = max(means.max(), means.mean() + (error or 0))
            axes.annotate(
                f"{means.mean():.2f}", (position, top), xytext=(0, 5), textcoords="offset points",
                ha="center", va="bottom", fontweight="bold",
            )  # fmt: skip
        if blurred.size:
            axes.axhline(blurred.mean(), color=GREY, ls="--", lw=0.9, zorder=3.5)
            axes.annotate(
                f"blurred input {blurred.mean():.2f}", (1, blurred.mean()),
                xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", ha="left",
                va="center", color=GREY, fontsize=6.5, annotation_clip=False,
            )  # fmt: skip
        many = len(measured) > MANY
        names = [label for label, _ in measured]
        axes.set_xticks(range(len(measured)), names if many else wrapped(names))
        if many:
            axes.tick_params(axis="x", rotation=35)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.grid(False, axis="x")
        axes.set_xlim(-0.6, len(measured) - 0.4)
        axes.set_ylim(low, high)
        axes.set_ylabel(f"PSNR (dB); axis starts at {low:.1f}")
        counts = sorted({means.size for _, means in measured})
        seeds = f"{counts[0]} seed{'s' if counts[0] > 1 else ''}" if len(counts) == 1 else "all seeds"
        spread_note = ", whiskers: s.d." if counts[-1] > 1 else ""
        axes.set_title(f"{study.title} on {display_name(dataset)} (mean of {seeds}{spread_note})", loc="left")
        return save(figure, path)


def label_box(text: Annotation, renderer: Any) -> Any:
    """Extent of a label in pixels without its line, which may pass below other labels."""
    from matplotlib.text import Text

    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer)


def place_labels(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], whiskers: Sequence[float] = ()
) -> None:
    """Label points so that no label covers another one, a point or its whisker; a far label gets a thin line.

    Greedy: every label takes the nearest of a ring of places that is still free, which suffices for a
    table's rows.
    """
    figure = axes.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    pixels = axes.transData.transform(np.asarray(points, dtype=float))
    frame = axes.get_window_extent(renderer)
    lengths = np.asarray(whiskers or [0.0] * len(points))
    tops = axes.transData.transform(np.asarray(points, dtype=float) + np.stack([0 * lengths, lengths], axis=1))
    unit = figure.dpi / 72  # pixels of a point
    reach = tops[:, 1] - pixels[:, 1] + 3 * unit
    taken: list[tuple[float, float, float, float]] = [
        (x - 3 * unit, y - r, x + 3 * unit, y + r) for (x, y), r in zip(pixels, reach, strict=True)
    ]
    for point, label in zip(points, labels, strict=True):
        best: tuple[float, Any, tuple[float, float, float, float]] | None = None
        for distance in (5, 9, 15, 22, 31, 42):
            for angle in (0, 180, 90, 270, 35, 325, 145, 215):
                dx, dy = distance * np.cos(np.radians(angle)), distance * np.sin(np.radians(angle))
                text = axes.annotate(
                    label, point, xytext=(dx, dy), textcoords="offset points", fontsize=6.5, va="center",
                    ha="left" if dx > 1 else "right" if dx < -1 else "center",
                    arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.7} if distance > 9 else None,
                )  # fmt: skip
                box = label_box(text, renderer)
                corners = (box.x0 - unit, box.y0 - unit / 2, box.x1 + unit, box.y1 + unit / 2)
                cost = sum(_overlap(corners, other) for other in taken)
                inside = (frame.x0 + unit, frame.y0 + unit, frame.x1 - unit, frame.y1 - unit)
                cost += (corners[2] - corners[0]) * (corners[3] - corners[1]) - _overlap(corners, inside)
                cost += 0.02 * distance
                if best is None or cost < best[0]:
                    if best is not None:
                        best[1].remove()
                    best = (cost, text, corners)
                else:
                    text.remove()
            if best is not None and best[0] < 3:
                break
        if best is not None:
            taken.append(best[2])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def draw_psnr_params(
    study: Study,
    images: pd.DataFrame,
    complexity: Mapping[str, Mapping[str, Any]],
    dataset: str,
    path: str | Path,
) -> Path:
    """PSNR against parameters (log), one point per variant with its s.d. over seeds."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    found = [
        (position, float(complexity[v.name]["params_m"]), seed_means(images, v.name, dataset))
        for position, v in enumerate(study.variants)
        if v.name in complexity
    ]
    counted = bool(found)
    found = [(position, size, means) for position, size, means in found if means.size]
    if not found and counted and _any_run(study, images, dataset):
        return _draw_nothing(study, path)
    if not found:
        raise DDNetError(
            f"study {study.name}: no variant has both a size and a measurement on {display_name(dataset)}; evaluate one"
        )
    with house_style():
        figure = new_figure(COLUMN_WIDTH if len(found) <= MANY else TEXT_WIDTH, 2.7)
        axes: Axes = figure.add_subplot()
        for position, size, means in found:
            error = means.std(ddof=1) if means.size > 1 else None
            look = PALETTE[position % len(PALETTE)]
            axes.errorbar(size, means.mean(), error, fmt="o", ms=4, color=look, capsize=2, lw=0.9, zorder=3)
        sizes = [size for _, size, _ in found]
        axes.set_xscale("log")
        span = max(max(sizes) / min(sizes), 1.6)
        middle = (max(sizes) * min(sizes)) ** 0.5
        axes.set_xlim(middle / span**0.5 / span**0.25, middle * span**0.5 * span**0.25)
        low, high = _axis_from(np.concatenate([means for _, _, means in found]))
        axes.set_ylim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("parameters at width 64 (millions, log scale)")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(f"{study.title}:\nPSNR against size ({display_name(dataset)})", loc="left")
        labels = [study.variants[position].label for position, _, _ in found]
        spreads = [float(means.std(ddof=1)) if means.size > 1 else 0.0 for _, _, means in found]
        place_labels(axes, [(size, float(means.mean())) for _, size, means in found], labels, spreads)
        return save(figure, path)


def draw_curves(study: Study, runs: Sequence[RunRef], path: str | Path) -> Path:
    """Validation PSNR against the step: mean over seeds, band from the lowest to the highest seed."""
    from matplotlib.ticker import EngFormatter

    with house_style():
        figure = new_figure(TEXT_WIDTH, 2.7)
        axes: Axes = figure.add_subplot()
        shortest = 10**12
        for position, variant in enumerate(study.variants):
            files = [ref.folder / "history.csv" for ref in runs if ref.variant == variant.name]
            curve = mean_curve([frame for frame in map(read_history, files) if len(frame)])
            if curve.empty:
                continue
            look = line_look(position)
            axes.plot(curve.index, curve["mean"], lw=1.1, label=variant.label, **look)  # type: ignore[arg-type]
            axes.fill_between(curve.index, curve["low"], curve["high"], color=look["color"], alpha=0.15, lw=0)
            shortest = min(shortest, len(curve))
        if not axes.lines:
            raise DDNetError(f"study {study.name}: no run has a history.csv with val_psnr; train its variants first")
        if shortest <= 12:
            for line in axes.lines:
                line.set_marker("o")
                line.set_markersize(2.5)
        axes.set_xlabel("training step")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylabel("validation PSNR (dB); band: range of seeds")
        figure.suptitle(f"{study.title}: training", x=0.01, ha="left", fontweight="bold", fontsize=7.5)
        figure.legend(loc="outside right center")
        return save(figure, path)


def draw_study(
    study: Study,
    runs: Sequence[RunRef],
    images: pd.DataFrame,
    complexity: Mapping[str, Mapping[str, Any]],
    dataset: str,
    scenes: Sequence[PanelScene],
    folder: str | Path,
    kinds: Sequence[str] = KINDS,
) -> list[Path]:
    """Draw the figures of one study into `folder`, one PNG per kind.

    Args:
        runs: all runs of the study's variants, and the baseline's.
        images: the long frame of `collect.collect` over these runs.
        complexity: variant -> {"params_m": ...}.
        scenes: what panels and gate maps show.
        kinds: some of `KINDS`; leave `gates` out for a study without GRU fusion.

    Returns:
        The written files, in the order of `kinds`.

    Raises:
        DDNetError: an unknown kind, or a kind whose inputs do not exist.
    """
    folder = Path(folder)
    written = []
    for kind in kinds:
        path = folder / f"{kind}.png"
        match kind:
            case "ablation":
                written.append(draw_ablation(study, images, dataset, path))
            case "psnr_params":
                written.append(draw_psnr_params(study, images, complexity, dataset, path))
            case "curves":
                written.append(draw_curves(study, runs, path))
            case "panels":
                written.append(draw_panels(study.title, _one_run_each(study, runs), scenes, images, path))
            case "gates":
                written.append(draw_gates(study.title, _one_run_each(study, runs), study.reference, scenes, path))
            case _:
                raise DDNetError(f"unknown figure '{kind}'{did_you_mean(kind, KINDS)}")
    return written


def _one_run_each(study: Study, runs: Sequence[RunRef]) -> list[RunRef]:
    """Of every variant its first seed, in the study's order: pictures show one network, not a mean."""
    first: dict[str, RunRef] = {}
    for ref in sorted(runs, key=lambda item: -1 if item.seed is None else item.seed):
        first.setdefault(ref.variant, ref)
    return [first[variant.name] for variant in study.variants if variant.name in first]
