"""Train one variant with one seed."""

from pathlib import Path

import torch

from ddnet.config import Model, Training, Variant
from ddnet.data.index import read_index
from ddnet.io.files import sha256
from ddnet.planning.plan import WEIGHTS
from ddnet.report.mlflow_live import Training as Reported
from ddnet.report.mlflow_live import live
from ddnet.runtime.gpu import devices_per_training
from ddnet.runtime.job import workflow_job
from ddnet.runtime.resources import job_threads
from ddnet.training.processes import train_in_processes
from ddnet.training.train import CURVES, Inputs

job = snakemake
torch.set_num_threads(job_threads(job.threads))
with workflow_job(job):
    per_patch = job.input.get("patch_depth")
    inputs = Inputs(
        variant=Variant(**job.params.variant),
        seed=int(job.wildcards.seed),
        model=Model(**job.params.settings["model"]),
        training=Training(**job.params.settings["training"]),
        patches=Path(job.input.patches).parent,
        training_scenes=read_index(job.input.index, split="train"),
        validation=read_index(job.input.index, split="val"),
        depth=Path(job.input.depth).parent if job.input.depth else None,
        patch_depth=Path(per_patch) if per_patch else None,
        weights=WEIGHTS,
        stamp={
            "code_digest": job.params.code,
            "data_digest": sha256(job.input.index)[:12],
            "depth_source": job.params.depth_source,
        }
        | ({"depth_training": "patch"} if per_patch else {}),
    )
    out, variant = Path(job.output.model).parent, inputs.variant
    tags = {"variant": variant.name, "seed": str(inputs.seed), "fusion": variant.fusion}
    tags["studies"] = " ".join(variant.study)
    settings = job.params.settings | {"variant": variant.name, "seed": inputs.seed}
    with live(Reported(out / "state" / CURVES, job.wildcards.preset, out.name, inputs.digest(), tags, settings)):
        train_in_processes(inputs, out, devices_per_training())
