import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

# Nothing is compiled into files during a run: on a disk that runs full, Python before 3.12.8 leaves a part of such a
# file (python/cpython#126606), which no later import gets past. `make install` compiles everything beforehand.
sys.dont_write_bytecode = True
os.environ.update(PYTHONDONTWRITEBYTECODE="1")

from ddnet.config import (
    given,
    load_baselines,
    load_settings,
    load_sources,
    load_variants,
    named_files,
    source_of,
    validate_settings,
)
from ddnet.io.contents import known_contents, put_times_right, write_listing
from ddnet.data.unchanged import require_unchanged_since
from ddnet.errors import DDNetError
from ddnet.io.files import sha256
from ddnet.runtime.gpu import devices_per_training, jobs_per_gpu, visible_gpus
from ddnet.runtime.log import disk_problem
from ddnet.runtime.run_lock import OnlyRun, pass_on_stops
from ddnet.runtime.paths import ROOT
from ddnet.planning.plan import (
    TABLES,
    WITH_DEPTH,
    WITHOUT_DEPTH,
    Plan,
    depth_modules,
    depth_needs,
    registered_modules,
    slug,
)
from ddnet.planning.job_memory import (
    decoding_mb,
    evaluation_mb,
    image_pixels,
    training_mb,
)
from ddnet.planning.baselines import baseline_module, system_needs
from ddnet.runtime.resources import cpu_count, memory_mb
from ddnet.report.mlflow_move import relocate
from ddnet.runtime.signals import wait_for_job

CONFIG_FOLDER = Path(workflow.basedir) / "workflow" / "config"
# Relative, as all that a job is told of: a folder that is moved has nothing to do.
PRINTED = Path(os.path.relpath(Path(workflow.basedir) / "results" / "paper"))

# On shared cores OpenMP's default spinning slows a step up to nineteen times; a short spin costs next to nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def make_plan():
    """Settings of `--configfile`, or of the default preset with `--config` merged in, checked before anything runs.

    `--config variants_file=... baselines_file=... sources_file=...` name other tables than those of workflow/config.
    """
    try:
        said = given(
            workflow.config_settings.configfiles, workflow.config_settings.config_args
        )
        sources_file, variants_file, baselines_file = named_files(said, CONFIG_FOLDER)
        if "preset" in said:
            settings = validate_settings(said, "configuration")
        else:
            settings = load_settings(CONFIG_FOLDER / "embedded.yaml", said)
        sources = load_sources(sources_file)
        variants = load_variants(variants_file)
        baselines = load_baselines(baselines_file)
        plan = Plan(settings, variants, baselines)
        for name in plan.items:
            source_of(name, sources)
        own = settings.data.kind == "folder"
        finished = {name: plan.pictures(name) for name in plan.measured_baselines}
        gpus = len(visible_gpus()) * jobs_per_gpu()
        return (
            plan,
            sources,
            gpus,
            devices_per_training(),
            settings.data.pictures() if own else [],
            finished,
        )
    except DDNetError as error:
        raise SystemExit(
            f"error: {error}"
        ) from None  # one line, without Snakemake's stack of files


PLAN, SOURCES, GPUS, DEVICES, PICTURES, FINISHED = make_plan()
PIXELS = image_pixels(PLAN.settings)
ONLY = OnlyRun(Path(".snakemake") / f"ddnet-{PLAN.settings.preset}.lock")


def listing_of(baseline=None):
    """Names and digests of a user's pictures, the input of a job: own ones, or those that a compared system restored."""
    name = f"pictures/{baseline}" if baseline else "pictures"
    return f"data/{PLAN.settings.preset}/{name}.json"


def look_at_contents():
    """Of the main process: what files hold decides what is made anew, whatever their times are.

    Nothing that was made of pictures that have changed since passes for up to date.
    """
    if not workflow.is_main_process:
        return
    preset, data = PLAN.settings.preset, Path("data") / PLAN.settings.preset
    contents = known_contents(preset)
    try:
        for baseline, pictures in {None: PICTURES, **FINISHED}.items():
            if pictures:
                write_listing(Path(listing_of(baseline)), pictures, contents)
        made = [data, Path("data/weights")]
        for folder in Path("results").glob("*"):
            made += [folder / preset, folder / f"{preset}.manifest.json"]
        put_times_right(made, contents, PRINTED.glob("*.csv"))
        with suppress(sqlite3.Error):  # the export says what is wrong with it
            relocate()
        rendered = [data / "scenes.json"]
        fetched = [data / "fetched" / f"{name}.json" for name in PLAN.datasets]
        made_from = rendered if PLAN.settings.data.kind == "embedded" else fetched
        if PLAN.settings.data.kind != "folder":  # those are listed
            require_unchanged_since(data / "index.csv", made_from, contents)
    except (DDNetError, OSError) as error:
        words = disk_problem(error) if isinstance(error, OSError) else ""
        raise SystemExit(f"error: {words or error}") from None
    finally:
        contents.save()


look_at_contents()


def begin_run():
    """Of the main process: nobody else runs this preset here, and who stops this run stops its jobs."""
    if not workflow.is_main_process:
        return
    try:
        # Jobs on a cluster go on without whoever submitted them.
        ONLY.take(tied=workflow.resource_settings.nodes is None)
    except (DDNetError, OSError) as error:
        words = disk_problem(error) if isinstance(error, OSError) else ""
        raise SystemExit(f"error: {words or error}") from None
    pass_on_stops()


# Slurm signals a job's whole step, of which this process is a part: the job below it decides when to leave.
if not workflow.is_main_process:
    wait_for_job()


onstart:
    begin_run()


onerror:
    print("What is finished is kept; the same command goes on from there.")


DEPTH_SOURCES = {slug(name): name for name in PLAN.depth_sources}

# `--cores 8` on a machine with two: a job then asks for four of the eight for each processor it really uses, so that
# two jobs run at a time, one thread each, instead of eight in each other's way. Jobs learn of it by the environment,
# not as a parameter: another number of cores must not rerun anything.
TOTAL_CORES = (
    workflow.resource_settings.cores or cpu_count()
)  # unset in reports and some dry runs
# On a cluster `--cores` is what the largest job may have, and each of them is a processor of its own.
CLUSTER = workflow.resource_settings.nodes is not None
CORES_PER_CPU = 1 if CLUSTER else -(-TOTAL_CORES // cpu_count())
os.environ.update(DDNET_CORES_PER_CPU=str(CORES_PER_CPU))

# What this machine has, unless `--resources` says otherwise. On a cluster the machine that runs Snakemake is no limit.
if not CLUSTER:
    for resource, amount in (("gpu", max(1, GPUS)), ("mem_mb", memory_mb())):
        if resource not in workflow.global_resources:
            workflow.register_resource(resource, amount)


wildcard_constraints:
    preset=PLAN.settings.preset,
    variant="|".join(PLAN.variants),
    seed=r"\d+",
    source=r"[A-Za-z0-9_.-]+",
    table="|".join(TABLES),
    study="|".join(filter(None, TABLES.values())),


def one_of(names):
    """A wildcard's constraint to the given names; to nothing at all where there is none."""
    return "|".join(names) or "(?!)"


def learned_weights(system):
    """Weights of a compared system, learned or converted; nothing for one that needs none."""
    known = PLAN.weights_of(system) in ("train", "official")
    return (
        f"results/systems/{PLAN.settings.preset}/{system}/weights.npz" if known else []
    )


def table_files(names):
    """All four forms of the named tables."""
    return [
        f"results/tables/{PLAN.settings.preset}/{name}.{form}"
        for name in names
        for form in ("csv", "md", "tex", "html")
    ]


FORMS = ("png", "pdf")  # of every figure: for screens, and for print


def drawn(study, kinds, caption):
    """The named figures of a study in both forms, as outputs that the report shows."""
    return {
        kind if form == "png" else f"{kind}_{form}": report(
            f"results/figures/{{preset}}/{study}/{kind}.{form}",
            caption=f"../report/{caption}.rst",
            category="Figures",
            subcategory=study,
            labels={"study": study, "figure": kind, "form": form.upper()},
        )
        for kind in kinds
        for form in FORMS
    }


# Table S2 and its figure compare defocus maps with the true blur, where that is known.
ALL_TABLES = PLAN.tables + (["tableS2_defocus"] if PLAN.map_systems else [])
COMPARISON_FIGURES = (
    [
        f"results/figures/{PLAN.settings.preset}/comparison/defocus_maps.{form}"
        for form in FORMS
    ]
    if PLAN.map_systems
    else []
)


def figure_files(studies):
    """Figures of the named studies, in both forms."""
    kinds = ("ablation", "psnr_params", "curves", "panels", "gates")
    of_all = {study: kinds for study in studies}
    if "controls" in of_all:
        of_all["controls"] = (*kinds, "depth_controls")
    return [
        f"results/figures/{PLAN.settings.preset}/{study}/{kind}.{form}"
        for study in of_all
        for kind in of_all[study]
        for form in FORMS
    ]


def study_files(study):
    """Tables, figures and model cards of one study."""
    tables = [name for name, shown in TABLES.items() if shown == study]
    cards = run_files(PLAN.study_variants(study), "model_card.md")
    return table_files(tables) + figure_files([study]) + cards


def run_files(names, file):
    """One file of each of the named variants' runs."""
    return [
        f"results/runs/{PLAN.settings.preset}/{run.name}/{file}"
        for run in PLAN.runs(names)
    ]


def complexity_files(names):
    """Parameter and MAC counts of the named variants."""
    return [f"results/complexity/{PLAN.settings.preset}/{name}.json" for name in names]


def photograph_inputs(wildcards):
    """Records of the fetched datasets; of a user's own folder, the list of its pictures."""
    if PLAN.settings.data.kind == "folder":
        return {"pictures": listing_of()}
    return {
        "fetched": [f"data/{{preset}}/fetched/{name}.json" for name in PLAN.datasets]
    }


def depth_weights(source):
    """The network of a depth source: fitted here, or fetched."""
    if item := PLAN.weights_item(source):
        return {"weights": f"data/{{preset}}/fetched/{item}.json"}
    if "model" in depth_needs(source):
        return {"model": "data/{preset}/depth_model/monodepth2.pt"}
    return {}


def depth_inputs(wildcards):
    """What a depth source is estimated from: the index, a network, or another source's maps."""
    source = DEPTH_SOURCES[wildcards.source]
    inputs = {"index": "data/{preset}/index.csv", **depth_weights(source)}
    if wildcards.source == "shuffled":
        inputs["base"] = (
            f"data/{{preset}}/depth/{slug(PLAN.settings.depth.source)}/index.csv"
        )
    return inputs


def run_depth(wildcards):
    """Depth maps that a variant reads; none for a variant without depth."""
    source = PLAN.depth_source(wildcards.variant)
    return f"data/{wildcards.preset}/depth/{slug(source)}/index.csv" if source else []


def run_patch_depth(wildcards):
    """Depth of the training patches by themselves, where the preset asks for the released code's way."""
    source = PLAN.depth_source(wildcards.variant)
    if PLAN.settings.depth.training == "image" or not source:
        return []
    if "model" not in depth_needs(source):
        return []
    return f"data/{wildcards.preset}/depth/{slug(source)}/patches.npy"


def dumped(names):
    """Variants as plain values, for a job's parameters."""
    return [PLAN.variants[name].model_dump(mode="json") for name in names]


def seeds_of(names):
    """Seeds of the named variants, for a job's parameters."""
    return {name: list(PLAN.seeds(name)) for name in names}


def dumped_baselines(names, unused=("recipe", "differs")):
    """Compared systems as plain values, for a job's parameters, without what is no concern of the job."""
    return [
        PLAN.baselines[name].model_dump(mode="json", exclude={*unused})
        for name in names
    ]


def report_inputs(names, baselines=("blurred",)):
    """The evaluations of the named variants and compared systems, and their networks' sizes."""
    names = list(names)
    counted = [name for name in baselines if name in PLAN.counted_baselines]
    return {
        "runs": [
            *(
                f"results/runs/{PLAN.settings.preset}/{name}/per_image.csv"
                for name in baselines
            ),
            *run_files(names, "per_image.csv"),
        ],
        "complexity": complexity_files(names + counted),
    }


def training_inputs(wildcards):
    """The index; for a network also the extracted patches and the trunks of perceptual losses."""
    inputs = {"index": "data/{preset}/index.csv"}
    if "patches" in system_needs(wildcards.system):
        inputs["patches"] = "data/{preset}/patches/patches.csv"
        if PLAN.trunk_of(wildcards.system):
            inputs["trunks"] = "data/weights/fetched.json"
    return inputs


def depth_note():
    """Where depth comes from, in the words of a footnote."""
    depth = PLAN.settings.depth
    note = depth.source
    if PLAN.weights_item(note):
        note += " (published weights)"
    elif "model" in depth_needs(note):
        note += " (its network fitted on this benchmark from scratch, not the published weights)"
    if depth.training == "patch":
        note += " (training patches by themselves, as in the released code)"
    return note


def page_assets():
    """Digests of the page's template, style and script, which are no Python."""
    return {
        path.name: sha256(path)[:12]
        for path in sorted((ROOT / "ddnet" / "report" / "assets").iterdir())
    }


def map_line(system):
    """The first line of the baselines file that uses a system: what the paper calls it."""
    return next(line for line in PLAN.baselines.values() if line.system == system)
