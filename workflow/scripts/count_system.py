"""Count parameters and MACs of one compared system's published network."""

from baselines.complexity import counted
from ddnet.files import write_json
from ddnet.log import job_log

job = snakemake
with job_log(str(job.log)):
    write_json(job.output[0], counted(job.params.system, job.params.size))
