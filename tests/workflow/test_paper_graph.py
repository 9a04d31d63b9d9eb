"""The paper's graph on miniatures of DPDD and RealDOF, fetched from a server that is not always kind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from defocusgan_file import write_defocusgan
from dmenet_npz import write_dmenet_zip
from miniature import make_dpdd, make_pair, make_realdof, write_png, zip_folder
from monodepth2_zip import write_monodepth2_zip
from projects import copy_project, planned, run, snakemake
from remote import Remote, cut, page, status

from ddnet.cli.main import CONFIG
from ddnet.config import Trial, load_baselines, load_settings, load_variants, validate_settings
from ddnet.io.files import sha256
from ddnet.planning.plan import Plan

TRIAL = Trial(train=4, val=1, test=2, realdof=2)
SIZE = (96, 128)
CONFIG_FILE = "miniature.yaml"
SOURCES = ("--config", "sources_file=sources.yaml")


def miniature_settings() -> dict[str, object]:
    """The paper preset, on a few small scenes, at a tiny width, for six steps."""
    settings = load_settings(CONFIG / "paper.yaml").model_dump(mode="json")
    settings["preset"], settings["seeds"], settings["seeds_of"] = "miniature", [0], {}
    settings["data"] = {"kind": "dpdd", "size": list(SIZE), "trial": TRIAL.model_dump(), "views": True}
    settings["depth"] |= {"height": 64, "width": 96}
    settings["model"]["width"] = 4
    settings["training"] |= {"patches": {"size": 64, "stride": 0.4, "drop": 0.3}, "batch": 2, "steps": 6}
    # VGG-19's weights come from the wide world; VGG-16's can be had where only a package registry is in reach.
    settings["training"]["perceptual"] |= {"trunk": "vgg16", "crops": 1}
    settings["training"]["validate_every"] = 0.5
    settings["evaluation"]["panels"] = 1
    short = {"steps": 2, "batch": 2, "crop": 64}
    settings["systems"] |= {
        "ifan": {"weights": "none"},
        "dpdnet": {"weights": "train", "training": {"width": 2, "epochs": 1}},
        "kpac": {"weights": "train", "training": {"width": 12, **short}},
        "mdpnet": {"weights": "train", "training": {"width": 2, **short}},  # by the views, as published
    }
    return settings


PLAN = Plan(
    validate_settings(miniature_settings(), "here"),
    load_variants(CONFIG / "variants.yaml"),
    load_baselines(CONFIG / "baselines.yaml"),
)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """DPDD file by file, RealDOF and the weights of Monodepth2 and DMENet as zips, DefocusGAN's as a file."""
    folder = tmp_path_factory.mktemp("remote")
    make_dpdd(folder / "dpdd", "hub", SIZE, TRIAL, views=True)
    zip_folder(make_realdof(folder / "unpacked", size=(80, 112)), folder / "RealDOF.zip", "RealDOF")
    write_monodepth2_zip(folder / "weights.zip", 64, 96)
    write_dmenet_zip(folder / "DMENet_BDCS.zip")
    write_defocusgan(folder / "90_models.pth")
    with Remote(folder) as server:
        yield server


@pytest.fixture(scope="module")
def project(remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the paper's graph has run to its end."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    (copy / CONFIG_FILE).write_text(yaml.safe_dump(miniature_settings()))
    sources = yaml.safe_load((CONFIG / "sources.yaml").read_text())
    sources["dpdd"]["sources"] = [{"files": f"{remote.url}/dpdd"}]
    sources["realdof"]["sources"] = [{"archive": f"{remote.url}/login"}, {"archive": f"{remote.url}/RealDOF.zip"}]
    sources["monodepth2"]["sources"] = [{"archive": f"{remote.url}/weights.zip"}]
    sources["dmenet"]["sources"] = [{"archive": f"{remote.url}/DMENet_BDCS.zip"}]
    sources["defocusgan"]["sources"] = [{"file": f"{remote.url}/90_models.pth"}]
    (copy / "sources.yaml").write_text(yaml.safe_dump(sources))
    shaky = next(path for path in sorted(remote.files) if "train_c/source" in path)
    remote.misbehave(shaky, status(503), cut(1000))
    remote.misbehave("/login", page(), times=None)
    remote.misbehave("/weights.zip", cut(1_000_000))
    graph(copy, "all")
    return copy


def graph(project: Path, target: str, *options: str, check: bool = True) -> str:
    return snakemake(project, target, *options, "--cores", "8", "--configfile", CONFIG_FILE, *SOURCES, check=check)


def test_everything_is_there_and_a_second_run_has_nothing_to_do(project: Path, remote: Remote) -> None:
    runs = project / "results" / "runs" / "miniature"
    expected = {run.name for run in PLAN.runs(PLAN.selected)} | {*PLAN.measured_baselines}
    assert {path.name for path in runs.iterdir()} == expected
    for table in PLAN.tables:
        for form in ("csv", "md", "tex", "html"):
            assert (project / "results" / "tables" / "miniature" / f"{table}.{form}").stat().st_size > 100
    asked = len(remote.requests)
    assert "Nothing to be done" in graph(project, "all")
    assert len(remote.requests) == asked


def test_the_tables_stand_beside_the_printed_numbers_of_their_own_datasets(project: Path) -> None:
    tables = project / "results" / "tables" / "miniature"
    images = pd.read_csv(project / "results" / "runs" / "miniature" / "ddnet_1b-seed0" / "per_image.csv")
    assert Counter(images["dataset"]) == {"dpdd": TRIAL.test, "realdof": TRIAL.realdof}
    assert np.isfinite(images[["psnr", "ssim", "mae", "lpips_alex"]].to_numpy()).all()
    for table, dataset in (("table1", "RealDOF"), ("table3", "DPDD"), ("table4", "DPDD")):
        text = (tables / f"{table}.md").read_text()
        assert dataset in text and "trial" in text and "another dataset" not in text
    rows = pd.read_csv(tables / "table3.csv")
    assert rows["psnr"].notna().sum() >= 5


def test_compared_systems_learn_here_or_use_their_authors_weights(project: Path) -> None:
    systems = project / "results" / "systems" / "miniature"
    record = json.loads((systems / "dmenet" / "manifest.json").read_text())
    assert record["weights"] == "official" and "DMENet_BDCS.zip" in record["source"]
    assert json.loads((systems / "jnb" / "manifest.json").read_text())["scores"]["patches"] > 0
    notes = (project / "results" / "tables" / "miniature" / "table2.md").read_text()
    assert "DMENet: its authors' published weights" in notes and "JNB: learned here" in notes
    rows = pd.read_csv(project / "results" / "tables" / "miniature" / "table2.csv").set_index("key")
    assert rows.loc["dmenet", "params_m"] == pytest.approx(26.939819) and np.isfinite(rows.loc["jnb_rl", "psnr"])
    assert "DefocusGAN: its authors' published weights" in notes
    assert "KPAC: trained here on this preset's training scenes by its authors' recipe" in notes
    assert np.isfinite(rows.loc[["dpdnet", "kpac", "mdpnet", "defocusgan"], "psnr"]).all()
    assert np.isnan(rows.loc["ifan", "psnr"]) and rows.loc["kpac", "params_m"] == pytest.approx(2.057893)
    first = pd.read_csv(project / "results" / "tables" / "miniature" / "table1.csv").set_index("key")
    assert first.loc["defocusgan", "macs_g"] == pytest.approx(278.6, abs=0.1)


def test_pictures_keep_their_bits_their_size_and_their_places(project: Path) -> None:
    index = pd.read_csv(project / "data" / "miniature" / "index.csv", keep_default_na=False)
    assert set(index["bits"]) == {16}
    assert set(zip(index["dataset"], index["height"], index["width"], strict=True)) == {
        ("dpdd", *SIZE), ("realdof", 80, 112),
    }  # fmt: skip
    dpdd = index[index["dataset"] == "dpdd"]
    assert Counter(dpdd["split"]) == {"train": TRIAL.train, "val": TRIAL.val, "test": TRIAL.test}
    assert set(dpdd.loc[dpdd["split"] == "test", "location"]) <= {"indoor", "outdoor"}
    assert (project / "data" / "miniature" / dpdd["image"].iloc[0]).is_file()
    stored = np.load(project / "data" / "miniature" / "patches" / "images.npy", mmap_mode="r")
    assert stored.dtype == np.uint16 and (np.asarray(stored) % 257).any()


def test_what_was_fetched_is_told_and_verified(project: Path) -> None:
    options = ("--preset", CONFIG_FILE)
    told = run(project, "ddnet", "data", "status", *options, "--sources", "sources.yaml")
    assert re.search(r"dpdd: +22 of 22 files", told) and "to be fetched" not in told
    assert told.count("licence:") == 5
    assert run(project, "ddnet", "data", "verify", *options).count("verified") == 5
    assert "non-commercial" in (project / "data" / "weights" / "monodepth2" / "LICENCE.txt").read_text()

    picture = next((project / "data" / "dpdd" / "test_c" / "source").iterdir())
    kept = picture.read_bytes()
    write_png(picture, make_pair(SIZE, 99)[0])
    problem = run(project, "ddnet", "data", "verify", *options, check=False)
    assert picture.name in problem and "Traceback" not in problem
    again = graph(project, "all", "--forcerun", "fetch_item", "--until", "fetch_item", check=False)
    assert picture.name in again and "Traceback" not in again.replace("Traceback (most recent call last) in", "")
    picture.write_bytes(kept)


def test_depth_of_training_patches_by_themselves(project: Path) -> None:
    """The released code's way: each training patch goes through the network alone; test images stay whole."""
    settings = miniature_settings()
    settings["depth"] |= {"training": "patch"}  # type: ignore[operator]
    (project / "patchwise.yaml").write_text(yaml.safe_dump(settings))
    assert {rule for rule, _ in planned(project, "patchwise.yaml", "all", *SOURCES)} >= {
        "estimate_patch_depth", "train",
    }  # fmt: skip
    model = project / "results" / "runs" / "miniature" / "ddnet_1b-seed0" / "model.pt"
    before = sha256(model)
    target = f"{model.relative_to(project).parent}/per_image.csv"
    snakemake(project, target, "--cores", "8", "--configfile", "patchwise.yaml", *SOURCES)
    depths = np.load(project / "data" / "miniature" / "depth" / "monodepth2" / "patches.npy")
    patches = (project / "data" / "miniature" / "patches" / "patches.csv").read_text().splitlines()[1:]
    assert depths.shape == (len(patches), 64, 64) and depths.dtype == np.uint16 and depths.std() > 0
    assert sha256(model) != before


def test_pairs_of_ones_own(project: Path) -> None:
    """Twelve pairs of different sizes, 8 and 16 bits, in a folder with source/ and target/."""
    for number in range(12):
        source, target = make_pair((64 + 16 * (number % 3), 96), number)
        if number % 2:
            source, target = (source >> 8).astype(np.uint8), (target >> 8).astype(np.uint8)
        write_png(project / "mine" / "source" / f"walk {number}.png", source)
        write_png(project / "mine" / "target" / f"walk {number}.png", target)
    settings = miniature_settings() | {"preset": "own", "data": {"kind": "folder", "path": "mine", "name": "walks"}}
    settings["systems"]["mdpnet"]["training"] |= {"loss": {"views": 0, "difference": 0}}  # type: ignore[index]
    settings["depth"] |= {"source": "constant"}  # type: ignore[operator]
    settings["systems"] |= {"dmenet": {"weights": "none"}, "defocusgan": {"weights": "none"}}  # type: ignore[operator]
    (project / "own.yaml").write_text(yaml.safe_dump(settings))
    jobs = planned(project, "own.yaml")
    assert not any(rule == "fetch_item" or subject == "table1" for rule, subject in jobs)
    target = "results/tables/own/table2.md"
    snakemake(project, target, "--cores", "8", "--configfile", "own.yaml")
    text = (project / target).read_text()
    assert "walks" in text and "another dataset" in text and "gives it no weights" in text
    index = pd.read_csv(project / "data" / "own" / "index.csv", keep_default_na=False)
    assert set(index["height"]) == {64, 80, 96} and set(index["bits"]) == {8, 16}
    assert json.loads((project / "results/runs/own/ddnet_1b-seed0/evaluation.json").read_text())["metrics"].keys() == {
        "walks"
    }


def first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def remove(copy: Path) -> None:
    first(copy, "train_c/target/*.png").unlink()


def make_8_bit(copy: Path) -> None:
    write_png(first(copy, "val_c/source/*.png"), (make_pair(SIZE, 5)[0] >> 8).astype(np.uint8))


def truncate(copy: Path) -> None:
    path = first(copy, "test_c/source/*.png")
    path.write_bytes(path.read_bytes()[:-500])


def resize(copy: Path) -> None:
    write_png(first(copy, "test_c/target/*.png"), make_pair((32, 32), 1)[1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove, "lacks 1 of 22 files, first: train_c/target/"),
        (make_8_bit, "8-bit"),
        (truncate, "not a readable image"),
        (resize, "32"),
    ],
)
def test_a_bad_copy_is_one_line(project: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    copy = make_dpdd(tmp_path / "copy", "hub", SIZE, TRIAL, views=True)
    spoil(copy)
    settings = miniature_settings() | {"preset": "bad"}
    settings["data"] |= {"dpdd": str(copy)}  # type: ignore[operator]
    (project / "bad.yaml").write_text(yaml.safe_dump(settings))
    (project / "data" / "dpdd" / "manifest.json").unlink(missing_ok=True)  # nothing of DPDD was ever seen
    output = snakemake(project, "data/bad/index.csv", "--cores", "8", "--configfile", "bad.yaml", *SOURCES, check=False)
    assert len({line for line in output.splitlines() if "error:" in line and words in line}) == 1, output[-3000:]
    assert not (project / "data" / "bad" / "index.csv").exists()
