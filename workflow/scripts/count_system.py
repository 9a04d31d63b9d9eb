"""Count parameters and MACs of one compared system's published network."""

from baselines.complexity import counted
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    write_json(job.output[0], counted(job.params.system, job.params.size))
