"""Benchmarking: estimands against closed forms and integrals, decisions against simulated truth."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, stats
from scipy.special import expit

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.reports._funnel import count_limits, overdispersion
from bayesmixed.reports._standardise import Reference
from bayesmixed.reports._suppress import hidden_units

HEART = ("hearttransplants", "deaths ~ 1 + offset(log(exposure)) + (1 | hospital)", "poisson")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def first_draws(fit: Fit, count: int) -> Fit:
    """The fit with its first draws only, for what looks at each of them."""
    groups = {name: fit.tree[name].to_dataset() for name in ("posterior", "sample_stats")}
    few = {name: group.isel(draw=slice(count)) for name, group in groups.items()}
    return Fit(fit.design, xr.DataTree.from_dict(few))


@pytest.fixture(scope="module")
def few_draws(medpar) -> Fit:
    return first_draws(medpar, 20)


def stated(data: pd.DataFrame, formula: str, family: str, **posterior) -> Fit:
    """A fit with draws that are given, in one chain."""
    design = bm.Model(formula, data, family=family).design
    group = design.groups[0]
    dims = {
        "beta": ("chain", "draw", "term"),
        f"sd_{group.name}": ("chain", "draw", f"{group.name}_effect"),
        f"u_{group.name}": ("chain", "draw", group.name, f"{group.name}_effect"),
    }
    values = {name: (dims[name], np.asarray(v)[None]) for name, v in posterior.items()}
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(values), "sample_stats": xr.Dataset()})
    return Fit(design, tree)


# Estimands.


def test_rates_of_a_hospital_are_those_of_the_definition(medpar):
    """Every term of the definition for one hospital in one draw, with SciPy's quadrature."""
    report = bm.benchmark(medpar, "provnum")
    chain, draw, place = 2, 77, 11
    one = medpar.posterior.isel(chain=chain, draw=draw)
    predictor = medpar.design.predictors["mu"]
    eta, u = predictor.X @ one["beta"].to_numpy(), float(one["u_provnum"][place, 0])
    rows, sd = predictor.random[0].groups.index == place, float(one["sd_provnum"][0])
    expected = np.mean(
        [
            integrate.quad(lambda z, e=e: stats.norm.pdf(z) * expit(e + sd * z), -9, 9)[0]
            for e in eta[rows]
        ]
    )
    found = report.draws.isel(chain=chain, draw=draw, provnum=place)
    # Quadrature here and there is accurate to about 1e-8, the Chebyshev series to 1e-10.
    assert found["predicted"] == pytest.approx(expit(eta[rows] + u).mean(), abs=1e-9)
    assert found["expected"] == pytest.approx(expected, abs=1e-7)
    assert found["ratio"] == pytest.approx(expit(eta[rows] + u).mean() / expected, abs=1e-6)
    assert found["direct_rate"] == pytest.approx(expit(eta + u).mean(), abs=1e-9)
    overall = medpar.design.y.mean()
    assert found["indirect_rate"] == pytest.approx(float(found["ratio"]) * overall)
    table = report.table.iloc[place]
    assert table["observed"] == medpar.design.y[rows].mean()
    np.testing.assert_allclose(table["ratio"], report.draws["ratio"][..., place].mean())
    assert table["p_worse"] == (report.draws["ratio"][..., place] > 1).mean()


def test_all_units_are_standardised_alike_by_series_and_one_by_one(few_draws, monkeypatch):
    quick = bm.benchmark(few_draws, "provnum").draws["direct_rate"]
    monkeypatch.setattr(Reference, "_shifts", lambda self, fit: None)
    slow = bm.benchmark(few_draws, "provnum").draws["direct_rate"]
    np.testing.assert_allclose(quick, slow, rtol=1e-9)


def test_ratios_of_poisson_rates_have_closed_forms(fitted):
    """exp(u) to the average hospital's rate, exp(u - sd^2/2) to the population's mean rate."""
    fit = fitted(*HEART)
    u = fit.posterior["u_hospital"].to_numpy()[..., 0]
    sd = fit.posterior["sd_hospital"].to_numpy()
    average = bm.benchmark(fit, "hospital", expected="average").draws["ratio"]
    np.testing.assert_allclose(average, np.exp(u), rtol=1e-10)
    population = bm.benchmark(fit, "hospital")
    np.testing.assert_allclose(population.draws["ratio"], np.exp(u - sd**2 / 2), rtol=1e-7)
    # Without case mix the directly standardised rate is each hospital's own.
    own = np.exp(fit.posterior["beta"].to_numpy() + u)
    np.testing.assert_allclose(population.draws["direct_rate"], own, rtol=1e-9)


def test_slopes_are_applied_to_all_rows(sleepstudy):
    """Differences, closed forms: own days for the comparison, everybody's for the standard."""
    report = bm.benchmark(sleepstudy, "Subject")
    u, beta = (sleepstudy.posterior[n].to_numpy() for n in ("u_Subject", "beta"))
    np.testing.assert_allclose(report.draws["difference"], u @ [1, 4.5], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        report.draws["direct_rate"], (beta @ [1, 4.5])[..., None] + u @ [1, 4.5], rtol=1e-9
    )
    rows = pd.DataFrame({"Days": [9.0]})
    late = bm.benchmark(sleepstudy, "Subject", reference=rows).draws["direct_rate"]
    np.testing.assert_allclose(late, (beta @ [1, 9])[..., None] + u @ [1, 9], rtol=1e-9)


def test_what_a_unit_lies_in_is_its_own_unless_compared_within(pastes):
    posterior = pastes.posterior
    inner, outer = posterior["u_cask"].to_numpy()[..., 0], posterior["u_batch"].to_numpy()[..., 0]
    batch = np.repeat(np.arange(10), 3)
    own = bm.benchmark(pastes, "cask").draws
    np.testing.assert_allclose(own["difference"], inner + outer[..., batch], atol=1e-6)
    level = posterior["beta"].to_numpy()
    np.testing.assert_allclose(own["direct_rate"], level + inner + outer[..., batch], rtol=1e-9)
    within = bm.benchmark(pastes, "cask", within=["batch"])
    np.testing.assert_allclose(within.draws["difference"], inner, atol=1e-6)
    assert "of the same batch" in within.caption
    with pytest.raises(bm.BayesmixedError, match="cask"):
        bm.benchmark(pastes, "batch", within=["cask"])


@pytest.mark.parametrize(
    ("name", "formula", "family"),
    [
        ("cbpp", "incidence | trials(size) ~ period + (1 | herd)", "binomial"),
        ("epil", "y ~ lage + V4 + (1 | subject)", "negative_binomial"),
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "lognormal"),
    ],
)
def test_any_family(name, formula, family):
    """Means of the family at the fit's own linear predictors, summed by unit."""
    fit = bm.Model(formula, bm.datasets.load(name), family=family).fit(
        draws=25, tune=200, chains=2, seed=1, progress=False
    )
    design = fit.design
    groups = design.groups[0]
    report = bm.benchmark(fit, groups.name, cost_ratio=1)
    mean = design.family.evaluate(
        design.family.mean, fit.parameters(), design.links, **design.known
    )
    weight = np.ones(len(design.y)) if design.trials is None else design.trials
    for place in (0, 3):
        rows = groups.index == place
        expected = np.asarray(mean)[..., rows].sum(axis=-1) / weight[rows].sum()
        np.testing.assert_allclose(report.draws["predicted"][..., place], expected, rtol=1e-9)
    for kind in report.pictures:
        report.plot(kind)
    assert report.table.drop(columns="flag").notna().all(axis=None)


def test_ordered_categories_are_compared_by_differences():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 20)
    y = np.digitize(rng.logistic(size=240) + rng.normal(size=12)[g], [-1, 0, 1])
    data = pd.DataFrame({"g": g, "y": pd.Categorical(y, ordered=True)})
    fit = bm.Model("y ~ 1 + (1 | g)", data, family="ordinal").fit(
        draws=25, tune=200, chains=2, seed=1, progress=False
    )
    table = bm.benchmark(fit, "g", worse="lower").table
    assert table["difference"].corr(table["observed"]) > 0.9
    assert table["rank"].idxmin() == table["observed"].idxmax()


# Ranks and decisions.


def test_ranks_and_flags_follow_from_the_draws(medpar):
    report = bm.benchmark(medpar, "provnum", cost_ratio=1, margin=1.1, threshold=0.4)
    table, draws = report.table, report.draws
    one = draws.isel(chain=0, draw=5)
    order = one["direct_rate"].to_numpy().argsort()
    np.testing.assert_array_equal(one["rank"].to_numpy()[order], np.arange(1, 55))
    p = (draws["ratio"] > 1.1).mean(["chain", "draw"]).to_numpy()
    np.testing.assert_allclose(table["p_bad"], p)
    np.testing.assert_array_equal(table["flag"], p > 0.5)
    np.testing.assert_allclose(draws["false_flags"].mean(), (1 - p)[p > 0.5].sum())
    np.testing.assert_allclose(draws["misses"].mean(), p[p <= 0.5].sum())
    above = (draws["direct_rate"] > 0.4).mean(["chain", "draw"])
    np.testing.assert_allclose(table["p_threshold"], above)
    # Five of 54 are the worst tenth: rank / 55 > 0.9.
    assert table["p_worst_decile"].sum() == pytest.approx(5)


def test_lower_can_be_worse(medpar):
    high, low = (bm.benchmark(medpar, "provnum", worse=w).table for w in ("higher", "lower"))
    np.testing.assert_allclose(high["rank"] + low["rank"], 55)
    np.testing.assert_allclose(high["p_worse"] + low["p_worse"], 1)


def test_flags_depend_on_costs(medpar):
    """The chosen flags have the least expected cost of all cuts of the probabilities."""
    for ratio in (0.2, 1.0, 4.0):
        table = bm.benchmark(medpar, "provnum", cost_ratio=ratio).table
        p, flag = table["p_worse"].to_numpy(), table["flag"].to_numpy()
        costs = [((1 - p)[p > c].sum() + ratio * p[p <= c].sum()) for c in np.linspace(0, 1, 201)]
        assert (1 - p)[flag].sum() + ratio * p[~flag].sum() <= min(costs) + 1e-9


def league(rng, units=120, draws=600, sd=0.4, intercept=-1.5):
    """Units with effects from the prior; exact posterior draws of them by inverse CDF on a grid."""
    n = rng.integers(10, 400, units)
    truth = rng.normal(0, sd, units)
    k = rng.binomial(n, expit(intercept + truth))
    grid = np.linspace(-6 * sd, 6 * sd, 1201)
    log = stats.norm.logpdf(grid, 0, sd) + stats.binom.logpmf(
        k[:, None], n[:, None], expit(intercept + grid)
    )
    cdf = np.exp(log - log.max(axis=1, keepdims=True)).cumsum(axis=1)
    cdf /= cdf[:, -1:]
    u = np.column_stack([np.interp(rng.random(draws), c, grid) for c in cdf])
    data = pd.DataFrame({"unit": [f"U{i:03}" for i in range(units)], "n": n, "k": k})
    fit = stated(
        data,
        "k | trials(n) ~ 1 + (1 | unit)",
        "binomial",
        beta=np.full((draws, 1), intercept),
        sd_unit=np.full((draws, 1), sd),
        u_unit=u[..., None],
    )
    mean, _ = integrate.quad(lambda x: stats.norm.pdf(x, 0, sd) * expit(intercept + x), -4, 4)
    return fit, expit(intercept + truth) / mean


@pytest.fixture(scope="module")
def leagues():
    """Benchmarks of 25 leagues of 120 units, with the true ratios."""
    rng = np.random.default_rng(11)
    found = [league(rng) for _ in range(25)]
    return [(bm.benchmark(fit, "unit", cost_ratio=0.5), truth) for fit, truth in found]


def test_wrong_flags_are_as_many_as_announced(leagues):
    """Sums over 25 leagues against the truth; 4 sd of a sum of independent errors."""
    for name, wrong in (
        ("false_flags", lambda t, flag: (~(t > 1) & flag).sum()),
        ("misses", lambda t, flag: ((t > 1) & ~flag).sum()),
    ):
        announced = sum(float(r.draws[name].mean()) for r, _ in leagues)
        realised = sum(wrong(t, r.table["flag"].to_numpy()) for r, t in leagues)
        variance = sum(
            (p * (1 - p))[f if name == "false_flags" else ~f].sum()
            for p, f in ((r.table["p_worse"], r.table["flag"]) for r, _ in leagues)
        )
        assert abs(announced - realised) < 4 * np.sqrt(variance)
        assert realised > 20


def test_intervals_cover_and_ranks_are_calibrated(leagues):
    """3,000 units: coverage 0.95 within 4 sd of a share (0.016), and tenths as announced."""
    ratio, rank, worst, announced = [], [], [], []
    for report, truth in leagues:
        table = report.table
        ratio.append(table["eti95_lb"].le(truth) & table["eti95_ub"].ge(truth))
        true_rank = stats.rankdata(truth)
        rank.append(table["rank_lb"].le(true_rank) & table["rank_ub"].ge(true_rank))
        worst.append(true_rank > 0.9 * 121)
        announced.append(table["p_worst_decile"])
    assert np.concatenate(ratio).mean() == pytest.approx(0.95, abs=0.016)
    # Ends of intervals of ranks are whole numbers, so that they cover a little more.
    assert 0.935 < np.concatenate(rank).mean() < 0.98
    p, truth = np.concatenate(announced), np.concatenate(worst)
    for low, high in ((0.02, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.99)):
        some = (p > low) & (p < high)
        sd = np.sqrt((p[some] * (1 - p[some])).sum())
        assert abs(p[some].sum() - truth[some].sum()) < 4 * sd
        assert some.sum() > 30


@pytest.mark.slow
def test_whole_fits_are_calibrated():
    """As above with hyperparameters unknown, drawn from the model's own priors each time."""
    rng = np.random.default_rng(12)
    inside, p, truth = [], [], []
    for seed in range(40):
        sd, intercept = abs(0.5 * rng.standard_normal()), rng.normal(-1.5, 0.5)
        n = rng.integers(20, 300, 40)
        u = rng.normal(0, sd, 40)
        k = rng.binomial(n, expit(intercept + u))
        data = pd.DataFrame({"unit": np.arange(40), "n": n, "k": k})
        priors = {
            "Intercept": bm.Prior("Normal", mu=-1.5, sigma=0.5),
            "sd_unit": bm.Prior("HalfNormal", sigma=0.5),
        }
        model = bm.Model("k | trials(n) ~ 1 + (1 | unit)", data, family="binomial", priors=priors)
        fit = model.fit(draws=500, chains=2, seed=seed, progress=False)
        table = bm.benchmark(fit, "unit").table
        mean = stats.norm.expect(expit, loc=intercept, scale=max(sd, 1e-6))
        ratio = expit(intercept + u) / mean
        inside.append((table["eti95_lb"] <= ratio) & (ratio <= table["eti95_ub"]))
        p.append(table["p_worse"])
        truth.append(ratio > 1)
    # Errors within a league are correlated through its hyperparameters: sd from the leagues.
    shares = np.array([i.mean() for i in inside])
    assert abs(shares.mean() - 0.95) < 4 * shares.std() / np.sqrt(40)
    off = np.array([(a - b).mean() for a, b in zip(p, truth, strict=True)])
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(40)


# Volume.


@pytest.fixture(scope="module")
def by_volume():
    """Units whose odds of death fall by 40 % with each log unit of volume; two fits."""
    rng = np.random.default_rng(8)
    n = np.exp(rng.uniform(np.log(8), np.log(800), 200)).astype(int)
    log_n = np.log(n)
    risk = expit(-1.8 - 0.5 * (log_n - log_n.mean()) + rng.normal(0, 0.2, 200))
    data = pd.DataFrame({"unit": np.arange(200), "n": n, "k": rng.binomial(n, risk)})
    data = bm.with_volume(data, "unit", size="n")
    fits = {
        text: bm.Model(f"k | trials(n) ~ {text} + (1 | unit)", data, family="binomial").fit(
            draws=400, chains=2, seed=1, progress=False
        )
        for text in ("1", "log_volume")
    }
    return fits, n, risk


def test_small_units_are_not_pulled_to_the_average_where_volume_is_in_the_model(by_volume):
    fits, n, risk = by_volume
    small = n < 15
    truth = risk[small].mean()
    plain = bm.benchmark(fits["1"], "unit").table["direct_rate"].to_numpy()[small].mean()
    report = bm.benchmark(fits["log_volume"], "unit", volume="log_volume")
    volume = report.table["direct_rate"].to_numpy()[small].mean()
    overall = fits["1"].design.y.sum() / n.sum()
    # About 28 units of 11 patients: their mean risk has an sd of about 0.03 by chance.
    assert abs(volume - truth) < 0.06
    assert truth - plain > 3 * abs(volume - truth)
    assert plain - overall < 0.75 * (truth - overall)
    # The ratio counts volume as quality; named as case mix, it does not.
    ratio = report.table["ratio"].to_numpy()[small].mean()
    peers = bm.benchmark(fits["log_volume"], "unit").table["ratio"].to_numpy()[small].mean()
    assert ratio > 2
    assert peers == pytest.approx(1, abs=0.05)


def test_volume_enters_as_defined(by_volume, monkeypatch):
    """Expected at the patients' mean log volume, predicted at the unit's own, draw by draw."""
    fit = by_volume[0]["log_volume"]
    draws = bm.benchmark(fit, "unit", volume="log_volume", expected="average").draws
    beta, u = fit.posterior["beta"].to_numpy(), fit.posterior["u_unit"].to_numpy()[..., 0]
    volume = fit.design.table.frame["log_volume"].to_numpy()
    common = np.average(volume, weights=fit.design.trials)
    at = beta[..., :1] + beta[..., 1:] * volume + u
    np.testing.assert_allclose(draws["predicted"], expit(at), rtol=1e-10)
    np.testing.assert_allclose(
        draws["expected"][..., 0], expit(beta[..., 0] + beta[..., 1] * common), rtol=1e-10
    )
    np.testing.assert_allclose(draws["direct_rate"], expit(at), rtol=1e-9)
    few = first_draws(fit, 5)
    quick = bm.benchmark(few, "unit", volume="log_volume").draws["direct_rate"]
    monkeypatch.setattr(Reference, "_shifts", lambda self, fit: None)
    slow = bm.benchmark(few, "unit", volume="log_volume").draws["direct_rate"]
    np.testing.assert_allclose(quick, slow, rtol=1e-9)


def test_volume_may_depend_on_the_patient():
    """With an interaction no shift is common to all rows; written out for one unit."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"unit": np.repeat(np.arange(15), rng.integers(3, 40, 15))})
    data = bm.with_volume(data.assign(x=rng.integers(0, 3, len(data))), "unit")
    data["y"] = rng.binomial(1, expit(-0.5 + 0.3 * data["x"] - 0.4 * data["log_volume"]))
    fit = bm.Model("y ~ x * log_volume + (1 | unit)", data, family="bernoulli").fit(
        draws=30, tune=200, chains=2, seed=1, progress=False
    )
    found = bm.benchmark(fit, "unit", volume="log_volume").draws["direct_rate"][1, 4, 7]
    one = fit.posterior.isel(chain=1, draw=4)
    own = data.loc[data["unit"] == 7, "log_volume"].iloc[0]
    b = one["beta"].to_series()
    eta = b["Intercept"] + b["x"] * data["x"] + b["log_volume"] * own
    eta = eta + b["x:log_volume"] * data["x"] * own + float(one["u_unit"][7, 0])
    assert found == pytest.approx(expit(eta).mean(), rel=1e-9)


def test_volume_is_checked(by_volume, medpar):
    data = pd.DataFrame({"unit": ["a", "a", "b", None], "n": [1, 2, 0, 1]})
    with pytest.raises(bm.BayesmixedError, match="Missing values in 'unit'"):
        bm.with_volume(data, "unit")
    with pytest.raises(bm.BayesmixedError, match="not above 0"):
        bm.with_volume(data.dropna(), "unit", size="n")
    with pytest.raises(bm.BayesmixedError, match="column 'units'"):
        bm.with_volume(data, "units")
    with pytest.raises(bm.BayesmixedError, match="already"):
        bm.with_volume(data.dropna(), "unit", name="n")
    with pytest.raises(bm.BayesmixedError, match="with_volume"):
        bm.benchmark(medpar, "provnum", volume="log_volume")
    with pytest.raises(bm.BayesmixedError, match="differs within"):
        bm.benchmark(medpar, "provnum", volume="age80")


# Suppression.


def test_suppressed_units_are_nowhere(medpar):
    """Neither labels nor numbers; ranks are of the units shown."""
    whole = bm.benchmark(medpar, "provnum")
    report = bm.benchmark(medpar, "provnum", suppress_below=11)
    hidden = whole.table.index.difference(report.table.index)
    counts = whole.table["n"], (whole.table["n"] * whole.table["observed"]).round()
    small = (counts[0] < 11) | (counts[1] < 11) | (counts[0] - counts[1] < 11)
    assert set(whole.table.index[small]) <= set(hidden)
    assert len(hidden) >= 2
    assert set(report.draws["provnum"].to_numpy()) == set(report.table.index)
    assert all(len(v["provnum"]) == len(report.table) for v in report.draws.values() if v.ndim > 2)
    exports = report.to_html() + report.to_latex() + str(report)
    assert not any(str(label) in exports for label in hidden)
    # The overall rate is of all, or hiding units with few events would raise the rates of the rest;
    # what follows by subtraction is the total of the hidden units, which is no small cell.
    for column in ("observed", "ratio", "indirect_rate", "direct_rate"):
        np.testing.assert_allclose(report.table[column], whole.table[column][report.table.index])
    for count in (counts[0], counts[1], counts[0] - counts[1]):
        assert count[hidden].sum() >= 11
    assert report.draws["rank"].max() == len(report.table)
    assert report.draws["misses"].max() <= len(report.table)
    for kind in report.pictures:
        ax = report.plot(kind)
        words = {t.get_text() for t in [*ax.get_yticklabels(), *ax.texts]}
        assert not words & {str(label) for label in hidden}
        points = [len(c.get_offsets()) for c in ax.collections]
        assert max(points) <= len(report.table)


@pytest.mark.parametrize(
    ("rows", "hidden"),
    [
        ([50, 60, 70], []),
        ([5, 60, 70], [0, 1]),  # one alone could be found by subtraction
        ([5, 6, 70, 80], [0, 1]),
        ([1, 1, 70, 80], [0, 1, 2]),  # 2 in all are 1 and 1
    ],
)
def test_complementary_suppression(rows, hidden):
    found = hidden_units([np.array(rows, dtype=float)], 11)
    np.testing.assert_array_equal(np.flatnonzero(found), hidden)


def test_suppression_of_everything_is_refused(medpar):
    with pytest.raises(bm.BayesmixedError, match="leaves no unit"):
        bm.benchmark(medpar, "provnum", suppress_below=1000)


# Pictures and words.


@pytest.mark.parametrize("expected", [3.0, 12.0, 40.0])
def test_control_limits_have_their_probabilities(expected):
    """Whole numbers beyond a limit have at most the tail's probability; with the next one, more."""
    for rate, dist in ((None, stats.poisson(expected)), (0.2, stats.binom(expected / 0.2, 0.2))):
        for limit, tail in zip(count_limits(60, rate), (0.025, 0.001), strict=True):
            upper = np.interp(expected, limit.x, limit.upper) * expected
            # Limits between the points of the curve are interpolated, by less than 0.3 events.
            assert dist.sf(np.ceil(upper + 0.3)) <= tail <= dist.sf(np.floor(upper - 0.3) - 1)


def test_overdispersion_of_normal_differences():
    """Winsorising at the 10 % and 90 % quantiles takes the mean square of a normal to 0.66."""
    z = 2 * np.random.default_rng(1).normal(size=100_000)
    q = stats.norm.ppf(0.9)
    share = 0.8 - 2 * q * stats.norm.pdf(q) + 0.2 * q**2
    assert overdispersion(z) == pytest.approx(4 * share, rel=0.02)
    assert overdispersion(z / 10) == 1


def test_words_say_what_is_estimated(medpar):
    report = bm.benchmark(medpar, "provnum", margin=1.2, cost_ratio=0.25)
    for part in ("drawn from the population", "equal-tailed", "above 0.8", "above 1.2", "missed"):
        assert part in report.caption
    assert "average provnum" in bm.benchmark(medpar, "provnum", expected="average").caption
    assert list(report.pictures) == ["caterpillar", "funnel", "rank"]
    for kind in report.pictures:
        assert report.plot(kind).get_xlabel()


def test_no_funnel_where_rows_of_a_unit_depend_on_each_other(pastes):
    report = bm.benchmark(pastes, "batch")
    assert "funnel" not in report.pictures
    assert any("No funnel" in caveat for caveat in report.caveats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worse": "up"}, "value of worse"),
        ({"scale": "odds"}, "scale"),
        ({"expected": "none"}, "value of expected"),
        ({"cost_ratio": 0}, "cost_ratio=0"),
        ({"cost_ratio": "1"}, "cost_ratio='1'"),
        ({"margin": "1.5"}, "margin='1.5'"),
        ({"suppress_below": "11"}, "suppress_below='11'"),
        ({"margin": np.inf}, "margin"),
        ({"suppress_below": -1}, "suppress_below"),
        ({"within": ["provnum"]}, "within"),
    ],
)
def test_options_are_checked(few_draws, options, message):
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.benchmark(few_draws, "provnum", **options)


def test_a_mean_below_0_has_no_ratio(sleepstudy):
    data = bm.datasets.load("sleepstudy")
    data["Reaction"] -= data["Reaction"].mean()
    fit = bm.Model("Reaction ~ 1 + (1 | Subject)", data).fit(
        draws=30, tune=100, chains=2, seed=1, progress=False
    )
    with pytest.raises(bm.BayesmixedError, match='scale="difference"'):
        bm.benchmark(fit, "Subject", scale="ratio")
    assert "difference" in bm.benchmark(fit, "Subject").table
