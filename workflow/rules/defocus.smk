# Where the true blur is known, every map-based system's maps are scored against it, beside the true map itself and the
# training scenes' median everywhere.
MAPS = PLAN.map_systems + ["true", "constant"] if PLAN.map_systems else []


rule evaluate_defocus_map:
    input:
        index="data/{preset}/index.csv",
        learned=lambda wildcards: learned_weights(wildcards.map),
    output:
        images="results/defocus_maps/{preset}/{map}/per_image.csv",
        scores="results/defocus_maps/{preset}/{map}/scores.json",
    log:
        "logs/{preset}/evaluate_defocus_map/{map}.log",
    wildcard_constraints:
        map=one_of(MAPS),
    threads: CORES_PER_CPU
    resources:
        mem_mb=evaluation_mb(PLAN.settings, PIXELS, False),
    params:
        dataset=PLAN.datasets[0],
        panels=PLAN.settings.evaluation.panels,
        baseline=lambda wildcards: (
            map_line(wildcards.map).model_dump(mode="json")
            if wildcards.map in PLAN.map_systems
            else None
        ),
        code=lambda wildcards: PLAN.code(
            "evaluate_defocus_map",
            (
                [baseline_module(wildcards.map)]
                if wildcards.map in PLAN.map_systems
                else []
            ),
        ),
    script:
        "../scripts/evaluate_defocus_map.py"


MAP_REPORT = {
    "settings": REPORT_SETTINGS,
    "labels": {system: map_line(system).label for system in PLAN.map_systems},
}


rule make_defocus_table:
    input:
        scores=expand(
            "results/defocus_maps/{preset}/{map}/scores.json",
            map=MAPS,
            allow_missing=True,
        ),
    output:
        csv="results/tables/{preset}/tableS2_defocus.csv",
        md="results/tables/{preset}/tableS2_defocus.md",
        tex="results/tables/{preset}/tableS2_defocus.tex",
        html=report(
            "results/tables/{preset}/tableS2_defocus.html",
            caption="../report/defocus.rst",
            category="Tables",
            labels={"table": "tableS2_defocus"},
        ),
    log:
        "logs/{preset}/make_table/tableS2_defocus.log",
    threads: CORES_PER_CPU
    params:
        **MAP_REPORT,
        code=PLAN.code("make_defocus_table"),
    script:
        "../scripts/make_defocus_table.py"


rule draw_defocus_maps:
    input:
        index="data/{preset}/index.csv",
        scores=expand(
            "results/defocus_maps/{preset}/{map}/scores.json",
            map=MAPS,
            allow_missing=True,
        ),
    output:
        **drawn("comparison", ["defocus_maps"], "defocus"),
    log:
        "logs/{preset}/draw_defocus_maps.log",
    threads: CORES_PER_CPU
    params:
        **MAP_REPORT,
        code=PLAN.code("draw_defocus_maps"),
    script:
        "../scripts/draw_defocus_maps.py"
