"""Measure one compared system on the test sets."""

from pathlib import Path

import torch

from baselines import build
from ddnet.config import Baseline
from ddnet.data.index import panel_scenes, read_index
from ddnet.evaluation.evaluate import evaluate, write_evaluation, write_per_image, write_timing
from ddnet.evaluation.metrics import build_metrics
from ddnet.io.tensors import best_device
from ddnet.planning.plan import WEIGHTS
from ddnet.runtime.job import discard_state, workflow_job
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.resources import job_threads

job = snakemake
torch.set_num_threads(job_threads(job.threads))
with workflow_job(job):
    watch, spec, baseline = Stopwatch(), job.params.evaluation, Baseline(**job.params.baseline)
    metrics, unavailable = build_metrics(spec["metrics"], WEIGHTS, str(best_device()))
    scenes, rows = read_index(job.input.index, split="test"), []
    learned = Path(job.input.learned) if job.input.learned else None
    if learned:
        discard_state(learned.parent)  # Snakemake has recorded the training
    save = "none" if baseline.system == "blurred" else spec["save"]  # the input is there already
    shown = {scene.key for scene in panel_scenes(scenes, spec["panels"])}
    for dataset in filter(baseline.measured_on, dict.fromkeys(scene.dataset for scene in scenes)):
        restorer = build(baseline, learned, dataset)
        same = [scene for scene in scenes if scene.dataset == dataset]
        out = Path(job.output.images).parent
        rows += evaluate(restorer, same, lambda scene: None, metrics, out, save, shown, bits=8)
    write_per_image(job.output.images, rows)
    write_timing(job.output.timing, rows)
    facts = {"params": restorer.parameters()} if hasattr(restorer, "parameters") else {}
    facts["provenance"] = watch.manifest(code_digest=job.params.code)
    write_evaluation(job.output.summary, rows, unavailable, facts)
