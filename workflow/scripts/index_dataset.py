"""Check every pair and write the scene index."""

from pathlib import Path

from ddnet.data.embedded import index_benchmark
from ddnet.data.index import write_index
from ddnet.job import workflow_job

with workflow_job(snakemake):
    write_index(snakemake.output.index, index_benchmark(Path(snakemake.input.manifest).parent / "scenes"))
