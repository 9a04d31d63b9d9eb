"""Fetch the pretrained trunks of LPIPS and of the perceptual loss, and verify their digests."""

from pathlib import Path

from ddnet.log import job_log
from ddnet.weights import fetch_weights

with job_log(str(snakemake.log)):
    folder = Path(snakemake.output.manifest).parent
    fetch_weights(required=["alexnet", snakemake.params.perceptual], optional=["squeezenet1_1"], folder=folder)
