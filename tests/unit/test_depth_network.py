"""Monodepth2's network and its files: facts of the published weights, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddnet.depth.network import DepthNetwork
from ddnet.depth.sources._base import Given
from ddnet.depth.sources.monodepth2 import Monodepth2
from ddnet.depth.weights import load_published, load_weights, save_fitted
from ddnet.errors import DDNetError


@pytest.fixture(scope="module")
def network() -> DepthNetwork:
    """Random weights whose normalisation statistics are not the trivial 0 and 1."""
    torch.manual_seed(0)
    made = DepthNetwork()
    made.train()
    with torch.no_grad():
        made(torch.rand(2, 3, 64, 64))
    return made.eval()


def _publish(folder: Path, network: DepthNetwork) -> Path:
    """Write the released layout: classifier and size among the encoder's weights."""
    folder.mkdir(exist_ok=True)
    extra = {"encoder.fc.weight": torch.zeros(1000, 512), "encoder.fc.bias": torch.zeros(1000)}
    size = {"height": 64, "width": 96, "use_stereo": True}
    torch.save({**network.encoder.state_dict(), **extra, **size}, folder / "encoder.pth")
    torch.save(network.depth.state_dict(), folder / "depth.pth")
    return folder


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_published_ones(network: DepthNetwork) -> None:
    classifier = 512 * 1000 + 1000
    assert _parameters(network.encoder) == 11_689_512 - classifier == 11_176_512
    assert _parameters(network.depth) == 3_152_724


def test_decoder_keys_and_shapes_are_the_published_ones(network: DepthNetwork) -> None:
    blocks = {f"decoder.{i}.conv.conv.{kind}" for i in range(10) for kind in ("weight", "bias")}
    heads = {f"decoder.{i}.conv.{kind}" for i in range(10, 14) for kind in ("weight", "bias")}
    state = network.depth.state_dict()
    assert set(state) == blocks | heads
    shapes = [tuple(state[f"decoder.{i}.conv.conv.weight"].shape[:2]) for i in range(10)]
    assert shapes == [
        (256, 512), (256, 512), (128, 256), (128, 256), (64, 128),
        (64, 128), (32, 64), (32, 96), (16, 32), (16, 16),
    ]  # fmt: skip
    assert [state[f"decoder.{10 + s}.conv.weight"].shape[1] for s in range(4)] == [16, 32, 64, 128]


def test_encoder_is_torchvisions_resnet18(network: DepthNetwork) -> None:
    """Same keys, and with the same weights the same features as an independent implementation."""
    from torchvision.models import resnet18

    reference = resnet18(weights=None).eval()
    state = {key.removeprefix("encoder."): value for key, value in network.encoder.state_dict().items()}
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) == {"fc.weight", "fc.bias"}
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        features = network.encoder(image)
        x = reference.relu(reference.bn1(reference.conv1((image - 0.45) / 0.225)))
        torch.testing.assert_close(features[0], x, rtol=1e-4, atol=1e-5)
        x = reference.maxpool(x)
        for stage in range(1, 5):
            x = getattr(reference, f"layer{stage}")(x)
            torch.testing.assert_close(features[stage], x, rtol=1e-4, atol=1e-4)


def test_disparity_comes_at_four_scales_between_0_and_1(network: DepthNetwork) -> None:
    with torch.inference_mode():
        disparities = network(torch.rand(2, 3, 64, 96))
    assert [tuple(d.shape[2:]) for d in disparities] == [(64, 96), (32, 48), (16, 24), (8, 12)]
    assert all(d.shape[:2] == (2, 1) for d in disparities)
    assert all(float(d.min()) > 0 and float(d.max()) < 1 for d in disparities)


def test_published_files_load_and_estimate_as_the_network_does(network: DepthNetwork, tmp_path: Path) -> None:
    folder = _publish(tmp_path / "mono", network)
    image = np.random.default_rng(0).random((64, 96, 3), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0][0, 0].numpy()
    source = Monodepth2(folder)
    assert source.size == (64, 96)
    np.testing.assert_allclose(source.predict(image), expected, atol=1e-5)


def test_a_fitted_file_holds_what_the_published_pair_holds(network: DepthNetwork, tmp_path: Path) -> None:
    save_fitted(tmp_path / "fitted.pt", [network], (64, 96), [["a/train/1"]])
    content = torch.load(tmp_path / "fitted.pt", weights_only=True)
    assert content["height"] == 64 and content["width"] == 96
    assert content["encoder"].keys() == network.encoder.state_dict().keys()
    image = np.random.default_rng(1).random((70, 50, 3), dtype=np.float32)
    fitted = Monodepth2(tmp_path / "fitted.pt").predict(image)
    np.testing.assert_array_equal(fitted, Monodepth2(_publish(tmp_path / "mono", network)).predict(image))


def test_a_fold_never_estimates_a_scene_it_was_fitted_on(network: DepthNetwork, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = DepthNetwork().eval()
    save_fitted(tmp_path / "folds.pt", [network, other], (64, 64), [["a/train/2"], ["a/train/1"]])
    save_fitted(tmp_path / "first.pt", [network], (64, 64), [[]])
    save_fitted(tmp_path / "second.pt", [other], (64, 64), [[]])
    image = np.random.default_rng(2).random((64, 64, 3), dtype=np.float32)
    folds = Monodepth2(tmp_path / "folds.pt")
    first, second = (Monodepth2(tmp_path / f"{name}.pt").predict(image) for name in ("first", "second"))
    np.testing.assert_array_equal(folds.predict(image, Given(scene="a/train/1")), first)
    np.testing.assert_array_equal(folds.predict(image, Given(scene="a/train/2")), second)
    np.testing.assert_allclose(folds.predict(image, Given(scene="a/test/1")), (first + second) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.layer2.0.bn1.weight"), "lacks 'encoder.layer2.0.bn1.weight'"),
        (lambda state: state.update({"encoder.extra": torch.zeros(1)}), "unknown key 'encoder.extra'"),
        (
            lambda state: state.update({"encoder.conv1.weight": torch.zeros(64, 6, 7, 7)}),
            r"'encoder.conv1.weight' is \(64, 6, 7, 7\), expected \(64, 3, 7, 7\)",
        ),
        (lambda state: state.pop("height"), "lacks the integers 'height' and 'width'"),
    ],
    ids=["missing", "unknown", "shape", "size"],
)
def test_weights_that_do_not_fit_are_refused_by_name(network, tmp_path, change, message) -> None:
    folder = _publish(tmp_path / "mono", network)
    state = torch.load(folder / "encoder.pth", weights_only=True)
    change(state)
    torch.save(state, folder / "encoder.pth")
    with pytest.raises(DDNetError, match=message):
        load_published(folder / "encoder.pth", folder / "depth.pth")


def test_files_that_are_no_weights_are_refused_with_the_fix(tmp_path: Path) -> None:
    page = tmp_path / "page.pt"
    page.write_text("<html>quota exceeded</html>")
    with pytest.raises(DDNetError, match="page.pt: not a readable PyTorch file .*fetch or fit it again"):
        load_weights(page)
    with pytest.raises(DDNetError, match="absent.pt: no such depth weights; 'ddnet data status' says where they come"):
        load_weights(tmp_path / "absent.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(DDNetError, match="other.pt: lacks 'encoder' and 'depth'"):
        load_weights(tmp_path / "other.pt")


def test_an_input_that_the_pyramid_cannot_halve_is_refused(network: DepthNetwork, tmp_path: Path) -> None:
    save_fitted(tmp_path / "fitted.pt", [network], (64, 64), [[]])
    with pytest.raises(DDNetError, match="100x96: both sides must be multiples of 32"):
        Monodepth2(tmp_path / "fitted.pt", size=(100, 96))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_the_cpus_depth(network: DepthNetwork, tmp_path: Path, monkeypatch) -> None:
    save_fitted(tmp_path / "fitted.pt", [network], (64, 96), [[]])
    image = np.random.default_rng(4).random((100, 150, 3), dtype=np.float32)
    patches = torch.rand(2, 3, 96, 96)
    gpu = Monodepth2(tmp_path / "fitted.pt")
    assert gpu.device.type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = Monodepth2(tmp_path / "fitted.pt")
    np.testing.assert_allclose(gpu.predict(image), cpu.predict(image), atol=1e-5)
    np.testing.assert_allclose(gpu.predict_patches(patches), cpu.predict_patches(patches), atol=1e-5)
