"""`ddnet deblur` and what it chooses, as a user meets them."""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_released
import torch
from hostile import BRACED, MOST_BYTES, PLAIN, STEERING, is_quiet, of_bytes, possible
from PIL import Image
from test_load import fitted_network, run_of

import ddnet
from ddnet.cli.main import main
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import ModelRestorer
from ddnet.io.files import read_json, sha256, write_json
from ddnet.io.images import read_depth16, read_image, write_depth16
from ddnet.io.photographs import read_photograph
from ddnet.models import banded
from ddnet.restoration import release
from ddnet.restoration.choose import choose
from ddnet.restoration.deblur import given_depth, write_blur
from ddnet.restoration.work import shown_work
from ddnet.runtime import log
from ddnet.training.checkpoint import load_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """An empty working directory, and nobody who looks on."""
    caplog.set_level(logging.WARNING, "ddnet")
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(height: int = 31, width: int = 47, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def photograph(name: str = "a.png", orientation: int = 1, seed: int = 0) -> Path:
    tags = Image.Exif()
    tags[274] = orientation
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed=seed)).save(path, exif=tags)
    return path


def said(capsys: pytest.CaptureFixture[str], status: int, *arguments: str | Path) -> tuple[list[str], list[str]]:
    """What a command prints, line by line, on either stream."""
    assert main(["deblur", *map(str, arguments)]) == status
    shown = capsys.readouterr()
    return shown.out.splitlines(), shown.err.splitlines()


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def carried(variant: str) -> ModelRestorer:
    return ModelRestorer(load_run(release.RELEASE / f"{variant}.pt").model)


def test_a_photograph_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = photograph().read_bytes()
    out, err = said(capsys, 0, "a.png")
    assert out[0].startswith("network: default (") and out[0].endswith(
        "the small one that comes with the package; no finished run in results/runs, and no published weights are here"
    )
    assert out[1].startswith("a_deblurred.png: 47x31, ") and "mean change" in out[1] and err == []
    assert names() == ["a.png", "a_deblurred.png"] and Path("a.png").read_bytes() == before
    half = np.full((31, 47), np.float32(32768 / 65535))
    expected = carried("ddnet_1b_constant").restore(read_image("a.png"), half)
    np.testing.assert_allclose(read_image("a_deblurred.png"), expected, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(ddnet.load("default").restore(read_image("a.png")), expected, atol=1e-6)


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    photograph()
    Path("a_deblurred.png").write_text("mine")
    _, err = said(capsys, 1, "a.png")
    assert err == ["ddnet: a.png: a_deblurred.png: is there already; name another place (-o), or add --overwrite"]
    assert Path("a_deblurred.png").read_text() == "mine"
    said(capsys, 0, "a.png", "--overwrite")
    assert read_image("a_deblurred.png").shape == (31, 47, 3)
    Path("link.png").symlink_to("a.png")
    for same in ("a.png", "link.png"):
        _, err = said(capsys, 1, "a.png", "-o", same, "--overwrite")
        assert "is what it is made from, which is never overwritten" in err[0]


@pytest.mark.parametrize("name", ["b.png", "b.tiff", "b.jpeg", "b.webp", "B.PNG"])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_name_of_the_result_says_its_format(name: str, bits: int, capsys: pytest.CaptureFixture[str]) -> None:
    """From a TIFF in planes that lies on its side; a depth map is found for it, and the format has its bits."""
    import tifffile

    stored = np.moveaxis(noise() if bits == 8 else noise() * np.uint16(257), 2, 0)
    turned = [(274, 3, 1, 6, True)]
    tifffile.imwrite("a.tif", stored, photometric="rgb", planarconfig="separate", extratags=turned, software="mine")
    said(capsys, 0, "a.tif", "-o", name)
    found, upright = read_photograph(Path(name)), np.rot90(noise(), 3)
    formats = {".png": "PNG", ".tiff": "TIFF", ".jpeg": "JPEG", ".webp": "WebP"}
    assert found.container == formats[name[1:].lower()]
    assert found.bits == (bits if found.container in ("PNG", "TIFF") else 8) and found.image.shape == upright.shape
    half = np.full(upright.shape[:2], np.float32(32768 / 65535))
    expected = carried("ddnet_1b_constant").restore(upright.astype(np.float32) / np.float32(255), half)
    if found.container in ("PNG", "TIFF"):
        assert np.abs(found.image - expected).max() < 1 / (2**bits - 1)
    else:
        assert np.abs(found.image.mean(axis=2) - expected.mean(axis=2)).mean() < 0.1
    assert Image.open(name).getexif()[305] == "mine"


def test_what_the_other_format_cannot_hold_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.dstack([noise(), noise()[..., 0]])).save("a.png")
    monkeypatch.setattr("ddnet.restoration.load.Loaded.restore_with_depth", None)
    _, err = said(capsys, 1, "a.png", "-o", "b.jpg")
    assert err == ["ddnet: a.png: is transparent in places, which a JPEG cannot be; write a PNG, TIFF or WebP"]
    assert names() == ["a.png"]


def test_a_folder_with_one_damaged_file(capsys: pytest.CaptureFixture[str]) -> None:
    photograph("in/b.png", seed=1)
    photograph("in/a.jpg", 6, seed=2)
    Path("in/c.png").write_bytes(Path("in/b.png").read_bytes()[:500])
    for left in ("raw.NEF", "notes.txt", ".hidden.png"):
        Path("in", left).touch()
    out, err = said(capsys, 1, "in", "-o", "out")
    assert out[0] == "left out: .nef (1), not read here; export JPEG, or TIFF of 16 bits, from them"
    assert [line.split(":")[0] for line in out[2:]] == ["out/a_deblurred.jpg", "out/b_deblurred.png"]
    assert out[2].split()[1] == "31x47,"
    assert [line.split(";")[0] for line in err] == [
        "ddnet: in/c.png: not a readable image (a PNG that is cut off)",
        "ddnet: 1 of 3 photographs could not be restored",
    ]
    assert names("out") == ["a_deblurred.jpg", "b_deblurred.png"]
    Path("empty").mkdir()
    _, err = said(capsys, 1, "empty")
    assert err == ["ddnet: empty: no photographs in it; allowed are .png, .jpg, .jpeg, .tif, .tiff, .webp"]


def test_what_an_earlier_run_wrote_is_told_from_photographs_of_such_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for ending in ("png", "jpg", "tif", "webp"):
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(noise()).save(f"in/{ending}.{ending}")
    assert said(capsys, 0, "in", "--save-depth", "--save-blur")[1] == []
    written = set(names("in"))
    mine = [
        "png_blur.jpg",
        "tif_depth.tif",
        "jpg_deblurred.webp",
        "x_blur.png",
        "x_depth.png",
        "x_deblurred.jpg",
    ]
    for name in mine:
        Image.fromarray(noise(seed=1)).save(f"in/{name}", comment=b"_deblurred")
    out, err = said(capsys, 1, "in")  # the first four are there already
    assert out[0] == "left out: 12 files that an earlier run wrote" and len(err) == 5
    made = {f"{Path(name).stem}_deblurred{Path(name).suffix}" for name in mine}
    assert set(names("in")) == written | set(mine) | made
    out, _ = said(capsys, 0, "in", "--overwrite", "-o", "out")
    assert out[0] == "left out: 18 files that an earlier run wrote" and len(names("out")) == 10
    _, err = said(capsys, 1, "out")
    assert err[0].startswith("ddnet: out: no photographs in it but 10 that an earlier run wrote; allowed are .png, ")
    Path("one").mkdir()
    shutil.copy("in/png_deblurred.png", "one")
    photograph("one/a.png")
    assert said(capsys, 0, "one")[0][0] == "left out: 1 file that an earlier run wrote"


def test_a_photograph_called_like_what_another_becomes_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    photograph("in/a.png")
    before = photograph("in/a_deblurred.png", seed=1).read_bytes()
    for more in ([], ["--overwrite"]):
        _, err = said(capsys, 1, "in", *more)
        assert "in/a_deblurred.png: is a photograph of its own, which is never overwritten" in err[0] and len(err) == 2
    assert Path("in/a_deblurred.png").read_bytes() == before


@pytest.mark.parametrize("stems", [STEERING, PLAIN + BRACED], ids=["steering", "plain"])
def test_names_of_any_kind(stems: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every one is restored, and none reaches the terminal as it is where it would steer it."""
    Path("in").mkdir()
    Path("maps").mkdir()
    stems = possible(stems, Path("in"), ".png")
    assert len(stems) > 12
    for number, stem in enumerate(stems):
        photograph(f"in/{stem}.png", seed=number)
        write_depth16(f"maps/{stem}.png", np.zeros((8, 8), np.float32))
    assert main(["deblur", "in", "-o", "out", "--depth", "maps", "--save-depth"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and is_quiet(shown.out) and len(shown.out.splitlines()) == 1 + 2 * len(stems)
    assert names("out") == sorted(f"{stem}{end}.png" for stem in stems for end in ("_deblurred", "_depth"))
    os.chdir("in")
    for stem in stems[:2]:  # by itself, and refused the second time
        given = ["deblur", "--", f"{stem}.png"]
        assert (main(given), main(given)) == (0, 1)
    shown = capsys.readouterr()
    assert is_quiet(shown.out + shown.err) and len(shown.err.splitlines()) == 2
    for wrong in (
        ["deblur", f"{stems[0]}no.png"],
        ["deblur", "--tile", stems[0], "a.png"],
        ["list", "variants", stems[0]],
    ):
        with suppress(SystemExit):
            main(wrong)
        shown = capsys.readouterr()
        assert is_quiet(shown.out + shown.err) and shown.err


def test_names_as_long_as_they_may_be_and_one_that_is_too_long_keeps_nobody_waiting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = len("_deblurred.png")
    fits = [of_bytes(MOST_BYTES - end), of_bytes(MOST_BYTES - end, "写"), "写" * 80, "z"]
    for number, stem in enumerate([*fits, of_bytes(MOST_BYTES - end + 1), of_bytes(MOST_BYTES - 4, "é")]):
        photograph(f"in/{stem}.png", seed=number)
    out, err = said(capsys, 1, "in", "-o", "out")
    assert names("out") == sorted(f"{stem}_deblurred.png" for stem in fits) and len(out) == 5
    assert err[-1] == "ddnet: 2 of 6 photographs could not be restored; the lines above say why" and len(err) == 3
    assert all("_deblurred.png: is a name of " in line and "255 are allowed" in line for line in err[:2])
    _, err = said(capsys, 1, "n" * 256)
    assert len(err) == 1 and "the name is too long" in err[0]
    _, err = said(capsys, 1, "in/z.png", "-o", "n" * 252 + ".png")
    assert len(err) == 1 and "the name is too long" in err[0]
    _, err = said(capsys, 1, f"in/{of_bytes(MOST_BYTES - 4, 'é')}.png")
    assert len(err) == 1 and "_deblurred.png: is a name of 265 bytes" in err[0]
    said(capsys, 0, f"in/{of_bytes(MOST_BYTES - 4, 'é')}.png", "-o", "n" * 251 + ".png")
    assert len(names()) == 3 and not [name for name in names("out") + names() if ".tmp-" in name]


def test_two_photographs_that_would_become_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    photograph("x/a.png")
    photograph("y/a.png")
    _, err = said(capsys, 1, "x", "y", "-o", "out")
    assert "out/a_deblurred.png: two photographs would both be written there" in err[0] and not Path("out").exists()
    photograph("x/a.jpg")
    _, err = said(capsys, 1, "x", "--save-depth")
    assert "x/a_depth.png: two photographs" in err[0]
    out, _ = said(capsys, 0, "x/a.png", "x/a.png", "-o", "z.png")  # twice the same is once
    assert len(out) == 2 and out[1].startswith("z.png: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.png"], "nothing.png: no such file or folder"),
        (["a.png", "--quality", "0"], "--quality 0: allowed is 1 to 100"),
        (["a.png", "--tile", "10"], "--tile 10: at least 64 pixels"),
        (["a.png", "--depth", "no.png"], "no.png: no such depth map"),
        (["a.png", "b.png", "--depth", "a.png"], "a.png: one depth map, and 2 photographs"),
        (["a.png", "b.png", "-o", "note.txt"], "note.txt: is a file; several photographs"),
        (["a.png", "--variant", "ddnt"], "nothing is called 'ddnt'; did you mean 'ddnet'?"),
        (["a.png", "--variant", "blurred", "--save-depth"], "blurred is not guided by depth; leave --save-depth out"),
        (["note.txt"], "note.txt: not a PNG, JPEG, TIFF or WebP; export it as one of these"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    photograph("a.png")
    photograph("b.png")
    Path("note.txt").write_text("no picture at all")
    before = names()
    _, err = said(capsys, 1, *arguments)
    assert len(err) == 1 and words in err[0] and names() == before


def test_too_little_memory_is_one_line_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def large(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    photograph()
    monkeypatch.setattr("ddnet.evaluation.evaluate.ModelRestorer.restore", large)
    _, err = said(capsys, 1, "a.png")
    assert "a picture of 47x31 px does not fit into memory; restore it in tiles (--tile 512, in Python" in err[0]
    monkeypatch.setattr("ddnet.restoration.deblur.read_photograph", lambda _: (_ for _ in ()).throw(MemoryError()))
    _, err = said(capsys, 1, "a.png")
    assert err == ["ddnet: a.png: memory does not suffice; free some, or try --tile 512"]


def test_what_is_hardly_changed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    photograph()
    out, err = said(capsys, 0, "a.png", "--variant", "blurred")
    assert out[0] == "network: blurred, as asked for" and out[1].endswith("mean change 0.00 %")
    assert len(err) == 1 and "a.png: next to nothing was changed" in err[0]
    np.testing.assert_array_equal(read_image("a_deblurred.png"), read_image("a.png"))


def test_depth_of_one_s_own_goes_to_the_network_that_learned_with_true_depth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    depth = np.random.default_rng(3).random((31, 47)).astype(np.float32)
    write_depth16("map.png", depth)
    photograph()
    out, _ = said(capsys, 0, "a.png", "--depth", "map.png", "--save-depth")
    assert out[2] == "a_depth.png: the depth that was used, white nearest"
    np.testing.assert_array_equal(read_depth16("a_depth.png"), read_depth16("map.png"))
    expected = carried("ddnet_1b_rendered").restore(read_image("a.png"), read_depth16("map.png"))
    np.testing.assert_allclose(read_image("a_deblurred.png"), expected, atol=0.5 / 255 + 1e-6)
    loaded = ddnet.load("default")
    np.testing.assert_allclose(loaded.restore(read_image("a.png"), read_depth16("map.png")), expected, atol=1e-6)
    assert ddnet.load("default", half=True).guided.half  # type: ignore[union-attr]


def test_maps_are_found_by_name_and_what_an_earlier_run_wrote_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    photograph("in/a.png")
    photograph("in/b.png", seed=1)
    Path("maps").mkdir()
    np.save("maps/a.npy", np.zeros((4, 4)))
    _, err = said(capsys, 1, "in", "--depth", "maps")
    assert err[0] == "ddnet: in/b.png: maps has no depth map for it, such as b.png or b.npy"
    assert names("in") == ["a.png", "a_deblurred.png", "b.png"]
    write_depth16("maps/b_depth.png", np.ones((8, 8), np.float32))
    said(capsys, 0, "in", "--depth", "maps", "--overwrite", "--save-depth")
    assert read_depth16("in/a_depth.png").max() == 0 and read_depth16("in/b_depth.png").min() == 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_map_of_any_size_lies_as_the_photograph_does(orientation: int) -> None:
    photo = read_photograph(photograph(orientation=orientation))
    height, width = photo.image.shape[:2]
    rows = np.linspace(0, 1, 2 * height, dtype=np.float32)[:, None] * np.ones((1, 2 * width), np.float32)
    np.save("upright.npy", rows)
    for file in ("upright.npy",) if orientation == 1 else ("upright.npy", "lying.npy"):
        if file == "lying.npy":  # as the pixels are stored: turning it by 90 degrees makes it upright
            np.save(file, np.rot90(rows, 1))
        depth = given_depth(Path(file), photo)
        assert depth.shape == (height, width) and depth.dtype == np.float32
        np.testing.assert_allclose(depth[:, 0], np.linspace(0, 1, height), atol=0.03)
    np.save("squeezed.npy", rows[::8, ::2])
    assert given_depth(Path("squeezed.npy"), photo).shape == (height, width)


@pytest.mark.parametrize("shape", [(1, 31, 47), (1, 1, 31, 47), (31, 47, 1), (1, 31, 47, 1), (31, 47)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint8, np.uint16])
def test_a_map_may_have_more_axes_as_estimators_write_it(shape: tuple[int, ...], kind: Any) -> None:
    photo = read_photograph(photograph())
    depth = np.random.default_rng(1).random((31, 47))
    largest = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    stored = (depth * largest).astype(kind)
    np.save("map.npy", stored.reshape(shape))
    found = given_depth(Path("map.npy"), photo)
    np.testing.assert_allclose(found, stored.astype(np.float64) / largest, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 1, 4, 4)), "is (2, 1, 4, 4); a depth map is (H, W)"),
        (np.zeros((4, 4, 3)), "is (4, 4, 3); a depth map is (H, W)"),
        (np.full((4, 4), 2.0), "spans 2 to 2; a depth map is in [0, 1]"),
        (np.full((4, 4), np.nan), "spans nan to nan"),
        (np.zeros((4, 4), np.int64), "is of type int64"),
        (np.zeros((0, 4)), "is (0, 4)"),
    ],
)
def test_what_is_no_depth_map_is_refused(array: np.ndarray, words: str) -> None:
    photo = read_photograph(photograph())
    np.save("map.npy", array)
    with pytest.raises(DDNetError) as caught:
        given_depth(Path("map.npy"), photo)
    assert str(caught.value).startswith("map.npy: ") and words in str(caught.value)
    content = Path("map.npy").read_bytes()
    Path("map.npy").write_bytes(content.replace(b"{", b"(").replace(b"}", b"("))  # a header without end
    with pytest.raises(DDNetError, match="not a readable .npy"):
        given_depth(Path("map.npy"), photo)
    np.save("map.npy", np.full((4, 4), 255, np.uint8))
    assert given_depth(Path("map.npy"), photo).min() == 1.0


def test_the_blur_s_picture_is_bright_where_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    sharp = np.kron(np.random.default_rng(0).random((12, 24)) > 0.5, np.ones((16, 16)))
    image = np.repeat(sharp[..., None], 3, 2).astype(np.float32)
    import cv2

    image[:, 192:] = cv2.GaussianBlur(image, (0, 0), 3)[:, 192:]
    largest = write_blur(Path("blur.png"), image)
    levels = read_image("blur.png").sum(axis=2)
    assert 2 <= largest <= 5 and levels[:, 250:].mean() > 2 * levels[:, :130].mean()
    large = cv2.resize(image, (1920, 960), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    assert write_blur(Path("blur.png"), large) > 2 * largest and read_image("blur.png").shape == (960, 1920, 3)
    photograph()
    out, _ = said(capsys, 0, "a.png", "--save-blur")
    assert out[2].startswith("a_blur.png: blur, sigma 0 px (dark) to ") and out[2].endswith(" px (bright)")


def chosen(depth: bool = False) -> tuple[str, str]:
    loaded, why = choose(depth)
    return loaded.source, why


def test_of_what_is_here_the_best_usable_run_is_taken() -> None:
    enough: dict[str, Any] = {
        "steps": 700_000,
        "settings": {"training": {"batch": 8, "photometric": {"noise": 0.03}}},
        "training_scenes": {"embedded": 96},
    }
    assert chosen()[0] == str(release.RELEASE)
    run_of("ddnet_1b", "smoke", 0, best_val_psnr=50.0)
    source, why = chosen()
    assert source == str(release.RELEASE)
    assert "no finished run in results/runs will do (ddnet_1b learned from fewer pictures than the carried" in why
    run_of("unet", "embedded", 0, **enough, best_val_psnr=40.0)
    run_of("ddnet_1b_rendered", "embedded", 0, **enough, best_val_psnr=31.0, depth_source="rendered")
    run_of("ddnet_2b", "embedded", 0, **enough, best_val_psnr=30.0, depth_source="monodepth2")
    run_of("ddnet_1b_constant", "embedded", 0, **enough, best_val_psnr=29.0)
    run_of("unet_rcab", "embedded", 0, **enough, best_val_psnr=28.0)
    run_of("ddnet_1b_constant", "embedded", 1, **enough, best_val_psnr=28.5)
    assert chosen() == (
        "results/runs/embedded/ddnet_1b_constant-seed0/model.pt",
        "the best of 7 finished runs here, validation 29.00 dB",
    )
    fitted_network(Path("data/embedded/depth_model/monodepth2.pt"))
    assert chosen()[0] == "results/runs/embedded/ddnet_2b-seed0/model.pt"
    assert chosen(depth=True)[0] == "results/runs/embedded/ddnet_1b_rendered-seed0/model.pt"


@pytest.mark.parametrize(
    ("scenes", "photometric", "taken"),
    [
        ({"embedded": 96}, {"noise": 0.0}, False),
        ({"embedded": 96}, {}, False),
        (None, {}, False),
        ({"embedded": 96}, {"noise": 0.01}, True),
        ({"dpdd": 350}, {"noise": 0.0}, True),
        ({"photos": 20}, {}, True),
    ],
)
def test_a_run_of_clean_rendered_scenes_alone_is_passed_over(
    scenes: dict[str, int] | None, photometric: dict[str, float], taken: bool
) -> None:
    """Such networks make photographs worse."""
    facts: dict[str, Any] = {"steps": 700_000, "settings": {"training": {"batch": 8, "photometric": photometric}}}
    run_of("ddnet_1b_constant", "mine", 0, **facts, **({} if scenes is None else {"training_scenes": scenes}))
    source, why = chosen()
    assert (source == "results/runs/mine/ddnet_1b_constant-seed0/model.pt") is taken
    assert taken or "learned from rendered scenes without noise" in why


def test_published_weights_come_before_the_carried_ones() -> None:
    file = Path("data/weights/ddnet/ddnet_models.pth")
    file.parent.mkdir(parents=True)
    test_released.save(file, test_released.published())
    assert chosen()[0] == str(release.RELEASE)  # what estimates its depth is not here
    assert chosen(depth=True) == (str(file), "its authors' weights; no finished run in results/runs")


def test_the_carried_networks_are_those_of_their_manifest(tmp_path: Path) -> None:
    total = 0
    for variant in (release.WITHOUT_DEPTH, release.WITH_DEPTH):
        facts = release.carried_facts(variant)
        run = release.load_carried(variant)
        assert run.variant.name == variant and run.info["width"] == 16 and facts["preset"] == "release"
        assert len(facts["commit"]) == 40 and facts["best_val_psnr"] > 28
        total += (release.RELEASE / f"{variant}.pt").stat().st_size
    assert total < release.MOST_BYTES
    folder = tmp_path / "copy"
    shutil.copytree(release.RELEASE, folder)
    (folder / "ddnet_1b_constant.pt").write_bytes(b"other")
    with pytest.raises(DDNetError, match="missing, or its SHA-256 is not that of the manifest; install this package"):
        release.load_carried("ddnet_1b_constant", folder)
    write_json(folder / "manifest.json", {"ddnet_1b_rendered": {"sha256": 3}})
    with pytest.raises(DDNetError, match="says nothing of ddnet_1b_rendered, or too little"):
        release.load_carried("ddnet_1b_rendered", folder)


def finished(variant: str, seed: int, **facts: Any) -> Path:
    folder = run_of(variant, "embedded", seed)
    record = read_json(folder / "manifest.json", "")
    digests = {"model.pt": sha256(folder / "model.pt")}
    more = {"commit": "c" * 40, "preset": "embedded", "seed": seed, "date": "today", "outputs": digests}
    more |= {"parameters": 1234, "training_scenes": {"embedded": 400}}
    photometric = {"exposure": 1.0, "contrast": 0.3, "noise": 0.03, "jpeg": 60}
    more |= {"settings": {"training": {"batch": 2, "photometric": photometric}}}
    write_json(folder / "manifest.json", record | more | {"variant": variant, "dirty": False, **facts})
    return folder


def not_released(words: str) -> None:
    with pytest.raises(DDNetError, match=words):
        release.make_release(Path("results/runs/embedded"), Path("made"))
    assert not Path("made").exists()


def test_networks_are_released_from_finished_runs_of_committed_code_only() -> None:
    not_released("has no run of ddnet_1b_constant; run the preset `release` first")
    runs = [finished(variant, seed) for variant in (release.WITHOUT_DEPTH, release.WITH_DEPTH) for seed in (0, 1)]
    (runs[3] / "manifest.json").rename("kept.json")
    not_released("ddnet_1b_rendered-seed1: this training is not finished; finish it")
    Path("kept.json").rename(runs[3] / "manifest.json")
    finished(release.WITH_DEPTH, 1, dirty=True)
    not_released("trained by code that was not committed")
    finished(release.WITH_DEPTH, 1, outputs={"model.pt": "0" * 64})
    not_released("not the ddnet_1b_rendered that the manifest beside it tells of")
    finished(release.WITH_DEPTH, 1, settings=None)
    not_released("not the record of a finished training")
    finished(release.WITH_DEPTH, 1, settings={"training": {"batch": 2}})
    not_released("not the record of a finished training")
    finished(release.WITH_DEPTH, 1, training_scenes=None)
    not_released("not the record of a finished training")
    finished(release.WITH_DEPTH, 1)
    made = release.make_release(Path("results/runs/embedded"), Path("made"))
    assert {name: facts["seed"] for name, facts in made.items()} == {
        release.WITHOUT_DEPTH: 1,
        release.WITH_DEPTH: 1,
    }
    assert made[release.WITH_DEPTH]["of_seeds"] == [0, 1]
    for variant in made:
        assert release.load_carried(variant, Path("made")).variant.name == variant


def test_the_command_takes_runs_from_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variant in (release.WITHOUT_DEPTH, release.WITH_DEPTH):
        finished(variant, 0)
    monkeypatch.setattr("ddnet.restoration.release.RELEASE", Path("made"))
    monkeypatch.setattr(release.make_release, "__defaults__", (Path("made"),))
    assert main(["release", "--runs", "results/runs/embedded"]) == 0
    shown = capsys.readouterr().out
    assert "made/ddnet_1b_constant.pt: seed 0 of 0, validation 20.00 dB, commit cccc" in shown
    told = (
        "400 training scenes of embedded, with exposure (± 1 stops), contrast (± 30%), Gaussian noise (sigma up to "
        "0.03 of the range) and JPEG of quality 60 to 100 for half of the crops"
    )
    assert f"learned from {told}" in shown
    assert names("made") == ["README.md", "ddnet_1b_constant.pt", "ddnet_1b_rendered.pt", "manifest.json"]
    card = Path("made/README.md").read_text()
    assert (
        f"- `ddnet_1b_constant`: {told}." in card and "| 1,234 | 10 steps of 2 crops, seed 0 of 1 | 20.00 dB |" in card
    )
    assert "astronaut, china" in card
    assert main(["release", "--runs", "nowhere"]) == 1
    assert "nowhere: has no run of ddnet_1b_constant" in capsys.readouterr().err


@pytest.mark.parametrize(("variant", "tile", "bands"), [("default", None, False), ("default", None, True),
                                                        ("default", 96, False), ("unet", None, False)])  # fmt: skip
def test_how_far_a_photograph_is_is_told_in_percent(
    variant: str, tile: int | None, bands: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(log, "NEXT_LINE_S", 0.0)
    monkeypatch.setattr(banded, "SMALLEST_BYTES", 0 if bands else 1 << 60)
    network = ddnet.load(variant if variant == "default" else run_of(variant))
    image = np.random.default_rng(0).random((200, 240, 3), np.float32)
    plain = network.restore(image, tile=tile)
    with shown_work(network, image, tile, "a.jpg"):
        assert not caplog.records  # nobody is looking: nothing is counted
    caplog.set_level(logging.INFO, "ddnet")
    with shown_work(network, image, tile, "a.jpg"):
        assert np.array_equal(network.restore(image, tile=tile), plain)
    percent = [int(re.fullmatch(r"a\.jpg: (\d+) of 100 %, .*", line)[1]) for line in caplog.messages]  # type: ignore[index]
    assert percent == sorted(percent) and len(set(percent)) > 10
    # What bands compute twice is counted in; so small a picture computes less twice, and without bands nothing.
    assert percent[-1] >= (85 if variant == "default" and tile is None else 95)


def test_progress_and_signals_are_those_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    photograph()
    monkeypatch.setattr("ddnet.restoration.deblur.restored_pixels", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert main(["deblur", "a.png"]) == 128 + signal.SIGTERM
    assert names() == ["a.png"]
