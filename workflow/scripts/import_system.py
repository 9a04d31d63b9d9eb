"""Convert the weights that a compared system's authors published."""

from pathlib import Path

from baselines import system_class
from ddnet.fetch import read_fetched
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job
from ddnet.runtime.provenance import Stopwatch

job = snakemake
with workflow_job(job):
    watch, fetched = Stopwatch(), read_fetched(job.input.record)
    [folder] = {path.parent for path in fetched.files.values()}
    system_class(job.wildcards.system).convert(folder, Path(job.output.weights))
    record = {"weights": "official", "source": fetched.source, "digests": fetched.digests}
    write_json(job.output.manifest, record | {"provenance": watch.manifest(code_digest=job.params.code)})
