"""The figure of the depth controls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from report_runs import INFO, SCENES, VARIANTS, make_world, psnr

from ddnet.errors import DDNetError
from ddnet.report.collect import collect
from ddnet.report.controls_figure import draw_controls
from ddnet.report.wording import format_number

CONTROLS = [v for v in VARIANTS if v.name in ("unet_rcab", "ddnet_1b", "depth_true", "depth_shuffled")]
GRID = [(seed, image) for seed in (0, 1) for image in range(len(SCENES))]
CONTROLS.append(dataclasses.replace(INFO["fusion_input"], studies=("controls",)))


def texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seeds: tuple[int, ...], trial: bool = False) -> str:
    """Everything that the figure writes."""
    from ddnet.report import controls_figure

    said: list[str] = []
    save = controls_figure.save

    def note(figure: object, path: Path) -> Path:
        axes = figure.axes[0]  # type: ignore[attr-defined]
        said.extend([axes.get_title(loc="left"), axes.get_xlabel(), *(t.get_text() for t in axes.texts)])
        said.extend(label.get_text() for label in axes.get_yticklabels())
        return save(figure, path)  # type: ignore[arg-type]

    monkeypatch.setattr(controls_figure, "save", note)
    images = collect(make_world(tmp_path, seeds).runs)
    path = draw_controls(CONTROLS, images, "embedded", tmp_path / "depth_controls.png", trial)
    assert path.stat().st_size > 5000
    return "\n".join(said)


def test_every_control_has_its_row_with_its_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = texts(monkeypatch, tmp_path, (0, 1))
    for label in ("GRU, true depth", "DDNet (1-branch)", "GRU, shuffled depth", "Input fusion"):
        assert label in said
    assert "RCAB, no depth" not in said  # the zero line
    gain = np.mean([psnr("depth_true", s, i, "embedded") - psnr("unet_rcab", s, i, "embedded") for s, i in GRID])
    assert format_number(gain, 2, signed=True) in said and "95 % interval" in said and "Trial" not in said


def test_one_seed_and_a_trial_are_drawn_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "Trial, not results" in texts(monkeypatch, tmp_path, (0,), trial=True)


def test_without_the_network_without_depth_there_is_nothing_to_draw(tmp_path: Path) -> None:
    images = collect([ref for ref in make_world(tmp_path).runs if ref.variant != "unet_rcab"])
    with pytest.raises(DDNetError, match="unet_rcab or its controls have no run on embedded"):
        draw_controls(CONTROLS, images, "embedded", tmp_path / "x.png")
