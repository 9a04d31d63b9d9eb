"""What every workflow job does around its work: a log, and a manifest beside its output."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ddnet.io.contents import content_digest, joint_digest
from ddnet.io.files import write_json
from ddnet.runtime.gpu import own_gpus
from ddnet.runtime.log import job_log
from ddnet.runtime.provenance import Stopwatch, stable_hash, startup_s
from ddnet.runtime.resources import job_threads
from ddnet.runtime.run_lock import leave_with_main

OWN = "manifest.json"


def manifest_path(first_output: str | Path) -> Path:
    """Where a job's manifest lies: `tables/embedded/table3.csv` has `tables/embedded/table3.manifest.json`."""
    return Path(first_output).with_suffix(".manifest.json")


@contextmanager
def workflow_job(job: Any) -> Iterator[None]:
    """Log a Snakemake job (`snakemake` of its script) and, when the block succeeds, write its manifest.

    The manifest is no declared output: results made before there was one stay valid. A job that declares a
    `manifest.json` of its own, as training does, gets no second: what that one does not say is added to it.
    """
    outputs = list(dict.fromkeys(map(str, job.output)))
    own = next((Path(path) for path in outputs if Path(path).name == OWN), None)
    startup, watch, path = startup_s(), Stopwatch(), own or manifest_path(outputs[0])
    declared = dict(getattr(job, "resources", {}).items())
    leave_with_main()
    with job_log(str(job.log)), own_gpus(declared["gpu"]) if declared.get("gpu") else nullcontext():
        if own is None:
            path.unlink(missing_ok=True)
        yield
        said = {} if own is None else json.loads(own.read_text(encoding="utf-8"))
        facts = _facts(job, [name for name in outputs if name != str(own)])
        write_json(
            path,
            watch.manifest(
                startup_s=startup, processors=job_threads(job.threads), mem_mb=declared.get("mem_mb"), **facts
            )
            | said,
        )


def discard_state(run: Path) -> None:
    """Remove a finished training's resume state, once whoever asked for it has recorded that it is finished.

    Before, a process killed between the last step and that record would lose the whole training.
    """
    shutil.rmtree(run / "state", ignore_errors=True)


def _facts(job: Any, outputs: list[str]) -> dict[str, Any]:
    wildcards, params = dict(job.wildcards.items()), dict(job.params.items())
    inputs = sorted({str(path) for path in job.input})
    seed = wildcards.get("seed")
    return {
        "rule": job.rule,
        "preset": wildcards.get("preset"),
        "wildcards": wildcards,
        "seed": None if seed is None else int(seed),
        "config_hash": stable_hash({name: value for name, value in params.items() if name != "code"}),
        "code_digest": params.get("code"),
        "data_digest": (together := joint_digest(inputs)),
        "inputs": [_shown(path) for path in inputs],
        "inputs_digest": together,  # a training says of its data_digest itself what it means
        "log": str(job.log),
        "outputs": {_shown(path): content_digest(path) for path in outputs},
    }


def _shown(path: str) -> str:
    """A path below the working directory as it is; of any other, such as a copy of DPDD at hand, the name alone."""
    relative = os.path.relpath(path)
    return Path(path).name if relative.startswith("..") else relative
