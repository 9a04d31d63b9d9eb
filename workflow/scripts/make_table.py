"""Build one table and write it as CSV, Markdown, LaTeX and HTML."""

from pathlib import Path

from ddnet.report.evidence import gather
from ddnet.report.formats import write_table
from ddnet.report.inputs import compared, run_refs, test_sets, variant_infos
from ddnet.report.tables import BUILDERS
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings = job.params.settings
    dataset, ood_dataset = test_sets(settings["datasets"])
    infos = variant_infos(job.params.variants, settings["depth_source"])
    systems = compared(job.params.baselines)
    evidence = gather(
        run_refs(Path(job.input.runs[0]).parent.parent, systems, infos, job.params.seeds),
        paper=Path(job.params.printed),
        preset=settings["preset"],
        dataset=dataset,
        ood_dataset=ood_dataset,
        complexity=[Path(path) for path in job.input.complexity],
        variants=infos,
        baselines=systems,
        systems=settings["systems"],
        width=settings["width"],
        depth_source=settings["depth_note"],
        trial=settings["trial"],
    )
    write_table(BUILDERS[job.wildcards.table](evidence), Path(job.output.html).parent)
