"""The embedded renderer against Mitsuba 3's stored pictures of the same scenes (`ddnet verify renderer`)."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ddnet.data.embedded.render import Rendered, render
from ddnet.data.embedded.surfaces import SceneSpec
from ddnet.errors import DDNetError
from ddnet.io.images import read_image
from ddnet.runtime.paths import ROOT
from ddnet.verify.renderer import LEAST_DB, LENS_SAMPLES, compare, decibels, encoded, pictures, verify_renderer
from ddnet.verify.scenes import cases

REFERENCE = ROOT / "results" / "reference" / "renderer"
CASES = {case.name: case for case in cases()}
STORED = {row["scene"]: row for row in csv.DictReader((REFERENCE / "comparison.csv").open(encoding="utf-8"))}


@pytest.mark.parametrize("name", CASES)
def test_this_renderer_agrees_with_mitsuba_s_pictures(name: str) -> None:
    found = compare(CASES[name], render(CASES[name].spec, LENS_SAMPLES), REFERENCE, 0, 0, 0.0)
    assert found.image_db >= LEAST_DB and found.target_db >= LEAST_DB
    # What the committed comparison says is what comes out now; sampling is seeded.
    assert found.image_db == pytest.approx(float(STORED[name]["image_db"]), abs=0.02)
    assert found.target_db == pytest.approx(float(STORED[name]["target_db"]), abs=0.02)


def test_the_stored_comparison_says_samples_seed_and_version_and_mitsuba_s_own_noise_is_lower() -> None:
    assert set(STORED) == set(CASES) and len(CASES) >= 6
    manifest = json.loads((REFERENCE / "manifest.json").read_text())
    assert manifest["mitsuba"].startswith("3.") and manifest["samples"] >= 512 and manifest["seed"] == 0
    for row in STORED.values():
        assert float(row["noise_db"]) > float(row["image_db"])
        assert row["edges_db"] or row["scene"] == "plane"


def blurred_by_layer(spec: SceneSpec) -> Rendered:
    """What a renderer without partial occlusion makes: every pixel of the sharp view blurred by its own disc."""
    import cv2

    from ddnet.data.embedded.optics import circle_of_confusion_px

    right = render(spec, LENS_SAMPLES)
    sizes = np.abs(circle_of_confusion_px(right.depth_m, spec.lens, spec.size))
    image = right.target.copy()
    for diameter in range(2, int(sizes.max()) + 2):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter)).astype(np.float32)
        here = np.round(sizes) == diameter
        image[here] = cv2.filter2D(right.target, -1, disc / disc.sum())[here]
    return dataclasses.replace(right, image=image)


def with_lens(spec: SceneSpec, **changes: float) -> Rendered:
    lens = dataclasses.replace(spec.lens, **changes)
    return render(dataclasses.replace(spec, lens=lens), LENS_SAMPLES)


BROKEN = {
    "aperture 15 % too wide": ("blurred_edge", lambda spec: with_lens(spec, f_number=spec.lens.f_number / 1.15)),
    "focus 5 % too far": ("tilted", lambda spec: with_lens(spec, focus_m=1.05 * spec.lens.focus_m)),
    "hexagon for a disc": ("blurred_edge", lambda spec: with_lens(spec, aperture="hexagon")),
    "painted near to far": (
        "shapes",
        lambda spec: render(
            dataclasses.replace(spec, surfaces=(spec.surfaces[0], *spec.surfaces[:0:-1])), LENS_SAMPLES
        ),
    ),
    "no partial occlusion": ("blurred_edge", blurred_by_layer),
    "a texel's shift": (
        "plane",
        lambda spec: render(
            dataclasses.replace(
                spec, surfaces=tuple(
                    dataclasses.replace(one, texture=np.roll(one.texture, 1, axis=1)) for one in spec.surfaces
                ),
            ),
            LENS_SAMPLES,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_renderer_agrees_less(mistake: str) -> None:
    """By two decibels or more, where the test above allows two hundredths."""
    name, broken = BROKEN[mistake]
    image, _ = map(read_image, pictures(REFERENCE, name))
    assert decibels(encoded(broken(CASES[name].spec).image), image) < float(STORED[name]["image_db"]) - 2


def test_without_mitsuba_the_command_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mitsuba", None)
    with pytest.raises(DDNetError, match=r"mitsuba cannot be imported .*install it: pip install .*\[verify\]"):
        verify_renderer(tmp_path, 2, 0, lambda one: None)


def test_mitsuba_live_on_one_scene(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba", reason="the extra `verify` is not installed")
    [found] = verify_renderer(tmp_path, 64, 1, lambda one: None, ("blurred_edge",))
    assert found.passed and found.edges_db > LEAST_DB
    assert (tmp_path / "comparison.png").is_file() and (tmp_path / "manifest.json").is_file()
    with pytest.raises(DDNetError, match="no scene 'plain'; allowed: plane"):
        verify_renderer(tmp_path, 64, 1, lambda one: None, ("plain",))
