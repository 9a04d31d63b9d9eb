"""Depth Anything: what its network is shown, what becomes of its output, and that nothing asks a network for files."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_folder import PREPROCESSOR, write_depth_anything

from ddnet.depth.sources.depth_anything import FILES, DepthAnything, Preprocessing, read_preprocessing
from ddnet.errors import DDNetError

pytest.importorskip("transformers")
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 130, 3)).astype(np.float32) / 255


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every attempt to reach a host fails, and fails the test even where somebody catches the error."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in tests")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not attempts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_depth_anything(tmp_path / "weights")


def _change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    for key, value in changes.items():
        state.pop(key)
        if value is not None:
            state[key] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


# ------------------------------------------------------------------ what the network is shown


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((1120, 1680), (518, 784)),  # DPDD: 777 is rounded to 56 patches
        ((1680, 1120), (784, 518)),
        ((518, 518), (518, 518)),
        ((300, 500), (518, 868)),  # the shorter side, also of small images
        ((1000, 520), (994, 518)),
    ],
)
def test_the_shorter_side_becomes_518_and_both_are_multiples_of_14(image, size) -> None:
    mean = np.zeros(3, np.float32)
    assert Preprocessing((518, 518), True, 14, mean, mean + 1).input_size(*image) == size
    assert Preprocessing((518, 518), False, 14, mean, mean + 1).input_size(*image) == (518, 518)


def test_the_network_sees_what_transformers_own_preprocessor_makes(folder: Path) -> None:
    """Of an 8-bit image larger than the input, clear of black and white, both agree to a step of 8 bits."""
    from transformers import DPTImageProcessorPil

    seen = []
    source = DepthAnything(folder)
    network = source.network

    class Spy(torch.nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> object:
            seen.append(pixel_values)
            return network(pixel_values=pixel_values)

    source.network = Spy()
    steps = np.random.default_rng(1).integers(80, 176, (90, 130, 3)).astype(np.uint8)
    source.predict(steps.astype(np.float32) / 255)
    theirs = DPTImageProcessorPil(**PREPROCESSOR)(steps, return_tensors="pt")
    assert seen[0].shape == (1, 3, 70, 98)
    torch.testing.assert_close(seen[0].cpu(), theirs["pixel_values"], rtol=0, atol=1.01 / 255 / 0.224)


def test_less_than_an_eight_bit_step_is_seen(folder: Path) -> None:
    faint = np.full_like(IMAGE, 0.5) + (IMAGE - 0.5) / 600
    assert np.unique(np.rint(faint * 255)).size <= 2
    flat = DepthAnything(folder).predict(np.full_like(IMAGE, 0.5))
    assert np.abs(DepthAnything(folder).predict(faint) - flat).max() > 1e-4


# ------------------------------------------------------------------ what becomes of its output


def test_depth_is_the_networks_output_stretched_to_0_and_1(folder: Path) -> None:
    source = DepthAnything(folder)
    image = IMAGE[:70, :98].copy()  # the network's own size: nothing is resized
    inputs = torch.from_numpy((image - source.preprocessing.mean) / source.preprocessing.std).permute(2, 0, 1)[None]
    with torch.inference_mode():
        raw = source.network(pixel_values=inputs.to(source.device)).predicted_depth[0].cpu().numpy()
    assert np.ptp(raw) > 0
    depth = source.predict(image)
    np.testing.assert_allclose(depth, (raw - raw.min()) / np.ptp(raw), atol=1e-6)
    for other in (IMAGE, IMAGE[:, :40].copy()):
        depth = source.predict(other)
        assert depth.shape == other.shape[:2] and depth.dtype == np.float32
        assert depth.min() == 0 and depth.max() == 1


def test_a_map_without_relief_is_one_half(folder: Path) -> None:
    _change_weights(folder, **{"head.conv3.weight": torch.zeros(1, 4, 1, 1)})
    assert np.unique(DepthAnything(folder).predict(IMAGE)).tolist() == [0.5]


def test_weights_that_give_no_number_are_refused(folder: Path) -> None:
    _change_weights(folder, **{"head.conv3.bias": torch.full((1,), torch.inf)})
    with pytest.raises(DDNetError, match="returns no finite depth; fetch its weights again"):
        DepthAnything(folder).predict(IMAGE)


def test_every_patch_is_scaled_by_itself(folder: Path) -> None:
    source = DepthAnything(folder)
    patches = torch.from_numpy(np.stack([IMAGE[:64, :64], IMAGE[20:84, 50:114]])).permute(0, 3, 1, 2)
    depths = source.predict_patches(patches)
    assert depths.shape == (2, 64, 64)
    assert [(one.min(), one.max()) for one in depths] == [(0, 1), (0, 1)]
    np.testing.assert_allclose(depths[1], source.predict(IMAGE[20:84, 50:114].copy()), atol=1e-5)


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    DepthAnything(folder).predict(IMAGE)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------ files


def test_weights_are_read_under_their_published_names(folder: Path) -> None:
    """`transformers` 5 renames the attention's layers inside; the published file has the older names."""
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    names = [f"backbone.encoder.layer.0.attention.attention.{part}.weight" for part in ("query", "key", "value")]
    inside = DepthAnything(folder).network.state_dict()
    for name, part in zip(names, "qkv", strict=True):
        loaded = inside[f"backbone.encoder.layer.0.attention.{part}_proj.weight"].cpu()
        torch.testing.assert_close(loaded, stored[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DDNetError, match=rf"{name}: no such file; 'ddnet data status' says where it comes from"):
        DepthAnything(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_page_instead_of_a_file_is_refused_in_one_line(folder: Path, name: str) -> None:
    (folder / name).write_text("<html>quota exceeded\n</html>\n" * 9)
    with pytest.raises(DDNetError, match=rf"{name}: .*fetch") as caught:
        DepthAnything(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.conv2.weight": None}, r"lacks 'head.conv2.weight'; not the weights that config.json beside it"),
        (
            {"head.conv2.weight": torch.zeros(4, 5, 3, 3)},
            r"'head.conv2.weight' is \(4, 5, 3, 3\), but \(4, 4, 3, 3\) by config.json",
        ),
    ],
    ids=["lacking", "shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder: Path, changes, message) -> None:
    _change_weights(folder, **changes)
    with pytest.raises(DDNetError, match=message):
        DepthAnything(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "dpt"}, "describes dpt, relative depth; needed is depth_anything"),
        ("config.json", {"depth_estimation_type": "metric"}, "describes depth_anything, metric depth"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 518}}, r"not the preprocessor .*KeyError\('height'\)"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "not the preprocessor of Depth Anything"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "image_std must be positive"),
        ("preprocessor_config.json", {"ensure_multiple_of": 0}, "sizes and image_std must be positive"),
    ],
)
def test_descriptions_of_something_else_are_refused(folder: Path, name, changes, message) -> None:
    _change_json(folder / name, **changes)
    with pytest.raises(DDNetError, match=f"{name}: .*{message}"):
        DepthAnything(folder)


def test_the_preprocessor_is_read_not_assumed(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    _change_json(path, size={"height": 56, "width": 84}, keep_aspect_ratio=False, image_mean=[0.1, 0.2, 0.3])
    found = read_preprocessing(path)
    assert found.input_size(1000, 500) == (56, 84)
    np.testing.assert_allclose(found.mean, [0.1, 0.2, 0.3])


def test_without_transformers_the_error_says_what_to_install(folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        DDNetError, match=r"needs the package transformers .*install it: pip install .*\[depth-anything\]"
    ):
        DepthAnything(folder)
