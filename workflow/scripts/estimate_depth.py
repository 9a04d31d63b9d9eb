"""Estimate one depth source for every image of the index, once per whole image."""

from pathlib import Path

from ddnet.data.index import read_index
from ddnet.depth.estimate import estimate_depth
from ddnet.fetch import network_path
from ddnet.runtime.job import discard_state, workflow_job

job = snakemake
with workflow_job(job):
    model = network_path(job.input.get("model"), job.input.get("weights"))
    if job.input.get("model"):
        discard_state(Path(job.input.model).parent)  # Snakemake has recorded the fit
    estimate_depth(
        [scene for scene in read_index(job.input.index) if scene.split != "train_depth"],
        job.params.source,
        Path(job.output.index).parent,
        model_path=model,
        base_folder=Path(job.input.base).parent if job.input.get("base") else None,
        seed=job.params.seed,
        size=tuple(job.params.size) if model else None,
    )
