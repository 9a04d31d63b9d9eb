"""The whole graph on the smoke preset, in a copy of the project, and what is planned after edits to that copy."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from projects import SUBJECTS, copy_project, planned, snakemake

from ddnet.cli.main import CONFIG
from ddnet.config import load_baselines, load_settings, load_variants
from ddnet.io.contents import content_digest
from ddnet.io.files import sha256
from ddnet.planning.code_digest import NOT_DIGESTED
from ddnet.planning.plan import Plan
from ddnet.runtime.paths import ROOT

SMOKE = "workflow/config/smoke.yaml"
TABLES = "results/tables/smoke"
PLAN = Plan(
    load_settings(CONFIG / "smoke.yaml"),
    load_variants(CONFIG / "variants.yaml"),
    load_baselines(CONFIG / "baselines.yaml"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project in which the smoke preset has run to its end."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    noted = copy / "loaded"
    noted.mkdir()
    (copy / "outside").mkdir()
    hook = copy / "outside" / "sitecustomize.py"
    shutil.copy(Path(__file__).with_name("loaded_modules.py"), hook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOADED_MODULES", str(noted))
        (copy / "printed.txt").write_text(snakemake(copy, "all", "--cores", "8", "--configfile", SMOKE))
    hook.unlink()
    yield copy


@pytest.fixture
def edited(project: Path) -> Iterator[Path]:
    """The same copy, its sources restored afterwards."""
    kept = {
        path: path.read_text()
        for part in ("ddnet", "workflow", "baselines")
        for path in (project / part).rglob("*.*")
        if path.suffix in (".py", ".yaml", ".smk")
    }
    yield project
    for part in ("ddnet", "workflow", "baselines"):
        for path in (project / part).rglob("*.py"):
            if path not in kept:
                path.unlink()
    for path, text in kept.items():
        if path.read_text() != text:
            path.write_text(text)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_every_module_that_a_job_loads_is_in_its_digest_or_named_as_left_out(project: Path) -> None:
    """The proof that an edit which could change a number makes the job anew."""
    command = [sys.executable, str(Path(__file__).with_name("code_digests.py")), "files", SMOKE]
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    behind = json.loads(done.stdout.splitlines()[-1])
    jobs = [json.loads(file.read_text()) for file in (project / "loaded").glob("*.json")]
    for job in jobs:
        subject = next((job["wildcards"][name] for name in SUBJECTS if name in job["wildcards"]), "")
        files = behind.get(f"{job['rule']} {subject}") or behind[job["rule"]]
        missing = {
            name
            for name, file in job["modules"].items()
            if name != "ddnet"  # sets a limit of OpenCV and torchvision's stand-in, no number
            and not any(name == left_out or name.startswith(f"{left_out}.") for left_out in NOT_DIGESTED)
            and not (job["rule"] == "train" and name.startswith("ddnet.report"))  # what live reporting imports
            and str(Path(file).relative_to(project)) not in files
        }
        assert not missing, (job["rule"], subject, missing)
    with_script = {path.stem for path in (project / "workflow" / "scripts").glob("*.py")}
    of_other_presets = {"index_photographs", "fetch_item", "import_system", "estimate_patch_depth", "draw_controls"}
    assert with_script - {job["rule"] for job in jobs} == of_other_presets


def test_every_declared_file_is_there(project: Path) -> None:
    runs = project / "results" / "runs" / "smoke"
    expected = {run.name for run in PLAN.runs(PLAN.selected)} | {*PLAN.measured_baselines}
    assert {path.name for path in runs.iterdir()} == expected
    for table in [*PLAN.tables, "tableS2_defocus"]:
        for form in ("csv", "md", "tex", "html"):
            assert (project / "results" / "tables" / "smoke" / f"{table}.{form}").stat().st_size > 100
    for study in PLAN.settings.studies:
        for kind in ("ablation", "psnr_params", "curves", "panels", "gates"):
            for form in ("png", "pdf"):
                assert (project / "results" / "figures" / "smoke" / study / f"{kind}.{form}").stat().st_size > 5000
    page = project / "results" / "report" / "smoke"
    shown = [name for name in (*PLAN.selected, *PLAN.measured_baselines) if name != "blurred"]
    for name in shown:  # both test sets' scenes, with a picture by everything that was measured
        assert len(list((page / "files" / "pictures").rglob(f"{name}.jpg"))) == 5, name
    assert all(f'value="{name}"' in (page / "index.html").read_text(encoding="utf-8") for name in shown)
    assert (project / "results/figures/smoke/comparison/defocus_maps.png").stat().st_size > 5000
    maps = pd.read_csv(project / "results/tables/smoke/tableS2_defocus.csv").set_index("key")
    assert set(maps.index) == {"jnb", "ebdb", "dmenet", "true", "constant"} and maps.loc["true", "mae_px"] == 0


def test_the_run_prints_the_table_of_claims(project: Path) -> None:
    printed = (project / "printed.txt").read_text()
    claims = pd.read_csv(project / "results/tables/smoke/tableS3_claims.csv")
    assert len(claims) == 6 and set(claims["verdict"]) <= {"supported", "not resolved", "contradicted"}
    assert (claims["seeds_in_favour"].str[-1] == "2").all() and (claims["n_images"] == 2).all()
    assert "The paper's claims, measured on 2 images of embedded" in printed
    for row in claims.itertuples():
        assert re.search(f"{re.escape(row.label)} +{row.verdict}", printed)


def test_a_second_run_has_nothing_to_do(project: Path) -> None:
    assert planned(project, SMOKE) == Counter()
    assert "Nothing to be done" in snakemake(project, "all", "--cores", "2", "--configfile", SMOKE)


def copied(project: Path, to: Path) -> None:
    """`cp -r`, in an order of its own: every file is as new as its copy."""
    files = sorted((path for path in project.rglob("*") if path.is_file()), key=lambda path: sha256(path))
    for number, path in enumerate(files):
        target = to / path.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        moment = time.time() - 7200 + number
        os.utime(target, (moment, moment))


def unpacked(project: Path, to: Path) -> None:
    """From an archive with the times of another time zone, in steps of two seconds, and without hidden folders."""
    shutil.copytree(project, to, ignore=shutil.ignore_patterns(".snakemake"))
    for path in to.rglob("*"):
        moment = path.stat().st_mtime // 2 * 2 + 9 * 3600
        os.utime(path, (moment, moment))


@pytest.mark.parametrize("way", [copied, unpacked])
def test_a_folder_that_was_copied_or_unpacked_has_nothing_to_do(
    project: Path, tmp_path: Path, way: Callable[[Path, Path], None]
) -> None:
    there = tmp_path / "another place"
    way(project, there)
    assert "Nothing to be done" in snakemake(there, "all", "--cores", "2", "--configfile", SMOKE)
    with closing(sqlite3.connect(there / "results/mlflow.db")) as database:
        [(place,)] = database.execute("SELECT artifact_location FROM experiments WHERE name LIKE 'ddnet-bench/%'")
    assert place == (there / "results/mlartifacts/smoke").as_uri()
    scene = next((there / "data/smoke/scenes").rglob("*.png"))
    old = scene.stat()
    scene.write_bytes(scene.read_bytes() + b"x")
    os.utime(scene, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert "changed or gone since it was indexed" in snakemake(there, "all", "-n", "--configfile", SMOKE, check=False)


def test_a_change_before_the_copy_is_found_after_it(project: Path, tmp_path: Path) -> None:
    """A run that ended between two jobs: what was made of an older file is made again, whatever the times say."""
    copied(project, tmp_path / "there")
    evaluation = tmp_path / "there/results/runs/smoke/unet-seed0/per_image.csv"
    evaluation.write_text(evaluation.read_text() + "\n")
    os.utime(evaluation, (0, 0))
    rules = {rule for rule, _ in planned(tmp_path / "there", SMOKE)}
    assert rules == {"write_card", "make_table", "draw_study", "make_page", "export_mlflow"}


def test_no_job_was_told_where_the_folder_is(project: Path) -> None:
    records = [path for path in (project / ".snakemake/metadata").rglob("*") if path.is_file()]
    assert len(records) > 200
    for path in records:
        said = json.loads(path.read_text())
        assert str(project) not in json.dumps([said["input"], said["params"], said["log"]]), said["rule"]


def test_snakemake_s_report_shows_every_output_with_its_caption_and_provenance(project: Path, tmp_path: Path) -> None:
    said = snakemake(project, "--report", str(tmp_path / "report.html"), "--configfile", SMOKE)
    assert "Report created." in said and "Warning" not in said, said[-3000:]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")

    def given(variable: str) -> dict[str, Any]:
        begin = f"var {variable} = "
        found: dict[str, Any] = json.JSONDecoder().raw_decode(page, page.index(begin + '{"') + len(begin))[0]
        return found

    counts = {name: sum(map(len, parts.values())) for name, parts in given("categories").items()}
    figures = 2 * (5 * len(PLAN.settings.studies) + 1)  # PNG and PDF, and the comparison of defocus maps
    assert counts == {
        "Page of results": 1, "Tables": len(PLAN.tables) + 1, "Figures": figures,
        "Depth": 3, "Model cards": len(PLAN.runs(PLAN.selected)),  # estimated, true, constant
    }  # fmt: skip
    shown = given("results")
    assert len(shown) == sum(counts.values())
    assert all(len(result["caption"]) > 40 for result in shown.values())
    assert all(result["job_properties"]["rule"] for result in shown.values())


def test_tables_and_summaries_agree_with_the_per_image_files(project: Path) -> None:
    runs = project / "results" / "runs" / "smoke"
    for folder in runs.iterdir():
        images = pd.read_csv(folder / "per_image.csv")
        summary = json.loads((folder / "evaluation.json").read_text())
        for dataset, part in images.groupby("dataset"):
            for metric, value in summary["metrics"][dataset].items():
                assert value == pytest.approx(part[metric].mean(), rel=1e-9)
    rows = {row["method"]: row for row in csv.DictReader((project / "results/tables/smoke/table3.csv").open())}
    images = pd.concat([pd.read_csv(runs / f"unet_rcab-seed{seed}" / "per_image.csv") for seed in PLAN.settings.seeds])
    main = images[images["dataset"] == "embedded"]
    row = next(row for row in rows.values() if "RCAB" in row["label"])
    for metric in ("psnr", "ssim", "mae"):
        assert float(row[metric]) == pytest.approx(main[metric].mean(), rel=1e-6)


def test_mlflow_agrees_with_the_per_image_files(project: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'results' / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "ddnet-bench/smoke"]
    runs = client.search_runs([experiment.experiment_id], max_results=200)
    by_name = {run.info.run_name: run for run in runs}
    for run in PLAN.runs(PLAN.selected):
        images = pd.read_csv(project / "results" / "runs" / "smoke" / run.name / "per_image.csv")
        for prefix, dataset in (("", "embedded"), ("ood_", "embedded_ood")):
            expected = images.loc[images["dataset"] == dataset, "psnr"].mean()
            assert by_name[run.name].data.metrics[f"{prefix}psnr"] == pytest.approx(expected)
        assert by_name[run.name].data.tags["mlflow.parentRunId"]
    assert all(run.info.status == "FINISHED" for run in runs)


def test_every_output_has_a_manifest_that_says_what_made_it(project: Path) -> None:
    summary = snakemake(project, "all", "--summary", "--cores", "1", "--configfile", SMOKE).splitlines()
    declared = [line.split("\t")[0] for line in summary if "\t" in line and not line.startswith("output_file")]
    assert len(declared) > 200
    recorded: dict[str, str] = {}
    own = {project / name for name in declared if Path(name).name == "manifest.json"}  # of trainings and systems
    for path in [*own, *(project / "data").rglob("*.manifest.json"), *(project / "results").rglob("*.manifest.json")]:
        manifest = json.loads(path.read_text())
        for key in (
            "rule", "commit", "dirty", "config_hash", "code_digest", "data_digest", "device", "versions", "date",
            "wall_s", "startup_s", "processors", "peak_memory_mib",
        ):  # fmt: skip
            assert manifest[key] not in (None, "", {}), (path, key)
        assert manifest["peak_memory_mib"] * 1.048576 <= manifest["mem_mb"], path  # what it asked for
        assert str(project) not in path.read_text()
        recorded |= manifest["outputs"]
    for name in declared:
        assert name in recorded or project / name in own, name
        if name in recorded and recorded[name] != "folder":
            assert recorded[name] == content_digest(str(project / name)), name
    seeds = {json.loads(p.read_text())["seed"] for p in (project / "results/runs").rglob("per_image.manifest.json")}
    assert seeds == {None, *PLAN.settings.seeds}


def test_test_photographs_are_never_trained_on(project: Path) -> None:
    photographs: dict[str, set[str]] = {}
    for record in (project / "data" / "smoke" / "scenes").rglob("scene.json"):
        dataset, split = record.parts[-4:-2]
        split = split.removesuffix("_depth")  # the depth network may see what the restoration networks see
        photographs.setdefault(f"{dataset}/{split}", set()).update(json.loads(record.read_text())["photographs"])
    pools = list(photographs.items())
    assert len(pools) == 4 and all(names for _, names in pools)
    for position, (name, first) in enumerate(pools):
        for other, second in pools[position + 1 :]:
            assert not first & second, f"{name} and {other} share {first & second}"


def test_no_table_is_made_of_pictures_that_nobody_looked_at(project: Path) -> None:
    """Every table waits for the audit, and the audit sees a test pair that the index has the wrong way round."""
    found = json.loads((project / "data/smoke/audit.json").read_text())
    assert found["scenes"]["embedded/test"] == 2 and found["warnings"] == []
    jobs = planned(project, SMOKE, "tables", "--forcerun", "audit_data")
    assert {table for rule, table in jobs if rule == "make_table"} == set(PLAN.tables)

    index = project / "data/smoke/index.csv"
    right, stamp = index.read_text(), index.stat().st_mtime_ns
    rows = list(csv.DictReader(right.splitlines()))
    one = next(row for row in rows if row["split"] == "test")
    for ending in ("", "_sha256"):
        one[f"image{ending}"], one[f"target{ending}"] = one[f"target{ending}"], one[f"image{ending}"]
    with index.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kept = (project / "data/smoke/audit.json").read_text()
    output = snakemake(project, "data/smoke/audit.json", "--cores", "1", "--configfile", SMOKE, check=False)
    assert "times the detail of its target" in output and "swap the files" in output and "Traceback" not in output
    assert not (project / "data/smoke/audit.json").exists()
    (project / "data/smoke/audit.json").write_text(kept)
    index.write_text(right)
    for path, moment in ((index, stamp), (project / "data/smoke/audit.json", stamp + 1)):
        os.utime(path, ns=(moment, moment))
    assert planned(project, SMOKE) == Counter()


def test_a_comment_edit_plans_nothing(edited: Path) -> None:
    remarked = ("training/train.py", "models/fusion/gru.py", "planning/plan.py")
    for file in (*(f"ddnet/{name}" for name in remarked), "workflow/scripts/train.py"):
        append(edited / file, "\n# a remark\n")
    assert planned(edited, SMOKE) == Counter()


def test_an_edit_of_how_tables_are_written_plans_them_and_what_shows_them(edited: Path) -> None:
    for file in ("ddnet/report/formats.py", "ddnet/report/tex.py", "ddnet/fetch/place.py", "ddnet/runtime/log.py"):
        append(edited / file, "\nX = 1\n")
    jobs = planned(edited, SMOKE)
    assert {rule for rule, _ in jobs} == {"make_table", "make_defocus_table", "make_page", "export_mlflow"}
    assert {table for rule, table in jobs if rule == "make_table"} == set(PLAN.tables)


def test_an_edit_of_the_gru_plans_gru_variants_only(edited: Path) -> None:
    append(edited / "ddnet/models/fusion/gru.py", "\nX = 1\n")
    jobs = planned(edited, SMOKE)
    gru = {name for name in PLAN.selected if PLAN.variants[name].fusion == "gru"}
    for rule in ("train", "evaluate", "measure_complexity"):
        assert {subject for name, subject in jobs if name == rule} == gru
    downstream = {
        "train", "evaluate", "write_card", "measure_complexity", "make_table", "draw_study", "make_page",
        "export_mlflow",
    }  # fmt: skip
    assert {rule for rule, _ in jobs} == downstream


def test_an_edit_of_a_compared_system_plans_its_own_rows_only(edited: Path) -> None:
    append(edited / "baselines" / "jnb" / "baseline.py", "\nX = 1\n")
    assert set(planned(edited, SMOKE)) == {
        ("train_system", "jnb"), ("evaluate_baseline", "jnb"), ("evaluate_baseline", "jnb_rl"),
        ("evaluate_defocus_map", "jnb"), ("make_table", "table2"), ("make_defocus_table", ""),
        ("draw_defocus_maps", ""), ("make_page", ""), ("export_mlflow", ""),
    }  # fmt: skip


def recipe() -> tuple[str, str]:
    """The two code blocks of CONTRIBUTING.md's recipe: the fusion file and its line in the variants file."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Add a fusion", 1)[1].split("\n## ", 1)[0]
    python = re.search(r"```python\n(.*?)```", section, re.S)
    line = re.search(r"```yaml\n(.*?)```", section, re.S)
    assert python and line
    return textwrap.dedent(python[1]), textwrap.dedent(line[1])


def test_the_recipe_for_a_new_fusion(edited: Path) -> None:
    """One file and one line: planned alone, then trained, tabulated and exported."""
    source, line = recipe()
    (edited / "ddnet/models/fusion/additive.py").write_text(source)
    append(edited / "workflow/config/variants.yaml", line)
    only_ours = Counter(
        {
            ("train", "fusion_additive"): 2,
            ("measure_complexity", "fusion_additive"): 1,
            ("evaluate", "fusion_additive"): 2,
            ("write_card", "fusion_additive"): 2,
            ("make_table", "table4"): 1,
            ("draw_study", "fusion"): 1,
            ("export_mlflow", ""): 1,
        }
    )
    assert planned(edited, SMOKE, "ablation") == only_ours
    snakemake(edited, "ablation", "--cores", "8", "--configfile", SMOKE)
    table = pd.read_csv(edited / "results/tables/smoke/table4.csv")
    row = table[table["label"] == "Additive fusion"]
    assert len(row) == 1 and np.isfinite(row["psnr"].item())
    exported = json.loads((edited / "results/mlflow/smoke.json").read_text())
    assert exported["created"] == ["run:fusion_additive-seed0", "run:fusion_additive-seed1"]
    assert "run:ddnet_1b-seed0" in exported["unchanged"]


def test_controls_and_readings_have_targets_of_their_own(project: Path) -> None:
    """With the first seed only, whose default rows are there: the other networks, two tables, their figures."""
    target = ("controls", "readings", "--cores", "8", "--configfile", SMOKE, "--config", "seeds=1")
    snakemake(project, *target)
    controls = pd.read_csv(project / "results/tables/smoke/tableS4_controls.csv").set_index("key")
    readings = pd.read_csv(project / "results/tables/smoke/tableS5_readings.csv").set_index("key")
    assert list(controls.index) and set(controls.index) == set(PLAN.study_variants("controls"))
    assert set(readings.index) == set(PLAN.study_variants("readings")) and readings.index[0] == "ddnet_1b"
    assert np.isfinite(controls["psnr"]).all() and np.isfinite(readings["psnr"]).all()
    per_source = controls.reset_index().groupby("fusion")["depth"].apply(set)
    assert per_source["gru"] == per_source["input"] == {"rendered", "monodepth2", "noisy(0.1)", "shuffled", "constant"}
    assert controls.loc["unet_rcab_matched", "params_m"] == pytest.approx(2.680899)
    sizes = controls.loc[["fusion_conv_matched", "ddnet_1b"], "params_m"]
    assert sizes.nunique() == 1
    figures = project / "results" / "figures" / "smoke"
    for figure in ("controls/depth_controls", "controls/ablation", "readings/ablation", "readings/panels"):
        assert (figures / f"{figure}.png").stat().st_size > 5000
    maps = {name: (project / f"data/smoke/depth/{name}/index.csv").read_text() for name in ("shuffled", "noisy-0.1")}
    assert maps["shuffled"] != maps["noisy-0.1"]
    assert "Nothing to be done" in snakemake(project, *target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", "sedes=3"), "unknown key 'sedes'; did you mean 'seeds'?"),
        (("--config", "training={stepz: 3}"), "unknown key 'training.stepz'; did you mean 'steps'?"),
        (("--config", "seeds=0"), "'seeds'"),
        (("--config", "depth={source: monodeth2}"), "did you mean 'monodepth2'?"),
    ],
)
def test_a_typo_is_one_line(project: Path, arguments: tuple[str, ...], words: str) -> None:
    output = snakemake(project, "all", "-n", "--cores", "1", *arguments, check=False)
    assert len([line for line in output.splitlines() if words in line]) == 1, output
    assert "Traceback" not in output
    ours = [row for row in output.splitlines() if row.strip() and not row.startswith("Using ")]
    assert len(ours) == 1, output


def test_seeds_plan_their_own_trainings_only(project: Path) -> None:
    config = f"""{(project / SMOKE).read_text().replace("seeds: 2", "seeds: 3")}"""
    three = project / "workflow" / "config" / "three-seeds.yaml"
    three.write_text(config)
    output = snakemake(project, "all", "-n", "--cores", "2", "--configfile", str(three))
    seeds = re.findall(r"^(?:local)?rule train:$.*?wildcards: [^\n]*seed=(\d)", output, re.S | re.M)
    three.unlink()
    assert set(seeds) == {"2"} and len(seeds) == len(PLAN.selected)


def measured(project: Path, *runs: str) -> list[bytes]:
    return [(project / "results/runs/smoke" / run / "per_image.csv").read_bytes() for run in runs]


def test_the_same_seeds_give_the_same_bytes_again(project: Path) -> None:
    """A network of the paper and a compared one, trained and measured a second time, and the table they stand in."""

    def table() -> pd.DataFrame:
        return pd.read_csv(project / TABLES / "table2.csv", dtype=str).drop(columns="provenance")

    runs, results = ("ddnet_1b-seed1", "kpac"), project / "results"
    before, tabulated = measured(project, *runs), table()
    for folder in (results / "runs/smoke/ddnet_1b-seed1", results / "runs/smoke/kpac", results / "systems/smoke/kpac"):
        shutil.rmtree(folder)
    targets = [f"{TABLES}/table2.csv", *(f"results/runs/smoke/{run}/per_image.csv" for run in runs)]
    output = snakemake(project, *targets, "--cores", "8", "--configfile", SMOKE)
    assert "rule train:" in output and "rule train_system:" in output
    assert measured(project, *runs) == before
    pd.testing.assert_frame_equal(table(), tabulated)


def test_an_interrupted_training_ends_in_the_same_bytes(project: Path) -> None:
    """Killed without warning after a checkpoint and resumed by the next run, against a run that nothing stopped."""
    run = project / "results/runs/smoke/gru_no_reset-seed0"
    longer = "training={steps: 240, validate_every: 0.05}"
    target = "results/runs/smoke/gru_no_reset-seed0/per_image.csv"
    command = (target, "--cores", "2", "--configfile", SMOKE, "--config", longer)
    shutil.rmtree(run, ignore_errors=True)
    environment = os.environ | {"PYTHONPATH": str(project)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([sys.executable, "-m", "snakemake", *command], cwd=project, env=environment, **silent)
    while not (run / "state/last.ckpt").is_file():
        assert started.poll() is None
        time.sleep(0.02)
    children = psutil.Process(started.pid).children(recursive=True)
    [training] = [child for child in children if child.cmdline()[-1].endswith("train.py")]
    training.kill()
    assert started.wait() != 0
    assert not (run / "model.pt").exists() and (run / "state/last.ckpt").is_file()
    resumed = re.search(r"gru_no_reset seed 0: resuming at step (\d+)", snakemake(project, *command))
    assert resumed and 0 < int(resumed[1]) < 240
    after = measured(project, "gru_no_reset-seed0")
    shutil.rmtree(run)
    assert "resuming" not in snakemake(project, *command)
    assert measured(project, "gru_no_reset-seed0") == after


def test_published_depth_weights_take_the_place_of_the_fit(project: Path) -> None:
    """Last, because it replaces the project's depth maps: `fit: null` asks for the two published files."""
    import torch

    from ddnet.depth.network import DepthNetwork

    config = project / "workflow" / "config" / "published.yaml"
    config.write_text(re.sub(r"  fit: .*", "  fit: null", (project / SMOKE).read_text()))
    nowhere = project / "nowhere.yaml"
    nowhere.write_text("monodepth2: {about: weights, licence: own, by_hand: a zip, gigabytes: 0.1}\n")
    options = ("--cores", "2", "--configfile", str(config), "--config", f"sources_file={nowhere}")
    target = ("data/smoke/depth/monodepth2/index.csv", *options)
    missing = snakemake(project, *target, check=False)
    assert "data/weights/monodepth2" in missing and "a zip" in missing and "Traceback" not in missing

    folder = project / "data" / "weights" / "monodepth2"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = DepthNetwork()
    sizes = {"height": 64, "width": 64, "use_stereo": False}
    torch.save(network.encoder.state_dict() | sizes, folder / "encoder.pth")
    torch.save(network.depth.state_dict(), folder / "depth.pth")
    before = (project / target[0]).read_text()
    snakemake(project, *target)
    after = (project / target[0]).read_text()
    assert before != after and len(before.splitlines()) == len(after.splitlines())
