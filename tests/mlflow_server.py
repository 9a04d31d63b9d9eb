"""MLflow's own pages and interface over a database, started as `make ui` does, on a port of its own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).parent.parent
STARTED_S = 120


def documented() -> tuple[dict[str, str], list[str]]:
    """The environment and the arguments of `mlflow ui` in the Makefile."""
    [line] = re.findall(r"^\t(.* \$\(BIN\)/mlflow ui .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    words = shlex.split(line)
    program = words.index("$(BIN)/mlflow")
    return dict(word.split("=", 1) for word in words[:program]), words[program + 1 :]


@contextmanager
def mlflow_ui(database: Path, folder: Path) -> Iterator[str]:
    """Its address, once it answers; the server and all that it started end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment, words = documented()
    words = [f"sqlite:///{database}" if word.startswith("sqlite:") else word for word in words]
    log = folder / "mlflow-ui.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            (sys.executable, "-m", "mlflow", *words, "--port", str(port)), cwd=folder, stdout=out, stderr=out,
            start_new_session=True, env=os.environ | environment,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + STARTED_S
        while not _answers(address):
            assert server.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).status_code == 200
    except requests.RequestException:
        return False
