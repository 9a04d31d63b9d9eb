"""Pictures for docs/mlflow.md, of the database of a finished default run in the working directory.

    python docs/make_screenshots.py

Needs Chromium and its driver (`make programs`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from chromium import start_chromium
from mlflow_pages import Pages
from mlflow_server import mlflow_ui

from ddnet.errors import DDNetError

DATABASE, EXPERIMENT = Path("results/mlflow.db"), "ddnet-bench/embedded"
FIRST, SECOND, STUDY = "ddnet_1b-seed0", "unet-seed0", "study-modules"
WIDTH, HEIGHT = 1400, 1000


def main() -> int:
    """Both pictures, into docs/images."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read on import
    import mlflow

    if not DATABASE.is_file():
        raise DDNetError(f"{DATABASE}: no such file; finish the default run first: snakemake --cores 8 all")
    client = mlflow.MlflowClient(f"sqlite:///{DATABASE.resolve()}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise DDNetError(f"{DATABASE}: holds no experiment {EXPERIMENT}; finish the default run first")
    number = experiment.experiment_id
    ids = {run.info.run_name: run.info.run_id for run in client.search_runs([number], max_results=1000)}
    with tempfile.TemporaryDirectory() as folder, mlflow_ui(DATABASE.resolve(), Path(folder)) as address:
        browser = start_chromium(Path(folder, "profile"))
        try:
            browser.set_window_size(WIDTH, HEIGHT)
            pages = Pages(browser, address, number)
            pages.runs()
            pages.unfold(STUDY)
            pages.says(FIRST)
            pages.tick(FIRST)
            pages.tick(SECOND)
            save(browser.get_screenshot_as_png(), "mlflow-runs.png")
            pages.compare([ids[FIRST], ids[SECOND]])
            pages.says("Run details", "28.")
            save(browser.get_screenshot_as_png(), "mlflow-compare.png")
        finally:
            browser.quit()
    return 0


def save(content: bytes, name: str) -> None:
    """As small a PNG as can be without loss."""
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(ROOT / "docs" / "images" / name), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DDNetError as error:
        sys.exit(f"make_screenshots: {error}")
