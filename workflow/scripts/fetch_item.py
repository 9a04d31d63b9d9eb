"""Fetch one dataset or set of weights, or find it in a copy at hand, and record each file's SHA-256."""

from ddnet.config import DpddData, Item
from ddnet.data.fetch_data import folder_of, sized, wanted_files
from ddnet.fetch import fetch_item, write_fetched
from ddnet.io.files import expanded
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    name, data = job.wildcards.item, DpddData(**job.params.data) if job.params.data else None
    local = expanded(job.params.local) if job.params.local else None
    item = sized(name, Item(**job.params.source), data)
    fetched = fetch_item(name, item, wanted_files(name, data), folder_of(name), local)
    write_fetched(job.output.record, fetched)
