import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from baselines.common.bit_depth import eight_bits, stored_in_eight_bits
from baselines.common.network_system import NetworkSystem, load_weights, read_torch, save_weights
from ddnet.errors import DDNetError


class Affine(nn.Module):
    """Keeps what it was given, and gives scale times it."""

    def __init__(self, width: int, taps: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.filters = nn.Parameter(torch.ones(taps))
        self.given = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.given = x.clone()
        return x * self.scale[:1]


class Toy(NetworkSystem):
    needs = frozenset({"weights", "official"})
    title = "Toy"
    multiple = 16
    width, widths = 4, range(2, 9, 2)
    sizes = {"taps": (1, 3)}

    @classmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        return Affine(width, **sizes)

    @staticmethod
    def convert(folder: Path, out: Path) -> None:
        raise NotImplementedError


class StartZeros(Toy):
    pad, padding = "start", "zeros"


class EndZeros(Toy):
    padding = "zeros"


class StartReflect(Toy):
    pad = "start"


class Strange(Toy):
    bgr, signed, bits = True, True, 8


class Landscape(StartZeros):
    landscape = True


STATE = {"scale": np.ones(4, np.float32), "filters": np.zeros(3, np.float32)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_weights(tmp_path / "weights.npz", STATE, 4, taps=3)
    return tmp_path / "weights.npz"


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


@pytest.mark.parametrize("kind", [Toy, StartZeros, EndZeros, StartReflect, Strange])
@pytest.mark.parametrize("size", [(8, 8), (9, 31), (16, 32), (97, 131)])
def test_any_size_comes_back_as_it_went_in(kind: type[Toy], size: tuple[int, int], weights: Path) -> None:
    image = picture(*size)
    restored = kind(weights).restore(image, None)
    assert restored.dtype == np.float32
    expected = eight_bits(torch.from_numpy(image)).numpy() if kind.bits == 8 else image
    np.testing.assert_allclose(restored, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "before", "mode"),
    [(Toy, 0, "reflect"), (EndZeros, 0, "constant"), (StartZeros, 1, "constant"), (StartReflect, 1, "reflect")],
)
def test_padding_is_on_the_side_and_of_the_kind_that_the_class_says(
    kind: type[Toy], before: int, mode: str, weights: Path
) -> None:
    system, image = kind(weights), picture(27, 24)
    system.restore(image)
    padding = [(5, 0) if before else (0, 5), (8, 0) if before else (0, 8), (0, 0)]
    given = system.model.given[0].cpu().permute(1, 2, 0).numpy()  # type: ignore[index, operator]
    np.testing.assert_array_equal(given, np.pad(image, padding, mode=mode))


@pytest.mark.parametrize("size", [(48, 16), (40, 27), (17, 16), (16, 16), (16, 17), (27, 40), (2, 1), (1, 2)])
def test_a_portrait_picture_is_turned_counter_clockwise_and_back(size: tuple[int, int], weights: Path) -> None:
    system, image = Landscape(weights), picture(*size)
    restored = system.restore(image)
    given = system.model.given[0].cpu().permute(1, 2, 0).numpy()  # type: ignore[index, operator]
    way = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE) if size[0] > size[1] else image
    height, width = way.shape[:2]
    np.testing.assert_array_equal(given[-height:, -width:], way)
    assert given.shape[0] <= given.shape[1] and not given[:-height].any() and not given[:, :-width].any()
    np.testing.assert_allclose(restored, image, atol=1e-7)
    assert restored.flags.c_contiguous


def test_channels_and_range_are_turned_on_the_way_in_and_back(weights: Path) -> None:
    system, image = Strange(weights), np.zeros((16, 16, 3), np.float32)
    image[..., 0], image[..., 1] = 1.0, 128 / 255
    restored = system.restore(image)
    given = system.model.given[0, :, 3, 5].cpu().tolist()  # type: ignore[index, operator]
    assert given == pytest.approx([-1.0, 128 / 127.5 - 1.0, 1.0], abs=1e-6)
    np.testing.assert_allclose(restored, image, atol=1e-7)


def test_the_result_is_clipped(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.npz", STATE | {"scale": np.full(4, -3.0)}, 4, taps=3)
    assert (Toy(tmp_path / "weights.npz").restore(picture(16, 16)) == 0).all()
    save_weights(tmp_path / "weights.npz", STATE | {"scale": np.full(4, 1e6)}, 4, taps=3)
    assert (Toy(tmp_path / "weights.npz").restore(picture(16, 16)) == 1).mean() > 0.99


def test_eight_bits_are_what_readers_make_of_16_bit_files(tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 65536, (64, 64, 3), np.uint16)
    raw[0, 0], raw[0, 1] = 65535, 255
    cv2.imwrite(str(tmp_path / "a.png"), raw)
    ours = eight_bits(torch.from_numpy(raw.astype(np.float32) / np.float32(65535))).numpy() * 255
    np.testing.assert_allclose(ours, cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR), atol=1e-4)
    np.testing.assert_allclose(ours[..., ::-1], np.asarray(Image.open(tmp_path / "a.png")), atol=1e-4)


def test_eight_bit_pixels_stay_as_they_are() -> None:
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(eight_bits(torch.from_numpy(levels)).numpy(), levels)


def test_what_is_stored_in_eight_bits_comes_back_as_from_a_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((64, 64), np.float32)
    values[0, :4] = 0.0, 1.0, 0.4 / 255, 254.6 / 255
    Image.fromarray((values * 255 + 0.5).astype(np.uint8)).save(tmp_path / "map.png")  # positive, so cut is rounded
    expected = np.asarray(Image.open(tmp_path / "map.png"), np.float32) / 255
    np.testing.assert_allclose(stored_in_eight_bits(torch.from_numpy(values)).numpy(), expected, atol=1e-7)


def test_a_smaller_width_and_further_sizes_are_read_off_the_file(tmp_path: Path) -> None:
    state = {"scale": np.arange(2.0), "filters": torch.tensor([2.0])}
    save_weights(tmp_path / "weights.npz", state, 2, taps=1)
    network = load_weights(tmp_path / "weights.npz", Toy)
    assert {name: value.tolist() for name, value in network.state_dict().items()} == {"scale": [0, 1], "filters": [2]}
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_parameters_are_those_of_the_published_width() -> None:
    assert Toy.parameters() == 4 + 1


def edit(path: Path, **changes: object) -> None:
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files} | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": None}, r"lacks 'scale', which must be \(4,\)"),
        ({"more": np.ones(3)}, r"unknown entry 'more' float64 \(3,\)"),
        ({"scale": np.ones((4, 1))}, r"'scale' is float64 \(4, 1\); expected floating point \(4,\)"),
        ({"scale": np.ones(4, int)}, r"'scale' is int64 \(4,\)"),
        ({"scale": np.array([1, 2, 3, np.nan])}, "not finite"),
        ({"scale": np.array([1, 2, 3, 1e300])}, "not finite"),
        ({"scale": np.array([{}], object)}, "plain arrays"),
        ({"width": None}, "lacks 'width'"),
        ({"width": np.int64(3)}, "'width' is 3; expected one of 2 to 8 in steps of 2"),
        ({"width": np.int64(10**9)}, "'width' is 1000000000"),
        ({"width": np.ones(2, int)}, r"'width' is int64 \(2,\)"),
        ({"taps": None, "other": np.int64(1)}, "lacks 'taps'"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(weights: Path, changes: dict[str, object], said: str) -> None:
    edit(weights, **changes)
    with pytest.raises(DDNetError, match=said) as caught:
        Toy(weights)
    assert "\n" not in str(caught.value) and str(weights) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04", None])
def test_a_damaged_or_missing_file_is_one_line(weights: Path, content: bytes | None) -> None:
    for path in (weights, weights.parent / "nowhere.npz"):
        if path == weights:
            path.write_bytes(path.read_bytes()[:-40] if content is None else content)
        with pytest.raises(DDNetError, match=rf"{path}: .*(train it again|train them)") as caught:
            Toy(path)
        assert "\n" not in str(caught.value)


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_hostile_file_is_executed(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    np.savez(tmp_path / "weights.npz", width=np.array([Hostile(touched)], object))
    with pytest.raises(DDNetError, match="plain arrays"):
        Toy(tmp_path / "weights.npz")
    torch.save({"state_dict": Hostile(touched)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Hostile(touched), 2))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(DDNetError, match=rf"{name}: not a readable PyTorch file of tensors") as caught:
            read_torch(tmp_path / name, "Toy")
        assert "\n" not in str(caught.value)
    assert not touched.exists()


def test_a_missing_or_cut_file_of_pytorch_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"a\.pth: no such file; fetch the published weights of Toy"):
        read_torch(tmp_path / "a.pth", "Toy")
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-500])
    with pytest.raises(DDNetError, match=r"a\.pth: not a readable PyTorch file"):
        read_torch(tmp_path / "a.pth", "Toy")
