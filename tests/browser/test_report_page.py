"""The page of results in a browser: tables that sort, sliders, another variant, by pointer and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report_page import SmallPage
from report_runs import INFO, psnr
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait


@pytest.fixture
def page(browser: Chrome, small: SmallPage) -> Iterator[Chrome]:
    """The page as it is opened; afterwards, that its pictures are those beside it and that it complained of nothing."""
    browser.get_log("browser")  # what other pages complained of
    browser.get(small.index.as_uri())
    WebDriverWait(browser, 20).until(lambda page: page.find_elements(By.CLASS_NAME, "scene"))
    yield browser
    assert browser.get_log("browser") == []
    shown = browser.execute_script("return [...document.images].map((image) => image.src).filter(Boolean)")
    assert shown and all(address.startswith(small.index.parent.as_uri()) for address in shown)


def table(page: Chrome, name: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, f"#{name} table")


def heading(page: Chrome, name: str, words: str) -> WebElement:
    found = table(page, name).find_elements(By.CSS_SELECTOR, "thead tr:last-child th")
    return next(cell for cell in found if cell.text.startswith(words))


def labels(page: Chrome, name: str) -> list[str]:
    return [cell.text for cell in table(page, name).find_elements(By.CSS_SELECTOR, "tbody td:first-child")]


def click(page: Chrome, element: WebElement) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_a_column_sorts_by_its_numbers_and_back(page: Chrome) -> None:
    own = labels(page, "table3")
    psnr_heading = heading(page, "table3", "PSNR")
    click(page, psnr_heading.find_element(By.TAG_NAME, "button"))
    assert psnr_heading.get_attribute("aria-sort") == "descending"
    best_first = labels(page, "table3")
    assert best_first[0] == "+ 3 branches" and best_first[-1] == own[0] and best_first != own
    psnr_heading.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert psnr_heading.get_attribute("aria-sort") == "ascending"
    assert labels(page, "table3") == best_first[::-1]
    label = heading(page, "table3", "Method")
    label.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert label.get_attribute("aria-sort") == "ascending" and psnr_heading.get_attribute("aria-sort") is None
    assert labels(page, "table3") == sorted(own)
    for _ in range(2):
        label.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert label.get_attribute("aria-sort") is None and labels(page, "table3") == own


def test_numbers_sort_by_their_value_and_missing_ones_come_last(page: Chrome) -> None:
    delta = heading(page, "table4", "PSNR [95 %]")  # signed with a typographic minus, and an interval behind it
    for order in ("descending", "ascending"):
        click(page, delta.find_element(By.TAG_NAME, "button"))
        cells = table(page, "table4").find_elements(
            By.CSS_SELECTOR, f"tbody td:nth-child({page.execute_script('return arguments[0].cellIndex', delta) + 1})"
        )
        values = [float(value) for cell in cells if (value := cell.get_attribute("data-value"))]
        assert values == sorted(values, reverse=order == "descending") and len(set(values)) > 2 and min(values) < 0
        missing = [cell.text == "—" for cell in cells]
        assert missing == sorted(missing)


def test_the_slider_moves_by_keyboard_and_by_pointer(page: Chrome) -> None:
    stage = page.find_element(By.CSS_SELECTOR, ".scene .stage")
    slider, over = stage.find_element(By.TAG_NAME, "input"), stage.find_element(By.CLASS_NAME, "over-image")
    assert slider.get_attribute("type") == "range" and slider.accessible_name.startswith("s00: how much of the picture")
    assert "50%" in over.value_of_css_property("clip-path")
    slider.send_keys(Keys.ARROW_RIGHT * 10)
    assert "40%" in over.value_of_css_property("clip-path")
    slider.send_keys(Keys.HOME)
    assert "100%" in over.value_of_css_property("clip-path")  # all of it cut away: only the restored picture
    assert slider.get_attribute("aria-valuetext") == "0 % Input"
    click(page, slider)  # in its middle
    assert int(slider.get_attribute("value") or 0) == pytest.approx(50, abs=1)


def test_another_variant_and_its_numbers_are_shown(page: Chrome, small: SmallPage) -> None:
    card = page.find_element(By.CLASS_NAME, "scene")
    under = card.find_element(By.CLASS_NAME, "under-image")
    tag = card.find_element(By.CSS_SELECTOR, ".tag.right")
    caption = card.find_element(By.CSS_SELECTOR, ".depth figcaption")
    assert "/ddnet_1b.jpg" in (under.get_attribute("src") or "") and "monodepth2" in caption.text
    assert tag.text == f"{INFO['ddnet_1b'].label} {psnr('ddnet_1b', 0, 0, 'embedded'):.2f} dB"
    Select(page.find_element(By.ID, "right")).select_by_value("unet")
    assert "/unet.jpg" in (under.get_attribute("src") or "") and "not used" in caption.text
    assert tag.text == f"{INFO['unet'].label} {psnr('unet', 0, 0, 'embedded'):.2f} dB"
    Select(page.find_element(By.ID, "left")).select_by_visible_text("Target")
    WebDriverWait(page, 20).until(
        lambda page: page.execute_script("return arguments[0].complete && arguments[0].naturalWidth === 96", under)
    )
    assert "sharp-target" in (card.find_element(By.CLASS_NAME, "over-image").get_attribute("src") or "")
    assert page.find_element(By.ID, "summary").text == "2 scenes"  # a target has no PSNR to gain


def test_scenes_are_ordered_by_their_gain(page: Chrome) -> None:
    def names() -> list[str]:
        return [title.text for title in page.find_elements(By.CSS_SELECTOR, ".scene h3")]

    Select(page.find_element(By.ID, "left")).select_by_value("unet")
    gains = [psnr("ddnet_1b", 0, n, "embedded") - psnr("unet", 0, n, "embedded") for n in range(2)]
    assert gains[0] != gains[1]
    order = Select(page.find_element(By.ID, "order"))
    order.select_by_value("gain")
    largest_first = names()
    assert largest_first == (["s00", "s01"] if gains[0] > gains[1] else ["s01", "s00"])
    order.select_by_value("loss")
    assert names() == largest_first[::-1]
    assert f"+{sum(gains) / 2:.2f} dB" in page.find_element(By.ID, "summary").text
    card = page.find_element(By.CLASS_NAME, "scene")
    click(page, card.find_element(By.TAG_NAME, "summary"))
    ranked = [row.text for row in card.find_elements(By.CSS_SELECTOR, ".ranks li")]
    assert (
        len(ranked) == 12 and len(card.find_elements(By.CSS_SELECTOR, ".ranks .shown")) == 1
    )  # 10 networks, input, blurred


def test_it_fits_a_phone_and_a_link_opens_its_table(page: Chrome, small: SmallPage) -> None:
    size = page.get_window_size()
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.get(small.index.as_uri())
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        folded = page.find_element(By.ID, "tableS3_claims")
        page.execute_script("arguments[0].open = false", folded)
        click(page, page.find_element(By.CSS_SELECTOR, "#claims a"))
        WebDriverWait(page, 20).until(lambda _: folded.get_attribute("open") is not None)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.set_window_size(size["width"], size["height"])


def test_pictures_that_are_not_beside_the_page_are_said(browser: Chrome, small: SmallPage, tmp_path: Path) -> None:
    alone = tmp_path / "index.html"
    alone.write_bytes(small.index.read_bytes())
    browser.get(alone.as_uri())
    WebDriverWait(browser, 20).until(lambda page: page.find_element(By.ID, "lacking").is_displayed())
    browser.get_log("browser")  # of the files that it looked for
