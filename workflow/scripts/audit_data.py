"""Look at every pair of the index: swapped or mismatched files, pictures that two splits share, resized ones."""

import logging

from ddnet.data.audit import audit
from ddnet.data.index import read_index
from ddnet.io.files import write_json
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    found = audit(read_index(job.input.index))
    for warning in found["warnings"]:
        logging.warning("%s", warning)
    write_json(job.output.audit, found)
