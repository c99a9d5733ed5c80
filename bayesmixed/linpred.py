"""Linear predictors of any rows in every draw, and expectations of what follows from them.

A row's groups are known ones with their own effects, new ones drawn from the population, or the
average one, whose effects are 0. Effects of new groups are integrated out: given the parameters
they add a normal variable with variance z'Gz to the linear predictor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, DataError, listed, lookup
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.names import suffix
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.quadrature import fine_enough, normal_average
from bayesmixed.relatives import Relatives, covariance_of_effects

type Floats = NDArray[np.float64]
type Whose = Literal["existing", "new", "average"]
type Groups = Whose | Mapping[str, Whose]


@dataclass(frozen=True)
class LinearPredictor:
    """Linear predictors of some rows, draw by draw: normal about a centre over new groups.

    Parameters
    ----------
    design : Design
        The rows.
    centre : mapping of str to array, shape (chain, draw, row)
        By parameter of the family, on its link's scale; a last axis of length 1 where all rows
        share the value, and the cut-points for parameters that are such.
    variance : mapping of str to array, shape (chain, draw, row)
        Variance over new groups, of the parameters that have any.
    """

    design: Design
    centre: Mapping[str, Floats]
    variance: Mapping[str, Floats]

    def evaluate(self, function: Callable[..., Any], eta: Mapping[str, Floats]) -> Floats:
        """One of the family's functions, such as ``family.mean``, at these predictors."""
        design = self.design
        found = design.family.evaluate(function, eta, design.links, **design.known)
        return np.asarray(found, dtype=np.float64)

    def average(self, function: Callable[[Mapping[str, Floats]], Floats]) -> Floats:
        """Expectation over the new groups of a function of the linear predictors.

        Parameters
        ----------
        function : callable
            From predictors by parameter to an array of shape (chain, draw, row).

        Returns
        -------
        array, shape (chain, draw, row)
            With a relative error of about 1e-9 (see `quadrature`).
        """
        if not self.variance:
            return function(self.centre)
        widest = self._widest()
        step = fine_enough(lambda step: widest._average(function, step))
        return self._average(function, step)

    def _average(self, function: Callable[[Mapping[str, Floats]], Floats], step: float) -> Floats:
        nested = function
        for name, variance in self.variance.items():
            nested = _over(nested, name, np.sqrt(variance), step)
        return nested(self.centre)

    def square(
        self, function: Callable[[Mapping[str, Floats]], Floats], inner: Mapping[str, Floats]
    ) -> Floats:
        """Expectation over the new groups of the square of an expectation over further variables.

        Parameters
        ----------
        function : callable
            See `average`.
        inner : mapping of str to array, shape (chain, draw, row)
            Variances of the further normal variables, which no two rows share.
        """
        both = dict(self.variance)
        for name, value in inner.items():
            both[name] = both.get(name, np.zeros(1)) + value
        widest = replace(self, variance=both)._widest()
        step = fine_enough(lambda step: widest._average(lambda eta: function(eta) ** 2, step))
        nested = function
        for name, variance in inner.items():
            nested = _over(nested, name, np.sqrt(variance), step)
        return self._average(lambda eta: nested(eta) ** 2, step)

    def _widest(self) -> LinearPredictor:
        """The one draw in which the predictors spread most."""
        total = np.sum([v.max(axis=-1) for v in self.variance.values()], axis=0)
        chain, draw = (int(i) for i in np.unravel_index(np.argmax(total), total.shape))

        def one(values: Floats) -> Floats:
            c, d = min(chain, len(values) - 1), min(draw, values.shape[1] - 1)
            return values[c : c + 1, d : d + 1]

        return replace(
            self,
            centre={n: one(v) for n, v in self.centre.items()},
            variance={n: one(v) for n, v in self.variance.items()},
        )

    def mean(self) -> Floats:
        """Expected outcome, averaged over new groups; shape (chain, draw, row)."""
        return self.average(lambda eta: self.evaluate(self.design.family.mean, eta))

    def outcome_variance(self) -> Floats:
        """Variance of the outcome within and between new groups; shape (chain, draw, row)."""
        family, mean = self.design.family, self.mean()

        def total(eta: Mapping[str, Floats]) -> Floats:
            off = self.evaluate(family.mean, eta) - mean
            return self.evaluate(family.variance, eta) + off**2

        if not self.variance:
            return total(self.centre)
        # The mean is that of all draws, so the step cannot be chosen from one of them.
        step = fine_enough(
            lambda step: self._widest()._average(
                lambda eta: (
                    self.evaluate(family.variance, eta) + self.evaluate(family.mean, eta) ** 2
                ),
                step,
            )
        )
        return self._average(total, step)


def _over(
    function: Callable[[Mapping[str, Floats]], Floats], name: str, sd: Floats, step: float
) -> Callable[[Mapping[str, Floats]], Floats]:
    """The same function, averaged over one of the predictors."""

    def averaged(eta: Mapping[str, Floats]) -> Floats:
        return normal_average(lambda value: function({**eta, name: value}), eta[name], sd, step)

    return averaged


def linear_predictor(
    fit: Fit, rows: Design | None = None, groups: Groups = "existing"
) -> LinearPredictor:
    """Linear predictors of rows in every draw.

    Parameters
    ----------
    fit : Fit
        The posterior; one of `Fit.pieces` where draws x rows are many.
    rows : Design, optional
        The rows, as `Design.unobserved` gives them; those of the fit unless given.
    groups : {"existing", "new", "average"} or mapping of str to these
        Whether a row's group has its own effects, is drawn from the population, or is the average
        one, for all groupings or by grouping (those that are not named are existing ones).

    Raises
    ------
    UnknownNameError
        If a grouping or choice is not a valid one.
    DataError
        If a group is not in the fit and its effects are asked for.
    """
    design = fit.design if rows is None else rows
    design.need_rows("The linear predictor")
    whose = choices(design, groups)
    centre: dict[str, Floats] = {}
    variance: dict[str, Floats] = {}
    for parameter in design.family.parameters:
        name, tail = parameter.name, suffix(design, parameter.name)
        predictor = design.predictors.get(name)
        if predictor is not None:
            related = _related(fit, design, name, whose)
            centre[name] = _centre(fit, predictor, tail, whose, related)
            spread = [
                row_variance(fit, r, tail) for r in predictor.random if whose[r.name] == "new"
            ]
            spread += [_left(fit, each) for each in related.values()]
            if spread:
                variance[name] = sum(spread, start=np.zeros(1))
        elif name == "sigma" and design.spec.sampling_sd is not None:
            if design.sampling_sd is not None:
                centre[name] = np.log(design.sampling_sd)[None, None]
        else:
            centre[name] = fit.constant(parameter, design)
    return LinearPredictor(design, centre, variance)


def choices(design: Design, groups: Groups) -> dict[str, Whose]:
    """What is asked for each grouping.

    Whose rows make a series, of correlated residuals or of a process, may be named as well,
    grouping or not: a process that is not named itself is one of these.

    Raises
    ------
    UnknownNameError
        If a grouping or choice is not a valid one.
    """
    every = [g.name for g in design.groups]
    known: dict[str, Whose] = {"existing": "existing", "new": "new", "average": "average"}
    if isinstance(groups, str):
        return dict.fromkeys(every, lookup(known, groups, "kind of groups"))
    series = () if design.series is None else (design.series.structure.within,)
    whole = {r.name: r.within for p in design.predictors.values() for r in p.random if r.within}
    for name in groups:
        lookup(dict.fromkeys([*every, *series, *whole.values()]), name, "grouping")
    given = {n: groups.get(n, groups.get(whole.get(n, n), "existing")) for n in every}
    return {n: lookup(known, choice, "kind of groups") for n, choice in given.items()}


def _related(
    fit: Fit, design: Design, parameter: str, whose: Mapping[str, Whose]
) -> dict[str, Relatives]:
    """Groups that are not in the fit, of which those in the fit say something."""
    found = {
        r.name: Relatives.given(fit.design, design, parameter, r)
        for r in design.predictors[parameter].random
        if whose[r.name] == "existing"
    }
    return {name: each for name, each in found.items() if each is not None}


def _left(fit: Fit, relatives: Relatives) -> Floats:
    """Variance of the effects of groups, given those that they are correlated with, by row."""
    G = covariance_of_effects(fit, relatives.random, relatives.tail)
    return _quadratic(G, relatives.random.loadings) * relatives.row_shares(fit)


def _centre(
    fit: Fit,
    predictor: PredictorDesign,
    tail: str,
    whose: Mapping[str, Whose],
    related: Mapping[str, Relatives],
) -> Floats:
    posterior = fit.posterior
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    beta = posterior[f"beta{tail}"].to_numpy() if predictor.terms else np.zeros((chains, draws, 0))
    kept = [
        related[r.name].extended() if r.name in related else r
        for r in predictor.random
        if whose[r.name] == "existing"
    ]
    for random in kept:
        strange, name = np.flatnonzero(random.groups.index < 0), random.within or random.name
        if len(strange):
            raise DataError(
                f"{len(strange):,} rows (the first at position {strange[0]}) belong to a "
                f"{name!r} that is not in the fit, so it has no "
                f'effects of its own. Use groups={{{name!r}: "new"}} for one drawn from the '
                'population, or "average" for effects of 0.'
            )
    u = {r.name: posterior[f"u{tail}_{r.name}"].to_numpy() for r in kept}
    for name, each in related.items():
        u[name] = np.concatenate([u[name], each.mean(fit)], axis=-2)
    return np.asarray(replace(predictor, random=tuple(kept)).eta(beta, u))


def row_variance(fit: Fit, random: RandomDesign, tail: str = "") -> Floats:
    """Variance z'Gz that a new group of a grouping adds, shape (chain, draw, row)."""
    return _quadratic(covariance(fit, random, tail), random.loadings)


def _quadratic(G: Floats, Z: Floats) -> Floats:
    """Z'Gz of every row, shape (chain, draw, row)."""
    z = Z[0]
    if np.ptp(Z, axis=0).max() == 0:
        return np.broadcast_to(
            np.einsum("...ij,i,j->...", G, z, z)[..., None], (*G.shape[:2], len(Z))
        )
    return np.asarray(np.einsum("...ij,ni,nj->...n", G, Z, Z, optimize=True))


def covariance(fit: Fit, random: RandomDesign, tail: str = "") -> Floats:
    """Covariance G of the effects of an average group, shape (chain, draw, effect, effect).

    Where standard deviations differ by visit or arm, these take the effects' place.
    """
    return covariance_of_effects(fit, random, tail) * random.variance(fit.posterior)


def random_of(fit: Fit, group: str | None) -> RandomDesign:
    """A grouping of the first parameter's predictor; the only one where none is named.

    Raises
    ------
    UnknownNameError
        If there is no such grouping.
    BayesmixedError
        If there is none at all, or several and none was named.
    """
    randoms = {
        r.name: r for r in fit.design.predictors[fit.design.family.parameters[0].name].random
    }
    if not randoms:
        raise BayesmixedError("Nothing varies between groups in this fit; add (1 | group).")
    if group is None:
        if len(randoms) > 1:
            raise BayesmixedError(f"Name one of the groupings: {listed(randoms)}.")
        return next(iter(randoms.values()))
    return lookup(randoms, group, "grouping")
