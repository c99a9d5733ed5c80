"""Correlated outcomes: metafor, dense normals with quadrature, simulated strength."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import block_diag
from scipy.optimize import minimize

import bayesmixed as bm
from bayesmixed._errors import BayesmixedError, DataError, PriorError
from bayesmixed.encoded import encode
from bayesmixed.lkj import forward
from bayesmixed.meta import _multivariate_effects
from bayesmixed.meta._covariance_density import Whitened
from bayesmixed.univariate import log_prior

REFERENCE = json.loads((Path(__file__).parent / "reference" / "models.json").read_text())[
    "berkey1998"
]


ISHAK = Path(__file__).parent / "reference" / "ishak2007.csv"


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return bm.datasets.load("berkey1998")


@pytest.fixture(scope="module")
def known(trials) -> np.ndarray:
    """The covariance of all rows, from the columns of each trial's own."""
    return block_diag(*(t[["v1i", "v2i"]].to_numpy() for _, t in trials.groupby("trial")))


@pytest.fixture(scope="module")
def fit(trials, known):
    return bm.multivariate_meta_analysis(trials, study="trial", V=known, seed=1)


@pytest.fixture(scope="module")
def report(fit):
    return bm.multivariate_effects(fit)


def test_flat_priors_give_metafors_reml_estimates(trials, known):
    flat = {"mu": bm.Prior("Flat"), "tau": bm.Prior("HalfFlat")}
    fit = bm.multivariate_meta_analysis(trials, study="trial", V=known, priors=flat)

    def negative(x):
        return -fit.pairs.given(np.exp(x[None, :2]), np.tanh(x[2:]))[0][0]

    found = minimize(negative, [-2, -2, 0.5], method="Nelder-Mead", options={"fatol": 1e-12})
    assert np.exp(2 * found.x[:2]) == pytest.approx(REFERENCE["tau2"], rel=1e-3)
    assert np.tanh(found.x[2]) == pytest.approx(REFERENCE["rho"], rel=1e-3)
    tau, rho = np.sqrt([REFERENCE["tau2"]]), np.array([REFERENCE["rho"]])
    _, mean, covariance = fit.pairs.given(tau, rho)
    assert mean[0] == pytest.approx(REFERENCE["beta"], abs=1e-7)
    assert np.sqrt(np.diag(covariance[0])) == pytest.approx(REFERENCE["se"], abs=1e-7)


def dense(fit, trials, known, tau, rho):
    """Marginal log-likelihood and conditional mean of mu by one multivariate normal."""
    outcome = (trials.outcome == fit.outcomes[1]).to_numpy().astype(int)
    same = trials.trial.to_numpy()[:, None] == trials.trial.to_numpy()
    G = np.outer(tau, tau) * np.array([[1, rho], [rho, 1]])
    X = np.eye(2)[outcome]
    prior = np.diag(fit.pairs.scale**2)
    total = known + same * (X @ G @ X.T) + X @ prior @ X.T
    y = trials.yi.to_numpy()
    return (
        stats.multivariate_normal(cov=total).logpdf(y),
        prior @ X.T @ np.linalg.solve(total, y),
    )


@pytest.mark.parametrize("left_out", [[], [0, 5]])
def test_given_the_covariance_it_is_one_multivariate_normal(trials, known, left_out):
    kept = np.setdiff1d(np.arange(10), left_out)
    data, V = trials.iloc[kept], known[np.ix_(kept, kept)]
    fit = bm.multivariate_meta_analysis(data, study="trial", V=V)
    tau, rho = np.array([[0.1, 0.2], [0.3, 0.05]]), np.array([0.6, -0.4])
    logs, means, _ = fit.pairs.given(tau, rho)
    for i in range(2):
        log, mean = dense(fit, data, V, tau[i], rho[i])
        assert logs[i] == pytest.approx(log, abs=1e-9)
        assert means[i] == pytest.approx(mean, abs=1e-9)


def test_posterior_is_that_of_another_quadrature(fit, trials, known, report):
    """Gauss-Legendre in tau and rho themselves, with dense normals."""
    x, w = np.polynomial.legendre.leggauss(16)
    ends = 0.9
    tau, weight = ends * (1 + x) / 2, ends * w / 2
    total, sums = 0.0, np.zeros(5)
    scale = [p.std() / np.sqrt(1 - 2 / np.pi) for p in fit.pairs.tau]
    for t1, w1 in zip(tau, weight, strict=True):
        for t2, w2 in zip(tau, weight, strict=True):
            for r, w3 in zip(x, w, strict=True):
                log, mean = dense(fit, trials, known, [t1, t2], r)
                prior = stats.halfnorm.pdf([t1, t2], scale=scale).prod() * (1 - r**2)
                share = w1 * w2 * w3 * prior * np.exp(log)
                total += share
                sums += share * np.array([*mean, t1, t2, r])
    names = [*report.table.index[:2], *report.table.index[-3:]]
    assert report.table.loc[names, "mean"].to_numpy() == pytest.approx(sums / total, abs=2e-3)


def test_draws_agree_with_the_grid(fit, report):
    table, drawn = report.table, fit.posterior
    values = {
        "mu[PD]": drawn["mu"][..., 0],
        "mu[AL]": drawn["mu"][..., 1],
        "tau[PD]": drawn["tau"][..., 0],
        "tau[AL]": drawn["tau"][..., 1],
        "rho": drawn["rho"],
    }
    for name, value in values.items():
        se = table.loc[name, "sd"] / np.sqrt(value.size)
        assert float(value.mean()) == pytest.approx(table.loc[name, "mean"], abs=4 * se)
        share = float((value < table.loc[name, "eti95_lb"]).mean())
        assert share == pytest.approx(0.025, abs=4 * np.sqrt(0.025 / value.size))
    difference = table.loc["mu[PD]", "mean"] - table.loc["mu[AL]", "mean"]
    assert table.loc["mu[PD] - mu[AL]", "mean"] == pytest.approx(difference)


def test_uncorrelated_outcomes_are_two_single_analyses(trials):
    """With no correlation within, and one between that is held at 0, each goes its own way."""
    priors = {"tau": bm.Prior("HalfNormal", sigma=0.2), "rho": bm.Prior("LKJ", eta=5000)}
    mu = bm.Prior("Normal", mu=0, sigma=0.5)
    fit = bm.multivariate_meta_analysis(
        trials, "yi", "sei", "trial", rho=0.0, priors=priors | {"mu": mu}
    )
    table = bm.multivariate_effects(fit).table
    for name in ("PD", "AL"):
        own = trials.loc[trials.outcome == name]
        single = bm.grid_posterior(
            bm.meta_analysis(
                own, "yi", "sei", "trial", method="grid", draws=5,
                priors={"mu": mu, "tau": priors["tau"]},
            )
        )  # fmt: skip
        found = table.loc[[f"mu[{name}]", f"tau[{name}]"]]
        assert found["mean"].to_numpy() == pytest.approx(
            [single.effect().mean[0], single.tau.mean], abs=2e-3
        )
        assert found["sd"].to_numpy() == pytest.approx(
            [single.effect().sd[0], single.tau.sd], rel=0.02
        )
        assert found["eti95_ub"].to_numpy() == pytest.approx(
            [single.effect().quantile(0.975)[0], single.tau.quantile(0.975)], abs=4e-3
        )


def test_one_outcome_lends_strength_to_the_other():
    rng = np.random.default_rng(4)
    G = 0.3**2 * np.array([[1, 0.95], [0.95, 1]])
    theta = rng.multivariate_normal([0.5, 0.5], G, 30)
    rows = [
        {"study": i, "outcome": o, "yi": theta[i, j] + rng.normal(0, 0.1), "sei": 0.1}
        for i in range(30)
        for j, o in enumerate(("a", "b"))
        if o == "a" or i < 8
    ]
    data = pd.DataFrame(rows)
    both = bm.multivariate_effects(bm.multivariate_meta_analysis(data, "yi", "sei", rho=0.0))
    alone = bm.grid_posterior(
        bm.meta_analysis(data[data.outcome == "b"], "yi", "sei", method="grid", draws=5)
    )
    assert both.table.loc["mu[b]", "sd"] < 0.85 * alone.effect().sd[0]
    assert both.table.loc["rho", "mean"] > 0.5


def test_sensitivity_to_the_correlation_within(fit, trials):
    table = bm.correlation_sensitivity(fit, [0.0, 0.8]).table
    assert list(table.index) == ["as fitted", "0", "0.8"]
    again = bm.multivariate_meta_analysis(trials, "yi", "sei", "trial", rho=0.8)
    expected = bm.multivariate_effects(again).table
    assert table.loc["0.8", "mu[PD]"] == pytest.approx(expected.loc["mu[PD]", "mean"], abs=1e-9)
    with pytest.raises(BayesmixedError, match="between -1 and 1"):
        bm.correlation_sensitivity(fit, [1.5])


def test_picture_and_text(report):
    report.plot()
    assert "Average effects over studies" in str(report)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, "V, the known"),
        ({}, {"rho": 0.5}, "standard errors"),
        ({}, {"rho": 1.5, "se": "sei"}, "between -1 and 1"),
        ({}, {"V": np.eye(3)}, "each of the 10 rows"),
        ({}, {"V": np.eye(10) + 0.1}, "different studies"),
        ({}, {"V": -np.eye(10)}, "not positive definite"),
        ({"outcome": "PD"}, {"rho": 0.1, "se": "sei"}, "two outcomes"),
        ({}, {"rho": 0.1, "se": "sei", "method": "exact"}, "method"),
        (
            {"outcome": list("abcde") * 2},
            {"rho": 0.1, "se": "sei", "method": "grid"},
            "two outcomes",
        ),
        ({"trial": 1, "outcome": list("abcdefghij")}, {"rho": -0.2, "se": "sei"}, "-0.111"),
        ({"trial": 1}, {"rho": 0.1, "se": "sei"}, "several rows for one outcome"),
        ({"yi": np.nan}, {"rho": 0.1, "se": "sei"}, "misses values"),
        ({"sei": 0.0}, {"rho": 0.1, "se": "sei"}, "above 0"),
    ],
)
def test_bad_input(trials, change, options, message):
    with pytest.raises(BayesmixedError, match=message):
        bm.multivariate_meta_analysis(trials.assign(**change), study="trial", **options)


def test_bad_priors(trials):
    for name, prior in (
        ("beta", bm.Prior("Flat")),
        ("mu", bm.Prior("Normal", mu=1, sigma=1)),
        ("rho", bm.Prior("Uniform", lower=-1, upper=1)),
    ):
        with pytest.raises(PriorError):
            bm.multivariate_meta_analysis(
                trials, "yi", "sei", "trial", rho=0.1, priors={name: prior}
            )
    with pytest.raises(DataError, match="two studies"):
        bm.multivariate_meta_analysis(trials.head(3), "yi", "sei", "trial", rho=0.1)


@pytest.fixture(scope="module")
def stimulation() -> pd.DataFrame:
    return pd.read_csv(ISHAK, dtype={"time": str}).sort_values("time", kind="stable")


def autocorrelated(data: pd.DataFrame) -> np.ndarray:
    """Sampling covariance with a correlation of 0.9 to the power of the distance in time."""
    time, sd = data["time"].astype(int).to_numpy(), np.sqrt(data["vi"].to_numpy())
    same = data["study"].to_numpy()[:, None] == data["study"].to_numpy()
    return same * 0.9 ** np.abs(np.subtract.outer(time, time)) * np.outer(sd, sd)


WIDE = {
    "mu": bm.Prior("Normal", mu=0, sigma=1000),
    "tau": bm.Prior("HalfNormal", sigma=30),
    "rho": bm.Prior("LKJ", eta=1),
}


@pytest.fixture(scope="module")
def three(stimulation):
    return bm.multivariate_meta_analysis(
        stimulation, study="study", outcome="time", V=autocorrelated(stimulation), priors=WIDE,
        seed=1, progress=False,
    )  # fmt: skip


def test_given_the_covariance_three_outcomes_are_metafors(stimulation, three):
    """rma.mv(struct="UN", tau2=c(25, 36, 30), rho=c(.8, .6, .7)), metafor 3.8.1."""
    design = three.design
    random = design.predictors["mu"].random[0]
    sd, cor = np.sqrt([25, 36, 30]), np.array([[1, 0.8, 0.6], [0.8, 1, 0.7], [0.6, 0.7, 1]])
    same = random.groups.index[:, None] == random.groups.index
    total = np.eye(len(design.y)) + same * (random.Z @ (cor * np.outer(sd, sd)) @ random.Z.T)
    X = design.predictors["mu"].X
    covariance = np.linalg.inv(X.T @ np.linalg.solve(total, X))
    beta = covariance @ X.T @ np.linalg.solve(total, design.y)
    assert beta == pytest.approx([-25.75620279, -27.44807593, -28.77140547], abs=1e-7)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(
        [1.1206178, 1.2789215, 1.1861833], abs=1e-6
    )
    assert covariance[0, 1:] == pytest.approx([0.89948662, 0.58110450], abs=1e-7)


def test_three_outcomes_are_near_metafor(three):
    """REML of rma.mv(struct="UN"), metafor 3.8.1."""
    assert three.converged, str(three.convergence)
    report = bm.multivariate_effects(three)
    table = report.table
    for name, reml in zip("123", (-26.002852, -27.439520, -28.791176), strict=True):
        row = table.loc[f"mu[{name}]"]
        # rho is averaged over, and not set to its estimate, which pulls the effects by 0.2 sd.
        assert abs(row["mean"] - reml) < 0.25 * row["sd"]
    drawn = report.draws
    estimates = {"tau[1]": 4.714958, "tau[2]": 5.910553, "tau[3]": 5.308392}
    estimates |= {"rho[1,2]": 0.927588, "rho[1,3]": 0.853211, "rho[2,3]": 0.871336}
    for name, reml in estimates.items():
        low, high = np.quantile(drawn[name], [0.05, 0.95])
        assert low < reml < high, name
    difference = table.loc["mu[1]", "mean"] - table.loc["mu[3]", "mean"]
    assert table.loc["mu[1] - mu[3]", "mean"] == pytest.approx(difference)
    assert table.loc["new study[2]", "sd"] > table.loc["mu[2]", "sd"]
    report.plot("intervals")


def test_sensitivity_of_a_sampled_fit(stimulation, three):
    """Sampling again with the covariance that was given gives the same posterior."""
    sensitivity = bm.correlation_sensitivity(three, [0.0, 0.9])
    assert list(sensitivity.table.index) == ["as fitted", "0", "0.9"]
    assert not sensitivity.caveats
    sd = np.sqrt(stimulation["vi"].to_numpy())
    same = stimulation["study"].to_numpy()[:, None] == stimulation["study"].to_numpy()
    V = np.outer(sd, sd) * np.where(np.eye(len(sd), dtype=bool), 1, 0.9 * same)
    again = bm.multivariate_meta_analysis(
        stimulation, study="study", outcome="time", V=V, priors=WIDE, seed=9, progress=False
    )
    table = bm.multivariate_effects(again).table
    for name in ("mu[1]", "mu[3]"):
        # Two runs of 2,000 effective draws or more.
        error = table.loc[name, "sd"] * np.sqrt(2 / 2000)
        assert sensitivity.table.loc["0.9", name] == pytest.approx(
            table.loc[name, "mean"], abs=4 * error
        )


def test_an_impossible_correlation_is_refused_before_the_first_is_sampled(three, monkeypatch):
    def sampled(*_):
        pytest.fail("something was sampled")

    monkeypatch.setattr(_multivariate_effects, "sample_again", sampled)
    with pytest.raises(BayesmixedError, match="cannot all be correlated"):
        bm.correlation_sensitivity(three, [0.0, 0.5, -0.6])


@pytest.fixture(scope="module")
def whitened() -> tuple[Whitened, list, np.ndarray]:
    """Six studies with some of three outcomes and variances over six orders of magnitude."""
    rng = np.random.default_rng(3)
    studies, y, Z = [], [], []
    for i, seen in enumerate(([0, 1, 2], [0], [1, 2], [0, 1, 2], [0, 2], [1])):
        root = rng.normal(size=(len(seen), len(seen))) * 10.0 ** (i - 3)
        V = root @ root.T + 1e-8 * np.eye(len(seen))
        effects = rng.normal(size=len(seen))
        factor = np.linalg.inv(np.linalg.cholesky(V))
        X = np.zeros((len(seen), 3))
        X[:, seen] = factor
        studies.append((seen, effects, V))
        y.append(factor @ effects)
        Z.append(X)
    starts = np.cumsum([0, *map(len, y)]).astype(np.int32)
    priors = (
        bm.Prior("HalfNormal", sigma=0.5),
        bm.Prior("HalfCauchy", beta=0.3),
        bm.Prior("Uniform", lower=0, upper=4),
    )
    precision = np.array([1.0, 0.25, 4.0])
    rows = Whitened(np.concatenate(y), np.vstack(Z), starts, precision, priors, 2.0)
    return rows, studies, precision


def test_density_of_the_covariance_is_that_of_dense_normals(whitened):
    rows, studies, precision = whitened
    y = np.concatenate([effects for _, effects, _ in studies])
    X = np.vstack([np.eye(3)[seen] for seen, _, _ in studies])
    encoded = [encode(prior) for prior in rows.tau]
    values = []
    for x in np.random.default_rng(5).normal(size=(4, 6)):
        tau, L = rows.factors(x[None])
        G = np.outer(tau[0], tau[0]) * (L[0] @ L[0].T)
        blocks = [V + G[np.ix_(seen, seen)] for seen, _, V in studies]
        total = block_diag(*blocks) + X @ np.diag(1 / precision) @ X.T
        expected = stats.multivariate_normal(cov=total).logpdf(y)
        expected += sum(log_prior(x[j], encoded[j].numbers)[2] for j in range(3))
        expected += forward(x[3:].copy(), 3, 2.0, np.empty((3, 3)))
        found, gradient = rows.density(x)
        values.append(found - expected)
        slopes = [
            (rows.density(x + step)[0] - rows.density(x - step)[0]) / 2e-6
            for step in 1e-6 * np.eye(6)
        ]
        assert gradient == pytest.approx(slopes, rel=1e-5, abs=1e-5)
        mean, covariance = (part[0] for part in rows.given(tau[:, :, None] * L))
        gain = np.diag(1 / precision) @ X.T @ np.linalg.inv(total)
        assert mean == pytest.approx(gain @ y, abs=1e-8)
        assert covariance == pytest.approx((np.eye(3) - gain @ X) / precision, abs=1e-8)
    # A constant is left out.
    assert np.ptp(values) < 1e-7


def test_effects_given_the_covariance_are_drawn_from_dense_normals(whitened):
    """40,000 draws at one covariance: four errors of means and of covariances."""
    rows, studies, precision = whitened
    x = np.array([-0.5, 0.3, 0.1, 0.4, -0.8, 0.2])
    drawn = rows.recover(np.tile(x, (40_000, 1)), np.random.default_rng(2))
    G = drawn["tau"][0][:, None] * drawn["cor"][0] * drawn["tau"][0]
    y = np.concatenate([effects for _, effects, _ in studies])
    # mu and the deviations of six studies before the data.
    prior = block_diag(np.diag(1 / precision), *[G] * 6)
    design = np.zeros((len(y), 21))
    at = 0
    for i, (seen, _, _) in enumerate(studies):
        for j in seen:
            design[at, [j, 3 + 3 * i + j]] = 1
            at += 1
    noise = block_diag(*[V for _, _, V in studies])
    gain = prior @ design.T @ np.linalg.inv(design @ prior @ design.T + noise)
    mean, covariance = gain @ y, prior - gain @ design @ prior
    values = np.column_stack([drawn["beta"], drawn["u"].reshape(40_000, -1)])
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(values.mean(axis=0) - mean) < 4.5 * sd / 200).all()
    # The error of a covariance is at most sd sd sqrt(2 / n); there are 231 of them.
    allowed = 5 * np.sqrt(2) * np.outer(sd, sd) / 200
    assert (np.abs(np.cov(values.T) - covariance) < allowed + 1e-9).all()


def test_three_outcomes_by_importance_sampling(stimulation, three):
    """Dense normals at points from a t about the draws, weighted by the posterior itself."""
    tau = three.posterior["sd_study"].to_numpy().reshape(-1, 3)
    above = np.triu_indices(3, 1)
    rho = three.posterior["cor_study"].to_numpy().reshape(-1, 3, 3)[:, *above]
    x = np.column_stack([np.log(tau), np.arctanh(rho)])
    proposal = stats.multivariate_t(x.mean(axis=0), 1.3 * np.cov(x.T), df=6)
    points = proposal.rvs(4000, random_state=5)
    y, V = stimulation["yi"].to_numpy(), autocorrelated(stimulation)
    study = stimulation["study"].to_numpy()
    X = np.eye(3)[stimulation["time"].astype(int) - 1]
    same = study[:, None] == study
    logs, means = np.full(len(points), -np.inf), np.zeros((len(points), 3))
    for i, point in enumerate(points):
        sd, cor = np.exp(point[:3]), np.eye(3)
        cor[above] = cor.T[above] = np.tanh(point[3:])
        if np.linalg.eigvalsh(cor)[0] <= 0:
            continue
        factor = np.linalg.cholesky(V + same * (X @ (cor * np.outer(sd, sd)) @ X.T))
        A, b = np.linalg.solve(factor, X), np.linalg.solve(factor, y)
        information = A.T @ A + np.eye(3) / 1000**2
        means[i] = np.linalg.solve(information, A.T @ b)
        logs[i] = (
            -np.log(np.diag(factor)).sum()
            - 0.5 * (b @ b - means[i] @ information @ means[i])
            - 0.5 * np.linalg.slogdet(information)[1]
            + stats.halfnorm.logpdf(sd, scale=30).sum()
            + point[:3].sum()
            + np.log1p(-(np.tanh(point[3:]) ** 2)).sum()
        )
    weight = np.exp(logs - proposal.logpdf(points) - np.max(logs - proposal.logpdf(points)))
    weight /= weight.sum()
    effective = min(1 / (weight**2).sum(), three.summary()["ess_bulk"].min())
    assert effective > 300
    table = bm.multivariate_effects(three).table
    for name, values in zip(
        ["mu[1]", "mu[2]", "mu[3]", "tau[1]", "tau[2]", "tau[3]", "rho[1,2]", "rho[1,3]"],
        [*means.T, *np.exp(points[:, :3]).T, *np.tanh(points[:, 3:5]).T],
        strict=True,
    ):
        error = table.loc[name, "sd"] * np.sqrt(2 / effective)
        assert table.loc[name, "mean"] == pytest.approx(weight @ values, abs=4 * error), name


def test_nuts_and_grid_agree(trials, known, report):
    fit = bm.multivariate_meta_analysis(
        trials, study="trial", V=known, method="nuts", draws=2000, seed=2, progress=False
    )
    table = bm.multivariate_effects(fit).table
    ess = fit.summary()["ess_bulk"].min()
    for name in report.table.index:
        mine = "rho[PD,AL]" if name == "rho" else name
        row = report.table.loc[name]
        error = row["sd"] / np.sqrt(ess)
        assert table.loc[mine, "mean"] == pytest.approx(row["mean"], abs=4 * error)


def test_a_sampled_fit_is_saved_like_any_other(three, tmp_path):
    again = bm.load(three.save(tmp_path / "three.nc"))
    one, other = (bm.multivariate_effects(f).table for f in (three, again))
    assert one.equals(other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("y", "se"),
    [
        ([0.1, 0.5, -0.2] * 2, [0.1] * 6),
        ([0.1, 0.5, -0.2] * 4, [0.001] * 3 + [0.4] * 9),
        ([0.1, 0.5, -0.2] * 4, list(np.logspace(-4, 2, 12))),
        ([0.3] * 12, [0.1] * 12),
    ],
)
def test_three_outcomes_at_extremes(y, se):
    count = len(y) // 3
    data = pd.DataFrame(
        {"study": np.repeat(range(count), 3), "outcome": list("abc") * count, "yi": y, "sei": se}
    )
    fit = bm.multivariate_meta_analysis(
        data, "yi", "sei", rho=0.5, measure="OR", seed=1, progress=False
    )
    report = bm.multivariate_effects(fit)
    assert np.isfinite(report.table[["mean", "sd"]].to_numpy()).all()
    assert fit.converged, str(fit.convergence)


def test_reports_refuse_other_fits():
    fit = bm.meta_analysis(bm.datasets.load("bcg"), "yi", "sei", "trial", method="grid", draws=5)
    with pytest.raises(BayesmixedError, match="multivariate_meta_analysis"):
        bm.multivariate_effects(fit)
