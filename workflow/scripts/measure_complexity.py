"""Count parameters and MACs of one variant at the paper's width."""

from ddnet.config import Complexity, Variant
from ddnet.evaluation.complexity import measure_complexity
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings, variant = job.params.settings, Variant(**job.params.variant)
    write_json(job.output[0], measure_complexity(variant, Complexity(**settings["complexity"])))
