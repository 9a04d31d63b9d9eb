"""Check every pair of photographs, of DPDD and RealDOF or of a user's own folder, and write the scene index."""

import time
from pathlib import Path

from ddnet.config import DpddData, FolderData
from ddnet.data.fetch_data import index_photographs
from ddnet.data.index import write_index
from ddnet.data.unchanged import remember_pictures
from ddnet.io.contents import known_contents
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    kind = FolderData if job.params.data["kind"] == "folder" else DpddData
    fetched = {Path(record).stem: Path(record) for record in job.input.get("fetched", [])}
    started, scenes = time.time_ns(), index_photographs(kind(**job.params.data), fetched)
    write_index(job.output.index, scenes)
    remember_pictures(scenes, known_contents(job.wildcards.preset), started)
