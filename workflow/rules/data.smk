if PLAN.settings.data.kind == "embedded":

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
            code=PLAN.code("render_scenes"),
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
            code=PLAN.code("index_dataset"),
        script:
            "../scripts/index_dataset.py"

else:

    rule index_photographs:
        input:
            unpack(photograph_inputs),
        output:
            index="data/{preset}/index.csv",
        log:
            "logs/{preset}/index_photographs.log",
        threads: TOTAL_CORES
        resources:
            mem_mb=decoding_mb(PIXELS),
        params:
            data=PLAN.part("data")["data"],
            splits=sha256(ROOT / "ddnet" / "data" / "splits" / "dpdd.csv")[:12],
            code=PLAN.code("index_photographs"),
        script:
            "../scripts/index_photographs.py"


rule audit_data:
    input:
        index="data/{preset}/index.csv",
    output:
        audit="data/{preset}/audit.json",
    log:
        "logs/{preset}/audit_data.log",
    threads: CORES_PER_CPU
    resources:
        mem_mb=decoding_mb(PIXELS),
    params:
        code=PLAN.code("audit_data"),
    script:
        "../scripts/audit_data.py"


# The files themselves lie in data/<item>/ (data/weights/<item>/), shared by all presets, or in a copy at hand. Only the
# record is declared: Snakemake deletes the outputs of a job that fails, and nobody wants to download DPDD twice.
rule fetch_item:
    output:
        record="data/{preset}/fetched/{item}.json",
    log:
        "logs/{preset}/fetch_item/{item}.log",
    wildcard_constraints:
        item="|".join(SOURCES),
    threads: CORES_PER_CPU
    params:
        source=lambda wildcards: SOURCES[wildcards.item].model_dump(mode="json"),
        local=lambda wildcards: PLAN.local_copy(wildcards.item),
        data=lambda wildcards: (
            PLAN.part("data")["data"] if wildcards.item == "dpdd" else None
        ),
        code=PLAN.code("fetch_item"),
    script:
        "../scripts/fetch_item.py"


rule extract_patches:
    input:
        index="data/{preset}/index.csv",
    output:
        multiext(
            "data/{preset}/patches/",
            "images.npy",
            "targets.npy",
            "views.npy",
            "scenes.csv",
            "patches.csv",
        ),
    log:
        "logs/{preset}/extract_patches.log",
    threads: CORES_PER_CPU
    resources:
        mem_mb=decoding_mb(PIXELS),
    params:
        patches=PLAN.part("training")["training"]["patches"],
        code=PLAN.code("extract_patches"),
    script:
        "../scripts/extract_patches.py"


rule fetch_weights:
    output:
        manifest="data/weights/fetched.json",
    log:
        "logs/fetch_weights.log",
    threads: CORES_PER_CPU
    params:
        code=PLAN.code("fetch_weights"),
        required=PLAN.required_trunks,
        optional=PLAN.optional_trunks,
    script:
        "../scripts/fetch_weights.py"
