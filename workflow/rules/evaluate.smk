# Pretrained trunks are fetched where something uses them.
METRIC_WEIGHTS = "data/weights/fetched.json" if PLAN.metric_trunks else []
METRIC_MODULES = sum(
    (registered_modules("metric", name) for name in PLAN.settings.evaluation.metrics),
    [],
)


rule evaluate:
    input:
        index="data/{preset}/index.csv",
        model="results/runs/{preset}/{variant}-seed{seed}/model.pt",
        depth=run_depth,
        weights=METRIC_WEIGHTS,
    output:
        images="results/runs/{preset}/{variant}-seed{seed}/per_image.csv",
        timing="results/runs/{preset}/{variant}-seed{seed}/timing.csv",
        summary="results/runs/{preset}/{variant}-seed{seed}/evaluation.json",
    log:
        "logs/{preset}/evaluate/{variant}-seed{seed}.log",
    priority: 5
    threads: CORES_PER_CPU
    resources:
        gpu=min(1, GPUS),
        mem_mb=evaluation_mb(PLAN.settings, PIXELS, bool(GPUS)),
    params:
        evaluation=PLAN.part("evaluation")["evaluation"],
        code=lambda wildcards: PLAN.code("evaluate", METRIC_MODULES, wildcards.variant),
    script:
        "../scripts/evaluate.py"


# By itself, so that a word in a report measures no network again.
rule write_card:
    input:
        images="results/runs/{preset}/{variant}-seed{seed}/per_image.csv",
        summary="results/runs/{preset}/{variant}-seed{seed}/evaluation.json",
        history="results/runs/{preset}/{variant}-seed{seed}/history.csv",
        manifest="results/runs/{preset}/{variant}-seed{seed}/manifest.json",
        complexity="results/complexity/{preset}/{variant}.json",
    output:
        card=report(
            "results/runs/{preset}/{variant}-seed{seed}/model_card.md",
            caption="../report/card.rst",
            category="Model cards",
            labels={"variant": "{variant}", "seed": "{seed}"},
        ),
    log:
        "logs/{preset}/write_card/{variant}-seed{seed}.log",
    threads: CORES_PER_CPU
    params:
        variant=lambda wildcards: PLAN.variants[wildcards.variant].model_dump(
            mode="json"
        ),
        depth=PLAN.part("depth")["depth"],
        trial=PLAN.trial,
        code=PLAN.code("write_card"),
    script:
        "../scripts/write_card.py"
