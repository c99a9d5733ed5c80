"""Groups that are correlated: known matrices, structures on effects, processes for counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayesmixed as bm
from bayesmixed.fit import Fit
from bayesmixed.known import KnownCovariance, root_of
from bayesmixed.process import Correlate, correlate, correlate_backward
from bayesmixed.series import Series
from tests import made

type Related = tuple[Fit, pd.DataFrame, pd.DataFrame]

STRUCTURES = (
    bm.AR1(time="t", within="g"),
    bm.ARMA11(time="t", within="g"),
    bm.CompoundSymmetry(time="t", within="g"),
    bm.ContinuousAR1(time="t", within="g"),
    bm.Antedependence(time="t", within="g"),
    bm.Matern(time="t", within="g"),
)


def _series(structure: bm.Structure, seed: int) -> tuple[Series, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    rows = [(g, t) for g in range(5) for t in sorted(rng.permutation(5)[: rng.integers(2, 6)])]
    frame = pd.DataFrame(rows, columns=["g", "t"]).sample(frac=1, random_state=seed)
    return Series.of(structure, frame.reset_index(drop=True)), frame


def _correlations(series: Series, markov: bool) -> np.ndarray:
    values = {
        p.name: np.full(len(p.priors), 0.4) if isinstance(p.prior, tuple) else np.float64(0.4)
        for p in series.parameters
    }
    steps = series.structure.steps(values, series.times)
    if markov and steps is not None:
        return np.asarray(steps)[..., None]
    return np.broadcast_to(
        series.structure.matrix(values, series.times),
        (len(series.lengths), series.times.shape[1], series.times.shape[1]),
    ).astype(np.float64)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("markov", [True, False])
def test_values_of_a_process_are_those_of_the_factor(structure: bm.Structure, markov: bool) -> None:
    series, _ = _series(structure, 1)
    P = _correlations(series, markov)
    dense = _correlations(series, False)
    rng = np.random.default_rng(2)
    z, d_x = rng.normal(size=(2, len(series.order)))
    where = (series.order, series.lengths, series.counts)
    x = correlate(P, z, *where)
    at = 0
    for p, (length, count) in enumerate(zip(series.lengths, series.counts, strict=True)):
        L = np.linalg.cholesky(dense[p, :length, :length])
        for _ in range(count):
            rows = series.order[at : at + length]
            np.testing.assert_allclose(x[rows], L @ z[rows], rtol=1e-12, atol=1e-14)
            at += length
    d_P, d_z = correlate_backward(P, z, d_x, *where)
    step = 1e-6
    direction = rng.normal(size=z.shape)
    moved = [d_x @ correlate(P, z + s * step * direction, *where) for s in (1, -1)]
    assert d_z @ direction == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-6, abs=1e-8)
    # Correlations stay symmetric with ones on the diagonal when they move.
    move = rng.normal(size=P.shape)
    if P.shape[-1] > 1:
        move = (move + move.swapaxes(-1, -2)) * (1 - np.eye(P.shape[-1]))
    moved = [d_x @ correlate(P + s * step * move, z, *where) for s in (1, -1)]
    slope = (moved[0] - moved[1]) / (2 * step)
    assert (d_P * move).sum() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_the_op_is_its_function() -> None:
    series, _ = _series(STRUCTURES[0], 3)
    P, z = _correlations(series, True), np.arange(len(series.order), dtype=float)
    where = (series.order, series.lengths, series.counts)
    np.testing.assert_array_equal(Correlate()(P, z, *where).eval(), correlate(P, z, *where))


def test_relationship_of_a_pedigree() -> None:
    """Henderson (1976), Biometrics 32:69; in Mrode (2014), Linear Models, example 2.1."""
    pedigree = pd.DataFrame(
        {
            "id": [6, 3, 4, 5],
            "father": [5, 1, 1, 4],
            "mother": [2, 2, np.nan, 3],
        }
    )
    published = [
        [1, 0, 0.5, 0.5, 0.5, 0.25],
        [0, 1, 0.5, 0, 0.25, 0.625],
        [0.5, 0.5, 1, 0.25, 0.625, 0.5625],
        [0.5, 0, 0.25, 1, 0.625, 0.3125],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
        [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
    ]
    A = bm.kinship(pedigree)
    order = list("123456")
    np.testing.assert_array_equal(A.loc[order, order].to_numpy(), published)


def test_a_pedigree_without_sense_is_refused() -> None:
    loop = pd.DataFrame({"id": ["a", "b"], "mother": ["b", "a"], "father": [None, None]})
    with pytest.raises(bm.BayesmixedError, match="ancestors"):
        bm.kinship(loop)
    twice = pd.DataFrame({"id": ["a", "a"], "mother": ["m", "m"], "father": [None, None]})
    with pytest.raises(bm.BayesmixedError, match="one row"):
        bm.kinship(twice)


def test_what_stands_for_an_unknown_parent_is_no_founder() -> None:
    zeros = pd.DataFrame({"id": [1, 2, 3], "mother": [0, 0, 1], "father": [0, 0, 2]})
    with pytest.raises(bm.BayesmixedError, match="not known is missing"):
        bm.kinship(zeros)
    # Numbers that a gap made floats, and text, are the same individuals.
    mixed = {"id": [1, 2, 3], "mother": [None, None, "1"], "father": [np.nan, np.nan, 2.0]}
    assert list(bm.kinship(pd.DataFrame(mixed)).index) == ["1", "2", "3"]


def test_neighbours_are_the_scaled_intrinsic_autoregression() -> None:
    ring = {i: [(i - 1) % 6, (i + 1) % 6] for i in range(6)} | {6: [7], 7: [6], 8: []}
    K = bm.neighbours(ring)
    for part in ([*range(6)], [6, 7]):
        own = K.loc[part, part].to_numpy()
        assert np.exp(np.log(np.diag(own)).mean()) == pytest.approx(1)
        np.testing.assert_allclose(own.sum(axis=0), 0, atol=1e-12)
        # Its generalised inverse is the graph's Laplacian, up to the scale.
        links = np.array([[float(j in ring[i]) for j in part] for i in part])
        precision = np.linalg.pinv(own)
        laplacian = np.diag(links.sum(axis=1)) - links
        np.testing.assert_allclose(
            precision / precision[0, 0] * laplacian[0, 0], laplacian, atol=1e-9
        )
    assert K.loc[8].tolist() == [0] * 8 + [1]
    with pytest.raises(bm.BayesmixedError, match="one direction"):
        bm.neighbours({"a": ["b"], "b": []})


@pytest.fixture(scope="session")
def related() -> Related:
    """Batches of `pastes` as if alike in the order of their letters."""
    data = bm.datasets.load("pastes")
    labels = sorted(data["batch"].unique())
    apart = np.abs(np.subtract.outer(np.arange(len(labels)), np.arange(len(labels))))
    K = pd.DataFrame(1.3 * 0.6**apart, index=labels, columns=labels)
    priors = {
        "Intercept": bm.Prior("Normal", mu=60, sigma=5),
        "sd_batch": bm.Prior("HalfNormal", sigma=3),
        "sigma": bm.Prior("HalfNormal", sigma=3),
    }
    shuffled = K.iloc[::-1, ::-1]
    model = bm.Model(
        "strength ~ 1 + (1 | batch)", data, covariances={"batch": shuffled}, priors=priors
    )
    return model.fit(seed=1, progress=False), data, K


def test_a_known_matrix_gives_the_exact_posterior(
    related: Related,
) -> None:
    """Against the marginal normal on a grid of both standard deviations."""
    fit, data, K = related
    y = data["strength"].to_numpy()
    Z = (data["batch"].to_numpy()[:, None] == K.index.to_numpy()).astype(float)
    n = len(y)
    sds, sigmas = np.linspace(0.02, 8, 60), np.linspace(1.6, 5, 50)
    log = np.empty((60, 50))
    means = np.empty((60, 50, len(K)))
    for i, s in enumerate(sds):
        for j, sigma in enumerate(sigmas):
            G = s**2 * K.to_numpy()
            V = Z @ G @ Z.T + sigma**2 * np.eye(n) + 25.0
            log[i, j] = multivariate_normal(np.full(n, 60.0), V).logpdf(y) - (s**2 + sigma**2) / 18
            means[i, j] = G @ Z.T @ np.linalg.solve(V, y - 60)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    exact = {
        "sd_batch": ((weight.sum(axis=1) * sds).sum(), fit.posterior["sd_batch"].squeeze()),
        "sigma": ((weight.sum(axis=0) * sigmas).sum(), fit.posterior["sigma"]),
    }
    u = np.einsum("ij,ijg->g", weight, means)
    for k, label in enumerate(K.index):
        exact[label] = (u[k], fit.posterior["u_batch"].sel(batch=label).squeeze())
    for name, (value, draws) in exact.items():
        # Four Monte Carlo standard errors, for at least 400 effective draws.
        assert float(draws.mean()) == pytest.approx(value, abs=4 * float(draws.std()) / 20), name


def test_a_fit_with_a_known_matrix_is_kept(related: Related, tmp_path) -> None:
    fit, data, _ = related
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert again.spec.covariances == fit.spec.covariances
    pd.testing.assert_frame_equal(
        bm.predict(again, data.head(3)).table, bm.predict(fit, data.head(3)).table
    )


def test_variances_are_those_of_an_average_group() -> None:
    data = bm.datasets.load("pastes")
    labels = sorted(data["batch"].unique())
    nine = pd.DataFrame(9 * np.eye(len(labels)), labels, labels)
    model = bm.Model("strength ~ 1 + (1 | batch)", data, covariances={"batch": nine})
    fit = made.at(model, sd_batch=1.0, sigma=1.0)
    report = bm.icc(fit)
    assert report.table["mean"].to_numpy() == pytest.approx(0.9)
    assert any("average group" in caveat for caveat in report.caveats)
    table = bm.variance_components(fit).table["mean"]
    assert table.xs("share", level="quantity")["batch"].to_numpy() == pytest.approx(0.9)
    # The sd is that of a group with 1 on the diagonal; the variance is printed once, and of these.
    assert table["batch", "Intercept", "sd"] == pytest.approx(1)
    assert table.xs("variance", level="quantity")["batch"].to_numpy() == pytest.approx(9)


def test_a_process_is_beside_the_residual_of_its_family() -> None:
    data = bm.datasets.load("epil").assign(high=lambda d: (d["y"] > 5).astype(int))
    model = bm.Model(
        "high ~ trt + (1 | subject)",
        data,
        family="bernoulli",
        residual=bm.AR1(time="period", within="subject"),
    )
    fit = made.at(model, sd_subject=1.0, sd_process=2.0)
    share = bm.variance_components(fit).table["mean"].xs("share", level="quantity")
    total = 1 + 4 + np.pi**2 / 3
    assert share["subject"].to_numpy() == pytest.approx(1 / total)
    assert share["process"].to_numpy() == pytest.approx(4 / total)


@dataclass(frozen=True, kw_only=True)
class Damped(bm.AR1):
    """A structure that the package does not have."""


def test_a_process_with_a_structure_of_ones_own_is_kept(tmp_path) -> None:
    structure = Damped(time="period", within="subject")
    data = bm.datasets.load("epil")
    fit = made.from_priors(bm.Model("y ~ trt", data, family="poisson", residual=structure), 3)
    path = fit.save(tmp_path / "fit.nc")
    with pytest.raises(bm.BayesmixedError, match="Damped"):
        bm.load(path)
    assert bm.load(path, residual=structure).spec.covariances == fit.spec.covariances


def test_independent_effects_of_rows_stay_refused() -> None:
    data = bm.datasets.load("epil").assign(high=lambda d: (d["y"] > 5).astype(int))
    with pytest.raises(bm.BayesmixedError, match="own group"):
        bm.Model(
            "high ~ trt",
            data,
            family="bernoulli",
            residual=bm.Independent(time="period", within="subject"),
        )


def test_reports_that_need_independent_groups_refuse(
    related: Related,
) -> None:
    fit, data, _ = related
    for report in (
        lambda: bm.loo(fit, unit="batch"),
        lambda: bm.design_effect(fit),
        lambda: bm.forecast(fit, data.head(2), data.iloc[2:4], group="batch"),
    ):
        with pytest.raises(bm.BayesmixedError, match="independent of each other"):
            report()
    with pytest.raises(bm.BayesmixedError, match="effects are correlated"):
        bm.residual_correlation(fit)
    shrunken = bm.shrinkage(fit, "batch")
    assert shrunken.table["reliability"].isna().all()
    assert any("others' data" in caveat for caveat in shrunken.caveats)


def test_a_large_known_matrix_is_kept(tmp_path) -> None:
    rng = np.random.default_rng(1)
    labels = [f"p{i}" for i in range(300)]
    root = rng.normal(size=(300, 300))
    K = pd.DataFrame(root @ root.T / 300, index=labels, columns=labels)
    data = pd.DataFrame({"p": labels * 2, "y": rng.normal(size=600)})
    fit = made.from_priors(bm.Model("y ~ 1 + (1 | p)", data, covariances={"p": K}), 3)
    again = bm.load(fit.save(tmp_path / "fit.nc"))
    assert again.spec.covariances == fit.spec.covariances


@pytest.fixture(scope="session")
def seizures() -> Fit:
    structure = bm.AR1(time="period", within="subject")
    data = bm.datasets.load("epil").sample(frac=1, random_state=1)
    return bm.Model("y ~ trt + lbase + lage", data, family="poisson", residual=structure).fit(
        seed=1, progress=False
    )


def test_a_process_of_counts_agrees_with_glmmtmb(seizures: Fit) -> None:
    """glmmTMB 1.1.5, ``y ~ trt + lbase + lage + ar1(0 + factor(period) | subject)``, Poisson.

    Maximum likelihood: sd 0.589 and correlation 0.687. The posterior of the sd lies above its
    mode, so the 80 % interval is asked of it.
    """
    estimates = {"trt[T.progabide]": -0.3199184, "lbase": 1.0389307, "lage": 0.3818998}
    for term, value in estimates.items():
        draws = seizures.posterior["beta"].sel(term=term)
        assert float(draws.mean()) == pytest.approx(value, abs=0.15 * float(draws.std())), term
    for draws, value in (
        (seizures.posterior["sd_process"], 0.58901),
        (seizures.posterior["phi"], 0.687),
    ):
        low, high = np.quantile(draws, [0.1, 0.9])
        assert low < value < high
    assert float(seizures.posterior["phi"].mean()) == pytest.approx(0.687, abs=0.05)
    assert seizures.converged


def test_a_process_has_the_names_of_residuals(seizures: Fit) -> None:
    assert list(seizures.posterior) == ["beta", "sd_process", "phi", "u_process"]
    assert seizures.posterior["u_process"].sizes["process"] == 236
    report = bm.predict(seizures, bm.datasets.load("epil").head(2))
    assert np.isfinite(report.table["mean"]).all()


def test_effects_of_years_are_correlated_within_a_hospital() -> None:
    """The covariance of draws from the prior is that of the structure."""
    years = [(h, y) for h in "abc" for y in range(4)] * 2
    data = pd.DataFrame(years, columns=["hospital", "year"]).assign(y=np.arange(24.0) % 5)
    structure = bm.AR1(time="year", within="hospital")
    model = bm.Model(
        "y ~ 1 + (1 | hospital) + (1 | hospital:year)",
        data,
        covariances={"hospital:year": structure},
        priors={"phi_hospital:year": bm.Prior("Uniform", lower=0.79, upper=0.81)},
    )
    assert "phi_hospital:year" in model.priors.index
    prior = model.prior_predictive(4000, seed=1)["prior"]
    u = (prior["u_hospital:year"] / prior["sd_hospital:year"].values[..., None, :]).squeeze()
    R = np.corrcoef(u.values.T)
    labels = u["hospital:year"].values.tolist()
    for i, one in enumerate(labels):
        for j, other in enumerate(labels):
            apart = abs(int(one[-1]) - int(other[-1]))
            expected = 0.8**apart if one[0] == other[0] else 0.0
            # Five standard errors of a correlation of 4,000 draws.
            assert R[i, j] == pytest.approx(expected, abs=5 / np.sqrt(4000))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bath": pd.DataFrame([[1.0]])}, "bath"),
        ("batch", "write covariances="),
        (pd.DataFrame(np.eye(3)), "covariances is a table: write covariances="),
        ({"batch": np.eye(10)}, "DataFrame"),
        ({"batch": pd.DataFrame(np.eye(2), index=["A", "A"], columns=["A", "A"])}, "once"),
        (
            {"batch": pd.DataFrame([[1, 2], [2, 1.0]], list("AB"), list("AB"))},
            "least",
        ),
        ({"batch": pd.DataFrame([[1, 0], [1, 1.0]], list("AB"), list("AB"))}, "symm"),
        ({"batch": pd.DataFrame(np.eye(2), index=["A", "B"], columns=["A", "B"])}, "no row for C"),
        ({"batch": bm.AR1(time="cask", within="batch")}, "'cask' changes within"),
    ],
)
def test_covariances_that_cannot_be_are_refused(given, message: str) -> None:
    data = bm.datasets.load("pastes")
    with pytest.raises(bm.BayesmixedError, match=message):
        bm.Model("strength ~ 1 + (1 | batch)", data, covariances=given)


def test_correlated_groups_cannot_be_integrated_out() -> None:
    data = bm.datasets.load("pastes")
    labels = sorted(data["batch"].unique())
    K = pd.DataFrame(np.eye(len(labels)), index=labels, columns=labels)
    data["assay"] = np.arange(len(data)) % 2
    formula = "strength ~ 1 + (1 + assay | batch) + (1 | batch:cask)"
    with pytest.raises(bm.BayesmixedError, match="are sampled"):
        bm.Model(formula, data, covariances={"batch": K}, marginalize=True)


def test_whole_numbers_are_alike_in_data_and_matrix() -> None:
    K = KnownCovariance.of(pd.DataFrame(np.diag([1.0, 4.0]), [1.0, 2.0], [1.0, 2.0]), "id")
    np.testing.assert_array_equal(root_of(K.among([2, 1], "id")), np.diag([2.0, 1.0]))


def test_a_singular_matrix_has_a_factor() -> None:
    K = KnownCovariance.of(bm.neighbours({"a": ["b"], "b": ["a", "c"], "c": ["b"]}), "area")
    F = root_of(K.among(["c", "a", "b"], "area"))
    assert F.shape == (3, 2)
    np.testing.assert_allclose(F @ F.T, K.matrix[np.ix_([2, 0, 1], [2, 0, 1])], atol=1e-12)


def _grid(rows: int, columns: int, ring: bool = False) -> dict[int, list[int]]:
    """Areas in rows and columns, each next to those beside, above and below it."""
    at = np.arange(rows * columns).reshape(rows, columns)
    beside = [*np.stack([at[:, :-1], at[:, 1:]], axis=-1).reshape(-1, 2)]
    beside += [*np.stack([at[:-1], at[1:]], axis=-1).reshape(-1, 2)]
    beside += [np.array([at[0, -1], at[0, 0]])] if ring else []
    near: dict[int, list[int]] = {int(i): [] for i in at.flat}
    for i, j in beside:
        near[int(i)].append(int(j))
        near[int(j)].append(int(i))
    return near


@pytest.mark.parametrize("n", range(3, 13))
def test_maps_of_every_shape_have_a_factor(n: int) -> None:
    """The least eigenvalue is 0 but for rounding, which may be just above it."""
    maps = [_grid(1, n), _grid(1, n, ring=True), *(_grid(n, m) for m in range(3, n + 1))]
    for near in maps:
        K = bm.neighbours(near).to_numpy()
        F = root_of(K)
        assert F.shape == (len(K), len(K) - 1)
        np.testing.assert_allclose(F @ F.T, K, atol=1e-9 * K.max())


def test_a_path_of_areas_can_be_sampled() -> None:
    path = bm.neighbours(_grid(1, 3))
    data = pd.DataFrame({"n": [3, 5, 2, 4, 0, 6], "area": [0, 1, 2] * 2})
    model = bm.Model("n ~ 1 + (1 | area)", data, family="poisson", covariances={"area": path})
    assert model.pymc["z_area"].eval().shape == (2, 1)
