"""Check every pair and write the scene index."""

from pathlib import Path

from ddnet.data.embedded import index_benchmark
from ddnet.data.index import write_index
from ddnet.log import job_log

with job_log(str(snakemake.log)):
    write_index(snakemake.output.index, index_benchmark(Path(snakemake.input.manifest).parent / "scenes"))
