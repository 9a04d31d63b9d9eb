"""The true blur of a rendered scene: known optics, measured light, and scenes of which nothing is known."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ddnet.data.embedded.dataset import index_benchmark, render_split
from ddnet.data.embedded.optics import Lens, aperture_samples, circle_of_confusion_px
from ddnet.data.embedded.true_blur import textured, true_sigma
from ddnet.data.index import Scene
from ddnet.errors import DDNetError

LENS = Lens(50.0, 4.0, 2.0)


def plane(folder: Path, depth: np.ndarray, lens: Lens = LENS) -> Scene:
    """A scene of which only depth and lens exist."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "depth_m.npy", depth.astype(np.float32))
    (folder / "scene.json").write_text(json.dumps({"lens": asdict(lens)}))
    files = (folder / "image.png", folder / "target.png", folder / "depth_m.npy")
    return Scene("embedded", "test", "plane", "indoor", *files, *depth.shape, 16, "", "")


def test_a_plane_has_a_quarter_of_the_textbook_circle_of_confusion(tmp_path: Path) -> None:
    # 50 mm, f/4, focus 2 m, 1680 px on 36 mm: 15.0 px at infinity, so 3.74 px of sigma, and half of it at 4 m.
    far = (50.0 / 4.0) * 50.0 / (2000.0 - 50.0) * 1680.0 / 36.0
    depth = np.full((2, 1680), np.inf)
    depth[1, :840], depth[1, 840:] = 4.0, 2.0
    sigma = true_sigma(plane(tmp_path, depth))
    assert sigma.dtype == np.float32 and sigma.shape == (2, 1680)
    assert sigma[0] == pytest.approx(far / 4.0, rel=1e-6) and far == pytest.approx(15.0, abs=0.05)
    assert sigma[1, :840] == pytest.approx(far / 8.0, rel=1e-6)
    assert (sigma[1, 840:] == 0.0).all()


def test_before_the_focal_plane_blur_is_as_positive_as_beyond_it(tmp_path: Path) -> None:
    sigma = true_sigma(plane(tmp_path, np.array([[1.5, 3.0]])))  # 1/2 - 1/z is -1/6 and +1/6
    assert sigma[0, 0] == pytest.approx(sigma[0, 1]) and sigma[0, 0] > 0


@pytest.mark.parametrize("aperture", ["disc", "hexagon"])
def test_sigma_is_the_spread_of_the_light_that_the_lens_samples_carry(tmp_path: Path, aperture: str) -> None:
    lens = replace(LENS, aperture=aperture)
    points = aperture_samples(lens, 200_000, np.random.default_rng(0)) / lens.aperture_m
    diameter = abs(float(circle_of_confusion_px(5.0, lens, 40)))
    sigma = true_sigma(plane(tmp_path, np.full((4, 40), 5.0), lens))
    assert sigma[0, 0] == pytest.approx(points.std(axis=0)[0] * diameter, rel=5e-3)
    assert sigma[0, 0] == pytest.approx(points.std(axis=0)[1] * diameter, rel=5e-3)


def test_scenes_as_they_are_rendered_have_it_the_stereo_pair_included(tmp_path: Path) -> None:
    render_split("embedded_ood", "test", 2, 48, 2, 0, tmp_path)
    scenes = index_benchmark(tmp_path)
    assert [scene.scene for scene in scenes] == ["indoor_000", "stereo_000"]
    for scene in scenes:
        sigma = true_sigma(scene)
        assert sigma.shape == (48, 48) and np.isfinite(sigma).all() and 0.0 < sigma.max() < 10.0


def test_what_is_not_known_is_one_line(tmp_path: Path) -> None:
    scene = plane(tmp_path, np.full((2, 3), 4.0))
    with pytest.raises(DDNetError, match=r"^embedded/test/plane: its true blur is not known.*no true depth"):
        true_sigma(replace(scene, depth_m=None))
    with pytest.raises(DDNetError, match=r"depth_m\.npy: is float32 \(2, 3\).*5 x 3 pixels"):
        true_sigma(replace(scene, height=5))
    (tmp_path / "scene.json").write_text('{"location": "indoor"}')
    with pytest.raises(DDNetError, match=r"scene\.json: no scene's record with its lens \(KeyError\('lens'\)\)"):
        true_sigma(scene)
    (tmp_path / "depth_m.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DDNetError, match=re.escape("depth_m.npy: not a readable .npy")):
        true_sigma(scene)
    (tmp_path / "depth_m.npy").unlink()
    with pytest.raises(DDNetError, match=re.escape("depth_m.npy: not a readable .npy")):
        true_sigma(scene)


def test_texture_is_where_the_luma_varies_by_more_than_a_fiftieth() -> None:
    stripes = np.resize([-1.0, 1.0], 40)[None, :, None] * np.ones((30, 1, 3))
    strong, weak = 0.5 + 0.021 * stripes, 0.5 + 0.019 * stripes
    assert textured(strong.astype(np.float32)).all() and not textured(weak.astype(np.float32)).any()
    flat = np.full((30, 40, 3), 1.0, np.float32)
    assert not textured(flat).any()
    flat[:, 20:] = 0.0
    near = np.flatnonzero(textured(flat)[10])
    assert (near[0], near[-1]) == (17, 22)  # the window reaches three pixels


def test_colour_counts_by_its_luma() -> None:
    stripes = np.resize([0.0, 0.1], 40)[None, :, None] * np.ones((30, 1, 1))
    red, blue = (stripes * np.eye(3)[channel] for channel in (0, 2))
    assert not textured(red.astype(np.float32)).any() and not textured(blue.astype(np.float32)).any()
    assert textured((stripes * np.eye(3)[1]).astype(np.float32)).all()
