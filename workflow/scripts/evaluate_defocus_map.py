"""Measure one system's defocus maps, the true ones or a constant against the true blur of a test set."""

from pathlib import Path

import torch

from baselines import build
from baselines.defocus_evaluation import evaluate_map, source_of
from ddnet.config import Baseline
from ddnet.data.index import panel_scenes, read_index
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.resources import job_threads

job = snakemake
threads = job_threads(job.threads)
torch.set_num_threads(threads)
with workflow_job(job):
    watch, dataset, given = Stopwatch(), job.params.dataset, job.params.baseline
    learned = Path(job.input.learned) if job.input.learned else None
    system = build(Baseline(**given), learned, dataset) if given else None
    source = source_of(job.wildcards.map, system, read_index(job.input.index, split="train"))
    scenes = read_index(job.input.index, dataset, "test")
    panels = [scene.key for scene in panel_scenes(scenes, job.params.panels)]
    scores = evaluate_map(source, scenes, Path(job.output.images).parent, panels, threads)
    write_json(job.output.scores, {**scores, "provenance": watch.manifest(code_digest=job.params.code)})
