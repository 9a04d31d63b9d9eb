"""Fit the depth network on the training scenes' true disparity."""

from pathlib import Path

from ddnet.config import Depth
from ddnet.data.index import read_index
from ddnet.engine.fit_depth import fit_depth
from ddnet.log import job_log
from ddnet.plan import job_threads

with job_log(str(snakemake.log)):
    depth = Depth(**snakemake.params.depth)
    train, val = (read_index(snakemake.input.index, split=split) for split in ("train", "val"))
    options = depth.fit.model_dump()
    size = {"height": depth.height, "width": depth.width}
    fit_depth(train, val, Path(snakemake.output.model), **size, **options, threads=job_threads(snakemake.threads))
