rule fit_depth:
    input:
        index="data/{preset}/index.csv",
    output:
        model="data/{preset}/depth_model/monodepth2.pt",
        history="data/{preset}/depth_model/history.csv",
        scores="data/{preset}/depth_model/scores.json",
    log:
        "logs/{preset}/fit_depth.log",
    benchmark:
        "logs/{preset}/fit_depth.tsv"
    priority: 1000
    # Half of the machine: trainings that need no estimated depth fill the other half.
    threads: max(CORES_PER_CPU, TOTAL_CORES // 2)
    resources:
        gpu=min(1, GPUS),
        mem_mb=2000,
    params:
        depth=PLAN.part("depth")["depth"],
        code=PLAN.code("fit_depth"),
    script:
        "../scripts/fit_depth.py"


rule estimate_depth:
    input:
        unpack(depth_inputs),
    output:
        index="data/{preset}/depth/{source}/index.csv",
        preview=report(
            "data/{preset}/depth/{source}/preview.png",
            caption="../report/depth.rst",
            category="Depth",
            labels={"source": "{source}"},
        ),
    log:
        "logs/{preset}/estimate_depth/{source}.log",
    threads: CORES_PER_CPU
    resources:
        gpu=lambda wildcards: (
            min(1, GPUS)
            if "model" in depth_needs(DEPTH_SOURCES[wildcards.source])
            else 0
        ),
    params:
        size=[PLAN.settings.depth.height, PLAN.settings.depth.width],
        source=lambda wildcards: DEPTH_SOURCES[wildcards.source],
        seed=PLAN.settings.data.seed if PLAN.settings.data.kind == "embedded" else 0,
        code=lambda wildcards: PLAN.code(
            "estimate_depth", depth_modules(DEPTH_SOURCES[wildcards.source])
        ),
    script:
        "../scripts/estimate_depth.py"


rule estimate_patch_depth:
    input:
        unpack(lambda wildcards: depth_weights(DEPTH_SOURCES[wildcards.source])),
        patches="data/{preset}/patches/patches.csv",
    output:
        depths="data/{preset}/depth/{source}/patches.npy",
    log:
        "logs/{preset}/estimate_patch_depth/{source}.log",
    threads: CORES_PER_CPU
    resources:
        gpu=min(1, GPUS),
    params:
        source=lambda wildcards: DEPTH_SOURCES[wildcards.source],
        code=lambda wildcards: PLAN.code(
            "estimate_patch_depth", depth_modules(DEPTH_SOURCES[wildcards.source])
        ),
    script:
        "../scripts/estimate_patch_depth.py"
