"""The page of results without a browser: what is in it, what lies beside it, and what it refuses to embed."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_page import SmallPage
from report_runs import psnr

from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.images import read_image, write_image
from ddnet.report.collect import collect
from ddnet.report.page import write_page
from ddnet.report.page_pictures import INPUT, TARGET, first_seeds, shown_scenes, write_pictures
from ddnet.report.page_tables import read_claims, read_table
from ddnet.runtime import log


@pytest.fixture
def table(small: SmallPage, tmp_path: Path) -> Path:
    """A copy of a table's HTML to damage."""
    path = tmp_path / "table3.html"
    path.write_bytes(small.inputs.tables[0].read_bytes())
    return path


def test_every_address_is_of_a_file_beside_the_page(small: SmallPage) -> None:
    text = small.index.read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"#]+)"', text)
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.S)[0])
    for scene in data["scenes"]:
        addresses += [*scene["pictures"].values(), *scene["depths"].values()]
    assert len(addresses) > 30
    for address in addresses:
        assert address.startswith("files/") and (small.index.parent / address).is_file(), address
    assert "http" not in text and "<link" not in text and "@import" not in text and "url(" not in text
    linked = {str((small.index.parent / address).relative_to(small.index.parent)) for address in addresses}
    beside = {str(p.relative_to(small.index.parent)) for p in small.index.parent.rglob("*") if p.is_file()}
    assert beside - linked == {"index.html"}


def test_it_shows_verdicts_tables_cards_and_provenance(small: SmallPage) -> None:
    text = small.index.read_text(encoding="utf-8")
    for part in (
        "GRU fusion &gt; no depth", "<b>6</b> not resolved", 'id="table3"', 'id="tableS3_claims"', 'data-value="2',
        "ddnet_1b-seed0", "<dt>commit</dt><dd>abc1234 (+dirty)</dd>", "cpu, 2 threads", "torch 2.13.0",
        "<dt>seeds</dt><dd>0, 1</dd>", "<dt>trained networks</dt><dd>20</dd>", "figures/fusion-ablation.pdf",
    ):  # fmt: skip
        assert part in text, part
    card = (small.index.parent / "files/cards/ddnet_1b-seed0.html").read_text(encoding="utf-8")
    assert "<h2>Licence</h2>" in card and "<table>" in card and "<pre><code" in card


def test_pictures_are_those_of_the_run_and_their_numbers_those_of_its_csv(small: SmallPage) -> None:
    text = small.index.read_text(encoding="utf-8")
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.S)[0])
    assert [scene["scene"] for scene in data["scenes"]] == ["s00", "s01"]
    for number, scene in enumerate(data["scenes"]):
        assert scene["psnr"]["unet"] == pytest.approx(psnr("unet", 0, number, "embedded"), abs=1e-4)
        shown = np.asarray(Image.open(small.index.parent / scene["pictures"][TARGET]), dtype=np.float32) / 255
        kept = read_image(small.world.scenes[number].target)
        assert shown.shape == kept.shape and np.abs(shown - kept).mean() < 0.03  # noise, which JPEG likes least
        error = ((read_image(small.world.scenes[number].image) - kept) ** 2).mean()
        assert scene["psnr"][INPUT] == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert data["right"] == "ddnet_1b" and data["depth"] == "monodepth2"
    assert {method["name"]: method["depth"] for method in data["methods"]}["unet"] == ""


def test_a_page_made_again_is_the_same_and_nothing_old_is_left(small: SmallPage) -> None:
    def everything() -> dict[str, bytes]:
        found = small.index.parent.rglob("*")
        return {str(path.relative_to(small.index.parent)): path.read_bytes() for path in found if path.is_file()}

    before = everything()
    (small.index.parent / "files" / "pictures" / "stale.jpg").touch()
    known = {"commit": "abc1234", "dirty": True}
    write_page(small.index, small.inputs, collect(small.world.runs), known)
    after = everything()
    assert before.keys() == after.keys()
    assert all(before[name] == after[name] for name in before if name != "index.html")


def test_how_far_the_page_s_pictures_are_is_logged(
    small: SmallPage, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(log, "NEXT_LINE_S", 0.0)
    caplog.set_level(logging.INFO, "ddnet")
    shown = small.inputs.shown
    write_pictures(shown, collect(shown.runs), tmp_path, "pictures")
    count = len(shown.scenes)
    wanted = [f"page: {done} of {count} scenes" for done in range(1, count + 1)]
    assert [line.split(",")[0] for line in caplog.messages] == wanted


def test_what_a_method_lacks_is_left_out_and_a_wrong_size_is_said(small: SmallPage, tmp_path: Path) -> None:
    lacking = tmp_path / "runs" / "other-seed0"
    ref = dataclasses.replace(small.world.runs[1], folder=lacking)
    images = collect(small.world.runs[1:2])
    shown = dataclasses.replace(small.inputs.shown, runs=[ref])
    [first, second] = write_pictures(shown, images, tmp_path / "out", "out")
    assert set(first["pictures"]) == set(second["pictures"]) == {INPUT, TARGET}
    write_image(lacking / "restored" / "embedded" / "s01.png", np.zeros((8, 8, 3), np.float32))
    with pytest.raises(
        DDNetError, match=r"s01\.png: is \(8, 8, 3\), its scene \(64, 96, 3\); evaluate unet-seed0 again"
    ):
        write_pictures(shown, images, tmp_path / "out", "out")


def test_large_pictures_are_reduced(small: SmallPage, tmp_path: Path) -> None:
    shown = dataclasses.replace(small.inputs.shown, runs=[], width=48)
    [first, _] = write_pictures(shown, collect(small.world.runs[:1]), tmp_path, "out")
    assert (first["width"], first["height"]) == (48, 32)
    for file in (tmp_path / "embedded" / "000").iterdir():
        with Image.open(file) as picture:
            assert picture.size == (48, 32)


def test_scenes_are_those_whose_pictures_are_kept(small: SmallPage) -> None:
    one = small.inputs.shown.scenes[0]
    scenes = [dataclasses.replace(one, dataset=d, scene=f"s{n:02d}") for d in ("a", "b") for n in range(10)]

    def names(save: str, panels: int, most: int) -> list[str]:
        return [f"{scene.dataset}{scene.scene}" for scene in shown_scenes(scenes, save, panels, most)]

    assert len(names("all", 2, 24)) == 20
    assert names("panels", 2, 24) == ["as02", "as07", "bs02", "bs07"]
    assert len(names("all", 2, 3)) == 6 and set(names("panels", 5, 2)) <= set(names("panels", 5, 24))


def test_the_first_seed_of_each_variant_is_shown(small: SmallPage) -> None:
    refs = first_seeds(list(reversed(small.world.runs)))
    assert len(refs) == 11 and {ref.seed for ref in refs} == {0, None}
    assert [ref.variant for ref in refs][-1] == "blurred"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<main>", "<p>", "not a table of this suite"),
        ("<tbody>", "<tbody><script>alert(1)</script>", "an element that no table has, <script>"),
        ("<tbody>", '<tbody onclick="x()">', "an element that no table has, <tbody>"),
        ("</tbody>", "", "closed where it was not opened"),
        ("</h1>", "</h1><!-- -->", "has a comment"),
        ("</main>", "", "not a table of this suite"),
    ],
)
def test_a_damaged_table_is_not_embedded(table: Path, old: str, new: str, words: str) -> None:
    assert read_table(table).title.startswith("Table 3.")
    table.write_text(table.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DDNetError, match=rf"table3\.html: .*{re.escape(words)}.*; make the tables again: snakemake"):
        read_table(table)


def test_a_table_that_is_no_text_or_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="no such file"):
        read_table(tmp_path / "table9.html")
    (tmp_path / "table9.html").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DDNetError, match="not text"):
        read_table(tmp_path / "table9.html")


def test_claims_share_one_axis(small: SmallPage, tmp_path: Path) -> None:
    source = small.inputs.tables[2].with_suffix(".csv")
    claims = read_claims(source)
    assert claims.images == 6 and claims.seeds == 2 and claims.count("not resolved") == 6
    frame = pd.read_csv(source)
    slope = {
        round((row.mean - claims.zero) / value, 3)
        for row, value in zip(claims.rows, frame["delta_psnr"], strict=True)
        if row.mean is not None
    }
    assert max(slope) - min(slope) < 0.3  # a dB has one length everywhere, but for rounding
    assert all(0 < place < 100 for row in claims.rows for place in (row.low, row.mean, row.high, row.paper) if place)
    frame.assign(verdict="not measured", delta_psnr=np.nan, delta_psnr_low=np.nan, delta_psnr_high=np.nan).to_csv(
        tmp_path / "none.csv", index=False
    )
    assert all(row.mean is None and row.measured == "" for row in read_claims(tmp_path / "none.csv").rows)
    frame.drop(columns="verdict").to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DDNetError, match=r"short\.csv: lacks verdict"):
        read_claims(tmp_path / "short.csv")
    frame.assign(delta_psnr="x").to_csv(tmp_path / "words.csv", index=False)
    with pytest.raises(DDNetError, match=r"words\.csv"):
        read_claims(tmp_path / "words.csv")


def test_a_trial_and_odd_names_are_said_and_escaped(small: SmallPage, tmp_path: Path) -> None:
    odd: Scene = dataclasses.replace(small.inputs.shown.scenes[0], scene="s00", location="</script><b>")
    inputs = dataclasses.replace(
        small.inputs, trial=True, shown=dataclasses.replace(small.inputs.shown, scenes=[odd]), figures=(), cards=()
    )
    text = write_page(tmp_path / "index.html", inputs, collect(small.world.runs), {}).read_text(encoding="utf-8")
    assert "A trial on a few scenes" in text and "</script><b>" not in text
