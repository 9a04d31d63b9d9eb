"""Draw what every control of depth gains over no depth."""

from pathlib import Path

from ddnet.report.collect import collect
from ddnet.report.controls_figure import draw_controls
from ddnet.report.inputs import run_refs, test_sets, variant_infos
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    infos = variant_infos(job.params.variants, settings["depth_source"])
    refs = run_refs(Path(job.input.runs[0]).parent.parent, [], infos, job.params.seeds)
    draw_controls(
        infos, collect(refs), test_sets(settings["datasets"])[0], job.output.depth_controls, settings["trial"]
    )
