"""Tell the MLflow database where its artifacts lie, after the folder was moved or copied: MLflow keeps absolute paths.

`python -m ddnet.report.mlflow_move`, in the project's folder; every `snakemake` and `make ui` do it first.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

DATABASE, ARTIFACTS, PREFIX = Path("results/mlflow.db"), Path("results/mlartifacts"), "ddnet-bench/"


def relocate(database: Path = DATABASE, artifacts: Path = ARTIFACTS) -> None:
    """Point our experiments, and their runs, to `<artifacts>/<preset>`; others in the database are not touched.

    Does nothing without a database. Safe to repeat.

    Raises:
        sqlite3.Error: the database is damaged, in use, or cannot be written.
    """
    if not database.is_file():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('experiments', 'runs')")
        if tables.fetchone()[0] < 2:
            return
        ours = "SELECT experiment_id, name, artifact_location FROM experiments WHERE name LIKE ?"
        for number, name, before in connection.execute(ours, (f"{PREFIX}%",)).fetchall():
            now = location(artifacts, name.removeprefix(PREFIX))
            if before == now:
                continue
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, number))
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, length(?) + 1) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, length(?) + 1) = ? || '/'",
                (now, before, number, before, before),
            )
            log.info("%s: artifacts of %s are now looked for in %s", database, name, now)


def location(artifacts: Path, preset: str) -> str:
    """Where MLflow finds the artifacts of a preset."""
    return (artifacts / preset).resolve().as_uri()


if __name__ == "__main__":
    relocate()
