"""Pictures for README.md and docs/mlflow.md, of a finished default run in the working directory.

    python docs/make_screenshots.py

Needs Chromium and its driver (`make programs`).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
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
PAGE = Path("results/report/embedded/index.html")


def main() -> int:
    """All pictures, into docs/images."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read on import
    import mlflow

    if missing := [path for path in (DATABASE, PAGE) if not path.is_file()]:
        raise DDNetError(f"{missing[0]}: no such file; finish the default run first: snakemake --cores 8 all")
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
            browser.get(PAGE.resolve().as_uri())
            browser.execute_script("document.querySelector('#bar').scrollIntoView()")
            time.sleep(3)  # pictures load when they come into view
            save(browser.get_screenshot_as_png(), "page.jpg")
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
    """A PNG as small as can be without loss, or a JPEG."""
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9] if name.endswith(".png") else [cv2.IMWRITE_JPEG_QUALITY, 85]
    cv2.imwrite(str(ROOT / "docs" / "images" / name), picture, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DDNetError as error:
        sys.exit(f"make_screenshots: {error}")
