"""Learn the weights of a compared system on the preset's training scenes."""

from pathlib import Path

import torch

from baselines import train
from ddnet.data.index import read_index
from ddnet.io.files import sha256, write_json
from ddnet.planning.plan import WEIGHTS
from ddnet.runtime.job import workflow_job
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.resources import job_threads

job = snakemake
torch.set_num_threads(job_threads(job.threads))
with workflow_job(job):
    watch, out = Stopwatch(), Path(job.output.weights)
    learned_on, val = (read_index(job.input.index, split=split) for split in ("train", "val"))
    patches = job.input.get("patches")
    inputs = {"patches": Path(patches).parent, "trunks": WEIGHTS} if patches else {}
    stamp = f"{job.params.code} {sha256(job.input.index)}"
    scores = train(job.wildcards.system, learned_on, val, out, job.params.training, inputs, stamp)
    record = {"weights": "train", "training": job.params.training, "scores": scores}
    write_json(job.output.manifest, record | {"provenance": watch.manifest(code_digest=job.params.code)})
