"""Logging of workflow jobs and of the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddnet.errors import DDNetError

_QUIET = ("lightning", "matplotlib", "mlflow", "alembic", "PIL")


@contextmanager
def job_log(file: str | Path | None = None) -> Iterator[None]:
    """Log to the terminal and to `file`; a DDNetError ends the process with its one line and exit status 1."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w"))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers, force=True
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    except DDNetError as error:
        logging.error("error: %s", error)
        sys.exit(1)
