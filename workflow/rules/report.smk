report: "../report/workflow.rst"


REPORT_SETTINGS = {
    "preset": PLAN.settings.preset,
    "datasets": list(PLAN.datasets),
    "width": PLAN.settings.model.width,
    "depth_source": PLAN.settings.depth.source,
    "depth_note": depth_note(),
    "trial": PLAN.trial,
    "systems": PLAN.learned_systems,
    "panels": PLAN.settings.evaluation.panels,
}


# Only Tables 1 to 4 have a printed counterpart; the claims are those of Tables 3 and 4.
PRINTED_BESIDE = {name: (name,) for name in TABLES if "S" not in name}
PRINTED_BESIDE["tableS3_claims"] = ("table3", "table4")


# Depth maps that the page shows: the preset's own, and those that its networks see instead.
PAGE_DEPTHS = list(
    dict.fromkeys(
        [
            PLAN.settings.depth.source,
            *filter(None, map(PLAN.depth_source, PLAN.selected)),
        ]
    )
)


rule make_table:
    input:
        unpack(
            lambda wildcards: report_inputs(
                PLAN.table_variants(wildcards.table),
                PLAN.table_baselines(wildcards.table),
            )
        ),
        audit="data/{preset}/audit.json",
        printed=lambda wildcards: [
            PRINTED / f"{name}.csv" for name in PRINTED_BESIDE.get(wildcards.table, ())
        ],
    output:
        csv="results/tables/{preset}/{table}.csv",
        md="results/tables/{preset}/{table}.md",
        tex="results/tables/{preset}/{table}.tex",
        html=report(
            "results/tables/{preset}/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        "logs/{preset}/make_table/{table}.log",
    threads: CORES_PER_CPU
    params:
        settings=REPORT_SETTINGS,
        printed=str(PRINTED),
        variants=lambda wildcards: dumped(PLAN.table_variants(wildcards.table)),
        seeds=lambda wildcards: seeds_of(PLAN.table_variants(wildcards.table)),
        baselines=lambda wildcards: dumped_baselines(
            PLAN.table_baselines(wildcards.table), unused=("recipe",)
        ),
        code=PLAN.code("make_table"),
    script:
        "../scripts/make_table.py"


rule draw_controls:
    input:
        unpack(lambda wildcards: report_inputs(PLAN.study_variants("controls"))),
    output:
        **drawn("controls", ["depth_controls"], "controls"),
    log:
        "logs/{preset}/draw_controls.log",
    threads: CORES_PER_CPU
    params:
        settings=REPORT_SETTINGS,
        variants=dumped(PLAN.study_variants("controls")),
        seeds=seeds_of(PLAN.study_variants("controls")),
        code=PLAN.code("draw_controls"),
    script:
        "../scripts/draw_controls.py"


rule draw_study:
    input:
        unpack(lambda wildcards: report_inputs(PLAN.study_variants(wildcards.study))),
        index="data/{preset}/index.csv",
        depth=f"data/{{preset}}/depth/{slug(PLAN.settings.depth.source)}/index.csv",
    output:
        **drawn(
            "{study}",
            ["ablation", "psnr_params", "curves", "panels", "gates"],
            "figure",
        ),
    log:
        "logs/{preset}/draw_study/{study}.log",
    threads: CORES_PER_CPU
    params:
        settings=REPORT_SETTINGS,
        variants=lambda wildcards: dumped(PLAN.study_variants(wildcards.study)),
        seeds=lambda wildcards: seeds_of(PLAN.study_variants(wildcards.study)),
        baselines=dumped_baselines(["blurred"]),
        code=PLAN.code("draw_study"),
    script:
        "../scripts/draw_study.py"


rule make_page:
    input:
        unpack(lambda wildcards: report_inputs(PLAN.selected, PLAN.measured_baselines)),
        cards=run_files(PLAN.selected, "model_card.md"),
        tables=table_files(ALL_TABLES),
        figures=figure_files(PLAN.settings.studies) + COMPARISON_FIGURES,
        index="data/{preset}/index.csv",
        depths=[
            f"data/{{preset}}/depth/{slug(source)}/index.csv" for source in PAGE_DEPTHS
        ],
    output:
        index=report(
            "results/report/{preset}/index.html",
            caption="../report/page.rst",
            category="Page of results",
            labels={"preset": "{preset}"},
        ),
        files=directory("results/report/{preset}/files"),
    log:
        "logs/{preset}/make_page.log",
    threads: CORES_PER_CPU
    params:
        settings=REPORT_SETTINGS | {"save": PLAN.settings.evaluation.save},
        page=PLAN.part("page")["page"],
        config=PLAN.settings.model_dump(mode="json"),
        variants=dumped(PLAN.selected),
        seeds=seeds_of(PLAN.selected),
        baselines=dumped_baselines(PLAN.measured_baselines),
        depths=PAGE_DEPTHS,
        assets=page_assets(),
        code=PLAN.code("make_page"),
    script:
        "../scripts/make_page.py"


rule export_mlflow:
    input:
        unpack(lambda wildcards: report_inputs(PLAN.selected, PLAN.measured_baselines)),
        cards=run_files(PLAN.selected, "model_card.md"),
        tables=table_files(ALL_TABLES),
        figures=figure_files(PLAN.settings.studies) + COMPARISON_FIGURES,
        index="data/{preset}/index.csv",
    output:
        "results/mlflow/{preset}.json",
    log:
        "logs/{preset}/export_mlflow.log",
    threads: CORES_PER_CPU
    params:
        database="results/mlflow.db",
        artifacts="results/mlartifacts",
        settings=REPORT_SETTINGS,
        config=PLAN.settings.model_dump(mode="json"),
        variants=dumped(PLAN.selected),
        seeds=seeds_of(PLAN.selected),
        baselines=dumped_baselines(PLAN.measured_baselines),
        tables={name: TABLES.get(name) for name in ALL_TABLES},
        studies=list(PLAN.settings.studies),
        code=PLAN.code("export_mlflow"),
    script:
        "../scripts/export_mlflow.py"


onsuccess:
    from ddnet.report.claims import claims_text

    claims = Path(f"results/tables/{PLAN.settings.preset}/tableS3_claims.csv")
    try:
        if claims.is_file():
            print(claims_text(claims))
    except DDNetError as error:  # the run itself is finished
        print(f"note: {error}")
