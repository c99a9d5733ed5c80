"""The teaching app in headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
pytest.importorskip("marimo")
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium"
    ),
]

ROOT = Path(__file__).parents[1]
WAIT = 60  # seconds; the machine may be busy


def _until(condition, what):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {WAIT} s: {what}")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "marimo", "run", "docs/teaching/app.py", "--headless"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--no-token"]
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(
            [*command, *where],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home)},
        ) as server,
    ):

        def answers():
            assert server.poll() is None, (home / "log").read_text()
            try:
                return urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
            except (URLError, TimeoutError):
                return False

        _until(answers, "an answer of the server")
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    browser.get(address)
    _until(lambda: "two agree" in _text(browser), "the last paragraph")
    yield browser
    browser.quit()


def _text(browser):
    return browser.find_element("tag name", "body").text


def _number(browser, words):
    return float(re.search(words + r"\D*?([\d.,]+)", _text(browser))[1].strip(".").replace(",", ""))


_WORTH = "1,000 patients are worth (?=[\\d,]+ independent)"

# marimo's elements have shadow roots: look for the handle in each.
SLIDER = """
const seen = [];
const walk = (root) => root.querySelectorAll("*").forEach((e) => {
  if (e.getAttribute("role") === "slider") seen.push(e);
  if (e.shadowRoot) walk(e.shadowRoot);
});
walk(document);
return seen;
"""


def _press(browser, slider, keys):
    browser.execute_script(SLIDER)[slider].send_keys(keys)


def test_it_loads_without_an_error(page):
    assert len(page.execute_script("return [...document.querySelectorAll('svg[role=img]')]")) == 3
    severe = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    assert "Traceback" not in _text(page)
    assert _number(page, "Raw rate") == 50


def test_no_spread_makes_the_odds_ratios_agree_and_more_takes_them_apart(page):
    before = _number(page, "Population-averaged odds ratio")
    effect = _number(page, _WORTH)
    _press(page, 0, "\ue010")  # End: an sd of 2
    _until(lambda: _number(page, "Population-averaged odds ratio") < before - 0.2, "a change")
    assert _number(page, _WORTH) < effect
    _press(page, 7, "\ue011")  # Home, in the third picture's copy: an sd of 0
    _until(lambda: _number(page, "Population-averaged odds ratio") == 3, "equal odds ratios")
    _until(lambda: _number(page, _WORTH) == 1000, "no loss")


def test_counts_of_the_new_hospital_change_its_estimate(page):
    _press(page, 0, "\ue010")
    _until(lambda: _number(page, "Population-averaged odds ratio") < 3, "a spread")
    before = _number(page, "the model's estimate")
    _press(page, 4, "\ue010")  # all six patients died
    _until(lambda: _number(page, "Raw rate") == 100, "the raw rate")
    assert before < _number(page, "the model's estimate") < 100


def test_it_fits_a_telephone(page):
    page.set_window_size(500, 900)
    _until(
        lambda: page.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        ),
        "no sideways scrolling",
    )
