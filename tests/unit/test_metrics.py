"""Metrics against independent implementations, and the guard at their door."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ddnet.errors import DDNetError
from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import Unavailable, check_pair
from ddnet.evaluation.metrics._lpips import build_network
from ddnet.evaluation.metrics.lpips_alex import LpipsAlex
from ddnet.evaluation.metrics.lpips_vgg import LpipsVgg
from ddnet.evaluation.metrics.psnr import Psnr
from ddnet.evaluation.metrics.psnr_8bit import Psnr8Bit
from ddnet.evaluation.metrics.ssim import Ssim
from ddnet.models.pretrained import TRUNKS, load_trunk

Array = NDArray[np.float32]


@pytest.fixture
def pair() -> tuple[Array, Array]:
    """A structured picture and a noisy copy of it, (48, 64, 3)."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[:48, :64]
    target = 0.5 + 0.4 * np.stack([np.sin(columns / k) * np.cos(rows / (k + 1)) for k in (2, 5, 9)], axis=-1)
    restored = np.clip(target + rng.normal(0, 0.08, target.shape), 0, 1)
    return restored.astype(np.float32), target.astype(np.float32)


def test_psnr_agrees_with_scikit_image_and_opencv(pair: tuple[Array, Array]) -> None:
    import cv2
    from skimage.metrics import peak_signal_noise_ratio

    restored, target = pair
    measured = Psnr()(restored, target)
    assert measured == pytest.approx(peak_signal_noise_ratio(target, restored, data_range=1.0), abs=1e-4)
    assert measured == pytest.approx(cv2.PSNR(restored, target, R=1.0), abs=1e-4)


def test_psnr_8bit_is_the_psnr_of_saved_files(pair: tuple[Array, Array], tmp_path: Path) -> None:
    from ddnet.io.images import read_image, write_image

    for name, image in zip(("restored", "target"), pair, strict=True):
        write_image(tmp_path / f"{name}.png", image, bits=8)
    saved = [read_image(tmp_path / f"{name}.png") for name in ("restored", "target")]
    assert Psnr8Bit()(*pair) == pytest.approx(Psnr()(*saved), abs=1e-5)
    assert Psnr8Bit()(*pair) != Psnr()(*pair)


def _ssim_written_out(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """SSIM by its definition: every 7x7 window that fits, uniform weights, sample covariance, mean."""
    values = []
    for channel in range(3):
        windows = [
            np.lib.stride_tricks.sliding_window_view(image[..., channel], (7, 7)).reshape(-1, 49) for image in (x, y)
        ]
        mx, my = (w.mean(axis=1) for w in windows)
        vx, vy = (w.var(axis=1, ddof=1) for w in windows)
        dx, dy = windows[0] - mx[:, None], windows[1] - my[:, None]
        cov = (dx * dy).sum(axis=1) / 48
        c1, c2 = 0.01**2, 0.03**2
        values.append(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))
    return float(np.mean(values))


def test_ssim_agrees_with_the_formula_written_out(pair: tuple[Array, Array]) -> None:
    from skimage.metrics import structural_similarity

    restored, target = pair
    expected = _ssim_written_out(restored.astype(np.float64), target.astype(np.float64))
    assert Ssim()(restored, target) == pytest.approx(expected, abs=1e-9)
    float32 = structural_similarity(restored, target, channel_axis=2, data_range=1.0)
    assert Ssim()(restored, target) == pytest.approx(float(float32), abs=1e-5)


def _lpips_written_out(net: str, trunk: str, folder: Path, pair: tuple[Array, Array]) -> float:
    """LPIPS from its paper's definition in plain functional torch, without the package's classes."""
    import lpips

    heads = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", "cpu", weights_only=True)
    state = load_trunk(trunk, folder)
    pools = {"alexnet": (3, {2, 5}), "vgg16": (2, {4, 9, 16, 23})}[trunk]
    taps = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}[trunk]
    first = {"alexnet": (4, 2), "vgg16": (1, 1)}[trunk]

    def features(image: Array) -> list[torch.Tensor]:
        x = torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        x = (x - shift) / torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        found = []
        for position in range(max(taps) + 1):
            weight = state.get(f"features.{position}.weight")
            if position in pools[1]:
                x = F.max_pool2d(x, pools[0], 2)
            elif weight is not None:
                stride, padding = first if position == 0 else (1, weight.shape[-1] // 2)
                x = F.conv2d(x, weight, state[f"features.{position}.bias"], stride, padding)
            else:
                x = x.relu()
            if position in taps:
                found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    layers = zip(features(pair[0]), features(pair[1]), strict=True)
    distances = [
        F.conv2d((a - b) ** 2, heads[f"lin{number}.model.1.weight"]).mean() for number, (a, b) in enumerate(layers)
    ]
    return float(torch.stack(distances).sum())


@pytest.mark.parametrize(("kind", "net", "trunk"), [(LpipsAlex, "alex", "alexnet"), (LpipsVgg, "vgg", "vgg16")])
def test_lpips_agrees_with_its_definition(
    kind: type[LpipsAlex], net: str, trunk: str, weights_folder: Path, pair: tuple[Array, Array]
) -> None:
    expected = _lpips_written_out(net, trunk, weights_folder, pair)
    assert expected > 0.05
    assert kind(weights_folder)(*pair) == pytest.approx(expected, rel=1e-4)


def test_building_lpips_leaves_the_random_state_alone(weights_folder: Path) -> None:
    before = torch.get_rng_state()
    LpipsAlex(weights_folder)
    assert torch.equal(before, torch.get_rng_state())


def test_lpips_with_a_trunk_that_lacks_layers_is_no_silent_success(weights_folder: Path) -> None:
    trunk = load_trunk("alexnet", weights_folder)
    del trunk["features.3.bias"]
    with pytest.raises(KeyError, match=r"features\.3\.bias"):
        build_network("alex", trunk)


def test_metric_without_weights_is_reported_with_its_reason(tmp_path: Path) -> None:
    metrics, unavailable = build_metrics(["psnr", "lpips_alex"], tmp_path)
    assert list(metrics) == ["psnr"]
    assert "'alexnet'" in unavailable["lpips_alex"] and str(tmp_path) in unavailable["lpips_alex"]
    with pytest.raises(Unavailable, match="alexnet"):
        LpipsAlex(tmp_path)


def test_damaged_weights_are_an_error_not_an_empty_column(weights_folder: Path, tmp_path: Path) -> None:
    shutil.copy(weights_folder / "manifest.json", tmp_path)
    (tmp_path / "alexnet.pt").write_bytes(b"damaged")
    with pytest.raises(DDNetError, match=r"alexnet\.pt: SHA-256"):
        build_metrics(["lpips_alex"], tmp_path)


def test_unknown_metric_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="did you mean 'psnr'"):
        build_metrics(["pnsr"], tmp_path)


def test_identical_images_have_infinite_psnr(pair: tuple[Array, Array]) -> None:
    assert math.isinf(Psnr()(pair[1], pair[1].copy()))


def _image(value: float = 0.5, shape: tuple[int, ...] = (8, 9, 3)) -> Array:
    return np.full(shape, value, np.float32)


def _with(value: float) -> Array:
    image = _image()
    image[3, 4, 1] = value
    return image


@pytest.mark.parametrize(
    ("restored", "target", "message"),
    [
        (_with(1.0000001), _image(), r"restored contains the value 1\.00000012; allowed is \[0, 1\]"),
        (_with(-0.25), _image(), r"restored contains the value -0.25"),
        (_image(), _with(2.0), r"target contains the value 2;"),
        (_with(float("nan")), _image(), "restored contains 1 NaN"),
        (_image(), _with(float("inf")), "target contains the value inf"),
        (_image(shape=(8, 9)), _image(), r"restored has shape \(8, 9\)"),
        (_image(shape=(8, 9, 4)), _image(), r"restored has shape \(8, 9, 4\)"),
        (_image(shape=(0, 9, 3)), _image(), r"restored has shape \(0, 9, 3\)"),
        (_image(), _image(shape=(9, 8, 3)), r"restored has shape \(8, 9, 3\), target \(9, 8, 3\)"),
        (_image(), np.zeros((8, 9, 3), np.uint8), "target is uint8"),
    ],
)
def test_guard_names_the_array_and_the_value(restored: Array, target: Array, message: str) -> None:
    with pytest.raises(DDNetError, match=message):
        check_pair(restored, target)


def test_too_small_an_image_is_an_error() -> None:
    with pytest.raises(DDNetError, match=r"ssim of an image of 6x9 pixels.*at least 7"):
        Ssim()(_image(shape=(6, 9, 3)), _image(shape=(6, 9, 3)))


def test_trunk_names_are_torchvisions() -> None:
    from torchvision.models import get_model_weights

    for name, trunk in TRUNKS.items():
        assert next(iter(get_model_weights(name))).url.endswith("/" + trunk.torchvision_file)
