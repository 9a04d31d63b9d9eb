"""Estimate the depth of every training patch by itself, as the released code does."""

from pathlib import Path

from ddnet.depth.patches import estimate_patch_depth
from ddnet.fetch import network_path
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    model = network_path(job.input.get("model"), job.input.get("weights"))
    estimate_patch_depth(Path(job.input.patches).parent, job.params.source, Path(job.output.depths), model)
