"""torchvision's weights by torchvision's own way of downloading, from a server of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from remote import Remote, content, cut, page, status

from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.models import pretrained as weights
from ddnet.models.pretrained import TRUNKS, Trunk, fetch_weights, load_trunk, read_manifest


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A server with a small stand-in for VGG-19's file, its digest in the name as torchvision has it."""
    draft = tmp_path / "draft.pth"
    torch.save({"features.0.weight": torch.ones(2, 3, 1, 1), "classifier.0.bias": torch.zeros(4)}, draft)
    name = f"vgg19-{sha256(draft)[:8]}.pth"
    monkeypatch.setitem(TRUNKS, "vgg19", Trunk(name))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    with Remote({f"/models/{name}": draft.read_bytes()}) as server:
        monkeypatch.setattr(weights, "TORCHVISION_URL", f"{server.url}/models/")
        yield server


def test_a_trunk_is_downloaded_once_and_recorded_with_its_address(remote: Remote, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    for _ in range(2):
        fetch_weights(["vgg19"], [], folder)
    assert len(remote.requests) == 1
    assert list(load_trunk("vgg19", folder)) == ["features.0.weight"]
    assert read_manifest(folder)["vgg19"]["source"].startswith(remote.url)


@pytest.mark.parametrize("fault", [content(b"something else"), cut(100), page()])
def test_what_is_not_the_published_file_is_never_kept(remote: Remote, tmp_path: Path, fault: object) -> None:
    [path] = remote.files
    remote.misbehave(path, fault, times=None)  # type: ignore[arg-type]
    with pytest.raises(DDNetError, match="invalid hash"):
        fetch_weights(["vgg19"], [], tmp_path / "weights")
    assert not list(tmp_path.rglob("vgg19*"))
    remote.behave()
    assert fetch_weights(["vgg19"], [], tmp_path / "weights")["vgg19"]["status"] == "ok"


def test_a_server_that_has_it_not_is_named_with_the_way_out(remote: Remote, tmp_path: Path) -> None:
    remote.misbehave("*", status(404), times=None)
    with pytest.raises(DDNetError, match=r"'vgg19' could not be had .*404.*; download .* elsewhere, put it into"):
        fetch_weights(["vgg19"], [], tmp_path / "weights")
