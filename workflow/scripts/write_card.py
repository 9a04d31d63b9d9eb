"""Write the model card of one trained and measured network."""

from pathlib import Path

from ddnet.report.inputs import variant_infos
from ddnet.report.model_card import write_model_card
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    seed, depth, trial = int(job.wildcards.seed), job.params.depth, job.params.trial
    [info] = variant_infos([job.params.variant], depth["source"])
    folder, complexity = Path(job.input.images).parent, Path(job.input.complexity)
    write_model_card(job.output.card, info, seed, folder, complexity, depth=depth, trial=trial)
