"""Restore the test sets with one trained network and measure every image."""

from pathlib import Path

import torch

from ddnet.data.depth_maps import DepthStore
from ddnet.data.index import panel_scenes, read_index
from ddnet.evaluation.evaluate import (
    ModelRestorer,
    evaluate,
    write_evaluation,
    write_gate_maps,
    write_per_image,
    write_timing,
)
from ddnet.evaluation.metrics import build_metrics
from ddnet.io.tensors import best_device
from ddnet.planning.plan import WEIGHTS
from ddnet.runtime.job import discard_state, workflow_job
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.resources import job_threads
from ddnet.training.checkpoint import load_run

job = snakemake
torch.set_num_threads(job_threads(job.threads))
with workflow_job(job):
    watch, spec, out = Stopwatch(), job.params.evaluation, Path(job.output.images).parent
    run = load_run(Path(job.input.model))
    discard_state(out)  # Snakemake has recorded the training
    depths = DepthStore(Path(job.input.depth).parent) if job.input.depth else lambda scene: None
    scenes = read_index(job.input.index, split="test")
    panels = panel_scenes(scenes, spec["panels"])
    device = best_device()
    metrics, unavailable = build_metrics(spec["metrics"], WEIGHTS, str(device))
    restorer = ModelRestorer(run.model, device)
    rows = evaluate(restorer, scenes, depths, metrics, out, spec["save"], {scene.key for scene in panels})
    write_gate_maps(restorer.model, panels, depths, out)
    write_per_image(job.output.images, rows)
    write_timing(job.output.timing, rows)
    write_evaluation(job.output.summary, rows, unavailable, {"provenance": watch.manifest(code_digest=job.params.code)})
