"""Draw the defocus maps of the panel scenes beside the true ones."""

from ddnet.data.index import read_index
from ddnet.report.defocus import map_sources
from ddnet.report.defocus_figure import draw_defocus_maps
from ddnet.report.panels import panel_inputs
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    sources = map_sources(job.input.scores, job.params.labels)
    scenes = read_index(job.input.index, settings["datasets"][0], "test")
    draw_defocus_maps(sources, panel_inputs(scenes, settings["panels"], None), job.output[0], settings["trial"])
