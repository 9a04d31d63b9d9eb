rule train:
    input:
        index="data/{preset}/index.csv",
        patches="data/{preset}/patches/patches.csv",
        depth=run_depth,
        patch_depth=run_patch_depth,
        weights=(
            "data/weights/fetched.json"
            if PLAN.settings.training.perceptual.weight
            else []
        ),
    output:
        model="results/runs/{preset}/{variant}-seed{seed}/model.pt",
        history="results/runs/{preset}/{variant}-seed{seed}/history.csv",
        manifest="results/runs/{preset}/{variant}-seed{seed}/manifest.json",
    log:
        "logs/{preset}/train/{variant}-seed{seed}.log",
    benchmark:
        "logs/{preset}/train/{variant}-seed{seed}.tsv"
    priority: lambda wildcards: 10 * sum(PLAN.variants[wildcards.variant].branches)
    threads: min(DEVICES * CORES_PER_CPU, TOTAL_CORES)
    resources:
        gpu=DEVICES if GPUS else 0,
        mem_mb=lambda wildcards: training_mb(
            PLAN.settings, PLAN.variants[wildcards.variant], PIXELS, bool(GPUS)
        ),
    params:
        settings=PLAN.part("model", "training"),
        variant=lambda wildcards: PLAN.variants[wildcards.variant].trained(),
        code=lambda wildcards: PLAN.code("train", variant=wildcards.variant),
        depth_source=lambda wildcards: PLAN.depth_source(wildcards.variant),
    script:
        "../scripts/train.py"


rule measure_complexity:
    output:
        "results/complexity/{preset}/{variant}.json",
    log:
        "logs/{preset}/measure_complexity/{variant}.log",
    priority: 100  # it tells at once what is wrong with a network
    threads: CORES_PER_CPU
    params:
        settings=PLAN.part("complexity"),
        variant=lambda wildcards: PLAN.variants[wildcards.variant].trained(),
        code=lambda wildcards: PLAN.code(
            "measure_complexity", variant=wildcards.variant
        ),
    script:
        "../scripts/measure_complexity.py"
