"""The HTML page of a fit: complete, escaped, and alive in a real browser."""

from __future__ import annotations

import importlib
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from made import from_priors

import bayesmixed as bm
from bayesmixed.page._page import code

LOAD = bm.datasets.load
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def hostile():
    """Groups and a predictor whose labels are code; nothing is sampled."""
    rng = np.random.default_rng(1)
    labels = [HOSTILE, "'; drop table", "a & b", *(f"ward {i}" for i in range(27))]
    data = pd.DataFrame({"ward": np.repeat(labels, 6)})
    data["arm"] = np.where(rng.random(len(data)) < 0.5, "<b>old</b>", "new")
    data["died"] = rng.integers(0, 2, len(data))
    model = bm.Model("died ~ arm + (1 | ward)", data, family="bernoulli")
    return from_priors(model, 50)


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def _written(fit, tmp_path):
    path = bm.report(fit, tmp_path / "report.html")
    return path, _Page(path.read_text())


def test_a_page_is_complete_and_loads_nothing(hostile, tmp_path):
    path, page = _written(hostile, tmp_path)
    headings = {s.get("id") for s in page.named("section")}
    assert {"model", "data", "effects", "priors", "caveats", "again"} <= headings
    assert {"variance-components", "intraclass-correlation", "odds-ratios", "each-ward"} <= headings
    links = {a["href"][1:] for a in page.named("a")}
    assert links <= headings | {"main"}
    assert len(page.named("math")) == 3
    assert len(page.named("h1")) == 1
    assert all(i["alt"] and i["src"].startswith("data:") for i in page.named("img"))
    assert {t["scope"] for t in page.named("th")} == {"row", "col"}
    assert len(page.named("caption")) == len(page.named("table"))
    assert not [a for _, a in page.tags for k in ("src", "href") if "//" in (a.get(k) or "")]
    assert "fit = model.fit(" in path.read_text()


def test_what_comes_from_data_is_escaped(hostile, tmp_path):
    path, page = _written(hostile, tmp_path)
    assert len(page.named("script")) == 1
    assert not page.named("b")
    assert HOSTILE in "".join(page.text)
    assert "<b>old" not in path.read_text()


def test_what_a_fit_refuses_is_said_and_nothing_else_is_lost(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise bm.BayesmixedError("The rows are too many for this check.")

    monkeypatch.setattr("bayesmixed.reports.check", refuse)
    residual = bm.AR1(time="age", within="Subject")
    model = bm.Model("distance ~ age + (1 | Subject)", LOAD("orthodont"), residual=residual)
    _, page = _written(from_priors(model, 20), tmp_path)
    words = "".join(page.text)
    assert "Not shown: The rows are too many for this check." in words
    assert "Residual correlation" in words
    assert "residual=bm.AR1(time='age', within='Subject')" in words


def test_a_page_of_a_meta_analysis(tmp_path):
    fit = bm.meta_analysis(
        LOAD("bcg"), "yi", "sei", "trial", measure="RR", method="grid", draws=200, seed=1
    )
    _, page = _written(fit, tmp_path)
    assert "pooled-effects" in {s.get("id") for s in page.named("section")}
    # The lines do not claim draws that they would not give.
    assert "seed is not recorded" in code(fit)
    exec(code(fit).rsplit("fit = ", 1)[0], {"data": LOAD("bcg")})  # noqa: S102


def test_a_page_of_a_family_with_its_own_parameters_says_what_they_mean(tmp_path):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"ward": np.repeat(list("abcdefgh"), 10), "grade": rng.integers(1, 5, 80)})
    model = bm.Model("grade ~ 1 + (1 | ward)", data, family="ordinal")
    _, page = _written(from_priors(model, 20), tmp_path)
    words = "".join(page.text)
    assert "P(y <= k) = F(threshold_k - eta)" in words
    assert "is not recorded with this fit" in words
    # A report that is refused says why.
    assert "there is no coefficient" in words


def test_the_code_on_the_page_makes_the_model_again(tmp_path):
    data = LOAD("sleepstudy")
    model = bm.Model(
        "Reaction ~ Days + (Days | Subject)",
        data,
        priors={"sigma": bm.Prior("HalfNormal", sigma=40)},
        center=False,
    )
    fit = model.fit(draws=20, tune=50, chains=2, seed=3, progress=False)
    lines = code(bm.load(fit.save(tmp_path / "fit.nc")))
    assert "draws=20, tune=50, chains=2, seed=3" in lines
    space = {"data": data}
    exec(lines[: lines.index("fit = ")], space)  # noqa: S102
    pd.testing.assert_frame_equal(space["model"].priors, model.priors)


def test_a_page_of_three_thousand_groups_is_small_and_complete(tmp_path):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"clinic": np.repeat([f"c{i:04d}" for i in range(3000)], 2)})
    data["y"] = rng.normal(size=len(data))
    path, page = _written(from_priors(bm.Model("y ~ 1 + (1 | clinic)", data), 20), tmp_path)
    assert path.stat().st_size < 2e6
    assert sum(g.get("class") == "mark" for g in page.named("g")) == 3000
    # One stop of the tab key for all of them.
    assert sum(g.get("tabindex") == "0" for g in page.named("g")) == 1


def test_a_page_that_cannot_be_written(hostile, tmp_path):
    with pytest.raises(bm.BayesmixedError, match="could not be written"):
        bm.report(hostile, tmp_path / "no" / "report.html")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Debian's chromium is not installed")
def test_in_a_browser(hostile, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    path, _ = _written(hostile, tmp_path)
    keys = importlib.import_module("selenium.webdriver.common.keys").Keys
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get(path.as_uri())
        assert browser.get_log("browser") == []
        asked = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
        urls = [
            m["params"]["request"]["url"]
            for m in asked
            if m["method"] == "Network.requestWillBeSent"
        ]
        assert all(u.startswith(("file:", "data:")) for u in urls), urls
        by = "css selector"
        section = browser.find_element(by, "#each-ward")

        def column(k):
            cells = section.find_elements(by, f"tbody tr:not([hidden]) > :nth-child({k})")
            return [c.text for c in cells]

        section.find_element(by, "thead th:nth-child(4) button").click()
        values = [float(v) for v in column(4)]
        assert values == sorted(values)
        section.find_element(by, "thead th:nth-child(4) button").click()
        assert [float(v) for v in column(4)] == sorted(values, reverse=True)
        section.find_element(by, "input.filter").send_keys("ward 2")
        assert set(column(1)) == {"ward 2", *(f"ward {i}" for i in range(20, 27))}
        assert section.find_element(by, ".count").text == "8 of 30"
        marks = section.find_elements(by, ".mark")
        browser.execute_script("arguments[0].focus()", marks[0])
        said = section.find_element(by, ".said")
        assert said.text == marks[0].get_attribute("aria-label")
        browser.switch_to.active_element.send_keys(keys.ARROW_RIGHT)
        assert said.text == marks[1].get_attribute("aria-label")
        assert len(section.find_elements(by, '.mark[tabindex="0"]')) == 1
        drawing = section.find_element(by, ".units")
        webdriver.ActionChains(browser).move_to_element(drawing).perform()
        assert said.text in {m.get_attribute("aria-label") for m in marks[12:18]}
        assert browser.get_log("browser") == []
        assert browser.save_screenshot(str(tmp_path / "page.png"))
    finally:
        browser.quit()
