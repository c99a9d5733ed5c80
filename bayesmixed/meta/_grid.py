r"""The posterior of a meta-analysis without a sampler.

Given the heterogeneity everything is normal, so that only the heterogeneity is left to integrate
over (Röver 2020, J. Stat. Softw. 93(6)); with exponentially convergent sums the results are exact
to about 1e-10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from bayesmixed._errors import BayesmixedError, PriorError, listed
from bayesmixed.defaults import assign_priors
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.meta._densities import density
from bayesmixed.meta._heterogeneity import (
    Density,
    Heterogeneity,
    heterogeneity,
    no_heterogeneity,
)
from bayesmixed.meta._mixture import NormalMixture
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.meta._regression import Regression
from bayesmixed.meta._stored import from_text
from bayesmixed.names import sd_name, suffix
from bayesmixed.predictor import INTERCEPT, PredictorDesign
from bayesmixed.priors import Prior

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class GridPosterior:
    """Exact posterior of a meta-analysis with normal effects; nothing in it is sampled.

    Parameters
    ----------
    regression : Regression
        The studies, moderators centred and scaled, with the coefficients' priors.
    raw : array, shape (terms, terms)
        From the coefficients of centred and scaled moderators to those on the raw scale.
    labels : array, shape (studies,)
        The studies' names.
    terms : tuple of str
        The coefficients' names.
    prior : Density, optional
        Of tau; None for a common effect.
    """

    regression: Regression
    raw: Floats
    labels: NDArray[Any]
    terms: tuple[str, ...]
    prior: Density | None

    @cached_property
    def tau(self) -> Heterogeneity:
        """Posterior of the standard deviation between studies."""

        def log_likelihood(tau: Floats) -> Floats:
            return self.regression.given(tau)[0]

        if self.prior is None:
            return no_heterogeneity(log_likelihood)
        y, sd = self.regression.y, np.sqrt(self.regression.v)
        spread = np.ptp(y) or sd.max()
        return heterogeneity(log_likelihood, self.prior, np.append(sd, spread))

    @cached_property
    def _given(self) -> tuple[Floats, Floats]:
        """Mean and covariance of the raw coefficients at each node of tau."""
        _, mean, covariance = self.regression.given(self.tau.tau)
        return mean @ self.raw.T, self.raw @ covariance @ self.raw.T

    @property
    def _moments(self) -> float:
        """A flat prior lets the coefficients' tails grow with tau; a proper one bounds them."""
        flat = bool((self.regression.precision == 0).any())
        return self.tau.moments if flat else np.inf

    @property
    def _rows(self) -> Floats:
        """Raw moderators, shape (studies, terms)."""
        return np.asarray(np.linalg.solve(self.raw.T, self.regression.X.T).T)

    @property
    def coefficients(self) -> NormalMixture:
        """Coefficients on the scale of the raw moderators, one for each of `terms`."""
        mean, covariance = self._given
        sds = np.sqrt(np.einsum("tii->ti", covariance))
        return NormalMixture(self.tau.weights, mean, sds, self._moments)

    def effect(self, moderators: Floats | None = None) -> NormalMixture:
        """The average effect at values of the moderators.

        Parameters
        ----------
        moderators : array, shape (rows, terms), optional
            Rows of the design matrix; the studies' mean unless given.
        """
        mean, sd = self._at(moderators)
        return NormalMixture(self.tau.weights, mean, sd, self._moments)

    def prediction(self, moderators: Floats | None = None) -> NormalMixture:
        """The effect in a new study at values of the moderators, as for `effect`."""
        mean, sd = self._at(moderators)
        wider = np.sqrt(sd**2 + self.tau.tau[:, None] ** 2)
        return NormalMixture(self.tau.weights, mean, wider, self.tau.moments)

    def _at(self, moderators: Floats | None) -> tuple[Floats, Floats]:
        rows = self._rows.mean(axis=0)[None] if moderators is None else np.atleast_2d(moderators)
        mean, covariance = self._given
        variance = np.einsum("ri,tij,rj->tr", rows, covariance, rows, optimize=True)
        return mean @ rows.T, np.sqrt(np.maximum(variance, 0))

    @cached_property
    def studies(self) -> NormalMixture:
        """The studies' own effects, with strength borrowed from each other."""
        tau2, v = self.tau.tau[:, None] ** 2, self.regression.v
        own = tau2 / (tau2 + v)
        mean, sd = self._at(self._rows)
        centre = own * self.regression.y + (1 - own) * mean
        spread = np.sqrt(own * v + ((1 - own) * sd) ** 2)
        return NormalMixture(self.tau.weights, centre, spread)

    @property
    def pooling_weights(self) -> Floats:
        """Share of each study in the average effect, averaged over tau; shape (studies,).

        Röver (2020), section 2.12. With moderators: in the average effect at their mean. What is
        left to 1 is the prior's share.
        """
        tau, X = self.tau.tau, self.regression.X
        _, _, covariance = self.regression.given(tau)
        total = self.regression.v + tau[:, None] ** 2
        share = np.einsum("tij,i,nj->tn", covariance, X.mean(axis=0), X, optimize=True) / total
        return np.asarray(self.tau.weights @ share)

    def conditional(self, tau: float) -> tuple[Floats, Floats]:
        """Mean and covariance of the coefficients for one value of tau.

        Parameters
        ----------
        tau : float

        Returns
        -------
        mean : array, shape (terms,)
        covariance : array, shape (terms, terms)
        """
        _, mean, covariance = self.regression.given(np.array([float(tau)]))
        return self.raw @ mean[0], self.raw @ covariance[0] @ self.raw.T

    def of(self, studies: NDArray[np.intp]) -> GridPosterior:
        """The same model and priors for some of the studies."""
        return replace(self, regression=self.regression.of(studies), labels=self.labels[studies])

    def with_prior(self, prior: Prior | Density | str) -> GridPosterior:
        """The same studies with another prior of tau, such as ``"Jeffreys"``."""
        if isinstance(prior, str):
            return replace(self, prior=ReferencePrior(prior, tuple(np.sqrt(self.regression.v))))
        return replace(self, prior=density(prior))

    def sample(self, draws: int, seed: int | None = None) -> dict[str, Floats]:
        """Equally weighted draws from the joint posterior, by a Latin hypercube.

        Each margin of tau and of the standardised effects is stratified (McKay, Beckman & Conover
        1979, Technometrics 21:239), so that means and quantiles have less noise than independent
        draws would give.

        Parameters
        ----------
        draws : int
        seed : int, optional

        Returns
        -------
        dict of str to array
            ``beta`` (draws, terms), ``tau`` (draws,) and ``u`` (draws, studies), the studies'
            deviations from their regression.
        """
        terms, studies = len(self.terms), len(self.labels)
        width = 1 + terms + (studies if self.prior is not None else 0)
        uniform = qmc.LatinHypercube(width, rng=np.random.default_rng(seed)).random(draws)
        tau = self.tau.inverse(uniform[:, 0])
        z = ndtri(uniform[:, 1:])
        _, mean, covariance = self.regression.given(tau)
        factor = np.linalg.cholesky(covariance)
        beta = mean + np.einsum("dij,dj->di", factor, z[:, :terms])
        found = {"beta": beta @ self.raw.T, "tau": tau}
        if self.prior is not None:
            tau2, v = tau[:, None] ** 2, self.regression.v
            own = tau2 / (tau2 + v)
            residual = self.regression.y - beta @ self.regression.X.T
            found["u"] = own * residual + np.sqrt(own * v) * z[:, terms:]
        return found


def grid_posterior(fit: Fit) -> GridPosterior:
    """Exact posterior of a meta-analysis, whichever way it was fitted.

    Parameters
    ----------
    fit : Fit
        Normal effects with known sampling sds, ``effect ~ moderators + (1 | study)`` or without
        the random term, and normal or flat priors of the coefficients; also one of `Model`.

    Returns
    -------
    GridPosterior
        Distributions of tau (``tau``), the average effect (``effect()``), a new study's
        (``prediction()``), the coefficients and the studies' effects (``studies``), each with
        ``mean``, ``sd``, ``pdf``, ``cdf`` and ``quantile``; and ``tau.log_evidence``.

    Raises
    ------
    BayesmixedError
        If the model is another one.
    PriorError
        If a coefficient's prior is not normal, or the posterior is improper.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> trials = bm.datasets.load("bcg")
    >>> fit = bm.meta_analysis(trials, "yi", "sei", "trial", measure="RR", method="grid", seed=1)
    >>> exact = bm.grid_posterior(fit)
    >>> round(float(exact.tau.quantile(0.5)), 2)
    0.55
    """
    return grid_of(fit.design, tau_prior_of(fit))


def tau_prior_of(fit: Fit) -> Density | None:
    """The fit's prior of tau where it is no `Prior`."""
    text = fit.posterior.attrs.get("tau_prior")
    return from_text(str(text)) if text else None


def grid_of(design: Design, tau: Density | None = None) -> GridPosterior:
    """As `grid_posterior`, before there is a fit.

    Parameters
    ----------
    design : Design
    tau : Density, optional
        Prior of tau in place of the design's.
    """
    sd = design.sampling_sd
    if not design.spec.is_exact or sd is None or len(design.predictors) != 1:
        raise BayesmixedError(
            "This is for normal effects with one tau and known sampling sds (sampling_sd), not for "
            f"family {design.family.name} ({design.spec.link.name})."
        )
    predictor = design.predictors["mu"]
    order, group = _order(design, predictor)
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    raw, X = standardised(design, "mu")
    mean, precision = coefficient_priors(design, "mu", raw, priors)
    labels = np.arange(len(design.y)) if group is None else predictor.random[0].groups.labels
    regression = Regression(
        (design.y - predictor.offset)[order], sd[order] ** 2, X[order], mean, precision
    )
    prior = None if group is None else tau or density(priors[sd_name("", group)])
    return GridPosterior(regression, raw, labels, predictor.terms, prior)


def _order(design: Design, predictor: PredictorDesign) -> tuple[NDArray[np.intp], str | None]:
    """Rows in the order of the groups' labels, and the grouping's name where there is one."""
    if not predictor.random:
        return np.arange(len(design.y)), None
    if len(predictor.random) > 1 or predictor.random[0].effects != (INTERCEPT,):
        raise BayesmixedError(
            f"The grid is for one grouping with (1 | study); this model has "
            f"{listed(r.name for r in predictor.random)} with "
            f'{listed(e for r in predictor.random for e in r.effects)}. Use method="nuts".'
        )
    groups = predictor.random[0].groups
    if (groups.sizes != 1).any():
        raise BayesmixedError(
            f"The grid is for one row a study; some {groups.name!r} have several. Use "
            'method="nuts".'
        )
    return np.argsort(groups.index), groups.name


def standardised(design: Design, parameter: str) -> tuple[Floats, Floats]:
    """The way back to raw coefficients from centred and scaled moderators, and these."""
    predictor, means = design.predictors[parameter], design.means(parameter)
    first = int(predictor.has_intercept)
    columns = predictor.X[:, first:]
    spread = np.sqrt(np.mean((columns - means) ** 2, axis=0))
    raw = np.diag(np.append(np.ones(first), 1 / spread))
    if first:
        raw[0, 1:] = -means / spread
    X = predictor.X.copy()
    X[:, first:] = (columns - means) / spread
    return raw, X


def coefficient_priors(
    design: Design, parameter: str, raw: Floats, priors: dict[str, Prior]
) -> tuple[Floats, Floats]:
    """Mean and precision of the coefficients of centred and scaled moderators."""
    tail = suffix(design, parameter)
    names = [
        f"Intercept{tail}" if name == INTERCEPT else f"beta{tail}[{name}]"
        for name in design.predictors[parameter].terms
    ]
    for name in names:
        if priors[name].distribution not in ("Normal", "Flat"):
            raise PriorError(
                f"The grid needs a Normal or Flat prior of {name}, not {priors[name]}; give one, "
                'or use method="nuts".'
            )
    scale = np.diag(raw)
    values = [dict(priors[name].parameters) for name in names]
    mean = np.array([v.get("mu", 0.0) for v in values]) / scale
    precision = np.array([v.get("sigma", np.inf) ** -2.0 for v in values]) * scale**2
    return mean, precision
