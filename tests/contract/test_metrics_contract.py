"""What holds for every metric file, a new one included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddnet.benchmark.measured_metrics import picture_pair, plain_measure
from ddnet.benchmark.metrics import with_stand_ins
from ddnet.errors import DDNetError
from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import FloatArray, Metric
from ddnet.registry import names, resolve

METRICS = names("metric")


@pytest.fixture(scope="session")
def trunks(weights_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real trunks, plus a random SqueezeNet where the real one cannot be had: shapes and signs are the same."""
    folder = tmp_path_factory.mktemp("trunks")
    with_stand_ins(weights_folder, folder)
    return folder


@pytest.fixture(scope="session")
def built(trunks: Path) -> dict[str, Metric]:
    metrics, unavailable = build_metrics(METRICS, trunks)
    assert unavailable == {}
    return metrics


@pytest.fixture(scope="session")
def photo() -> FloatArray:
    from skimage.data import astronaut

    return (astronaut()[20:116, 160:288] / 255).astype(np.float32)


def _blurred(image: FloatArray, sigma: float) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    return np.clip(gaussian_filter(image, (sigma, sigma, 0)), 0, 1)


def test_the_paper_columns_are_registered() -> None:
    assert {"psnr", "psnr_8bit", "ssim", "mae", "lpips_alex", "lpips_squeeze"} <= set(METRICS)


@pytest.mark.parametrize("name", METRICS)
class TestMetric:
    def test_describes_itself(self, name: str) -> None:
        kind = resolve("metric", name)
        assert issubclass(kind, Metric)
        assert kind.name == name
        assert isinstance(kind.lower_better, bool) and isinstance(kind.unit, str)
        assert 0 <= kind.decimals <= 6
        assert kind.__doc__ and kind.__doc__.strip()

    def test_identity_is_best(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        assert built[name](photo, photo.copy()) == pytest.approx(built[name].best, abs=1e-6)

    def test_more_blur_is_worse(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        values = [built[name](_blurred(photo, sigma), photo) for sigma in (0.7, 1.5, 3.0)]
        assert all(np.isfinite(values))
        assert values == sorted(values, reverse=not built[name].lower_better)
        assert len(set(values)) == 3

    def test_is_a_symmetric_deterministic_float(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        blurred = _blurred(photo, 1.0)
        value = built[name](blurred, photo)
        assert type(value) is float
        assert value == built[name](blurred, photo)
        assert value == pytest.approx(built[name](photo, blurred), rel=1e-5)

    def test_takes_odd_sizes_and_float64(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        odd, blurred = photo[:83, :61], _blurred(photo, 1.0)[:83, :61]
        value = built[name](blurred, odd)
        assert value == pytest.approx(built[name](blurred.astype(np.float64), odd.astype(np.float64)), rel=1e-4)

    def test_leaves_its_inputs_alone(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        restored, target = _blurred(photo, 1.0), photo.copy()
        before = restored.copy()
        built[name](restored, target)
        assert np.array_equal(before, restored) and np.array_equal(photo, target)

    def test_refuses_bad_pairs(self, name: str, built: dict[str, Metric], photo: FloatArray) -> None:
        bright = photo.copy()
        bright[5, 6, 0] = 1.5
        with pytest.raises(DDNetError, match=r"restored contains the value 1.5"):
            built[name](bright, photo)
        with pytest.raises(DDNetError, match=r"target contains the value 1.5"):
            built[name](photo, bright)
        with pytest.raises(DDNetError, match="never resized"):
            built[name](photo[1:], photo)


@pytest.mark.parametrize("name", METRICS)
def test_is_what_another_package_measures(name: str, trunks: Path) -> None:
    """Of every metric that scikit-image or lpips has, in parts of several bands and of ragged ones."""
    built, _ = build_metrics([name], trunks)
    try:
        plain = plain_measure(built[name])
    except DDNetError:
        pytest.skip("no other package has it")
    tolerance = {"psnr": 0.0, "psnr_8bit": 0.0, "mae": 0.0, "ssim": 1e-12}.get(name, 1e-6)
    for width, height in ((203, 119), (64, 80)):
        pair = picture_pair(width, height)
        assert built[name](*pair) == pytest.approx(plain(*pair), abs=tolerance, rel=0)
