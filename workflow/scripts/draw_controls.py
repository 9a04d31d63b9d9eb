"""Draw what every control of depth gains over no depth."""

from pathlib import Path

from ddnet.log import job_log
from ddnet.report.collect import collect
from ddnet.report.controls_figure import draw_controls
from ddnet.report.inputs import run_refs, test_sets, variant_infos

job = snakemake
with job_log(str(job.log)):
    settings = job.params.settings
    infos = variant_infos(job.params.variants, settings["depth_source"])
    refs = run_refs(Path(job.input.runs[0]).parent.parent, [], infos, settings["seeds"])
    draw_controls(infos, collect(refs), test_sets(settings["datasets"])[0], job.output.figure, settings["trial"])
