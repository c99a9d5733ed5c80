"""The HTML page of a fit: complete, escaped, and right in what its drawings say."""

from __future__ import annotations

import logging
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from made import HOSTILE, at, from_priors
from scipy.stats import norm

import bayesmixed as bm
from bayesmixed.page import _sections
from bayesmixed.page._bars import Estimate, Panel, comparable
from bayesmixed.page._code import code
from bayesmixed.page._curves import curves
from bayesmixed.page._own_effects import own_effects
from bayesmixed.page._words import question, statement

LOAD = bm.datasets.load


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
    assert "study-effects" in {s.get("id") for s in page.named("section")}
    assert "intraclass-correlation" not in {s.get("id") for s in page.named("section")}
    # Ratios, as one reads them: exp(-0.703).
    assert any(g.get("aria-label", "").startswith("new study: 0.50 (") for g in page.named("div"))
    space = {"data": LOAD("bcg")}
    exec(code(fit), space)  # noqa: S102
    assert space["fit"].posterior.identical(fit.posterior)


def test_a_page_of_a_family_with_its_own_parameters_says_what_they_mean(tmp_path):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"ward": np.repeat(list("abcdefgh"), 10), "grade": rng.integers(1, 5, 80)})
    model = bm.Model("grade ~ 1 + (1 | ward)", data, family="ordinal")
    _, page = _written(from_priors(model, 20), tmp_path)
    words = "".join(page.text)
    assert "P(y <= k) = F(threshold_k - eta)" in words
    assert "logit(P(yi≤k))=τk−ηi" in words
    assert "τ1<τ2<τ3" in words
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


def test_an_error_in_one_part_costs_nothing_of_the_others(hostile, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise ZeroDivisionError("of\nthe package's own making")

    monkeypatch.setattr(_sections.reports, "icc", broken)
    monkeypatch.setattr("bayesmixed.page._page.question", broken)
    monkeypatch.setattr("bayesmixed.page._page.curves", broken)
    with caplog.at_level(logging.WARNING):
        _, page = _written(hostile, tmp_path)
    words = "".join(page.text)
    assert words.count("unexpected error (ZeroDivisionError: of); the log has it") == 3
    assert "Each ward" in words
    assert "fit = model.fit(" in words
    assert {"'Intraclass correlation'", "'the question'"} <= {
        word
        for r in caplog.records
        for word in r.getMessage().replace(" of a", "\t").split("\t")
        for word in [word.removeprefix("The part ")]
    }
    assert all(r.exc_info for r in caplog.records)


@pytest.mark.parametrize(
    ("formula", "data", "more", "asked"),
    [
        (
            "Reaction ~ Days + (Days | Subject)",
            "sleepstudy",
            {},
            "Does Reaction change with Days, and by how much does that differ from one Subject to "
            "another?",
        ),
        (
            "died ~ age80 + factor(type) + (1 | provnum)",
            "medpar",
            {"family": "bernoulli"},
            "Does the probability of died change with age80, or differ by type, and by how much "
            "does its level differ from one provnum to another?",
        ),
        (
            "distance ~ age * Sex",
            "orthodont",
            {"residual": bm.AR1(time="age", within="Subject")},
            "Does distance change with age, or differ by Sex? Does the difference that age makes "
            "depend on Sex?",
        ),
        (
            "strength ~ 1",
            "pastes",
            {"hierarchy": bm.Hierarchy({"batch": "1", "cask": "1"})},
            "What is strength on average, and by how much does it differ from one batch to another "
            "and from one cask to another?",
        ),
        (
            "yi ~ 1 + (1 | trial)",
            "bcg",
            {"sampling_sd": "sei"},
            "What is yi on average, by how much does it differ from one trial to another, and what "
            "will another one find?",
        ),
    ],
)
def test_the_question_in_words(formula, data, more, asked):
    design = bm.Model(formula, LOAD(data), **more).design
    assert question(design).striptags() == asked
    assert all(sentence.striptags().endswith(".") for sentence in statement(design))


def test_the_model_in_words_names_every_part():
    model = bm.Model(
        "Reaction ~ Days + offset(log(Days + 1)) + (Days || Subject)",
        LOAD("sleepstudy"),
        parameters={"sigma": "~ Days + (1 | Subject)"},
    )
    said = " ".join(s.striptags() for s in statement(model.design))
    for words in (
        "a gaussian outcome with the identity link",
        "Each Subject has a level and an effect of Days of its own, independently.",
        "log(Days + 1) enters as an offset",
        "sigma changes with Days and differs from one Subject to another",
    ):
        assert words in said, said


def test_curves_show_what_priors_are_for():
    """The intercept at the predictors' means; shares from the draws; densities of known priors."""
    model = bm.Model(
        "Reaction ~ Days + (Days | Subject)",
        LOAD("sleepstudy"),
        priors={
            "Intercept": bm.Prior("Normal", mu=300, sigma=10),
            "cor_Subject": bm.Prior("LKJ", eta=3),
        },
    )
    fit = from_priors(model, 400)
    found = {c.name: c for c in curves(fit)}
    assert set(found) == {
        *("Intercept", "beta[Days]", "sd_Subject[Intercept]", "sd_Subject[Days]", "sigma"),
        "cor_Subject[Intercept,Days]",
    }
    one = found["Intercept"]
    beta = fit.posterior["beta"]
    values = (beta[..., 0] + beta[..., 1] * 4.5).to_numpy().ravel()
    assert "prior Normal(mu=300, sigma=10)" in one.said
    below = np.array(one.below.split(), dtype=float) / 1000
    places = np.linspace(one.low, one.high, len(below))
    np.testing.assert_allclose(below, [(values < x).mean() for x in places], atol=6e-4)
    # Heights are written with an error of 5e-5 of the panel's, of which the curve takes half.
    x, drawn = _heights(one.prior, one)
    exact = norm(300, 10).pdf(x)
    np.testing.assert_allclose(drawn / drawn.max(), exact / exact.max(), atol=5e-4)
    # Of two effects, LKJ(eta) is (1 - r^2)^(eta - 1).
    r, height = _heights(
        found["cor_Subject[Intercept,Days]"].prior, found["cor_Subject[Intercept,Days]"]
    )
    exact = (1 - r**2) ** 2
    np.testing.assert_allclose(height / height.max(), exact / exact.max(), atol=5e-4)


def test_curves_of_correlated_residuals():
    data = LOAD("orthodont")
    residual = bm.Unstructured(time="age", within="Subject")
    fit = from_priors(bm.Model("distance ~ 1", data, residual=residual), 400)
    found = {c.name: c for c in curves(fit)}
    assert set(found) == {
        *("Intercept", "sigma[8]", "sigma[10]", "sigma[12]", "sigma[14]"),
        *(f"cor_residual[{a},{b}]" for a, b in combinations((8, 10, 12, 14), 2)),
    }
    # PyMC's draws of 4 x 4 matrices have the spread of the curve that stands for their prior;
    # an sd from 800 draws is known to 2.5 %, allowed 4 times.
    for a, b in combinations(range(4), 2):
        drawn = fit.posterior["cor_residual"][..., a, b].to_numpy()
        one = found[f"cor_residual[{8 + 2 * a},{8 + 2 * b}]"]
        r, height = _heights(one.prior, one)
        spread = np.sqrt(np.average(r**2, weights=height))
        assert drawn.std() == pytest.approx(spread, rel=0.1)


def _heights(points, curve):
    x, y = np.array([p.split(",") for p in points.split()], dtype=float).T
    return curve.low + (curve.high - curve.low) * x / 100, 1 - y / 100


def test_rows_of_very_different_size_do_not_share_an_axis():
    rows = [Estimate("a", 1, 0.5, 1.5), Estimate("b", 0.001, 0, 0.002), Estimate("c", 2, 1, 3)]
    assert [[r.name for r in some] for some in comparable(rows)] == [["a", "c"], ["b"]]
    panel = Panel.of(rows, "ratio", 1.0, ratio=True)
    # An interval that reaches 0 has no place on a logarithmic axis.
    assert [b.name for b in panel.bars] == ["a", "c"]
    assert panel.bars[0].said == "a: 1.00 (0.50 to 1.50)"
    low, high = panel.bars[0].place.low, panel.bars[1].place.high
    expected = low + (high - low) * np.log(1 / 0.5) / np.log(3 / 0.5)
    assert panel.reference == pytest.approx(expected, abs=0.02)
    assert Panel.of([replace(rows[0], high=np.inf)], "nothing") is None


def test_groups_of_further_parameters_are_shown(tmp_path):
    model = bm.Model(
        "Reaction ~ Days + (1 | Subject)",
        LOAD("sleepstudy"),
        parameters={"sigma": "~ Days + (1 | Subject)"},
    )
    fit = at(model, u_sigma_Subject=np.arange(18.0)[:, None], beta_sigma=[0.5, 0.1])
    table = own_effects(fit, "sigma", "Subject", "Intercept").table
    np.testing.assert_allclose(table["shrunken"], np.arange(18) + 0.5)
    assert list(table["n"]) == [10] * 18
    _, page = _written(from_priors(model, 20), tmp_path)
    assert "each-subject--intercept-of-sigma" in {s.get("id") for s in page.named("section")}


def test_the_code_of_a_family_of_ones_own_names_it():
    own = replace(bm.families.get_family("gaussian"), name="my normal")
    fit = from_priors(bm.Model("Reaction ~ Days", LOAD("sleepstudy"), family=own), 5)
    assert "# my_normal: the bm.Family of your own of that name." in code(fit)
    assert "family=my_normal," in code(fit)


def test_large_tables_are_replicated_for_some_draws(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(_sections, "_MOST_REPLICATED", 1)
    monkeypatch.setattr(_sections, "_FEWEST_DRAWS", 10)
    _, page = _written(hostile, tmp_path)
    assert "Replicated for 10 of the draws." in "".join(page.text)


def test_a_page_of_a_process_says_so_and_has_its_code(tmp_path):
    structure = bm.AR1(time="period", within="subject")
    model = bm.Model("y ~ trt", LOAD("epil"), family="poisson", residual=structure)
    fit = from_priors(model, 20)
    text = code(fit)
    assert "'y ~ trt'" in text
    assert "residual=bm.AR1(time='period', within='subject')" in text
    made = text.replace("fit = model.fit()", "")
    space = {"data": LOAD("epil")}
    exec(made, space)  # noqa: S102
    assert space["model"].spec == model.spec
    _, page = _written(fit, tmp_path)
    words = "".join(page.text)
    assert "A process of each subject over period is added" in words
    assert "from one process to another" not in words
    assert "each-process" not in {s.get("id") for s in page.named("section")}
    assert "correlation-of-the-process" in {s.get("id") for s in page.named("section")}


def test_code_of_groups_that_are_correlated_names_the_matrix():
    known = bm.neighbours({"a": ["b"], "b": ["a", "c"], "c": ["b"]})
    data = pd.DataFrame({"area": list("abc") * 4, "y": np.arange(12) % 5})
    model = bm.Model("y ~ 1 + (1 | area)", data, covariances={"area": known})
    text = code(from_priors(model, 20))
    assert "# covariance_area: the covariance of area, a table with its labels." in text
    assert "covariances={'area': covariance_area}" in text
    space = {"data": data, "covariance_area": known}
    exec(text.replace("fit = model.fit()", ""), space)  # noqa: S102
    np.testing.assert_array_equal(
        space["model"].spec.covariances["area"].matrix, model.spec.covariances["area"].matrix
    )


@pytest.mark.parametrize(
    "how", [{"between": "t", "nu": 4}, {"scale": "~ ablat"}, {"common": True}], ids=str
)
def test_code_of_a_meta_analysis_makes_it_again(how):
    options = {"measure": "RR", "method": "grid", "draws": 20, "seed": 1}
    fit = bm.meta_analysis(LOAD("bcg"), "yi", "sei", "trial", **options, **how)
    space = {"data": LOAD("bcg")}
    exec(code(fit), space)  # noqa: S102
    assert space["fit"].posterior["beta"].identical(fit.posterior["beta"])
