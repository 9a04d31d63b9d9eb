"""A browser without a screen for the tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import start_chromium
from selenium import webdriver


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium, for all tests."""
    started = start_chromium(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()
