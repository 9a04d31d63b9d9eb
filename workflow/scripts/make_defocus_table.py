"""Build the table of defocus maps and write it as CSV, Markdown, LaTeX and HTML."""

from pathlib import Path

from ddnet.report.defocus import map_sources, table_s2
from ddnet.report.formats import write_table
from ddnet.report.wording import learned_from
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    notes = {name: learned_from(chosen) for name, chosen in settings["systems"].items()}
    sources = map_sources(job.input.scores, job.params.labels, notes)
    write_table(table_s2(sources, settings["preset"], settings["trial"]), Path(job.output.html).parent)
