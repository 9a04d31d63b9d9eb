"""What every depth source must do, run over whatever the registry finds: a new file has tests already."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_folder import write_depth_anything

from ddnet.depth.network import DepthNetwork
from ddnet.depth.sources import build_depth_source
from ddnet.depth.sources._base import NEEDS, DepthSource, Given
from ddnet.depth.weights import save_fitted
from ddnet.errors import DDNetError
from ddnet.registry import names, resolve

SIZES = [(64, 64), (61, 83), (40, 97)]  # a network size, odd sides, one side shorter than the network's


def _tiny_monodepth2(folder: Path) -> Path:
    torch.manual_seed(0)
    save_fitted(folder / "random.pt", [DepthNetwork()], (64, 64), [[]])
    return folder / "random.pt"


def _tiny_depth_anything(folder: Path) -> Path:
    pytest.importorskip("transformers")
    return write_depth_anything(folder)


# A source that needs a model brings a small one here.
TINY: dict[str, Callable[[Path], Path]] = {"monodepth2": _tiny_monodepth2, "depth_anything": _tiny_depth_anything}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path | None]:
    """Name of a source -> random weights for it; None where it needs none."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path | None:
        if "model" not in resolve("depth", name).needs:
            return None
        if name not in made:
            made[name] = TINY[name](tmp_path_factory.mktemp(name))
        return made[name]

    return of


def _inputs(needs: frozenset[str], height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(7)
    image = rng.random((height, width, 3), dtype=np.float32)
    given: dict[str, np.ndarray] = {}
    if "true_depth" in needs:
        given["true_depth"] = np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)
    if "other" in needs:
        given["other"] = rng.random((height + 5, width - 3), dtype=np.float32)
    return image, given


@pytest.mark.parametrize("name", names("depth"))
def test_a_source_declares_known_needs_and_says_what_it_is(name: str) -> None:
    cls = resolve("depth", name)
    assert issubclass(cls, DepthSource)
    assert cls.needs <= NEEDS
    assert cls.takes_size == ("size" in inspect.signature(cls).parameters)
    assert inspect.getdoc(cls) and inspect.getdoc(inspect.getmodule(cls))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", names("depth"))
def test_depth_has_the_images_size_and_lies_in_0_to_1(name: str, size: tuple[int, int], model) -> None:
    source = build_depth_source(name, model(name))
    image, given = _inputs(source.needs, *size)
    arrays = {"image": image, **given}
    copies = {key: value.copy() for key, value in arrays.items()}
    depth = source.predict(image, Given(**given))
    assert depth.shape == size
    assert depth.dtype == np.float32
    assert np.isfinite(depth).all() and depth.min() >= 0 and depth.max() <= 1
    for key, value in arrays.items():
        np.testing.assert_array_equal(value, copies[key], err_msg=f"{name} changed its argument {key}")


@pytest.mark.parametrize("name", names("depth"))
def test_the_same_seed_gives_the_same_depth(name: str, model) -> None:
    source = build_depth_source(name, model(name))
    image, given = _inputs(source.needs, 61, 83)
    first = source.predict(image, Given(**given, rng=np.random.default_rng(3)))
    again = build_depth_source(name, model(name)).predict(image, Given(**given, rng=np.random.default_rng(3)))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", [n for n in names("depth") if not resolve("depth", n).needs - {"model"}])
def test_patches_are_estimated_as_whole_images_of_their_size(name: str, model) -> None:
    source = build_depth_source(name, model(name))
    patches = torch.from_numpy(np.random.default_rng(8).random((3, 3, 64, 64), dtype=np.float32))
    depths = source.predict_patches(patches)
    assert depths.shape == (3, 64, 64) and depths.dtype == np.float32
    whole = [source.predict(patch.permute(1, 2, 0).contiguous().numpy()) for patch in patches]
    np.testing.assert_allclose(depths, whole, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in names("depth") if resolve("depth", n).needs - {"model"}])
def test_a_missing_need_is_refused_by_name(name: str, model) -> None:
    image = np.zeros((64, 64, 3), dtype=np.float32)
    with pytest.raises(DDNetError, match=f"depth source '{name}' needs"):
        build_depth_source(name, model(name)).predict(image)


@pytest.mark.parametrize("name", [n for n in names("depth") if "model" in resolve("depth", n).needs])
def test_a_missing_model_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(DDNetError, match="needs weights; give model_path"):
        build_depth_source(name)
