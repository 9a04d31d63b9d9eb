# The compared systems. Those that learn do it once, whatever number of lines of the baselines file use them.


rule train_system:
    input:
        unpack(training_inputs),
    output:
        weights="results/systems/{preset}/{system}/weights.npz",
        manifest="results/systems/{preset}/{system}/manifest.json",
    log:
        "logs/{preset}/train_system/{system}.log",
    benchmark:
        "logs/{preset}/train_system/{system}.tsv"
    wildcard_constraints:
        system=one_of(PLAN.systems_with("train")),
    priority: 50
    threads: CORES_PER_CPU
    resources:
        gpu=min(1, GPUS),
        mem_mb=training_mb(PLAN.settings, None, PIXELS, bool(GPUS)),
    params:
        training=lambda wildcards: PLAN.training_of(wildcards.system),
        code=lambda wildcards: PLAN.code(
            "train_system", [baseline_module(wildcards.system)]
        ),
    script:
        "../scripts/train_system.py"


rule import_system:
    input:
        record="data/{preset}/fetched/{system}.json",
    output:
        weights="results/systems/{preset}/{system}/weights.npz",
        manifest="results/systems/{preset}/{system}/manifest.json",
    log:
        "logs/{preset}/import_system/{system}.log",
    wildcard_constraints:
        system=one_of(PLAN.systems_with("official")),
    threads: CORES_PER_CPU
    params:
        code=lambda wildcards: PLAN.code(
            "import_system", [baseline_module(wildcards.system)]
        ),
    script:
        "../scripts/import_system.py"


rule count_system:
    output:
        "results/complexity/{preset}/{baseline}.json",
    log:
        "logs/{preset}/count_system/{baseline}.log",
    wildcard_constraints:
        baseline=one_of(PLAN.counted_baselines),
    threads: CORES_PER_CPU
    params:
        system=lambda wildcards: PLAN.baselines[wildcards.baseline].system,
        size=PLAN.settings.complexity.size,
        code=lambda wildcards: PLAN.code(
            "count_system",
            [baseline_module(PLAN.baselines[wildcards.baseline].system)],
        ),
    script:
        "../scripts/count_system.py"


rule evaluate_baseline:
    input:
        index="data/{preset}/index.csv",
        weights=METRIC_WEIGHTS,
        learned=lambda wildcards: learned_weights(
            PLAN.baselines[wildcards.baseline].system
        ),
        pictures=lambda wildcards: (
            listing_of(wildcards.baseline) if FINISHED[wildcards.baseline] else []
        ),
    output:
        images="results/runs/{preset}/{baseline}/per_image.csv",
        timing="results/runs/{preset}/{baseline}/timing.csv",
        summary="results/runs/{preset}/{baseline}/evaluation.json",
    log:
        "logs/{preset}/evaluate/{baseline}.log",
    wildcard_constraints:
        baseline=one_of(PLAN.measured_baselines),
    threads: CORES_PER_CPU
    resources:
        gpu=min(1, GPUS),
        mem_mb=evaluation_mb(PLAN.settings, PIXELS, bool(GPUS)),
    params:
        evaluation=PLAN.part("evaluation")["evaluation"],
        baseline=lambda wildcards: dumped_baselines([wildcards.baseline])[0],
        code=lambda wildcards: PLAN.code(
            "evaluate_baseline",
            [
                baseline_module(PLAN.baselines[wildcards.baseline].system),
                *METRIC_MODULES,
            ],
        ),
    script:
        "../scripts/evaluate_baseline.py"
