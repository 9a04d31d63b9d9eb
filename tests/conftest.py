"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported: with OpenMP's default spinning, tests on shared cores take many times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import pytest
import torch

if TYPE_CHECKING:
    from report_page import SmallPage

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallPage:
    """A page of results with what it was made of, for tests with and without a browser."""
    from report_page import make_page

    return make_page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real AlexNet and VGG-16 trunks; `DDNET_WEIGHTS` names one that exists already."""
    from ddnet.models.pretrained import fetch_weights

    folder = Path(os.environ.get("DDNET_WEIGHTS") or tmp_path_factory.mktemp("weights"))
    fetch_weights(required=["alexnet", "vgg16"], optional=[], folder=folder)
    return folder
