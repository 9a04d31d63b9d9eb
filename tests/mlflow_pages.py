"""MLflow's pages as a user goes through them: the runs of an experiment, two of them compared, a run's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

METRICS = ("psnr", "ssim", "mae", "lpips_alex", "params_m", "macs_g")
PATIENCE_S = 120


class Pages:
    """The pages of one experiment in a browser.

    Args:
        browser: from `start_chromium`.
        address: of the server.
        experiment: its number there.
    """

    def __init__(self, browser: Any, address: str, experiment: str) -> None:
        self.browser, self.address, self.experiment = browser, address, experiment
        self._open("#/experiments")

    def _open(self, page: str) -> None:
        self.browser.get("about:blank")  # the rest of the address alone would load nothing anew
        self.browser.get(f"{self.address}/{page}")

    @property
    def text(self) -> str:
        """All that the page says."""
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def until(self, true: Callable[[Any], Any]) -> Any:
        """Wait for something, with the page's text in the message where it does not come."""
        return WebDriverWait(self.browser, PATIENCE_S).until(true, self.text[-2000:])

    def says(self, *words: str) -> bool:
        """Wait until the page says all of these."""
        return bool(self.until(lambda _: all(word in self.text for word in words)))

    def runs(self) -> None:
        """The list of runs, with the studies folded up, whatever was unfolded before."""
        columns = {"selectedColumns": [f"metrics.`{name}`" for name in METRICS]}
        # What the page keeps when somebody has closed the assistant, and ticked these columns.
        kept = {
            "mlflow.assistant.panelOpen_v1": "false",
            "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
            f'MLflowLocalStorage-1.1-ExperimentPage-["{self.experiment}"]-ReactComponentState': json.dumps(columns),
        }
        for name, value in kept.items():
            self.browser.execute_script("localStorage.setItem(arguments[0], arguments[1])", name, value)
        self._open(f"#/experiments/{self.experiment}/runs")
        self.says("matching runs")

    def search(self, words: str) -> None:
        """Type into the search box above the list of runs."""
        box = self.until(lambda b: b.find_element(By.CSS_SELECTOR, "input[type=search][placeholder*='metrics.']"))
        box.click()
        box.send_keys(words, Keys.ENTER)

    def _row(self, run: str) -> str:
        """The number of a run's row; the grid is in two parts, which share it."""
        link = self.until(lambda b: b.find_element(By.XPATH, f"//a[normalize-space()='{run}']"))
        return str(link.find_element(By.XPATH, "./ancestor::*[@row-id][1]").get_attribute("row-id"))

    def _cells(self, run: str) -> list[WebElement]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, f"[row-id='{self._row(run)}']"))

    def unfold(self, study: str) -> None:
        """Press the plus sign of a study."""
        button = self.until(
            lambda _: next((b for cell in self._cells(study) for b in cell.find_elements(By.TAG_NAME, "button")), None)
        )
        button.click()

    def tick(self, run: str) -> None:
        """Choose a run."""
        [box, *_] = [
            b for cell in self._cells(run) for b in cell.find_elements(By.CSS_SELECTOR, "input[type=checkbox]")
        ]
        box.click()

    def press(self, name: str) -> None:
        """Press the button of that name."""
        self.until(lambda b: b.find_element(By.XPATH, f"//button[normalize-space()='{name}']")).click()

    def values(self, run: str) -> str:
        """What the row of a run says."""
        return "\n".join(cell.text for cell in self._cells(run))

    def compare(self, runs: list[str]) -> None:
        """The comparison of runs, by their numbers."""
        self._open(f"#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([self.experiment]))}")

    def files(self, run: str, path: str) -> None:
        """One of a run's files, by the run's number."""
        self._open(f"#/experiments/{self.experiment}/runs/{run}/artifacts/{path}")

    def picture(self) -> WebElement:
        """The picture that is shown, once it is loaded."""

        def loaded(browser: Any) -> WebElement | None:
            shown = browser.find_elements(By.CSS_SELECTOR, "img[src^='blob:']")
            return next((image for image in shown if int(image.get_attribute("naturalWidth") or 0)), None)

        return self.until(loaded)  # type: ignore[no-any-return]
