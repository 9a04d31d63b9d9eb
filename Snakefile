"""Benchmark of depth-guided single-image defocus deblurring: data -> depth -> training -> evaluation -> tables.

snakemake --cores 8 all                                                    embedded benchmark (default)
snakemake --cores 8 all --configfile workflow/config/paper.yaml            DPDD and RealDOF, fetched; a GPU
snakemake --cores 8 all --configfile workflow/config/smoke.yaml            the whole graph, tiny
snakemake --cores 8 all --config seeds=5                                   any setting, checked
snakemake --cores 8 controls readings fusions                              Tables S4, S5 and S6
snakemake --cores 8 release --configfile workflow/config/release.yaml      the networks that the package carries
"""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/depth.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/systems.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/defocus.smk"


rule all:
    default_target: True
    input:
        table_files(ALL_TABLES),
        figure_files(PLAN.settings.studies) + COMPARISON_FIGURES,
        f"results/report/{PLAN.settings.preset}/index.html",
        f"results/mlflow/{PLAN.settings.preset}.json",


rule tables:
    input:
        table_files(ALL_TABLES),


rule ablation:
    input:
        map(study_files, PLAN.settings.studies),
        f"results/mlflow/{PLAN.settings.preset}.json",


for study in ("controls", "readings", "fusions"):

    rule:
        name:
            study
        input:
            study_files(study),


rule release:
    input:
        run_files([WITHOUT_DEPTH, WITH_DEPTH], "per_image.csv"),
