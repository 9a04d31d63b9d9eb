"""Check every pair of photographs, of DPDD and RealDOF or of a user's own folder, and write the scene index."""

from pathlib import Path

from ddnet.config import DpddData, FolderData
from ddnet.data.index import write_index
from ddnet.engine.fetch_data import index_photographs
from ddnet.job import workflow_job

job = snakemake
with workflow_job(job):
    kind = FolderData if job.params.data["kind"] == "folder" else DpddData
    fetched = {Path(record).stem: Path(record) for record in job.input.get("fetched", [])}
    write_index(job.output.index, index_photographs(kind(**job.params.data), fetched))
