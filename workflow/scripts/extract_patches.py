"""Choose the training patches and stack the training images for memory-mapped reading."""

import logging
from pathlib import Path

from ddnet.config import Patches
from ddnet.data.index import read_index
from ddnet.data.patches import extract_patches
from ddnet.runtime.job import workflow_job
from ddnet.runtime.resources import job_threads

with workflow_job(snakemake):
    scenes = read_index(snakemake.input.index, split="train")
    threads = job_threads(snakemake.threads)
    count = extract_patches(scenes, Path(snakemake.output[0]).parent, Patches(**snakemake.params.patches), threads)
    logging.info("%d patches of %d images", count, len(scenes))
