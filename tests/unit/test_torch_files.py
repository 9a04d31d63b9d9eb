"""Files of torch.save: the same bytes every time, nothing executed, nothing unpacked without measure."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ddnet.errors import DDNetError
from ddnet.io.torch_files import check_state, load_torch, save_torch


class Hostile:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.touched}",)


def test_the_same_content_gives_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("a.pt", "another.ckpt"):
        save_torch(tmp_path / name, {"w": torch.arange(6.0), "info": {"seed": 3}})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.ckpt").read_bytes()
    assert torch.equal(load_torch(tmp_path / "a.pt", "")["w"], torch.arange(6.0))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"w": Hostile(tmp_path / "touched")}, tmp_path / "a.pt")
    with pytest.raises(DDNetError, match=r"a\.pt: not a readable PyTorch file .*UnpicklingError.*; fetch it"):
        load_torch(tmp_path / "a.pt", "fetch it")
    assert not (tmp_path / "touched").exists()


def test_a_file_that_would_unpack_to_many_times_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(50_000_000))
    with pytest.raises(DDNetError, match=r"claim to unpack to 50000000; this is no file of weights"):
        load_torch(tmp_path / "bomb.pt", "fetch it")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ([], "a list where named tensors belong"),
        ({}, "1 are missing, the first is w"),
        ({"w": torch.ones(2), "x": 1}, "1 are unknown, the first is x"),
        ({"w": 3}, "'w' is no plain tensor"),
        ({"w": torch.ones(2).to_sparse()}, "'w' is no plain tensor"),
        ({"w": torch.ones(3)}, r"'w' is \(3,\), expected \(2,\)"),
        ({"w": torch.ones(2, dtype=torch.int64)}, r"'w' is int64 \(2,\), expected float32 \(2,\)"),
        ({"w": torch.tensor([1.0, torch.nan])}, "'w' has values that are not finite"),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(state: Any, said: str) -> None:
    with pytest.raises(DDNetError, match=f"^a.pt: .*{said}.*; fix$"):
        check_state({"w": torch.zeros(2, device="meta")}, state, "a.pt", "fix")


def test_what_fits_is_given_back() -> None:
    assert check_state({"w": torch.zeros(2)}, {"w": torch.ones(2).half()}, "a.pt", "fix")["w"].sum() == 2
