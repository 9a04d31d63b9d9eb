"""Benchmark of depth-guided single-image defocus deblurring: data -> depth -> training -> evaluation -> tables.

snakemake --cores 8 all                                                    embedded benchmark (default)
snakemake --cores 8 all --configfile workflow/config/paper.yaml            DPDD and RealDOF, fetched; a GPU
snakemake --cores 8 all --configfile workflow/config/smoke.yaml            the whole graph, tiny
snakemake --cores 8 all --config seeds=5                                   any setting, checked
"""

from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/depth.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/systems.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/defocus.smk"


localrules:
    all,
    tables,
    ablation,


rule all:
    default_target: True
    input:
        table_files(ALL_TABLES),
        figure_files(PLAN.settings.studies),
        COMPARISON_FIGURES,
        f"results/mlflow/{PLAN.settings.preset}.json",


rule tables:
    input:
        table_files(ALL_TABLES),


rule ablation:
    input:
        table_files(
            name for name, study in TABLES.items() if study in PLAN.settings.studies
        ),
        figure_files(PLAN.settings.studies),
        f"results/mlflow/{PLAN.settings.preset}.json",
