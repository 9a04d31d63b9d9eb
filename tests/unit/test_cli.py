import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddnet.cli import doctor as cli_doctor
from ddnet.cli import list as cli_list
from ddnet.cli.main import main
from ddnet.errors import DDNetError
from ddnet.registry import class_name, names, resolve
from ddnet.runtime import paths as places
from ddnet.runtime.log import job_log
from ddnet.runtime.paths import ROOT


def test_list_shows_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in (
        "ddnet_3b",
        "fusion_gru",
        "gru",
        "monodepth2",
        "lpips_squeeze",
        "blurred",
        "paper-short",
        "tableS1_depth",
        "tableS6_fusions",
        "realdof",
    ):
        assert name in shown
    assert main(["list", "metrics"]) == 0
    assert capsys.readouterr().out.split() == names("metric")


def test_describe_prints_both_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "fusion_gru"]) == 0
    shown = capsys.readouterr().out
    assert "ddnet_1b" in shown and "2,646,308 (2.65 M)" in shown
    assert "164.20 G at 512 x 512" in shown and "163.79 G (convolutions" in shown
    assert main(["describe", "ddnet_2b", "--preset", "paper"]) == 0
    assert "4,090,948 parameters at width 64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("film", ("fusion: ", "2,720 per scale", "halo: 0", "fusion_film")),
        ("coc", ("37,512 per scale", "maps (4)", "halo: None")),
        ("input", ("fourth channel", "fusion_input_noisy")),
        ("noisy", ("depth source: ", "true depth", "noisy(sigma)")),
        ("monodepth2", ("a network's weights", "non-commercial")),
        ("kpac", ("baseline: ", "trained here, or its authors'", "2,057,893")),
        ("jnb_rl", ("method: richardson_lucy", "its authors' are not public", "no network")),
        ("lpips_squeeze", ("metric: ", "lower", "17 pixels")),
        ("embedded", ("dataset: ", "96 train, 8 validation, 24 test", "scikit-image")),
        ("embedded_ood", ("16 test",)),
        ("dpdd", ("350 train, 74 validation, 76 test", "ECCV 2020")),
        ("folder", ("20% test", "your own")),
    ],
)
def test_describe_finds_a_name_of_any_kind(
    name: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", name]) == 0
    shown = capsys.readouterr().out
    assert all(word in re.sub(" +", " ", shown) for word in words), shown


def test_everything_that_is_listed_can_be_told_apart() -> None:
    variants = cli_list.variants_of(None)
    described = cli_list._described()
    assert len(described) == len(set(described)) > 60
    assert {cli_list.kind_of(name, None, variants) for name in described} == set(cli_list.KINDS)


def test_a_name_of_two_things_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "variants.yaml"
    table.write_text("psnr: {fusion: none}\n")
    assert main(["--variants", str(table), "describe", "psnr"]) == 1
    asked = capsys.readouterr().err
    assert asked == "ddnet: 'psnr' is a variant and a metric; say which: --kind variant or --kind metric\n"
    assert main(["--variants", str(table), "describe", "psnr", "--kind", "metric"]) == 0
    assert capsys.readouterr().out.startswith("metric:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "flim"], "unknown name 'flim'; did you mean 'film'? (`ddnet list` shows all)"),
        (["describe", "zzzz"], "unknown name 'zzzz' (`ddnet list` shows all)"),
        (["describe", "psnr", "--kind", "fusion"], "unknown fusion 'psnr' (allowed: coc, conv,"),
        (["describe", "ddnet_2c"], "unknown name 'ddnet_2c'; did you mean 'ddnet_2b'?"),
        (["describe", "unet", "--preset", "papper"], "unknown preset 'papper'; did you mean 'paper'?"),
        (["--variants", "nowhere.yaml", "list"], "nowhere.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line_and_status_1(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


def test_doctor_says_what_is_here_and_what_would_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch:" in shown and "snakemake:" in shown and "processors" in shown and "free space:" in shown
    assert "vgg16:          to be fetched" in shown and "0 of 18 trainings of preset embedded" in shown
    model = Path("results/runs/embedded/unet-seed0/model.pt")
    model.parent.mkdir(parents=True)
    model.touch()
    assert main(["doctor"]) == 0
    assert "1 of 18 trainings" in capsys.readouterr().out
    assert main(["doctor", "--preset", "paper"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"dpdd: +0 of 1,000 files, 0 B in data/dpdd", shown)
    assert "to be fetched: about 8.5 GB, first from https://" in shown


def test_doctor_finds_what_would_make_a_run_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_doctor, "PACKAGES", ("no-such-package", "mlflow"))
    monkeypatch.setattr(cli_doctor, "LEAST_FREE", 1e18)
    assert main(["doctor"]) == 1
    found = capsys.readouterr()
    assert "problem:        not installed: no-such-package; run `make install`" in found.out
    assert re.search(r"problem: +\d.* free in .*larger disk", found.out)
    assert found.err == "ddnet: not all is as it should be (problems: 2); the lines above say the way out\n"


def test_doctor_s_way_to_the_pinned_versions_is_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "constraints.txt").write_text("pytest==0.1\n")
    for module in (cli_doctor, places):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    for command, extra in (
        ("pip install -c constraints.txt ddnet-bench", "pip install -c constraints.txt 'ddnet-bench[verify]'"),
        ("make install", "pip install -c constraints.txt -e '.[verify]'"),
    ):
        assert main(["doctor"]) == 0
        shown = capsys.readouterr().out
        assert "(pinned: 0.1)" in shown and f"numbers may differ, run `{command}`" in shown
        assert places.install_command("verify") == extra
        (tmp_path / "Makefile").touch()  # for the second turn: a checkout


def test_a_job_s_error_is_one_line_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "job.log"
    with pytest.raises(SystemExit) as ended, job_log(log):
        logging.getLogger("x").info("working")
        raise DDNetError("pair.png: no such file; fetch it again")
    assert ended.value.code == 1
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == [
        "working",
        "error: pair.png: no such file; fetch it again",
    ]


def test_registry_names_the_nearest(tmp_path: Path) -> None:
    assert class_name("psnr_8bit") == "Psnr8Bit"
    with pytest.raises(DDNetError, match="unknown fusion 'gruu'; did you mean 'gru'"):
        resolve("fusion", "gruu")
    with pytest.raises(DDNetError, match="unknown registry 'fusions'; did you mean 'fusion'"):
        names("fusions")


def test_torchvision_imports_beside_a_cpu_build_of_torch() -> None:
    import torchvision

    assert torchvision.models.alexnet(weights=None).features[0].weight.shape == (64, 3, 11, 11)


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    command = f"{sys.executable} -m ddnet schema | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "{" and "Traceback" not in done.stderr
