"""Render every split of the embedded benchmark."""

from pathlib import Path

from ddnet.config import EmbeddedData
from ddnet.data.embedded import DATASET_OF, render_benchmark
from ddnet.files import write_json
from ddnet.job import workflow_job
from ddnet.plan import job_threads
from ddnet.provenance import Stopwatch

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
