"""Chromium without a screen, for tests of pages and for pictures of them."""

from __future__ import annotations

from pathlib import Path

from programs import require_program
from selenium import webdriver

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
)  # fmt: skip


def start_chromium(profile: Path) -> webdriver.Chrome:
    """A browser with a profile of its own; it asks no server for anything that a page does not ask for."""
    chromium, driver = require_program("chromium"), require_program("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    started.set_page_load_timeout(60)
    return started
