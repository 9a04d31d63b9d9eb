"""Fetch the pretrained trunks of LPIPS and of the perceptual loss, and verify their digests."""

from pathlib import Path

from ddnet.io.files import write_json
from ddnet.models.pretrained import fetch_weights
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    folder = Path(job.output.manifest).parent
    # The manifest itself is not declared, or Snakemake would delete it, and with it the knowledge of what is there.
    fetched = fetch_weights(required=job.params.required, optional=job.params.optional, folder=folder)
    write_json(job.output.manifest, fetched)
