"""Leaving out rows and groups: against quadrature by SciPy, refits, and ArviZ itself."""

from __future__ import annotations

import arviz as az
import made
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.integrate import dblquad, quad
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp
from scipy.stats import binom, multivariate_normal, norm, poisson

import bayesmixed as bm
from bayesmixed.group_likelihood import group_log_likelihood
from bayesmixed.linpred import covariance
from bayesmixed.reports import _loo

# For the likelihood any parameters do, so few draws suffice.
FEW = {"draws": 15, "tune": 150, "chains": 2, "seed": 1, "progress": False}
DRAWS = [(0, 0), (1, 9)]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _fit(formula, data, **kwargs):
    return bm.Model(formula, data, **kwargs).fit(**FEW)


def _log_integral(log_f, dimensions=1):
    """Log of the integral of exp(f) times standard normal densities, by SciPy."""
    if dimensions == 1:
        grid = np.linspace(-8, 8, 321)
        values = [log_f(z) + norm.logpdf(z) for z in grid]
        top, peak = max(values), grid[int(np.argmax(values))]
        found = quad(
            lambda z: np.exp(log_f(z) + norm.logpdf(z) - top),
            -9, 9, points=[peak - 0.5, peak, peak + 0.5], epsabs=0, epsrel=1e-10, limit=400,
        )  # fmt: skip
        return top + np.log(found[0])
    found = dblquad(
        lambda a, b: np.exp(log_f(np.array([a, b])) + norm.logpdf(a) + norm.logpdf(b)),
        -8, 8, -8, 8, epsabs=0, epsrel=1e-5,
    )  # fmt: skip
    return np.log(found[0])


@pytest.mark.parametrize("family", ["gaussian", "lognormal"])
def test_normal_slopes_are_a_multivariate_normal(family):
    """Each group's rows are N(X beta, Z G Z' + sigma^2), in every draw; exact."""
    data = bm.datasets.load("sleepstudy")
    fit = _fit("Reaction ~ Days + (Days | Subject)", data, family=family)
    found = group_log_likelihood(fit, "Subject")
    predictor, y = fit.design.predictors["mu"], fit.design.y
    random = predictor.random[0]
    assert list(found["Subject"].to_numpy()) == list(random.groups.labels)
    for at in DRAWS:
        one = fit.posterior.isel(chain=at[0], draw=at[1])
        sd = one["sd_Subject"].to_numpy()
        G = one["cor_Subject"].to_numpy() * np.outer(sd, sd)
        for g in (0, 17):
            rows = random.groups.index == g
            Z, mean = random.Z[rows], predictor.X[rows] @ one["beta"].to_numpy()
            V = Z @ G @ Z.T + float(one["sigma"]) ** 2 * np.eye(len(Z))
            normal = multivariate_normal(mean, V)
            expected = (
                normal.logpdf(y[rows])
                if family == "gaussian"
                else normal.logpdf(np.log(y[rows])) - np.log(y[rows]).sum()
            )
            np.testing.assert_allclose(found[at[0], at[1], g], expected, rtol=1e-10)


def test_groups_inside_are_integrated_too_and_those_around_kept(pastes):
    """A batch's casks are averaged over; a cask that is left out leaves its batch's effect."""
    one = pastes.posterior.isel(chain=0, draw=3)
    batch, cask, sigma = (float(one[n].squeeze()) for n in ("sd_batch", "sd_cask", "sigma"))
    randoms = {r.name: r.groups for r in pastes.design.predictors["mu"].random}
    y, level = pastes.design.y, float(one["beta"][0])
    piece = bm.Fit(
        pastes.design,
        xr.DataTree.from_dict({"posterior": pastes.posterior.isel(chain=[0], draw=[3])}),
    )
    rows = randoms["batch"].index == 4
    same = randoms["cask"].index[rows, None] == randoms["cask"].index[None, rows]
    V = batch**2 + cask**2 * same + sigma**2 * np.eye(rows.sum())
    found = group_log_likelihood(piece, "batch")[0, 0, 4]
    np.testing.assert_allclose(
        found, multivariate_normal(np.full(len(V), level), V).logpdf(y[rows]), rtol=1e-10
    )
    rows = randoms["cask"].index == 7
    u = float(one["u_batch"][randoms["batch"].index[rows][0], 0])
    V = cask**2 + sigma**2 * np.eye(rows.sum())
    found = group_log_likelihood(piece, "cask")[0, 0, 7]
    np.testing.assert_allclose(
        found, multivariate_normal(np.full(len(V), level + u), V).logpdf(y[rows]), rtol=1e-10
    )


def test_equal_rows_count_as_often_as_they_occur():
    """Whole outcomes at few values of x, in no order: the same normal, and SciPy's quadrature."""
    rng, rows = np.random.default_rng(7), 240
    data = pd.DataFrame({"g": rng.integers(0, 6, rows), "x": rng.integers(0, 2, rows)})
    data["y"] = np.round(rng.normal(size=6)[data["g"]] + data["x"] + rng.normal(size=rows))
    data["yes"] = (data["y"] > 0).astype(int)
    assert len(data.drop_duplicates()) < rows / 3
    normal = made.at(bm.Model("y ~ x + (x | g)", data), beta=[0.2, 0.7], sigma=1.3, sd_g=[0.8, 0.4])
    found = group_log_likelihood(normal, "g")
    random = normal.design.predictors["mu"].random[0]
    G = covariance(normal, random)[0, 0]
    yes_no = made.at(
        bm.Model("yes ~ x + (1 | g)", data, family="bernoulli"), beta=[0.2, 0.7], sd_g=0.8
    )
    integrals = group_log_likelihood(yes_no, "g")
    for group in range(6):
        own = data["g"] == group
        mean, Z = 0.2 + 0.7 * data["x"][own].to_numpy(), random.Z[own]
        V = Z @ G @ Z.T + 1.3**2 * np.eye(len(Z))
        expected = multivariate_normal(mean, V).logpdf(data["y"][own])
        np.testing.assert_allclose(found[0, 0, group], expected, rtol=1e-10)
        sign = 2 * data["yes"][own].to_numpy() - 1

        def log_f(z, mean=mean, sign=sign):
            return -np.logaddexp(0, -sign * (mean + 0.8 * z)).sum()

        np.testing.assert_allclose(integrals[0, 0, group], _log_integral(log_f), rtol=1e-6)


def test_known_sampling_errors():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"study": np.arange(12) // 2, "vi": rng.uniform(0.01, 1, 12)})
    data["yi"] = rng.normal(size=6)[data["study"]] + rng.normal(size=12) * np.sqrt(data["vi"])
    fit = _fit("yi ~ 1 + (1 | study)", data, sampling_sd="sqrt(vi)")
    found = group_log_likelihood(fit, "study")
    for chain, draw in DRAWS:
        one = fit.posterior.isel(chain=chain, draw=draw)
        for g in (0, 3):
            part = data[data["study"] == g]
            V = float(one["sd_study"].squeeze()) ** 2 + np.diag(part["vi"])
            normal = multivariate_normal(np.full(len(part), float(one["beta"][0])), V)
            np.testing.assert_allclose(found[chain, draw, g], normal.logpdf(part["yi"]), rtol=1e-10)


def test_spread_that_varies_between_groups():
    """Effects on mu go in closed form inside a quadrature over those on log sigma."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 6)
    y = rng.normal(size=8)[g] + np.exp(rng.normal(0, 0.5, size=8))[g] * rng.normal(size=48)
    fit = _fit(
        "y ~ 1 + (1 | g)", pd.DataFrame({"g": g, "y": y}), parameters={"sigma": "~ 1 + (1 | g)"}
    )
    found = group_log_likelihood(fit, "g")
    for chain, draw in DRAWS:
        one = fit.posterior.isel(chain=chain, draw=draw)
        tau, omega = float(one["sd_g"].squeeze()), float(one["sd_sigma_g"].squeeze())
        base = float(one["beta_sigma"][0])
        for group in (0, 5):
            part = y[g == group] - float(one["beta"][0])

            def log_f(z, part=part, tau=tau, omega=omega, base=base):
                V = tau**2 + np.exp(2 * (base + omega * z)) * np.eye(len(part))
                return multivariate_normal(np.zeros(len(part)), V).logpdf(part)

            np.testing.assert_allclose(
                found[chain, draw, group], _log_integral(log_f), rtol=1e-6, atol=1e-6
            )


def _count_data():
    """Groups of 1, 3, 40 and more rows, one of nothing but zeros."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(7), [1, 3, 40, 12, 12, 30, 12])
    x, exposure = rng.normal(size=len(g)), rng.uniform(0.5, 20, size=len(g))
    y = rng.poisson(exposure * np.exp(-0.5 + 0.3 * x + rng.normal(size=7)[g]))
    y[g == 5] = 0
    k = rng.binomial(9, expit(-0.5 + x + rng.normal(size=7)[g]))
    return pd.DataFrame({"g": g, "x": x, "e": exposure, "y": y, "k": k, "n": 9})


def test_counts_with_exposure_and_trials():
    """One integral a group, of any shape: many rows, one row, all zeros."""
    data = _count_data()
    counts = _fit("y ~ x + offset(log(e)) + (1 | g)", data, family="poisson")
    trials = _fit("k | trials(n) ~ x + (1 | g)", data, family="binomial", link="probit")
    for fit in (counts, trials):
        found = group_log_likelihood(fit, "g")
        for chain, draw in DRAWS[:1]:
            one = fit.posterior.isel(chain=chain, draw=draw)
            beta, sd = one["beta"].to_numpy(), float(one["sd_g"].squeeze())
            for group in range(7):
                part = data[data["g"] == group]
                eta = beta[0] + beta[1] * part["x"].to_numpy()

                def log_f(z, part=part, eta=eta, sd=sd, fit=fit):
                    if fit is counts:
                        return poisson.logpmf(part["y"], part["e"] * np.exp(eta + sd * z)).sum()
                    return binom.logpmf(part["k"], 9, norm.cdf(eta + sd * z)).sum()

                np.testing.assert_allclose(
                    found[chain, draw, group], _log_integral(log_f), rtol=1e-6, atol=1e-5
                )


def test_correlated_effects_of_a_yes_no_outcome():
    """A double integral; SciPy's own relative tolerance is 1e-5."""
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(6), 7), np.tile(np.linspace(-1.5, 1.5, 7), 6)
    y = rng.binomial(1, expit(0.5 + rng.normal(size=6)[g] + (1 + rng.normal(size=6)[g]) * x))
    fit = _fit("y ~ x + (x | g)", pd.DataFrame({"g": g, "x": x, "y": y}), family="bernoulli")
    found = group_log_likelihood(fit, "g")
    one = fit.posterior.isel(chain=1, draw=4)
    sd = one["sd_g"].to_numpy()
    root = np.linalg.cholesky(one["cor_g"].to_numpy() * np.outer(sd, sd))
    for group in (3,):
        rows = g == group
        Z, sign = np.column_stack([np.ones(7), x[rows]]), 2 * y[rows] - 1

        def log_f(z, Z=Z, sign=sign):
            return -np.logaddexp(0, -sign * (Z @ (one["beta"].to_numpy() + root @ z))).sum()

        np.testing.assert_allclose(found[1, 4, group], _log_integral(log_f, 2), atol=2e-5)


def test_patients_in_units_of_a_yes_no_outcome():
    """Integrals in integrals: the patients' inside their unit's, labelled in no order."""
    rng = np.random.default_rng(4)
    patient = np.repeat(rng.permutation(12), 4)
    unit = np.array(["b", "a", "c"])[patient % 3]
    y = rng.binomial(1, expit(1.5 * rng.normal(size=12)[patient]))
    data = pd.DataFrame({"unit": unit, "patient": patient, "y": y}).sample(frac=1, random_state=1)
    fit = bm.Model(
        "y ~ 1", data, family="bernoulli", hierarchy=bm.Hierarchy({"unit": "1", "patient": "1"})
    ).fit(**FEW)
    found = group_log_likelihood(fit, "unit")
    one = fit.posterior.isel(chain=1, draw=4)
    level, outer, inner = (float(one[n].squeeze()) for n in ("beta", "sd_unit", "sd_patient"))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def log_f(z):
        total = 0.0
        for _, part in data[data["unit"] == "a"].groupby("patient"):
            successes = int(part["y"].sum())
            p = expit(level + outer * z + inner * nodes)
            lik = p**successes * (1 - p) ** (len(part) - successes)
            total += np.log(lik @ weights / weights.sum())
        return total

    np.testing.assert_allclose(found.sel(unit="a")[1, 4], _log_integral(log_f), atol=1e-5)


def test_ordered_categories():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(9), 8)
    latent = rng.normal(size=9)[g] + rng.logistic(size=72)
    data = pd.DataFrame({"g": g, "y": pd.cut(latent, [-np.inf, -1, 0.5, np.inf], labels=[1, 2, 3])})
    model = bm.Model("y ~ 1 + (1 | g)", data, family="ordinal")
    # Draws from the prior are parameters as good as any, and take no compiler.
    prior = model.prior_predictive(draws=5, seed=1)["prior"].to_dataset()
    fit = bm.Fit(model.design, xr.DataTree.from_dict({"posterior": prior}))
    found = group_log_likelihood(fit, "g")
    one = fit.posterior.isel(chain=0, draw=2)
    cuts = np.concatenate([[-np.inf], one["thresholds"].to_numpy(), [np.inf]])
    code = data["y"].cat.codes.to_numpy()[g == 6]

    def log_f(z):
        eta = float(one["sd_g"].squeeze()) * z
        return np.log(expit(cuts[code + 1] - eta) - expit(cuts[code] - eta)).sum()

    np.testing.assert_allclose(found[0, 2, 6], _log_integral(log_f), atol=1e-5)


def test_too_many_dimensions_and_crossed_groups_are_refused():
    rng = np.random.default_rng(6)
    n = 160
    data = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"]).assign(
        g=np.arange(n) % 8, y=rng.binomial(1, 0.5, n)
    )
    fit = _fit("y ~ a + b + c + (a + b + c || g)", data, family="bernoulli")
    with pytest.raises(bm.BayesmixedError, match="4 effects of its own"):
        bm.loo(fit, "g")
    data = data.assign(h=data["g"] * 10 + np.arange(n) % 3, k=data["g"] * 10 + np.arange(n) // 80)
    crossed = _fit("a ~ 1 + (1 | g) + (1 | h) + (1 | k)", data)
    with pytest.raises(bm.BayesmixedError, match="cross each other inside 'g'"):
        bm.loo(crossed, "g")
    # Left out by themselves they are no trouble.
    assert np.isfinite(bm.loo(crossed, "h").table["elpd"]).all()
    with pytest.raises(bm.BayesmixedError, match="no unit to leave out 'gg'"):
        bm.loo(fit, "gg")


def _error(values):
    """Monte Carlo error of the log of a mean of exp(values), (chain, draw)."""
    weights = np.exp(values - values.max()).to_dataset(name="w")
    effective = float(az.ess(weights, method="mean")["w"])
    return float(weights["w"].std() / weights["w"].mean()) / np.sqrt(effective)


def _without(fit, group, label, seed=2):
    data = fit.design.table.frame
    rest = data[data[group].astype(str) != str(label)]
    rest = rest.assign(**{group: rest[group].astype(str)})
    return bm.Model.from_spec(fit.spec, rest).fit(seed=seed, progress=False)


@pytest.fixture(scope="module")
def toenail():
    """30 patients of the trial, a yes/no outcome with a wide spread between patients."""
    data = bm.datasets.load("toenail")
    first = data["patientID"].drop_duplicates().iloc[:30]
    data = data[data["patientID"].isin(first)].assign(
        p=lambda d: d["patientID"].astype(str),
        y=lambda d: (d["outcome"] == "moderate or severe").astype(int),
    )
    model = bm.Model(
        "y ~ time + (1 | p)", data, family="bernoulli",
        # The defaults are scaled to the rows, which a refit has fewer of.
        priors={
            "Intercept": bm.Prior("Normal", mu=0, sigma=2.5),
            "beta[time]": bm.Prior("Normal", mu=0, sigma=1),
            "sd_p": bm.Prior("HalfNormal", sigma=4),
        },
    )  # fmt: skip
    return model.fit(seed=1, progress=False)


@pytest.mark.parametrize(
    ("name", "group", "count"), [("sleepstudy", "Subject", 3), ("toenail", "p", 3)]
)
def test_left_out_groups_agree_with_refits(name, group, count, request):
    """The reweighted elpd is that of a fit without the group, within 4 Monte Carlo errors."""
    fit = request.getfixturevalue(name)
    report = bm.loo(fit, group)
    table = report.table
    # Some of each kind: well and badly foretold.
    ranked = table[table["k_hat"] < 0.7].sort_values("elpd")
    labels = ranked.index[np.linspace(0, len(ranked) - 1, count).astype(int)]
    refits = {label: _without(fit, group, label) for label in labels}
    exact = bm.loo(fit, group, refits=refits)
    for label, refit in refits.items():
        # Exact: log mean density under the refit, put together here from its own draws.
        rows = fit.design.table.frame[fit.design.table.frame[group].astype(str) == str(label)]
        values = _density(refit, rows, group)
        by_hand = float(logsumexp(values) - np.log(values.size))
        np.testing.assert_allclose(exact.table.loc[label, "elpd"], by_hand, atol=1e-4)
        loglik = report.draws["log_likelihood"].sel({group: label})
        error = np.hypot(_error(xr.DataArray(values, dims=("chain", "draw"))), _error(-loglik))
        assert error < 0.15
        assert abs(table.loc[label, "elpd"] - by_hand) < 4 * error
        assert np.isnan(exact.table.loc[label, "k_hat"])
    others = table.index.difference(labels)
    pd.testing.assert_frame_equal(exact.table.loc[others], table.loc[others])


def _density(fit, rows, group):
    """Log-density of a new group's rows in every draw: dense, or on a fixed fine grid."""
    posterior = fit.posterior
    beta, sd = posterior["beta"].to_numpy(), posterior[f"sd_{group}"].to_numpy()
    if group == "Subject":
        x, y = rows["Days"].to_numpy(), rows["Reaction"].to_numpy()
        Z = np.column_stack([np.ones(len(x)), x])
        G = posterior["cor_Subject"].to_numpy() * sd[..., :, None] * sd[..., None, :]
        sigma = posterior["sigma"].to_numpy()[..., None, None]
        V = Z @ G @ Z.T + sigma**2 * np.eye(len(x))
        off = y - beta @ Z.T
        quadratic = (off[..., None, :] @ np.linalg.solve(V, off[..., None]))[..., 0, 0]
        return -0.5 * (quadratic + np.linalg.slogdet(V)[1] + len(y) * np.log(2 * np.pi))
    sign = 2 * rows["y"].to_numpy() - 1
    eta = beta @ np.column_stack([np.ones(len(rows)), rows["time"]]).T
    z = np.linspace(-7, 7, 141)
    terms = [
        -np.logaddexp(0, -sign * (eta + sd * one)).sum(axis=-1) + norm.logpdf(one) for one in z
    ]
    return logsumexp(terms, axis=0) + np.log(z[1] - z[0])


def test_refits_are_checked(sleepstudy):
    other = bm.Model("Reaction ~ Days + (1 | Subject)", bm.datasets.load("sleepstudy")).fit(**FEW)
    with pytest.raises(bm.BayesmixedError, match="not of the same model"):
        bm.loo(sleepstudy, "Subject", refits={308: other})
    with pytest.raises(bm.BayesmixedError, match="170 rows, not 180"):
        bm.loo(sleepstudy, "Subject", refits={308: sleepstudy})
    with pytest.raises(bm.BayesmixedError, match="no Subject '1'"):
        bm.loo(sleepstudy, "Subject", refits={1: sleepstudy})
    with pytest.raises(bm.BayesmixedError, match="Refits are for groups"):
        bm.loo(sleepstudy, refits={308: sleepstudy})


def test_rows_are_what_arviz_gives(sleepstudy, monkeypatch):
    """Block by block, with the efficiency of the population's parameters."""
    monkeypatch.setattr(_loo, "_MAX_VALUES", 4000 * 70)
    table = bm.loo(sleepstudy).table
    efficiency = _loo.relative_efficiency(sleepstudy)
    assert 0.2 < efficiency < 2
    tree = sleepstudy.with_log_likelihood().tree
    with pytest.warns(UserWarning, match="Pareto"):
        expected = az.loo(tree, pointwise=True, reff=efficiency)
    np.testing.assert_allclose(table["elpd"], expected.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(table["k_hat"], expected.pareto_k, rtol=1e-8)
    np.testing.assert_allclose(table["p_loo"].sum(), expected.p, rtol=1e-8)


def test_a_saved_fit_gives_the_same(sleepstudy, tmp_path):
    again = bm.load(sleepstudy.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(
        bm.loo(again, "Subject").table, bm.loo(sleepstudy, "Subject").table
    )


def test_untrustworthy_groups_are_named_with_the_cure(sleepstudy):
    report = bm.loo(sleepstudy, "Subject")
    bad = report.table.index[report.table["k_hat"] > 0.7]
    assert len(bad)
    caveat = next(c for c in report.caveats if "k_hat above 0.70" in c)
    assert all(str(label) in caveat for label in bad)
    assert "refits=" in caveat
    assert "integrated over the population" in report.caption
    for kind in report.pictures:
        assert report.plot(kind).get_ylabel()


def test_comparison_of_groups(sleepstudy):
    """Differences and errors from the units themselves; fits without the grouping take part."""
    data = bm.datasets.load("sleepstudy")
    none = bm.Model("Reaction ~ Days", data).fit(seed=1, draws=500, progress=False)
    report = bm.compare({"none": none, "slopes": sleepstudy}, "Subject")
    table = report.table
    assert list(table.index) == ["slopes", "none"]
    np.testing.assert_allclose(
        table.loc["slopes", "elpd"], bm.loo(sleepstudy, "Subject").table["elpd"].sum()
    )
    off = report.draws["elpd"].sel(model="none") - report.draws["elpd"].sel(model="slopes")
    np.testing.assert_allclose(table.loc["none", "elpd_diff"], off.sum())
    np.testing.assert_allclose(table.loc["none", "se_diff"], np.sqrt(18 * off.var()))
    # Without effects a group's density is the product of its rows'.
    rows = none.with_log_likelihood().tree["log_likelihood"]["y"].to_numpy()
    index = sleepstudy.design.groups[0].index
    together = np.stack([rows[..., index == g].sum(axis=-1) for g in range(18)], axis=-1)
    np.testing.assert_allclose(group_log_likelihood(none, sleepstudy.design.groups[0]), together)


def test_weights_make_the_best_mixture(sleepstudy):
    """Stacking maximises the mixture's log score; here by a search over one weight."""
    data = bm.datasets.load("sleepstudy")
    other = bm.Model("Reaction ~ Days", data).fit(seed=1, draws=500, progress=False)
    report = bm.compare({"a": sleepstudy, "b": other}, "row")
    a, b = (report.draws["elpd"].sel(model=m).to_numpy() for m in "ab")
    best = minimize_scalar(
        lambda w: -np.logaddexp(np.log(w) + a, np.log1p(-w) + b).sum(),
        bounds=(1e-9, 1 - 1e-9), method="bounded",
    )  # fmt: skip
    # ArviZ's optimiser stops at a change of 1e-6 in the score, which is flat near its top.
    np.testing.assert_allclose(report.table.loc["a", "weight"], best.x, atol=0.01)
    assert report.plot().get_xlabel()


def test_weights_of_large_groups_do_not_underflow():
    """Densities of whole groups are far below the smallest float."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 250)
    data = pd.DataFrame({"g": g, "y": 1000 * (rng.normal(size=12)[g] + rng.normal(size=3000))})
    one = _fit("y ~ 1 + (1 | g)", data)
    two = _fit("y ~ 1", data)
    table = bm.compare({"one": one, "two": two}, "g").table
    assert table["elpd"].max() / 12 < np.log(np.finfo(float).tiny)
    np.testing.assert_allclose(table["weight"].sum(), 1)
    assert table.loc["one", "weight"] > 0.9


def test_what_cannot_be_compared_is_refused(sleepstudy):
    data = bm.datasets.load("sleepstudy")
    log = _fit("log(Reaction) ~ Days", data)
    with pytest.raises(bm.BayesmixedError, match="different outcomes"):
        bm.compare({"a": sleepstudy, "b": log})
    fewer = _fit("Reaction ~ Days", data.iloc[:100])
    with pytest.raises(bm.BayesmixedError, match="180 and 100 rows"):
        bm.compare({"a": sleepstudy, "b": fewer})
    with pytest.raises(bm.BayesmixedError, match="two fits or more"):
        bm.compare({"a": sleepstudy})
    with pytest.raises(bm.BayesmixedError, match="two fits or more"):
        bm.compare([sleepstudy, sleepstudy])
    counts = _count_data()
    density, mass = _fit("y ~ x", counts), _fit("y ~ x", counts, family="poisson")
    with pytest.raises(bm.BayesmixedError, match="probabilities and the other a density"):
        bm.compare({"normal": density, "poisson": mass})
    with pytest.raises(bm.BayesmixedError, match="no unit to leave out 'Sub'"):
        bm.compare({"a": sleepstudy, "b": sleepstudy}, "Sub")
