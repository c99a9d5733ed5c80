"""The HTML page of a fit in headless Chromium: silent, offline, alive to pointer and keys."""

from __future__ import annotations

import json
import shutil

import pytest

import bayesmixed as bm

webdriver = pytest.importorskip("selenium.webdriver")
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="Debian's packages chromium and chromium-driver are not installed",
)
CSS = "css selector"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1100,1600"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def page(browser, hostile, tmp_path_factory):
    path = bm.report(hostile, tmp_path_factory.mktemp("page") / "report.html")
    # What Chromium asks for by itself when it starts is not the page's doing.
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get(path.as_uri())
    yield browser
    # Whatever was done to it, nothing was complained of.
    assert browser.get_log("browser") == []


def _section(page, anchor):
    return page.find_element(CSS, f"#{anchor}")


def _press(page, key):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    page.switch_to.active_element.send_keys(getattr(keys, key))


def _focus(page, mark):
    page.execute_script("arguments[0].focus()", mark)


def test_it_loads_nothing(page):
    asked = [json.loads(e["message"])["message"] for e in page.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(u.startswith(("file:", "data:")) for u in urls), urls


def test_tables_sort_and_filter(page):
    section = _section(page, "each-ward")

    def column(k):
        cells = section.find_elements(CSS, f"tbody tr:not([hidden]) > :nth-child({k})")
        return [c.text for c in cells]

    head = section.find_element(CSS, "thead th:nth-child(4) button")
    head.click()
    values = [float(v) for v in column(4)]
    assert values == sorted(values)
    head.click()
    assert [float(v) for v in column(4)] == sorted(values, reverse=True)
    section.find_element(CSS, "input.filter").send_keys("ward 2")
    assert set(column(1)) == {"ward 2", *(f"ward {i}" for i in range(20, 27))}
    assert section.find_element(CSS, ".count").text == "8 of 30"


def test_groups_say_their_values(page):
    section = _section(page, "each-ward")
    marks = section.find_elements(CSS, ".mark")
    _focus(page, marks[0])
    said = section.find_element(CSS, ".said")
    assert said.text == marks[0].get_attribute("aria-label")
    _press(page, "ARROW_RIGHT")
    assert said.text == marks[1].get_attribute("aria-label")
    assert len(section.find_elements(CSS, '.mark[tabindex="0"]')) == 1
    drawing = section.find_element(CSS, ".units")
    webdriver.ActionChains(page).move_to_element(drawing).perform()
    assert said.text in {m.get_attribute("aria-label") for m in marks[12:18]}


@pytest.mark.parametrize("anchor", ["effects", "variance-components", "odds-ratios"])
def test_estimates_say_their_values(page, anchor):
    section = _section(page, anchor)
    marks, said = section.find_elements(CSS, ".mark"), section.find_element(CSS, ".said")
    tip = section.find_element(CSS, ".tip")
    for mark in marks:
        webdriver.ActionChains(page).move_to_element(mark).perform()
        assert said.text == tip.text == mark.get_attribute("aria-label")
        # The value that stands beside the bar is the one that is said.
        assert mark.find_element(CSS, ".value").text in said.text
    _focus(page, marks[0])
    _press(page, "END")
    assert said.text == marks[-1].get_attribute("aria-label")
    _press(page, "ESCAPE")
    assert not tip.is_displayed()
    assert len(section.find_elements(CSS, '.mark[tabindex="0"]')) == 1


def test_curves_answer_how_probable_a_value_is(page):
    section = _section(page, "priors")
    said, marks = section.find_element(CSS, ".said"), section.find_elements(CSS, ".mark")
    _focus(page, marks[-1])
    assert "prior HalfStudentT" in said.text
    _press(page, "ARROW_UP")
    first = said.text
    assert "% below" in first
    _press(page, "ARROW_UP")
    assert _below(first) <= _below(said.text)
    picture = marks[0].find_element(CSS, "svg")
    box = picture.rect
    webdriver.ActionChains(page).move_to_element_with_offset(
        picture, int(-box["width"] / 2) + 1, 0
    ).perform()
    assert _below(said.text) < 1
    webdriver.ActionChains(page).move_to_element_with_offset(
        picture, int(box["width"] / 2) - 1, 0
    ).perform()
    assert _below(said.text) > 99
    _press(page, "HOME")
    assert said.text == marks[0].get_attribute("aria-label")


def _below(text):
    return float(text.split(": ")[1].split(" %")[0])


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_window(page, width, tmp_path):
    """What is wide, such as a table, scrolls by itself."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.save_screenshot(str(tmp_path / "page.png"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_finger_is_followed(page):
    """A tap sends no move."""
    marks = _section(page, "odds-ratios").find_elements(CSS, ".mark")
    page.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new PointerEvent('pointerdown', {bubbles: true,"
        " pointerType: 'touch', clientX: box.left + 5, clientY: box.top + box.height / 2}));",
        marks[1],
    )
    said = _section(page, "odds-ratios").find_element(CSS, ".said")
    assert said.text == marks[1].get_attribute("aria-label")
