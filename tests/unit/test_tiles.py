"""Tiles: where they lie, that blending invents nothing, and that what is local comes out as from the whole image."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ddnet.benchmark.bench import Records, Row
from ddnet.benchmark.tiles import COLUMNS, KEY, bench_tiles
from ddnet.cli.main import main
from ddnet.errors import DDNetError
from ddnet.io.images import FloatArray
from ddnet.restoration.load import Loaded
from ddnet.restoration.tiles import _starts, pixels_in_tiles, restore_in_tiles


@pytest.mark.parametrize(("length", "tile"), [(64, 64), (65, 64), (100, 64), (1000, 64), (1680, 512), (40, 64)])
def test_tiles_cover_a_side_and_overlap_by_a_quarter_at_least(length: int, tile: int) -> None:
    parts = list(_starts(length, tile))
    assert parts[0].start == 0 and parts[-1].stop == length
    assert all(part.stop - part.start == min(tile, length) for part in parts)
    for one, two in pairwise(parts):
        assert one.stop - two.start >= tile // 4 and one.start < two.start
    assert pixels_in_tiles(length, 10, tile) == 10 * sum(part.stop - part.start for part in parts)


@pytest.mark.parametrize("shape", [(64, 64), (70, 200), (129, 50), (200, 301)])
def test_what_looks_at_one_pixel_only_does_not_see_the_tiles(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image, depth = generator.random((*shape, 3), np.float32), generator.random(shape, np.float32)
    seen: list[tuple[int, ...]] = []

    def restore(part: FloatArray, its_depth: FloatArray | None) -> FloatArray:
        assert its_depth is not None and its_depth.shape == part.shape[:2]
        seen.append(part.shape)
        return 0.5 * part + 0.25 * its_depth[..., None]

    restored = restore_in_tiles(restore, image, depth, 64)
    np.testing.assert_allclose(restored, 0.5 * image + 0.25 * depth[..., None], rtol=0, atol=1e-6)
    assert max(max(size[:2]) for size in seen) == min(64, max(shape)) and (len(seen) > 1) == (max(shape) > 64)


def test_what_averages_over_all_it_sees_changes_smoothly_between_tiles() -> None:
    image = np.linspace(0, 1, 256, dtype=np.float32)[None, :, None].repeat(64, 0).repeat(3, 2)
    restored = restore_in_tiles(lambda part, _: np.full_like(part, part.mean()), image, None, 64)
    steps = np.diff(restored[0, :, 0])
    assert (steps >= -1e-6).all() and steps.max() < 0.05 and restored.max() - restored.min() > 0.5


def test_tiles_of_next_to_nothing_are_refused() -> None:
    with pytest.raises(DDNetError, match="tiles of 32 px: at least 64 are needed"):
        restore_in_tiles(lambda part, _: part, np.zeros((99, 99, 3), np.float32), None, 32)


class Average:
    """Restores by what it sees on the whole."""

    def restore(self, image: FloatArray, depth: FloatArray | None) -> FloatArray:
        return 0.9 * image + 0.1 * image.mean()


def test_the_difference_that_tiles_make_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Row] = []
    records = Records(tmp_path, "tiles", "x", COLUMNS, KEY)
    bench_tiles(Loaded("average", "", Average()), (160, 96), [64, 160], records, shown.append)
    with records.file.open(newline="") as stream:
        whole, small, large = csv.DictReader(stream)
    assert [row["tile"] for row in (whole, small, large)] == ["whole", "64", "160"] and len(shown) == 3
    assert float(whole["largest_deviation"]) == float(large["largest_deviation"]) == 0
    assert 0 < float(small["mean_deviation"]) < float(small["largest_deviation"]) < 0.1
    assert float(small["psnr_gain"]) == pytest.approx(float(small["psnr"]) - float(whole["psnr"]), abs=0.02)
    assert main(["bench", "tiles", "ebdb", "--tiles", "big", "--out", str(tmp_path / "none")]) == 1
    assert "--tiles big: sides in pixels, separated by commas" in capsys.readouterr().err
