"""Draw the figures of one study."""

from pathlib import Path

from ddnet.data.index import read_index
from ddnet.report.collect import collect, read_json
from ddnet.report.figures import Study, draw_study
from ddnet.report.inputs import compared, run_refs, test_sets, variant_infos
from ddnet.report.panels import panel_inputs
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    dataset, _ = test_sets(settings["datasets"])
    infos = variant_infos(job.params.variants, settings["depth_source"])
    systems = compared(job.params.baselines)
    refs = run_refs(Path(job.input.runs[0]).parent.parent, systems, infos, job.params.seeds)
    complexity = {Path(path).stem: read_json(Path(path)) for path in job.input.complexity}
    scenes = read_index(job.input.index, dataset=dataset, split="test")
    panels = panel_inputs(scenes, settings["panels"], Path(job.input.depth).parent)
    study = Study(job.wildcards.study, infos, reference="ddnet_1b", trial=settings["trial"])
    draw_study(study, refs, collect(refs), complexity, dataset, panels, Path(job.output.ablation).parent)
