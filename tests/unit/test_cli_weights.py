"""`ddnet weights list` and `import`, on files like the published ones."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_defocusgan
import test_ifan
import test_kpac
import test_released
import torch
from depth_anything_folder import write_depth_anything
from dmenet_npz import write_dmenet_zip
from keras_file import random_layers, write_keras
from monodepth2_zip import write_monodepth2_zip
from safetensors.torch import save_file
from test_dpdnet import shapes as dpdnet_shapes
from test_mdpnet import shapes as mdpnet_shapes

import ddnet
from baselines import system_class
from baselines.dpdnet.baseline import Dpdnet
from baselines.mdpnet.baseline import Mdpnet
from ddnet.cli.weights import SOURCES, add_parser
from ddnet.config import load_sources
from ddnet.data.fetch_data import WEIGHTS, folder_of
from ddnet.errors import DDNetError
from ddnet.fetch import fetch_item
from ddnet.io.files import write_json
from ddnet.models.released import load_released

ITEMS = load_sources(SOURCES)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; Keras's networks narrow."""
    torch.set_num_threads(1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(Dpdnet, "width", 4)
    monkeypatch.setattr(Mdpnet, "width", 2)
    return tmp_path / "here"


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads"


def weights(*words: str | Path) -> argparse.Namespace:
    """Run `ddnet weights ...`."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["weights", *map(str, words)])
    arguments.run(arguments)
    return arguments


def refused(*words: str | Path) -> str:
    """What `ddnet weights import` says where it takes nothing in; nothing has been written then."""
    with pytest.raises(DDNetError) as caught:
        weights("import", *words)
    assert not Path("data").exists() and "\n" not in str(caught.value) and "ddnet-weights-" not in str(caught.value)
    return str(caught.value)


def _ifan(folder: Path, filters: int = 17) -> Path:
    torch.save(test_ifan.published(filters), folder / "IFAN.pytorch")
    return folder / "IFAN.pytorch"


def _kpac(folder: Path, levels: int = 3) -> Path:
    test_kpac.published_file(folder, levels)
    return folder / test_kpac.FILES[levels]


def _defocusgan(folder: Path) -> Path:
    test_defocusgan.write(folder / "90_models.pth", test_defocusgan.published())
    return folder / "90_models.pth"


def _dpdnet(folder: Path) -> Path:
    return write_keras(folder / "single_16bit.hdf5", random_layers(dpdnet_shapes(4)), whole=True)


def _mdpnet(folder: Path) -> Path:
    return write_keras(folder / "mdp_phase_2_wacv.hdf5", random_layers(mdpnet_shapes(2)))


def _ddnet(folder: Path) -> Path:
    return test_released.save(folder / "35_models.pth", test_released.published())


def _monodepth2(folder: Path) -> Path:
    return write_monodepth2_zip(folder / "mono+stereo_640x192.zip", wrapper="mono+stereo_640x192")


def _monodepth2_unpacked(folder: Path) -> Path:
    with zipfile.ZipFile(write_monodepth2_zip(folder / "x.zip")) as opened:
        opened.extractall(folder)
    return folder / "depth.pth"


def _dmenet(folder: Path) -> Path:
    return write_dmenet_zip(folder / "DMENet_BDCS.zip")


PUBLISHED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("ifan", _ifan, "10,476,996"),
    ("kpac", _kpac, "2,057,893"),
    ("defocusgan", _defocusgan, "4,860,675"),
    ("dpdnet", _dpdnet, f"{sum(int(np.prod(shape)) + shape[3] for shape in dpdnet_shapes(4)):,}"),
    ("mdpnet", _mdpnet, ""),
    ("dmenet", _dmenet, "26,939,819"),
    ("ddnet", _ddnet, "2,646,308"),
    ("monodepth2", _monodepth2, ""),
    ("monodepth2", _monodepth2_unpacked, ""),
]


@pytest.mark.parametrize(("name", "make", "parameters"), PUBLISHED)
def test_a_published_file_is_recognised_checked_and_found_by_the_workflow(
    name: str, make: Callable[[Path], Path], parameters: str, downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights("import", make(downloads))
    told = capsys.readouterr().out
    assert len(told.splitlines()) == 2
    assert told.startswith(f"{name}: recognised as {ITEMS[name].about}; {parameters}")
    assert f"kept in data/weights/{name}\nnext: " in told
    without_sources = ITEMS[name].model_copy(update={"sources": ()})
    fetched = fetch_item(name, without_sources, WEIGHTS[name](), folder_of(name))
    assert set(fetched.files) == set(WEIGHTS[name]().files or ()) and "imported from" in fetched.source
    for canonical, file in fetched.files.items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert file == folder_of(name) / canonical and digest == fetched.digests[canonical] and digest[:12] in told
    if name not in ("ddnet", "monodepth2"):
        assert f"`systems: {{{name}: {{weights: official}}}}` in a preset" in told
        system_class(name).convert(folder_of(name), Path("weights.npz"))
    weights("list")
    listed = capsys.readouterr().out
    assert re.search(rf"here: data/weights/{name}, SHA-256 .* as recorded", listed)
    assert listed.count("not here:") == len(WEIGHTS) - 1


def test_depth_anything_is_taken_in_from_its_folder(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    weights("import", write_depth_anything(downloads / "snapshot"))
    assert capsys.readouterr().out.startswith("depth_anything: recognised as Depth Anything V2 Small")
    fetched = fetch_item(
        "depth_anything", ITEMS["depth_anything"], WEIGHTS["depth_anything"](), folder_of("depth_anything")
    )
    assert len(fetched.files) == 3


@pytest.mark.parametrize("place", ["folder", "zip", "file of any name"])
def test_the_same_file_is_found_in_a_folder_in_a_zip_and_under_another_name(place: str, downloads: Path) -> None:
    path = _kpac(downloads)
    content = path.read_bytes()
    if place == "folder":
        (downloads / "a" / "b").mkdir(parents=True)
        (downloads / "a" / "notes.txt").write_text("x")
        path.rename(downloads / "a" / "b" / path.name)
        path = downloads / "a"
    elif place == "zip":
        with zipfile.ZipFile(downloads / "x.zip", "w") as opened:
            opened.write(path, f"KPAC/pretrained/{path.name}")
        path = downloads / "x.zip"
    else:
        path = path.rename(downloads / "download")
    weights("import", path)
    assert Path("data/weights/kpac/single_3level.npz").read_bytes() == content
    assert json.loads(Path("data/weights/kpac/manifest.json").read_text())["single_3level.npz"]["source"] == (
        f"imported from {path.name}"
    )


@pytest.mark.parametrize("place", ["a file called like another item's", "safetensors", "folder", "zip"])
def test_what_counts_is_what_a_file_holds(
    place: str, downloads: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"model.{name}": value.half() for name, value in test_released.published().items()}
    path = downloads / ("single_16bit.hdf5" if place.startswith("a file") else "net_g_latest.pth")
    if place == "safetensors":
        save_file(state, path := downloads / "model.safetensors")
    else:
        torch.save({"params": state, "optimizer": {"state": {}}}, path)
    if place == "folder":
        (downloads / "readme.md").write_text("x")
        path = downloads
    elif place == "zip":
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as opened:
            opened.write(path, f"weights/{path.name}")
            opened.writestr("weights/readme.md", "x")
        path = path.with_suffix(".zip")
    weights("import", path)
    assert capsys.readouterr().out.startswith("ddnet: recognised as ")
    assert Path("data/weights/ddnet/ddnet_models.pth").is_file()
    loaded = ddnet.load(path)
    assert (loaded.name, loaded.source) == ("ddnet", str(path))


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, make, _ in PUBLISHED if name != "monodepth2"])
def test_ddnet_load_takes_what_import_takes(name: str, make: Callable[[Path], Path], downloads: Path) -> None:
    path = make(downloads).rename(downloads / "download")
    loaded = ddnet.load(path)
    assert loaded.name == name and not Path("data").exists()
    if name == "ddnet":
        expected = load_released(path).state_dict()
        model = loaded.restorer.model  # type: ignore[attr-defined]
    elif name == "dmenet":
        assert loaded.source == f"its authors' weights, {path}"
        return
    else:
        weights("import", path, "--as", name)
        system_class(name).convert(folder_of(name), Path("weights.npz"))
        expected = system_class(name)(Path("weights.npz")).model.state_dict()
        model = loaded.restorer.model  # type: ignore[attr-defined]
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_ddnet_load_says_why_not(downloads: Path) -> None:
    with pytest.raises(DDNetError, match="weights of monodepth2, which estimates depth and restores no pictures"):
        ddnet.load(_monodepth2(downloads))
    torch.save({"state_dict": {"x": torch.ones(2)}}, downloads / "other.ckpt")
    with pytest.raises(
        DDNetError, match=r"^.*/other.ckpt: no model that this suite wrote, and no published weights that"
    ):
        ddnet.load(downloads / "other.ckpt")
    (downloads / "empty").mkdir()
    with pytest.raises(DDNetError, match="neither model.pt nor weights.npz is in it, and holds no published weights"):
        ddnet.load(downloads / "empty")
    torch.save(torch.nn.Linear(2, 2), downloads / "whole.pt")
    for refuse in (lambda: ddnet.load(downloads / "whole.pt"), lambda: weights("import", downloads / "whole.pt")):
        with pytest.raises(DDNetError, match=r"would execute code, .*, weights_only=False\)`, .*'weights.pth'\)`\)$"):
            refuse()
    state = test_ifan.published(17)
    del state["module.Network.conv1_1.0.bias"]
    torch.save({"params": state}, downloads / "IFAN.pytorch")
    with pytest.raises(DDNetError, match=r"ifan: .*lacks 'module.Network.conv1_1.0.bias', which must be \(32,\)"):
        ddnet.load(downloads / "IFAN.pytorch")


def test_of_several_in_a_folder_one_is_named(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _kpac(downloads)
    _dpdnet(downloads)
    assert "holds weights of kpac, dpdnet; say which by --as" in refused(downloads)
    weights("import", downloads, "--as", "dpdnet")
    assert capsys.readouterr().out.startswith("dpdnet: ")
    assert not Path("data/weights/kpac").exists()
    shutil.rmtree("data")
    _mdpnet(downloads).rename(downloads / "other.h5")  # two of one kind, by names that say nothing
    assert "both stand for" in refused(downloads, "--as", "dpdnet")
    weights("import", downloads)
    assert capsys.readouterr().out.startswith("kpac: ")


def test_what_does_not_fit_is_one_line_that_names_the_file_and_nothing_is_written(downloads: Path) -> None:
    assert "no such file or folder" in refused(downloads / "nothing.npz")
    assert "holds no published weights that are expected, by name; see `ddnet weights list`" in refused(downloads)
    assert "see kpac: single_3level.npz" in refused(downloads, "--as", "kpac")
    assert "no published weights 'kpacc'; did you mean 'kpac'?" in refused(downloads, "--as", "kpacc")
    path = _ifan(downloads)
    cut = downloads / "cut" / "IFAN.pytorch"
    cut.parent.mkdir()
    cut.write_bytes(path.read_bytes()[:-1000])
    assert refused(cut).startswith(f"ifan: {cut}: not a readable PyTorch file")
    assert "not the published weights" in refused(path, "--as", "dmenet") or "not a readable" in refused(
        path, "--as", "dmenet"
    )
    page = downloads / "page.html"
    page.write_text("<html>quota exceeded</html>")
    said = refused(page)
    assert said.startswith(
        f"{page}: no published weights that this suite knows (tried: dmenet, ifan, kpac, defocusgan,"
    )
    broken = downloads / "x.zip"
    broken.write_bytes(b"PK\x03\x04 and no more")
    assert refused(broken) == f"{broken}: no zip, or cut short; download it again"


def test_another_form_than_the_one_that_the_row_stands_for_is_refused(downloads: Path) -> None:
    said = refused(_ifan(downloads, filters=8))
    assert said.startswith(f"ifan: {downloads}") and "weights of IFAN, but with filters 8 instead of 17" in said
    _kpac(downloads, levels=2).rename(downloads / "single_3level.npz")
    assert "arrays; KPAC of 3 levels has" in refused(downloads / "single_3level.npz")
    said = refused(write_keras(downloads / "x.h5", random_layers(dpdnet_shapes(4)[:-1])))
    assert "not dpdnet: " in said and "not mdpnet: " in said and f"{downloads / 'x.h5'}: 23 convolutions" in said


def test_the_same_again_is_fine_and_another_one_is_refused(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights("import", _dpdnet(downloads))
    weights("import", downloads / "single_16bit.hdf5")
    kept = Path("data/weights/dpdnet/dpdnet_single.hdf5")
    content = kept.read_bytes()
    weights("import", kept)  # where it lies
    write_keras(downloads / "single_16bit.hdf5", random_layers(dpdnet_shapes(4), seed=1))
    with pytest.raises(DDNetError, match="is another file, of SHA-256 .*; to replace it, move the folder data/weights"):
        weights("import", downloads / "single_16bit.hdf5")
    assert kept.read_bytes() == content
    capsys.readouterr()
    shutil.rmtree("data")
    weights("import", downloads / "single_16bit.hdf5")
    assert kept.read_bytes() != content


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.file),)


def test_nothing_of_a_hostile_file_is_executed(downloads: Path) -> None:
    touched = downloads / "touched"
    for name in ("IFAN.pytorch", "90_models.pth", "depth.pth", "35_models.pth", "any"):
        torch.save({"state_dict": Hostile(touched)}, downloads / name)
        if name == "depth.pth":
            torch.save({"state_dict": Hostile(touched)}, downloads / "encoder.pth")
        refused(downloads / name)
    np.savez(downloads / "DMENet_BDCS.npz", params=np.array([Hostile(touched)], object))
    shutil.copy(downloads / "DMENet_BDCS.npz", downloads / "single_3level.npz")
    for name in ("DMENet_BDCS.npz", "single_3level.npz"):
        refused(downloads / name)
    assert not touched.exists()


def test_list_says_what_is_expected_where_it_is_and_whether_it_is_here(
    downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights("list")
    told = capsys.readouterr().out
    for name in WEIGHTS:
        assert f"{name}:" in told and " ".join(ITEMS[name].licence.split()) in told and ITEMS[name].by_hand in told
    assert "expected: one .hdf5 or .h5 file" in told and "expected: *_models.pth" in told
    assert "expected: encoder.pth, depth.pth" in told and "https://www.dropbox.com/s/qohhmr9p81u0syi" in told
    assert told.count(".json` fetches it, or `ddnet weights import FILE`") == sum(
        bool(ITEMS[name].sources) for name in WEIGHTS
    )
    weights("import", _dpdnet(downloads))
    capsys.readouterr()
    weights("list")
    assert "as recorded; not converted yet" in capsys.readouterr().out
    digests = {"dpdnet_single.hdf5": hashlib.sha256((downloads / "single_16bit.hdf5").read_bytes()).hexdigest()}
    write_json("results/systems/paper/dpdnet/manifest.json", {"weights": "official", "digests": digests})
    write_json("results/systems/smoke/dpdnet/manifest.json", {"weights": "train"})
    weights("list")
    assert "as recorded; converted: results/systems/paper/dpdnet\n" in capsys.readouterr().out
    kept = Path("data/weights/dpdnet/dpdnet_single.hdf5")
    kept.write_bytes(b"other")
    weights("list")
    assert "dpdnet_single.hdf5 is not what was recorded; move the folder aside" in capsys.readouterr().out
    Path("data/weights/dpdnet/manifest.json").unlink()
    weights("list")
    assert "not recorded yet: `ddnet weights import` checks and records it" in capsys.readouterr().out
    kept.with_name("other.h5").write_bytes(b"x")
    kept.rename(kept.with_name("one.h5"))
    weights("list")
    assert "one.h5 and data/weights/dpdnet/other.h5 both stand for dpdnet_single.hdf5" in capsys.readouterr().out
