"""Render every split of the embedded benchmark."""

from pathlib import Path

from ddnet.config import EmbeddedData
from ddnet.data.embedded.dataset import DATASET_OF, render_benchmark
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job
from ddnet.runtime.provenance import Stopwatch
from ddnet.runtime.resources import job_threads

if __name__ == "__main__":  # the renderer's worker processes import this file again
    job = snakemake
    with workflow_job(job):
        data = EmbeddedData(**job.params.data)
        watch = Stopwatch()
        manifest = Path(job.output.manifest)
        splits = {key: getattr(data, key) for key in DATASET_OF if getattr(data, key)}
        render_benchmark(
            manifest.parent / "scenes", splits, data.size, data.lens_samples, data.seed, job_threads(job.threads)
        )
        write_json(manifest, watch.manifest(data=job.params.data, code=job.params.code))
