"""The quantities of a meta-analysis with their uncertainty: exact from the grid, or from draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.meta._between_grid import fixed_nu
from bayesmixed.meta._effect_sizes import effect_sizes
from bayesmixed.meta._grid import GridPosterior, grid_posterior
from bayesmixed.meta._measures import MEASURES, Measure
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._t_mixture import StudentTMixture
from bayesmixed.names import sd_name
from bayesmixed.predictor import INTERCEPT

type Floats = NDArray[np.float64]

PROBS = (0.5, 0.025, 0.975)
COLUMNS = ["mean", "sd", "median", "eti95_lb", "eti95_ub"]


@dataclass(frozen=True, eq=False)
class Raw:
    """What the studies say by themselves.

    Parameters
    ----------
    labels : pandas.Index
        The studies' names; of several levels those of the innermost.
    y, v : array, shape (studies,)
        Effects and their sampling variances.
    X : array, shape (studies, terms)
        Moderators.
    place : array, shape (studies,)
        Each study's place among the sorted labels.
    """

    labels: pd.Index[Any]
    y: Floats
    v: Floats
    X: Floats
    place: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Synthesis:
    """A fit read as a meta-analysis.

    Parameters
    ----------
    fit : Fit
    measure : Measure, optional
        What its effects are, where that is known.
    exact : GridPosterior, optional
        The grid that it was made from.
    treatment : str, optional
        Where the model is one of counts in two groups, the term that tells them apart.
    """

    fit: Fit
    measure: Measure | None
    exact: GridPosterior | None
    treatment: str | None = None

    @property
    def design(self) -> Design:
        """The studies."""
        return self.fit.design

    @property
    def groupings(self) -> list[str]:
        """What the effects vary between, outer to inner."""
        randoms = [r for r in self.design.predictors["mu"].random if self.effect_term in r.effects]
        return [r.name for r in sorted(randoms, key=lambda r: len(r.groups.labels))]

    @property
    def effect_term(self) -> str:
        """The term whose coefficient is the average effect."""
        return self.treatment or INTERCEPT

    @property
    def label(self) -> str:
        """What the effects are, for axes."""
        return self.measure.title if self.measure else f"effect ({self.fit.spec.response})"

    @property
    def ratio(self) -> str:
        """What exponentials of the effects are called; empty where that means nothing."""
        return self.measure.ratio if self.measure else ""

    @cached_property
    def raw(self) -> Raw:
        """The studies' own estimates; of counts with 1/2 added where a cell is 0."""
        design = self.design
        if self.treatment is not None:
            return _raw_of_counts(design, self.treatment)
        assert design.sampling_sd is not None
        labels: pd.Index[Any] = design.table.frame.index.rename("row")
        place = np.arange(len(labels))
        if self.groupings:
            randoms = design.predictors["mu"].random
            groups = max(randoms, key=lambda r: len(r.groups.labels)).groups
            place = groups.index
            labels = pd.Index(groups.labels[place], name=groups.name)
        return Raw(labels, design.y, design.sampling_sd**2, design.predictors["mu"].X, place)

    def tau(self) -> Floats:
        """Sd between studies at each level, shape (chain, draw, level)."""
        posterior, term = self.fit.posterior, self.effect_term
        levels = [
            posterior[sd_name("", name)].sel({f"{name}_effect": [term]}).to_numpy()
            for name in self.groupings
        ]
        shape = (posterior.sizes["chain"], posterior.sizes["draw"], 0)
        return np.concatenate(levels, axis=-1) if levels else np.zeros(shape)

    def mu(self) -> Floats:
        """Effect at the mean of the moderators, shape (chain, draw)."""
        beta = self.fit.posterior["beta"]
        if self.treatment is not None:
            return np.asarray(beta.sel(term=self.treatment).to_numpy())
        return np.asarray(beta.to_numpy() @ self.raw.X.mean(axis=0))

    def effects(self) -> Floats:
        """The studies' own effects, shape (chain, draw, study), in the order of `raw`."""
        if self.treatment is None:
            return np.asarray(self.fit.eta().to_numpy())
        found = self.mu()[..., None] + self.moderator_slopes() @ self.raw.X[:, 1:].T
        for name in self.groupings:
            u = self.fit.posterior[f"u_{name}"].sel({f"{name}_effect": self.treatment})
            found = found + u.to_numpy()[..., self.raw.place]
        return found

    def moderator_slopes(self) -> Floats:
        """Coefficients of the moderators of counts, shape (chain, draw, moderators)."""
        beta = self.fit.posterior["beta"]
        names = _moderators(self.design, str(self.treatment))
        return np.asarray(beta.sel(term=names).to_numpy())

    def prediction(self) -> NormalMixture | StudentTMixture:
        """Effect in a new study at the mean of the moderators; its draws mixed, not sampled."""
        if self.exact is not None:
            return self.exact.prediction()
        mean, sd = self.mu().reshape(-1, 1), self._new_sd().reshape(-1, 1)
        return NormalMixture(np.full(len(mean), 1 / len(mean)), mean, np.maximum(sd, 1e-300))

    def new_draws(self) -> Floats:
        """A new study's effect in every draw, shape (chain, draw)."""
        mu = self.mu()
        return mu + self._new_sd() * np.random.default_rng(0).normal(size=mu.shape)

    def reliability(self) -> Floats:
        """Share of the studies' own data in their effects, shape (study,); of one level."""
        tau, weight = self.tau().reshape(-1), None
        if self.exact is not None:
            tau, weight = self.exact.tau.tau, self.exact.tau.weights
        shares = [np.average(tau**2 / (tau**2 + v), weights=weight) for v in self.raw.v]
        return np.array(shares)

    def spread_rows(self) -> dict[str, Floats]:
        """Further numbers of the distribution between studies, each of shape (5,)."""
        return {}

    @property
    def spread(self) -> str:
        """What tau is."""
        return "sd of the true effects about it"

    def _new_sd(self) -> Floats:
        return np.asarray(np.sqrt((self.tau() ** 2).sum(axis=-1)))


def read(fit: Fit) -> Synthesis:
    """Take a fit as a meta-analysis.

    Raises
    ------
    BayesmixedError
        If its outcomes have no known sampling sd, or more than the level varies between studies.
    """
    design, attributes = fit.design, fit.posterior.attrs
    measure = MEASURES.get(str(attributes.get("measure", "")))
    if "treatment" in attributes:
        return Synthesis(fit, measure, None, str(attributes["treatment"]))
    if "study" in attributes:
        return Marginal(fit, measure, None)
    if design.sampling_sd is None or not design.spec.is_exact:
        raise BayesmixedError(
            "This report is for effects with known sampling sds, as bm.meta_analysis(...) or "
            "bm.Model(..., sampling_sd=...) of a gaussian outcome has them."
        )
    design.need_rows("A meta-analysis")
    for random in design.predictors["mu"].random:
        if random.effects != (INTERCEPT,):
            raise BayesmixedError(
                f"What varies between {random.name!r} is {', '.join(random.effects)}; this report "
                f"is for (1 | {random.name}). Use bm.variance_components(fit)."
            )
    exact = grid_posterior(fit) if attributes.get("method") == "grid" else None
    return Synthesis(fit, measure, exact)


@dataclass(frozen=True, eq=False)
class Marginal(Synthesis):
    """A fit of a family of `between_studies`, in which the studies' effects were integrated out."""

    @property
    def groupings(self) -> list[str]:
        """The studies."""
        return [str(self.fit.posterior.attrs["study"])]

    @cached_property
    def raw(self) -> Raw:
        """The studies' own estimates."""
        design, (name,) = self.design, self.groupings
        assert design.sampling_sd is not None
        labels: pd.Index[Any] = pd.Index(self.fit.posterior[name].to_numpy(), name=name)
        X, place = design.predictors["mu"].X, np.arange(len(labels))
        return Raw(labels, design.y, design.sampling_sd**2, X, place)

    def tau(self) -> Floats:
        """Spread of effects, with a formula at the means of its moderators."""
        posterior, scale = self.fit.posterior, self.design.predictors.get("tau")
        if scale is None:
            return np.asarray(posterior["tau"].to_numpy()[..., None])
        log_tau = posterior["beta_tau"].to_numpy() @ scale.X.mean(axis=0)
        return np.asarray(np.exp(log_tau + scale.offset.mean())[..., None])

    def effects(self) -> Floats:
        """The studies' own effects, drawn after sampling."""
        (name,) = self.groupings
        u = self.fit.posterior[f"u_{name}"].to_numpy()[..., 0]
        return np.asarray(self.fit.eta().to_numpy() + u)

    def reliability(self) -> Floats:
        """Share of the studies' own data, each with its own spread."""
        return np.atleast_1d(self.fit.posterior.attrs["reliability"])

    def nu(self) -> Floats | None:
        """Degrees of freedom, shape (chain, draw); None where effects are normal."""
        if "nu" not in {p.name for p in self.design.family.parameters}:
            return None
        shape, fixed = self.mu().shape, fixed_nu(self.design)
        return np.full(shape, fixed) if fixed else np.asarray(self.fit.posterior["nu"].to_numpy())

    def prediction(self) -> NormalMixture | StudentTMixture:
        """Effect in a new study at the mean of the moderators."""
        nu = self.nu()
        if nu is None:
            return super().prediction()
        # Where nu has a prior, that has mass below 1, and no moment exists.
        moments = fixed_nu(self.design) or 0.0
        return StudentTMixture(self.mu().ravel(), self.tau().ravel(), nu.ravel(), moments)

    def new_draws(self) -> Floats:
        """A new study's effect in every draw."""
        nu = self.nu()
        if nu is None:
            return super().new_draws()
        return self.mu() + self.tau()[..., 0] * np.random.default_rng(0).standard_t(nu)

    def spread_rows(self) -> dict[str, Floats]:
        """Coefficients of log tau, and the degrees of freedom where they are not given."""
        found, posterior = dict[str, Floats](), self.fit.posterior
        scale = self.design.predictors.get("tau")
        if scale is not None:
            values = from_draws(posterior["beta_tau"].to_numpy())
            found |= {f"beta_tau[{t}]": v for t, v in zip(scale.terms, values, strict=True)}
        return found | (
            {"nu": from_draws(posterior["nu"].to_numpy()[..., None])} if "nu" in posterior else {}
        )

    @property
    def spread(self) -> str:
        """What tau is."""
        if self.nu() is not None:
            fixed = fixed_nu(self.design)
            said = f"{fixed:g}" if fixed else "nu"
            return f"scale of the t distribution with {said} degrees of freedom about it"
        return "sd of the true effects about it, at the means of its own moderators"


def _raw_of_counts(design: Design, treatment: str) -> Raw:
    """From rows for arms, first and second group of each study after one another."""
    arms, predictor = design.table.frame, design.predictors["mu"]
    first = (arms[treatment] > 0).to_numpy()
    events, size = arms["events"].to_numpy(), arms["size"].to_numpy()
    columns = {"a": events[first], "n": size[first], "c": events[~first], "m": size[~first]}
    if design.trials is not None:
        found = effect_sizes(columns, "OR", ai="a", n1i="n", ci="c", n2i="m")
    else:
        found = effect_sizes(columns, "IRR", x1i="a", t1i="n", x2i="c", t2i="m")
    moderators = _moderators(design, treatment)
    taken = (treatment, "events", "size", *moderators)
    name = next(c for c in arms.columns if c not in taken)
    labels = pd.Index(arms.loc[first, name], name=name)
    place = np.arange(len(labels))
    if predictor.random:
        place = predictor.random[0].groups.index[first]
    # The first group counts 1/2.
    X = np.column_stack([np.ones(len(labels)), 2 * arms.loc[first, moderators].to_numpy()])
    return Raw(labels, found["yi"].to_numpy(), found["vi"].to_numpy(), X, place)


def _moderators(design: Design, treatment: str) -> list[str]:
    """Terms that the effect of the treatment depends on."""
    return [t for t in design.predictors["mu"].terms if t.startswith(f"{treatment}:")]


def from_draws(draws: Floats) -> Floats:
    """Columns `COLUMNS` of numbers drawn, shape (numbers, 5), from (chain, draw, numbers)."""
    flat = draws.reshape(-1, draws.shape[-1])
    return np.stack(
        [flat.mean(axis=0), flat.std(axis=0), *np.quantile(flat, PROBS, axis=0)], axis=-1
    )


def from_mixture(mixture: NormalMixture | StudentTMixture) -> Floats:
    """Columns `COLUMNS` of a mixture's numbers, shape (numbers, 5)."""
    quantiles = [mixture.quantile(p) for p in PROBS]
    return np.stack([mixture.mean, mixture.sd, *quantiles], axis=-1)


def from_function_of_tau(
    exact: GridPosterior, function: Callable[[Floats], Floats], power: float
) -> Floats:
    """Columns `COLUMNS` of a rising function of tau, shape (1, 5).

    Parameters
    ----------
    exact : GridPosterior
    function : callable
        Elementwise.
    power : float
        The power of tau that it grows with; 0 where it is bounded.
    """
    tau = exact.tau
    moments = tau.moments / power if power else np.inf
    values = function(tau.tau)
    mean = float(tau.weights @ values)
    sd = float(tau.weights @ (values - mean) ** 2) ** 0.5
    quantiles = [float(function(np.array(tau.quantile(p)))) for p in PROBS]
    return np.array([[mean if moments > 1 else np.inf, sd if moments > 2 else np.inf, *quantiles]])


def with_ratios(table: pd.DataFrame, ratio: str, **columns: str) -> pd.DataFrame:
    """The table with exponentials beside it, where these are ratios of a name.

    Parameters
    ----------
    table : pandas.DataFrame
    ratio : str
        What exponentials are called; nothing is added where it is empty.
    **columns : str
        The new columns and what each is the exponential of; ``ratio`` of the median, and
        ``ratio_lb`` and ``ratio_ub`` of the interval, unless given. Means of ratios need not exist.
    """
    if not ratio:
        return table
    chosen = columns or {"ratio": "median", "ratio_lb": "eti95_lb", "ratio_ub": "eti95_ub"}
    with np.errstate(over="ignore"):  # beyond what a number can hold it is infinite
        found = {to: np.exp(table[of].to_numpy(dtype=float)) for to, of in chosen.items()}
    return table.assign(**found)


def frame(rows: dict[str, Floats], index: str) -> pd.DataFrame:
    """A table of rows of `COLUMNS`."""
    return pd.DataFrame(
        np.stack([np.asarray(v, dtype=float).reshape(-1) for v in rows.values()]),
        index=pd.Index(list(rows), name=index),
        columns=COLUMNS,
    )


def named_draws(values: dict[str, Floats]) -> xr.Dataset:
    """Draws of scalars under their names, each of shape (chain, draw)."""
    return xr.Dataset({name: (("chain", "draw"), v) for name, v in values.items()})
