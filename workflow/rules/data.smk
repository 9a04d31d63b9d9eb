rule render_scenes:
    output:
        manifest="data/{preset}/scenes.json",
    log:
        "logs/{preset}/render_scenes.log",
    benchmark:
        "logs/{preset}/render_scenes.tsv"
    threads: TOTAL_CORES
    params:
        data=PLAN.part("data")["data"],
        code=PLAN.code(["ddnet.data.embedded"], script="render_scenes"),
    script:
        "../scripts/render_scenes.py"


rule index_dataset:
    input:
        manifest="data/{preset}/scenes.json",
    output:
        index="data/{preset}/index.csv",
    log:
        "logs/{preset}/index_dataset.log",
    threads: CORES_PER_CPU
    params:
        code=PLAN.code(
            ["ddnet.data.embedded", "ddnet.data.index"], script="index_dataset"
        ),
    script:
        "../scripts/index_dataset.py"


rule extract_patches:
    input:
        index="data/{preset}/index.csv",
    output:
        multiext(
            "data/{preset}/patches/",
            "images.npy",
            "targets.npy",
            "scenes.csv",
            "patches.csv",
        ),
    log:
        "logs/{preset}/extract_patches.log",
    threads: CORES_PER_CPU
    params:
        patches=PLAN.part("training")["training"]["patches"],
        code=PLAN.code(["ddnet.data.patches"], script="extract_patches"),
    script:
        "../scripts/extract_patches.py"


rule fetch_weights:
    output:
        manifest="data/weights/fetched.json",
    log:
        "logs/fetch_weights.log",
    threads: CORES_PER_CPU
    params:
        code=PLAN.code(["ddnet.weights"], script="fetch_weights"),
        perceptual=PLAN.settings.training.perceptual.trunk,
    script:
        "../scripts/fetch_weights.py"
