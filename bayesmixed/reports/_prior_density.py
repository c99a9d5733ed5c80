"""The densities of priors, at given values and in every draw of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.defaults import assign_priors
from bayesmixed.encoded import encode, unconstrain
from bayesmixed.fit import Fit
from bayesmixed.names import effect_names, sd_name, suffix
from bayesmixed.predictor import PredictorDesign
from bayesmixed.priors import Prior
from bayesmixed.series import Series
from bayesmixed.univariate import log_prior

type Floats = NDArray[np.float64]


def log_density(prior: Prior, values: Floats) -> Floats:
    """Log-density of a prior of single numbers, elementwise.

    Parameters
    ----------
    prior : Prior
        Any but ``"LKJ"``.
    values : array, any shape
        Inside the prior's support.
    """
    encoded = encode(prior)
    x = unconstrain(values, encoded)
    found = [log_prior(one, encoded.numbers) for one in x.ravel()]
    return np.reshape([d - np.log(abs(slope)) for _, slope, d, _ in found], values.shape)


def log_priors(fit: Fit) -> Iterator[tuple[str, Floats]]:
    """Log-density of every prior in every draw, by name; each of shape (chain, draw).

    Up to constants for correlations and cut-points.

    Raises
    ------
    BayesmixedError
        If a meta-analysis' prior of tau is no `Prior`, so that the design does not have it.
    """
    design, posterior = fit.design, fit.posterior
    if posterior.attrs.get("tau_prior"):
        raise BayesmixedError(
            "The prior of tau in this fit is known by name or a distribution of scipy.stats (see "
            "fit.notes), and densities are worked out here of a Prior alone. Compare priors of tau "
            'with prior_robustness(fit), or fit with a Prior, such as priors={"tau": '
            'Prior("HalfNormal", sigma=0.5)}.'
        )
    priors = {name: assigned.prior for name, assigned in assign_priors(design).items()}
    shift = np.zeros((posterior.sizes["chain"], posterior.sizes["draw"]))
    for parameter, predictor in design.predictors.items():
        tail = suffix(design, parameter)
        if predictor.terms:
            beta = posterior[f"beta{tail}"].to_numpy()
            moved = beta[..., int(predictor.has_intercept) :] @ design.means(parameter)
            shift = shift if tail else moved
            for k, term in enumerate(predictor.terms):
                first = predictor.has_intercept and k == 0
                name = f"Intercept{tail}" if first else f"beta{tail}[{term}]"
                yield name, log_density(priors[name], beta[..., k] + (moved if first else 0))
        yield from _spreads(fit, predictor, tail, priors)
    for constant in design.family.parameters:
        if constant.name in priors:
            value = posterior[constant.name].to_numpy()
            if constant.support == "ordered":
                # Priors are for cut-points at the predictors' means.
                value = value - shift[..., None]
                yield constant.name, log_density(priors[constant.name], value).sum(axis=-1)
            else:
                yield constant.name, log_density(priors[constant.name], value)
        elif constant.name == "sigma" and design.spreads is not None:
            value = posterior[constant.name].to_numpy()
            for k, name in enumerate(design.spreads.names):
                yield name, log_density(priors[name], value[..., k])
    if design.series is not None:
        yield from _correlations(fit, design.series, priors)


def _spreads(
    fit: Fit, predictor: PredictorDesign, tail: str, priors: Mapping[str, Prior]
) -> Iterator[tuple[str, Floats]]:
    """Priors of the standard deviations and correlations of effects."""
    for random in predictor.random:
        sd = fit.posterior[sd_name(tail, random.name)].to_numpy()
        for k, name in enumerate(effect_names(tail, random)):
            yield name, log_density(priors[name], sd[..., k])
        if random.is_correlated:
            name = f"cor{tail}_{random.name}"
            eta = dict(priors[name].parameters)["eta"]
            every = fit.posterior[name].to_numpy()
            blocks = [every[..., *np.ix_(b, b)] for b in random.blocks if len(b) > 1]
            yield name, (eta - 1) * np.sum([np.linalg.slogdet(b)[1] for b in blocks], axis=0)
        if random.between is not None and random.between.mixed:
            share = random.between.share
            yield share, log_density(priors[share], fit.posterior[share].to_numpy())
        if random.between is not None and random.between.series is not None:
            named = random.between.named
            yield from _correlations(fit, random.between.series, priors, named)


def _correlations(
    fit: Fit, series: Series, priors: Mapping[str, Prior], named: Callable[[str], str] = str
) -> Iterator[tuple[str, Floats]]:
    """Priors of the parameters of correlations within series."""
    for parameter in series.parameters:
        every = fit.posterior[named(parameter.name)].to_numpy()
        if series.structure.by is None:
            every = every[:, :, None]
        for arm, names in enumerate(series.names(parameter)):
            chosen, own = [priors[named(name)] for name in names], every[:, :, arm]
            if parameter.is_matrix:
                eta = dict(chosen[0].parameters)["eta"]
                yield named(names[0]), (eta - 1) * np.linalg.slogdet(own)[1]
                continue
            own = own if isinstance(parameter.prior, tuple) else own[..., None]
            for k, (name, prior) in enumerate(zip(names, chosen, strict=True)):
                yield named(name), log_density(prior, own[..., k])
