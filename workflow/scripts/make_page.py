"""Write the page of results: verdicts, tables, scenes to compare, figures, model cards, provenance."""

from pathlib import Path

from ddnet.data.index import read_index
from ddnet.report.collect import collect, merge_provenance, provenance_records
from ddnet.report.inputs import compared, run_refs, variant_infos
from ddnet.report.page import PageInputs, write_page
from ddnet.report.page_pictures import PageScenes, first_seeds, shown_scenes
from ddnet.runtime.job import workflow_job

job = snakemake
with workflow_job(job):
    settings, page = job.params.settings, job.params.page
    infos = variant_infos(job.params.variants, settings["depth_source"])
    systems = compared(job.params.baselines)
    refs = run_refs(Path(job.input.runs[0]).parent.parent, systems, infos, job.params.seeds)
    scenes = read_index(job.input.index, split="test")
    shown = PageScenes(
        shown_scenes(scenes, settings["save"], settings["panels"], page["scenes"]),
        first_seeds([*refs[len(systems) :], *refs[: len(systems)]]),
        {source: Path(index).parent for source, index in zip(job.params.depths, job.input.depths)},
        page["width"],
    )
    inputs = PageInputs(
        preset=settings["preset"],
        datasets=settings["datasets"],
        tables=[path for path in map(Path, job.input.tables) if path.suffix == ".html"],
        figures=[path for path in map(Path, job.input.figures) if path.suffix == ".png"],
        cards=[Path(card) for card in job.input.cards],
        shown=shown,
        settings=job.params.config,
        depth_of={info.name: info.depth_source for info in infos if info.uses_depth},
        trial=settings["trial"],
    )
    records = merge_provenance(record for ref in refs for record in provenance_records(ref.folder))
    write_page(job.output.index, inputs, collect(refs), records)
