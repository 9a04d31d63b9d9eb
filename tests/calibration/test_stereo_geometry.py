"""The optics against a real camera's geometry: scikit-image's stereo motorcycle, with measured disparity."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import stereo_motorcycle

from ddnet.data.embedded.optics import Lens, circle_of_confusion_px, plane_shift
from ddnet.data.embedded.stereo import BASELINE_M, FOCAL_PX, OFFSET_PX, disparity_to_depth, make_stereo


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, right, disparity = stereo_motorcycle()
    return left.astype(np.float32) / 255, right.astype(np.float32) / 255, disparity


def error(pair: tuple[np.ndarray, np.ndarray, np.ndarray], disparity: np.ndarray) -> float:
    """Median difference of the left photograph to the right one, looked up at x - disparity, where that is known."""
    import cv2

    left, right, true = pair
    y, x = np.mgrid[: left.shape[0], : left.shape[1]].astype(np.float32)
    where = np.where(np.isfinite(true), disparity, 0).astype(np.float32)
    seen = cv2.remap(right, x - where, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.isfinite(true) & (x - where > 0) & (x - where < left.shape[1] - 1)
    return float(np.median(np.abs(left - seen).mean(axis=2)[inside]))


def test_the_disparity_explains_the_second_photograph(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A check of sign and scale: any other leaves several times the error."""
    true = pair[2]
    right = error(pair, true)
    for wrong in (0 * true, -true, 1.1 * true, true + 3):
        assert error(pair, np.where(np.isfinite(true), wrong, 0)) > 1.5 * right


def test_depths_are_the_calibration_s(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Z = baseline * focal length / (disparity + offset): 2.1 to 5.0 m in this room."""
    depth = disparity_to_depth(pair[2])
    known = depth[np.isfinite(pair[2])]
    assert known.min() == pytest.approx(2.1, abs=0.1) and known.max() == pytest.approx(5.0, abs=0.15)
    assert np.isinf(depth[~np.isfinite(pair[2])]).all()


def test_two_points_of_the_lens_see_the_cameras_disparity(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A lens as wide as the baseline, focused where the cameras' offset is: two of its points are the two cameras."""
    focus_m = BASELINE_M * FOCAL_PX / OFFSET_PX  # where the measured disparity would be 0
    width = pair[0].shape[1]
    image_mm = FOCAL_PX / width * 36.0
    lens = Lens(image_mm * focus_m * 1000 / (image_mm + focus_m * 1000), 1.0, focus_m)
    assert lens.focal_px(width) == pytest.approx(FOCAL_PX)
    disparity = pair[2][np.isfinite(pair[2])][::997]
    for value in disparity:
        plane = np.array([0.0, 0.0, 1.0 / float(disparity_to_depth(np.array([value]))[0])])
        seen = [plane_shift(plane, lens, np.array([u, 0.0]), lens.focal_px(width))[0, 2] for u in (0.0, BASELINE_M)]
        assert seen[0] - seen[1] == pytest.approx(value, abs=1e-4)


def test_the_refocused_scene_s_blur_is_linear_in_the_measured_disparity() -> None:
    """The circle of confusion is the disparity between two ends of the aperture."""
    scene = make_stereo(125, focus_m=3.0)
    blur = circle_of_confusion_px(scene.depth_m, scene.lens, 125)
    in_focus = BASELINE_M * FOCAL_PX / scene.lens.focus_m
    disparity = BASELINE_M * FOCAL_PX / scene.depth_m  # the offset drops out of differences
    expected = (in_focus - disparity) * scene.lens.aperture_m / BASELINE_M * 125 / 500
    np.testing.assert_allclose(blur, expected, atol=1e-4)
    assert np.abs(blur).max() > 1.0
