"""The embedded benchmark on disk: same seed same bytes, records, index, and the refocused stereo pair."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from ddnet.data.embedded.dataset import DATASET_OF, index_benchmark, render_benchmark
from ddnet.data.embedded.optics import circle_of_confusion_px
from ddnet.data.embedded.stereo import disparity_to_depth, make_stereo, render_stereo, stereo_layers
from ddnet.data.embedded.textures import srgb_to_linear
from ddnet.data.embedded.write import plan_split, render_split, scene_seed
from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.io.images import read_image, read_raw_rgb

SPLITS = {"train": 2, "train_depth": 2, "val": 2, "test": 2, "embedded_ood": 3}
SIZE, SAMPLES = 48, 8


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    render_benchmark(root, SPLITS, SIZE, SAMPLES, seed=3, workers=1)
    return root


def _bytes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_whatever_the_workers_and_the_other_scenes(rendered: Path, tmp_path: Path) -> None:
    render_benchmark(tmp_path, {"train": 2, "embedded_ood": 3}, SIZE, SAMPLES, seed=3, workers=2)
    first = _bytes(rendered)
    second = _bytes(tmp_path)
    assert second and all(first[name] == digest for name, digest in second.items())


def test_another_seed_gives_other_scenes(rendered: Path, tmp_path: Path) -> None:
    folders = render_split("embedded", "val", 1, SIZE, SAMPLES, 4, tmp_path)
    assert sha256(folders[0] / "target.png") != sha256(rendered / "embedded/val/indoor_000/target.png")
    seeds = {scene_seed(0, *pair, i) for pair in DATASET_OF.values() for i in range(100)}
    assert len(seeds) == 100 * len(DATASET_OF)


def test_layout_and_index(rendered: Path) -> None:
    scenes = index_benchmark(rendered)
    assert [scene.key for scene in scenes] == [
        "embedded/train/indoor_000", "embedded/train/outdoor_000",
        "embedded/train_depth/indoor_000", "embedded/train_depth/outdoor_000",
        "embedded/val/indoor_000", "embedded/val/outdoor_000",
        "embedded/test/indoor_000", "embedded/test/outdoor_000",
        "embedded_ood/test/indoor_000", "embedded_ood/test/outdoor_000", "embedded_ood/test/stereo_000",
    ]  # fmt: skip
    for scene in scenes:
        assert (scene.height, scene.width, scene.bits) == (SIZE, SIZE, 16)
        assert scene.location == ("outdoor" if scene.scene.startswith("outdoor") else "indoor")
        assert scene.depth_m is not None
        depth = np.load(scene.depth_m)
        assert depth.shape == (SIZE, SIZE) and depth.dtype == np.float32 and (depth > 0).all()
        assert read_raw_rgb(scene.image).dtype == np.uint16
        assert np.abs(read_image(scene.image) - read_image(scene.target)).mean() > 0.003


def test_records_name_lens_and_photographs_and_splits_share_none(rendered: Path) -> None:
    used: dict[str, set[str]] = {}
    for key, (dataset, split) in DATASET_OF.items():
        used[key] = set()
        for path in (rendered / dataset / split).glob("*/scene.json"):
            record = json.loads(path.read_text())
            assert record["size"] == SIZE and record["samples"] == SAMPLES
            assert {"focal_mm", "f_number", "focus_m", "aperture"} <= set(record["lens"])
            assert set(record["sha256"]) == {
                "image.png",
                "target.png",
                "left.png",
                "right.png",
                "depth_m.npy",
            }
            used[key] |= set(record["photographs"])
        assert used[key]
    used["train"] |= used.pop("train_depth")  # the depth network may see what the restoration networks see
    for first, second in itertools.combinations(used, 2):
        assert not used[first] & used[second], (first, second)
    assert "motorcycle" in used["embedded_ood"]


def test_changed_missing_and_unfinished_files_are_named(rendered: Path, tmp_path: Path) -> None:
    render_split("embedded", "val", 1, SIZE, SAMPLES, 3, tmp_path)
    folder = tmp_path / "embedded/val/indoor_000"
    assert len(index_benchmark(tmp_path)) == 1
    whole = (folder / "target.png").read_bytes()
    (folder / "target.png").write_bytes(whole[:-1] + b"\0")
    with pytest.raises(DDNetError, match="target.png.*SHA-256"):
        index_benchmark(tmp_path)
    (folder / "target.png").unlink()
    with pytest.raises(DDNetError, match="target.png: missing"):
        index_benchmark(tmp_path)
    (folder / "scene.json").write_text("[]")
    with pytest.raises(DDNetError, match="scene.json: holds a list"):
        index_benchmark(tmp_path)
    (folder / "scene.json").unlink()
    with pytest.raises(DDNetError, match="indoor_000: no scene.json"):
        index_benchmark(tmp_path)
    with pytest.raises(DDNetError, match="no rendered scene"):
        index_benchmark(tmp_path / "elsewhere")


def test_a_smaller_rendering_leaves_no_scene_of_a_larger_one(tmp_path: Path) -> None:
    render_split("embedded", "val", 2, 32, 2, 0, tmp_path)
    (tmp_path / "embedded/val/notes").mkdir()
    render_split("embedded", "val", 1, 32, 2, 0, tmp_path)
    assert sorted(path.name for path in (tmp_path / "embedded/val").iterdir()) == ["indoor_000", "notes"]


def test_plan_halves_the_locations_and_counts_the_stereo_scenes() -> None:
    jobs = plan_split("embedded_ood", "test", 16, 64, 8, 0, Path("scenes"))
    names = [job.folder.name for job in jobs]
    assert len(set(names)) == 16
    assert [name for name in names if name.startswith("stereo")] == ["stereo_000", "stereo_001", "stereo_002"]
    assert abs(sum(n.startswith("indoor") for n in names) - sum(n.startswith("outdoor") for n in names)) <= 1


@pytest.mark.parametrize(
    ("splits", "changed", "named"),
    [
        ({"trian": 1}, {}, "trian"),
        ({"train": 0}, {}, "at least 1"),
        ({"train": 1}, {"seed": -1}, "seed"),
        ({"train": 1}, {"workers": 0}, "workers"),
        ({"train": 1}, {"samples": 7}, "even"),
        ({"embedded_ood": 1}, {"size": 512}, "never enlarged"),
    ],
)
def test_bad_benchmarks_are_refused(
    tmp_path: Path, splits: dict[str, int], changed: dict[str, int], named: str
) -> None:
    with pytest.raises(DDNetError, match=named):
        render_benchmark(tmp_path, splits, **{"size": 32, "samples": 2, **changed})


def test_disparity_to_depth_follows_the_calibration() -> None:
    depth = disparity_to_depth(np.array([7.0, 60.0, np.inf], np.float32))
    np.testing.assert_allclose(depth[:2], [0.193001 * 994.978 / 38.086, 0.193001 * 994.978 / 91.086], rtol=1e-6)
    assert np.isposinf(depth[2])


def test_stereo_pair_is_refocused_through_its_depth() -> None:
    scene = make_stereo(96, focus_m=4.6, layers=24)
    assert 2.0 < scene.depth_m.min() < 2.4 and 4.5 < scene.depth_m.max() < 5.2
    assert 0.0 < scene.unknown < 0.2
    found = render_stereo(scene, 32, seed=0)
    np.testing.assert_array_equal(found.target, scene.photo)
    np.testing.assert_array_equal(found.depth_m, scene.depth_m)
    assert found.image.mean() == pytest.approx(scene.photo.mean(), rel=0.01)
    blur = np.abs(circle_of_confusion_px(scene.depth_m, scene.lens, 96))
    change = np.abs(found.image - found.target).mean(axis=2)
    assert change[blur > 1.5].mean() > 4 * change[blur < 0.3].mean()


def test_stereo_layers_at_rest_are_the_photograph() -> None:
    from ddnet.data.embedded.render import render_layers

    scene = make_stereo(64, focus_m=3.0, layers=16)
    rest = render_layers(stereo_layers(scene), scene.lens, 64, 2, np.random.default_rng(0)).target
    np.testing.assert_allclose(rest, scene.photo, atol=1e-6)


def test_the_written_views_are_of_either_half_and_their_mean_in_linear_light_is_the_image(rendered: Path) -> None:
    for scene in index_benchmark(rendered):
        assert scene.views is not None
        assert (scene.left_sha256, scene.right_sha256) == tuple(map(sha256, scene.views))
        encoded = [read_image(path) for path in (scene.image, *scene.views)]
        image, left, right = map(srgb_to_linear, encoded)
        inside = np.logical_and.reduce([(view > 0) & (view < 1) for view in encoded])
        assert inside.mean() > 0.5 and np.abs(left - right).max() > 0.02
        # Half a step of 16 bits in each file; the curve's slope is at most 2.3.
        np.testing.assert_allclose(((left + right) / 2)[inside], image[inside], atol=3 / 65535)


RENDERING = """
import sys
from pathlib import Path
from ddnet.data.embedded.write import render_split
if __name__ == "__main__":
    render_split("embedded", "train", 40, 96, 32, 0, Path(sys.argv[1]), workers=2)
"""


def test_workers_leave_when_the_rendering_process_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "rendering.py"
    script.write_text(RENDERING)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "scenes")], start_new_session=True)
    until = time.monotonic() + 120
    while not list(tmp_path.rglob("scene.json")):  # both are at work, or about to be
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=60)
    for worker in left:
        worker.kill()
    assert not left
