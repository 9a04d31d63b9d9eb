"""Which files of a download are wanted, and that a fetched folder loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monodepth2_zip import published_states, write_monodepth2_zip

from ddnet.config import Item
from ddnet.data.depth_weights import DEPTH_ANYTHING_FILES, wanted_depth_anything, wanted_monodepth2
from ddnet.depth.sources.depth_anything import FILES
from ddnet.depth.sources.monodepth2 import Monodepth2
from ddnet.fetch import fetch_item


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("encoder.pth", "encoder.pth"),
        ("mono+stereo_640x192/depth.pth", "depth.pth"),
        ("models/mono+stereo_640x192/encoder.pth", "encoder.pth"),
        ("mono+stereo_640x192/pose_encoder.pth", None),
        ("pose.pth", None),
        ("poses.npy", None),
        ("mono+stereo_640x192/", None),
        ("LICENCE.txt", None),
    ],
)
def test_of_monodepth2_encoder_and_depth_are_wanted_wherever_they_lie(path: str, name: str | None) -> None:
    assert wanted_monodepth2().canonical(path) == name


def test_of_depth_anything_three_files_are_wanted_and_the_source_reads_just_these() -> None:
    wanted = wanted_depth_anything()
    assert wanted.files == FILES == DEPTH_ANYTHING_FILES
    assert [wanted.canonical(f"Depth-Anything-V2-Small-hf/{name}") for name in FILES] == list(FILES)
    assert wanted.canonical("pytorch_model.bin") is None


def test_listing_them_needs_no_torch() -> None:
    code = "import sys, ddnet.data.depth_weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("wrapper", ["", "mono+stereo_640x192"])
def test_a_published_zip_becomes_a_folder_that_estimates(tmp_path: Path, wrapper: str) -> None:
    """Beside the weights, the fetcher leaves its manifest and the licence there."""
    archive = write_monodepth2_zip(tmp_path / "weights.zip", wrapper=wrapper)
    item = Item(about="weights", licence="own", by_hand="a zip", gigabytes=0.1)
    fetched = fetch_item("monodepth2", item, wanted_monodepth2(), tmp_path / "data", local=archive)
    assert sorted(fetched.files) == ["depth.pth", "encoder.pth"]
    (tmp_path / "data" / "LICENCE.txt").write_text("own")
    assert (tmp_path / "data" / "manifest.json").is_file()
    source = Monodepth2(tmp_path / "data")
    assert source.size == (64, 96)
    state = source.weights.networks[0].encoder.state_dict()
    torch.testing.assert_close(
        state["encoder.conv1.weight"].cpu(), published_states()["encoder.pth"]["encoder.conv1.weight"], rtol=0, atol=0
    )
    depth = source.predict(np.random.default_rng(0).random((90, 120, 3), dtype=np.float32))
    assert depth.shape == (90, 120) and 0 <= depth.min() < depth.max() <= 1
