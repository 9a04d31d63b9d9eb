"""Fit the depth network on true disparity: of the scenes kept for it, or else of the training scenes."""

from pathlib import Path

from ddnet.config import Depth
from ddnet.data.index import read_index
from ddnet.depth.fit import fit_depth
from ddnet.io.files import sha256, write_json
from ddnet.runtime.job import workflow_job
from ddnet.runtime.resources import job_threads

with workflow_job(snakemake):
    depth = Depth(**snakemake.params.depth)
    own, train, val = (read_index(snakemake.input.index, split=split) for split in ("train_depth", "train", "val"))
    options = depth.fit.model_dump()
    size = {"height": depth.height, "width": depth.width}
    stamp = f"{snakemake.params.code} {sha256(snakemake.input.index)}"
    scores = fit_depth(
        own or train, val, Path(snakemake.output.model), **size, **options, threads=job_threads(snakemake.threads),
        stamp=stamp,
    )  # fmt: skip
    write_json(snakemake.output.scores, scores)
