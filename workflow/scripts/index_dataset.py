"""Check every pair and write the scene index."""

import time
from pathlib import Path

from ddnet.data.embedded.dataset import index_benchmark
from ddnet.data.index import write_index
from ddnet.data.unchanged import remember_pictures
from ddnet.io.contents import known_contents
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    started, scenes = time.time_ns(), index_benchmark(Path(job.input.manifest).parent / "scenes")
    write_index(job.output.index, scenes)
    remember_pictures(scenes, known_contents(job.wildcards.preset), started)
