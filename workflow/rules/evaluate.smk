# Pretrained trunks are fetched where something uses them.
METRIC_WEIGHTS = "data/weights/fetched.json" if PLAN.metric_trunks else []
METRIC_MODULES = [f"ddnet.metrics.{name}" for name in PLAN.settings.evaluation.metrics]


rule evaluate:
    input:
        index="data/{preset}/index.csv",
        model="results/runs/{preset}/{variant}-seed{seed}/model.pt",
        history="results/runs/{preset}/{variant}-seed{seed}/history.csv",
        manifest="results/runs/{preset}/{variant}-seed{seed}/manifest.json",
        complexity="results/complexity/{preset}/{variant}.json",
        depth=run_depth,
        weights=METRIC_WEIGHTS,
    output:
        images="results/runs/{preset}/{variant}-seed{seed}/per_image.csv",
        timing="results/runs/{preset}/{variant}-seed{seed}/timing.csv",
        summary="results/runs/{preset}/{variant}-seed{seed}/evaluation.json",
        card=report(
            "results/runs/{preset}/{variant}-seed{seed}/model_card.md",
            caption="../report/card.rst",
            category="Model cards",
            labels={"variant": "{variant}", "seed": "{seed}"},
        ),
    log:
        "logs/{preset}/evaluate/{variant}-seed{seed}.log",
    priority: 5
    threads: CORES_PER_CPU
    resources:
        gpu=min(1, GPUS),
        mem_mb=evaluation_mb(PLAN.settings, PIXELS, bool(GPUS)),
    params:
        evaluation=PLAN.part("evaluation")["evaluation"],
        variant=lambda wildcards: PLAN.variants[wildcards.variant].model_dump(
            mode="json"
        ),
        depth=PLAN.part("depth")["depth"],
        trial=PLAN.trial,
        code=lambda wildcards: PLAN.code(
            ["ddnet.engine.evaluate", "ddnet.report.model_card", *METRIC_MODULES],
            wildcards.variant,
            "evaluate",
        ),
    script:
        "../scripts/evaluate.py"
