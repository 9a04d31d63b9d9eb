"""Mirror the finished runs, tables and figures of a preset into MLflow."""

from dataclasses import asdict
from pathlib import Path

from ddnet.data.index import panel_scenes, read_index
from ddnet.io.files import write_json
from ddnet.report.collect import read_json
from ddnet.report.inputs import compared, run_refs, test_sets, variant_infos
from ddnet.report.mlflow_export import export
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    dataset, ood_dataset = test_sets(settings["datasets"])
    infos = variant_infos(job.params.variants, settings["depth_source"])
    systems = compared(job.params.baselines)
    refs = run_refs(Path(job.input.runs[0]).parent.parent, systems, infos, job.params.seeds)
    # Tables 1, 2 and S2 compare systems; they belong to no study and get a parent run of their own.
    studies = [*job.params.studies, "comparison"]
    figures = {s: [Path(f) for f in job.input.figures if Path(f).parent.name == s] for s in studies}
    tables = {study: [] for study in studies}
    for file in map(Path, job.input.tables):
        tables[job.params.tables[file.stem] or "comparison"].append(file)
    done = export(
        job.params.database,
        job.params.artifacts,
        settings["preset"],
        refs,
        tables,
        figures,
        job.params.config,
        dataset=dataset,
        ood_dataset=ood_dataset,
        variants=infos,
        complexity={Path(path).stem: read_json(Path(path)) for path in job.input.complexity},
        scenes=[
            (s.dataset, s.scene) for s in panel_scenes(read_index(job.input.index, split="test"), settings["panels"])
        ],
        trial=settings["trial"],
    )
    write_json(job.output[0], asdict(done))
