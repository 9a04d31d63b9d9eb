"""JNB: counts against scikit-learn's pursuit, its map against known blur, its training, files that it must refuse."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from baselines.jnb import sparse_coding
from baselines.jnb.baseline import GOAL, MOST, SIGMAS, Jnb, curve_sigma, fit_curve, grey_levels, propagate
from baselines.jnb.sparse_coding import count_atoms, learn_dictionary
from ddnet.data.embedded.dataset import render_split
from ddnet.data.embedded.true_blur import textured, true_sigma
from ddnet.data.index import Scene, describe_pair
from ddnet.errors import DDNetError
from ddnet.io.images import read_image, write_image

pytestmark = pytest.mark.filterwarnings("error")
SMALL = {"patches": 3000, "crops": 6}


def _photograph(name: str, top: int = 0, left: int = 0, side: int = 160) -> np.ndarray:
    """(side, side, 3) crop of one of scikit-image's own photographs."""
    from skimage import data

    whole = getattr(data, name)()
    whole = np.repeat(whole[..., None], 3, axis=2) if whole.ndim == 2 else whole[..., :3]
    return whole[top : top + side, left : left + side].astype(np.float32) / np.float32(255)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def _scenes(folder: Path, targets: list[np.ndarray]) -> list[Scene]:
    scenes = []
    for number, target in enumerate(targets):
        image, sharp = folder / f"{number}_image.png", folder / f"{number}_target.png"
        write_image(image, _blurred(target, 1.5))
        write_image(sharp, target)
        scenes.append(describe_pair("photos", "train", str(number), "", image, sharp, None))
    return scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    places = [("astronaut", 0, 100), ("coffee", 60, 100), ("chelsea", 60, 120), ("brick", 0, 0), ("grass", 100, 90),
              ("camera", 100, 150)]  # fmt: skip
    return _scenes(tmp_path_factory.mktemp("photographs"), [_photograph(*place) for place in places])


@pytest.fixture(scope="module")
def weights(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("jnb") / "weights.npz"
    Jnb.train(scenes, scenes[:1], out, **SMALL)
    return out


@pytest.fixture(scope="module")
def jnb(weights: Path) -> Jnb:
    return Jnb(weights)


def _reference(grey: np.ndarray, dictionary: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Atoms at `places` (N, 2) of the interior, by scikit-learn's pursuit in double precision."""
    from sklearn.linear_model import orthogonal_mp_gram

    atoms = dictionary.astype(np.float64)
    gram = atoms @ atoms.T
    counts = []
    for row, column in places:
        patch = grey[row - 3 : row + 5, column - 3 : column + 5].reshape(-1)
        patch = patch - patch.mean()
        square = np.array([patch @ patch])
        taken = orthogonal_mp_gram(gram, atoms @ patch, tol=GOAL**2, norms_squared=square) if square > GOAL**2 else 0
        counts.append(np.count_nonzero(taken))
    return np.array(counts)


def _some_places(grey: np.ndarray, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, np.array(grey.shape) - 5, (count, 2))


def test_counts_with_a_random_dictionary_are_those_of_scikit_learn() -> None:
    dictionary = np.random.default_rng(1).normal(size=(128, 64))
    dictionary -= dictionary.mean(axis=1, keepdims=True)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    grey = grey_levels(_blurred(_photograph("coffee"), 0.7))
    places = _some_places(grey, 400)
    expected = _reference(grey, dictionary, places)
    assert expected.min() == 0 and expected.max() > 30
    np.testing.assert_array_equal(
        count_atoms(grey, dictionary.astype(np.float32), GOAL, MOST)[tuple(places.T)], expected
    )


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_counts_with_the_learned_dictionary_are_those_of_scikit_learn_but_for_rounding(jnb: Jnb, sigma: float) -> None:
    grey = grey_levels(_blurred(_photograph("coffee", 100, 200), sigma))
    places = _some_places(grey, 400)
    expected = _reference(grey, jnb.dictionary, places)
    found = count_atoms(grey, jnb.dictionary, GOAL, MOST)[tuple(places.T)].astype(int)
    assert len(np.unique(expected)) > 8
    assert np.mean(found != expected) <= 0.02  # its atoms are nearly dependent: ties fall either way
    assert np.abs(found - expected).max() <= 3


def test_counts_do_not_depend_on_threads_nor_on_the_size_of_chunks(jnb: Jnb, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = grey_levels(_photograph("chelsea", 100, 100, 96))
    one = count_atoms(grey, jnb.dictionary, GOAL, MOST, threads=1)
    np.testing.assert_array_equal(count_atoms(grey, jnb.dictionary, GOAL, MOST, threads=3), one)
    monkeypatch.setattr(sparse_coding, "CHUNK", 300)
    assert (
        np.mean(count_atoms(grey, jnb.dictionary, GOAL, MOST) != one) < 0.01
    )  # products of other shapes round otherwise


def test_a_patch_begins_three_pixels_above_and_left_of_its_pixel(jnb: Jnb) -> None:
    grey = np.full((40, 50), 100.0)
    grey[20, 30] = 200.0
    rows, columns = np.nonzero(count_atoms(grey, jnb.dictionary, GOAL, MOST))
    assert (rows.min(), rows.max()) == (20 - 4, 20 + 3)
    assert (columns.min(), columns.max()) == (30 - 4, 30 + 3)


def test_the_mean_of_a_patch_takes_no_atom_and_what_is_within_the_goal_neither(jnb: Jnb) -> None:
    ripple = np.where(np.arange(40) % 2, 1.0, -1.0) * np.ones((40, 1))  # norm over a patch: 8
    below, above = (count_atoms(200.0 + size / 8 * ripple, jnb.dictionary, GOAL, MOST) for size in (18.3, 18.5))
    np.testing.assert_array_equal(below, 0)
    assert above[:, 3:-4].min() >= 1  # beyond, the mirrored image ripples otherwise


def test_pursuit_ends_where_no_atom_is_left_that_helps() -> None:
    two = np.zeros((2, 64), np.float32)
    two[0, :2], two[1, 2:4] = (0.5**0.5, -(0.5**0.5)), (0.5**0.5, -(0.5**0.5))
    dictionary = np.repeat(two, 64, axis=0)
    found = count_atoms(np.random.default_rng(0).uniform(0, 255, (32, 32)), dictionary, GOAL, MOST)
    np.testing.assert_array_equal(found[3:-4, 3:-4], 2)
    assert found.max() == 2


def test_a_learned_dictionary_has_atoms_of_norm_1_and_mean_0_and_spans_its_patches() -> None:
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 64))
    patches -= patches.mean(axis=1, keepdims=True)
    atoms = learn_dictionary(patches, 32, 0)
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(atoms.mean(axis=1), 0.0, atol=1e-6)
    left = patches - patches @ np.linalg.pinv(atoms, rcond=1e-4) @ atoms
    assert np.linalg.norm(left) < 0.05 * np.linalg.norm(patches)


def test_the_curve_is_found_again_from_noisy_pairs() -> None:
    rng = np.random.default_rng(0)
    curve = np.array([4.0, 0.2, -2.0, 0.3])
    atoms = rng.uniform(0, 50, 4000)
    found = fit_curve(atoms, curve_sigma(curve, atoms) + rng.normal(0, 0.05, 4000))
    np.testing.assert_allclose(curve_sigma(found, np.arange(50.0)), curve_sigma(curve, np.arange(50.0)), atol=0.03)


def test_the_curve_says_a_finite_sigma_for_any_number_of_atoms() -> None:
    np.testing.assert_allclose(
        curve_sigma(np.array([4.0, 5.0, -20.0, 0.3]), np.array([0.0, 1e6])), [4.3, 0.3], atol=1e-6
    )


def test_numbers_of_atoms_spread_into_holes_but_not_over_edges() -> None:
    grey = np.where(np.arange(80) < 40, 40.0, 200.0) * np.ones((60, 1))
    counts = np.where(np.arange(80) < 40, 30, 8) * np.ones((60, 1), int)
    whole, reached = propagate(counts, grey)
    assert reached.all()
    np.testing.assert_allclose(whole[:, :36], 30, atol=0.5)
    np.testing.assert_allclose(whole[:, 44:], 8, atol=0.5)
    counts[20:40, 8:24] = counts[20:40, 56:72] = 0
    filled, reached = propagate(counts, grey)
    assert reached.all()
    np.testing.assert_allclose(filled[:, :36], 30, atol=0.5)
    np.testing.assert_allclose(filled[:, 44:], 8, atol=0.5)


def test_too_few_atoms_and_what_is_next_to_them_are_not_spread_unless_there_are_no_others() -> None:
    counts = np.full((60, 80), 3)
    counts[10:15, 20:60] = 40
    counts[40, 20:60] = 20  # a line: its neighbours have no more than 3
    atoms, reached = propagate(counts, np.full((60, 80), 100.0))
    assert reached.all()
    np.testing.assert_allclose(atoms, 40.0, rtol=1e-4)
    atoms, reached = propagate(np.minimum(counts, 3), np.full((60, 80), 100.0))
    assert reached.all()
    np.testing.assert_allclose(atoms, 3.0, rtol=1e-4)
    atoms, reached = propagate(np.zeros((60, 80), int), np.full((60, 80), 100.0))
    assert not reached.any()
    np.testing.assert_array_equal(atoms, 0.0)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_known_blur_of_a_photograph_not_trained_on_is_found_within_35_percent(jnb: Jnb, sigma: float) -> None:
    sharp = _photograph("gravel", 0, 0, 192)
    texture = ndimage.uniform_filter(np.hypot(*np.gradient(sharp.mean(axis=2))), 7) > 0.02
    found = jnb.defocus_map(_blurred(sharp, sigma))
    assert float(np.median(found[texture])) == pytest.approx(sigma, rel=0.35)


def test_two_halves_of_different_blur_are_told_apart(jnb: Jnb) -> None:
    sharp = _photograph("astronaut", 0, 300)
    halves = np.where((np.arange(160) < 80)[None, :, None], _blurred(sharp, 0.5), _blurred(sharp, 2.0))
    found = jnb.defocus_map(halves)
    assert np.median(found[:, 92:]) > 1.3 > 0.9 > np.median(found[:, :68])


def test_the_map_ranks_the_true_defocus_of_rendered_scenes(jnb: Jnb, tmp_path: Path) -> None:
    found, true = [], []
    for folder in render_split("embedded", "val", 6, 256, 16, 0, tmp_path):
        image, target, depth = folder / "image.png", folder / "target.png", folder / "depth_m.npy"
        scene = describe_pair("embedded", "val", folder.name, "", image, target, depth)
        there = textured(read_image(target))
        found.append(jnb.defocus_map(read_image(image))[there])
        true.append(true_sigma(scene)[there])
    assert spearmanr(np.concatenate(found), np.concatenate(true)).statistic > 0.6


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 80, 3), np.float32),
        np.full((64, 80, 3), 0.3, np.float32),
        np.ones((40, 40, 3), np.float32),
        np.full((1, 1, 3), 0.5, np.float32),
        np.full((5, 9, 3), 0.5, np.float32),
        np.linspace(0.2, 0.3, 64, dtype=np.float32)[None, :, None] * np.ones((40, 1, 3), np.float32),
    ],
    ids=["black", "grey", "white", "one pixel", "smaller than a patch", "slope"],
)
def test_an_image_without_texture_is_sharp_everywhere(jnb: Jnb, image: np.ndarray) -> None:
    found = jnb.defocus_map(image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.zeros(image.shape[:2]))


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).random((40, 40, 3), np.float32),
        np.where(np.arange(90) < 45, 0.2, 0.7).astype(np.float32)[None, :, None] * np.ones((50, 1, 3), np.float32),
        np.random.default_rng(0).random((3, 40, 3), np.float32),
        np.random.default_rng(0).random((1, 1, 3), np.float32),
        np.random.default_rng(0).random((7, 7, 3), np.float32),
    ],
    ids=["40x40 noise", "one edge", "three rows", "one pixel", "smaller than a patch"],
)
def test_the_map_is_finite_and_in_range_and_restores_without_a_warning(jnb: Jnb, image: np.ndarray) -> None:
    found = jnb.defocus_map(image)
    assert found.dtype == np.float32
    assert found.shape == image.shape[:2]
    assert np.isfinite(found).all()
    assert 0.0 <= found.min() <= found.max() <= jnb.curve[0] + jnb.curve[3]
    assert np.isfinite(jnb.restore(image)).all()


def test_one_edge_tells_the_blur_of_the_whole_image(jnb: Jnb) -> None:
    edge = np.where(np.arange(90) < 45, 0.2, 0.7)[None, :, None] * np.ones((50, 1, 3))
    slight, strong = (jnb.defocus_map(_blurred(edge, sigma).astype(np.float32)) for sigma in (0.0, 2.0))
    assert 0.0 < slight.max() < strong.min()


def test_the_same_image_gives_the_same_map_and_stays_as_it_is(jnb: Jnb) -> None:
    image = _photograph("coffee", 100, 100, 80)
    before = image.copy()
    np.testing.assert_array_equal(jnb.defocus_map(image), jnb.defocus_map(image))
    np.testing.assert_array_equal(image, before)


def test_restoring_sharpens_a_defocused_photograph(jnb: Jnb) -> None:
    sharp = _photograph("astronaut", 0, 300)
    image = _blurred(sharp, 1.5)
    restored = jnb.restore(image)
    assert restored.shape == image.shape
    assert restored.dtype == np.float32
    assert 0.0 <= restored.min() <= restored.max() <= 1.0
    assert np.mean((restored - sharp) ** 2) < 0.9 * np.mean((image - sharp) ** 2)


def test_training_scores_its_fit_on_both_splits(scenes: list[Scene], weights: Path, tmp_path: Path) -> None:
    scores = Jnb.train(scenes, [], tmp_path / "again.npz", **SMALL)
    assert (tmp_path / "again.npz").read_bytes() == weights.read_bytes()
    assert not any(name.startswith("val_") for name in scores)
    assert 3000 <= scores["patches"] < 3000 + len(scenes)
    assert scores["curve"] == Jnb(weights).curve.tolist()
    assert scores["sigmas"] == list(SIGMAS)
    assert (np.diff(scores["atoms"]) < 0).all()
    assert scores["spearman"] > 0.85
    assert scores["abs_error"] < 0.4
    held_out = Jnb.train(scenes[1:], scenes[:1], tmp_path / "other.npz", seed=1, patches=1000, crops=2)
    assert held_out["val_spearman"] > 0.7 and held_out["val_abs_error"] < 0.7
    assert (tmp_path / "other.npz").read_bytes() != weights.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.npz", "other.npz"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "^jnb: no training scenes; its dictionary is learned from their targets$"),
        ([np.full((64, 64, 3), 0.4)], "^dictionary: 0 textured patches for 128 atoms; .* too few or too flat$"),
        ([np.random.default_rng(0).random((6, 64, 3))], "^dictionary: 0 textured patches for 128 atoms"),
    ],
    ids=["none", "flat", "smaller than a patch"],
)
def test_targets_that_teach_nothing_are_one_line_and_no_file(
    targets: list[np.ndarray], message: str, tmp_path: Path
) -> None:
    for target in targets:
        target[0, 0] += 0.01  # differs from its blurred image
    scenes = _scenes(tmp_path, targets)
    with pytest.raises(DDNetError, match=message):
        Jnb.train(scenes, [], tmp_path / "out" / "weights.npz")
    assert not (tmp_path / "out").exists()


def test_targets_of_any_size_train(scenes: list[Scene], tmp_path: Path) -> None:
    small = _scenes(tmp_path, [_photograph("coffee", 60, 100, 20), _photograph("chelsea", 60, 120, 30)])
    Jnb.train([*small, *scenes], [], tmp_path / "weights.npz", patches=1000, crops=8)
    assert Jnb(tmp_path / "weights.npz").dictionary.shape == (128, 64)


def _npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _with(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[bytes], bytes]:
    def damage(whole: bytes) -> bytes:
        with np.load(io.BytesIO(whole)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        change(arrays)
        return _npz(**arrays)

    return damage


def _flip(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]


def _text_member(whole: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("dictionary", b"no array")
        archive.writestr("curve", b"no array")
    return stream.getvalue()


def _single(whole: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((128, 64)))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", "not a readable weights file"),
        (lambda whole: b"no weights at all", "not a readable weights file"),
        (lambda whole: whole[: len(whole) // 2], "not a readable weights file"),
        (lambda whole: whole[:-30], "not a readable weights file"),
        (_flip, "not a readable weights file .*CRC"),
        (_single, r"not a readable weights file \(.*ndarray"),
        (_text_member, r"'dictionary' is bytes, expected float \(128, 64\)"),
        (_with(lambda a: a.update(curve=np.array([print], object))), "not a readable weights file .*allow_pickle"),
        (_with(lambda a: a.pop("curve")), r"lacks 'curve' \(4,\); not the weights of jnb"),
        (_with(lambda a: a.pop("dictionary")), r"lacks 'dictionary' \(128, 64\)"),
        (_with(lambda a: a.update(bias=np.zeros(3))), "unknown 'bias'; not the weights of jnb"),
        (_with(lambda a: a.update(dictionary=a["dictionary"][:64])), r"'dictionary' is float32 \(64, 64\), expected"),
        (_with(lambda a: a.update(curve=np.ones(4, int))), r"'curve' is int64 \(4,\), expected float \(4,\)"),
        (_with(lambda a: a["dictionary"].__setitem__((3, 5), np.nan)), "'dictionary' has values that are not finite"),
        (_with(lambda a: a["curve"].__setitem__(0, np.inf)), "'curve' has values that are not finite"),
        (_with(lambda a: a.update(dictionary=2 * a["dictionary"])), "'dictionary' has atoms whose norm is not 1"),
        (_with(lambda a: a.update(dictionary=np.full((128, 64), 1e300))), "'dictionary' has atoms whose norm is not 1"),
        (_with(lambda a: a.update(dictionary=np.full((128, 64), 0.125))), "or whose mean is not 0"),
        (_with(lambda a: a.update(curve=-a["curve"])), "'curve' is no falling logistic of positive sigma"),
        (_with(lambda a: a.update(curve=1e300 * a["curve"])), "'curve' is no falling logistic of positive sigma"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_one_line(
    damage: Callable[[bytes], bytes], message: str, weights: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.npz"
    file.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(DDNetError, match=message) as caught:
        Jnb(file)
    assert str(caught.value).startswith(f"{file}: ") and str(caught.value).endswith("train jnb again")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "weights.npz", tmp_path):
        with pytest.raises(DDNetError, match=r"no such weights; train jnb again$"):
            Jnb(path)
