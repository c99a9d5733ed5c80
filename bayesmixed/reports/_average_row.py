"""The average row at given values of some predictors, and what its groups add to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed import expressions, formula
from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.data import to_pandas
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.linpred import LinearPredictor, covariance, linear_predictor
from bayesmixed.names import suffix
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.quadrature import fine_enough, normal_average

type Floats = NDArray[np.float64]
type Eta = Mapping[str, Floats]
type Spreads = tuple[Eta, ...]


@dataclass(frozen=True)
class AverageRow:
    """Rows whose linear predictors are averages over the rows in the data.

    Parameters
    ----------
    values : pandas.DataFrame
        What was asked for: a row each, a column for each predictor that was given a value.
    design : Design
        These rows, of one trial each where outcomes are counts of successes.
    centre : mapping of str to array, shape (chain, draw, profile)
        Linear predictors of the average group, by parameter of the family.
    variance : mapping of str to mapping of str to array, shape (chain, draw, profile)
        What a grouping's effects add to the variance of each parameter's predictor.
    """

    values: pd.DataFrame
    design: Design
    centre: Eta
    variance: Mapping[str, Eta]

    def spread(self, groupings: Collection[str]) -> dict[str, Floats]:
        """Variance that some groupings together add, by parameter."""
        total: dict[str, Floats] = {}
        for name in groupings:
            for parameter, values in self.variance[name].items():
                total[parameter] = total.get(parameter, np.zeros(1)) + values
        return total

    def predictor(self) -> LinearPredictor:
        """The linear predictors, all groups new ones from the population."""
        return LinearPredictor(self.design, self.centre, self.spread(self.variance))

    def outcome_variance(self) -> Floats:
        """Variance of the outcome within and between new groups, shape (chain, draw, profile)."""
        # A Student-t's may be infinite.
        with np.errstate(invalid="ignore"):
            return self.predictor().outcome_variance()

    def shared(self, groupings: Collection[str]) -> Floats:
        """Covariance of the outcomes of two such rows in the same groups of some groupings.

        It is the variance, over the effects that are shared, of the expected outcome, which is
        averaged over the effects that are not [1]_. Exact but for the quadrature (`quadrature`).

        Parameters
        ----------
        groupings : collection of str
            Whose groups are shared; those of the others are different new ones.

        Returns
        -------
        array, shape (chain, draw, profile)

        Raises
        ------
        BayesmixedError
            If the outcome has no mean over new groups.

        References
        ----------
        .. [1] Goldstein, Browne & Rasbash (2002), Understanding Statistics 1:223, method B, which
           simulates what is integrated here.
        """
        need_mean(self.design)
        design, needed = self.design, _needed(self.design.family.mean)

        def spread(names: Collection[str]) -> dict[str, Floats]:
            # Effects on what the mean does not depend on, such as sigma, leave it alone.
            return {n: np.sqrt(v) for n, v in self.spread(names).items() if n in needed}

        def mean(eta: Eta) -> Floats:
            found = design.family.evaluate(design.family.mean, eta, design.links, **design.known)
            return np.asarray(found, dtype=np.float64)

        rest = [name for name in self.variance if name not in groupings]
        spreads = (spread(groupings), spread(rest), spread(self.variance))
        centre, *widest = _widest((self.centre, *spreads))
        step = fine_enough(lambda step: _between(mean, centre, tuple(widest), step))
        return _between(mean, self.centre, spreads, step)


def average_row(fit: Fit, at: Any = None) -> AverageRow:
    """The average row, or one for each of some given values of predictors.

    Its linear predictors are the averages over the rows in the data (over the trials, where
    outcomes are successes out of trials), and so is the variance z'Gz that a new group adds
    [1]_. Where predictors are given values, every row in the data is given them first.

    Parameters
    ----------
    fit : Fit
        The fit.
    at : mapping or table, optional
        Values of predictors: one each, or several.

    Raises
    ------
    UnknownNameError
        If `at` names something that is not a predictor.
    DataError
        If a value cannot be used, such as a category that was not in the data.

    References
    ----------
    .. [1] Johnson (2014), Methods Ecol. Evol. 5:944, eq. 10.
    """
    design = fit.design
    design.need_rows("The average row")
    values = _values(design, at)
    frame = design.table.frame
    given: list[dict[Any, Any]] = values.to_dict("records") if len(values.columns) else []
    rows = [design.unobserved(frame.assign(**one)) for one in given] or [design]
    weights = [row_weights(one) for one in rows]
    count = len(rows)
    predictors = {
        name: _stacked(
            [_averaged(one.predictors[name], w) for one, w in zip(rows, weights, strict=True)]
        )
        for name in design.predictors
    }
    # Averaged on the scale of the linear predictor of sigma, its logarithm.
    known = [
        np.exp(w @ np.log(one.sampling_sd))
        for one, w in zip(rows, weights, strict=True)
        if one.sampling_sd is not None
    ]
    averaged = replace(
        design,
        y=np.full(count, np.nan),
        predictors=predictors,
        trials=np.ones(count) if design.family.has_trials else None,
        sampling_sd=np.array(known) if known else None,
    )
    centre = dict(linear_predictor(fit, averaged, "average").centre)
    if design.spreads is not None:
        sigma = design.family.parameter("sigma")
        each = [fit.constant(sigma, one) @ w for one, w in zip(rows, weights, strict=True)]
        centre["sigma"] = np.stack(each, axis=-1)
    return AverageRow(values, averaged, centre, _variances(fit, rows, weights))


def need_mean(design: Design) -> None:
    """Refuse a link whose inverse has a pole, and so no mean over normal effects.

    Raises
    ------
    BayesmixedError
        Saying what to do instead.
    """
    link = design.spec.link
    with np.errstate(all="ignore"):
        pole = not np.isfinite(link.inverse(np.zeros(1))).all()
    if pole and design.predictors[design.family.parameters[0].name].random:
        raise BayesmixedError(
            f"With link {link.name!r} the expected outcome of a new group is infinite where its "
            "linear predictor is 0, so it has no mean over groups. Fit the model with another "
            "link, such as log."
        )


def row_weights(design: Design) -> Floats:
    """Share of every row: an observation is a trial where outcomes are successes out of trials."""
    sizes = np.ones(len(design.y)) if design.trials is None else design.trials
    return np.asarray(sizes / sizes.sum())


def cross_product(random: RandomDesign, weights: Floats) -> Floats:
    """Weighted mean of zz', which makes z'Gz on average the sum of its products with G."""
    Z = random.loadings
    return np.asarray((Z * weights[:, None]).T @ Z)


def _variances(fit: Fit, rows: list[Design], weights: list[Floats]) -> dict[str, dict[str, Floats]]:
    found: dict[str, dict[str, Floats]] = {g.name: {} for g in fit.design.groups}
    for name in fit.design.predictors:
        tail = suffix(fit.design, name)
        for k, random in enumerate(fit.design.predictors[name].random):
            G = covariance(fit, random, tail)
            each = [
                np.einsum("...ij,ij->...", G, cross_product(one.predictors[name].random[k], w))
                for one, w in zip(rows, weights, strict=True)
            ]
            found[random.name][name] = np.stack(each, axis=-1)
    return found


def _values(design: Design, at: Any) -> pd.DataFrame:
    """What was asked for as a table, whose columns are predictors."""
    if at is None:
        return pd.DataFrame(index=[0])
    if isinstance(at, Mapping):
        several = any(np.ndim(v) for v in at.values())
        at = {n: v if several else [v] for n, v in at.items()}
    table = to_pandas(at).reset_index(drop=True)
    valid = dict.fromkeys(predictor_names(design))
    for name in table.columns:
        lookup(valid, name, "predictor")
    return table


def predictor_names(design: Design) -> tuple[str, ...]:
    """The columns that predictors are made of, each once."""
    names: list[str] = []
    for predictor in design.spec.predictors.values():
        for text in (predictor.fixed, *(t.effects for t in predictor.random)):
            names += formula.variables(text)
        for code in predictor.offsets:
            names += expressions.variables(code)
    return tuple(dict.fromkeys(names))


def _averaged(predictor: PredictorDesign, weights: Floats) -> tuple[PredictorDesign, Floats, float]:
    return predictor, weights @ predictor.X, float(weights @ predictor.offset)


def _stacked(averages: list[tuple[PredictorDesign, Floats, float]]) -> PredictorDesign:
    first = averages[0][0]
    random = tuple(
        replace(
            r,
            groups=replace(r.groups, index=np.full(len(averages), -1)),
            Z=np.full((len(averages), r.size), np.nan),
            spreads=None,
        )
        for r in first.random
    )
    X, offset = (np.array([one[k] for one in averages]) for k in (1, 2))
    return replace(first, X=X, offset=offset, random=random)


def _needed(function: Callable[..., Any]) -> set[str]:
    """Names of the parameters that one of a family's functions asks for (see `Family`)."""
    asked = inspect.signature(function).parameters
    return {*asked, *(name.partition("_")[2] for name in asked)}


def _between(mean: Callable[[Eta], Floats], centre: Eta, spreads: Spreads, step: float) -> Floats:
    """Variance over the outer effects of the mean over the inner ones."""
    outer, inner, both = spreads
    expected = _averaging(mean, both, step)(centre)
    conditional = _averaging(mean, inner, step)
    return _averaging(lambda eta: (conditional(eta) - expected) ** 2, outer, step)(centre)


def _averaging(
    function: Callable[[Eta], Floats], spreads: Eta, step: float
) -> Callable[[Eta], Floats]:
    """The same function, averaged over normal effects on some of the predictors."""
    for name, sd in spreads.items():
        function = _over(function, name, sd, step)
    return function


def _over(
    function: Callable[[Eta], Floats], name: str, sd: Floats, step: float
) -> Callable[[Eta], Floats]:
    def averaged(eta: Eta) -> Floats:
        return normal_average(lambda value: function({**eta, name: value}), eta[name], sd, step)

    return averaged


def _widest(values: tuple[Eta, ...]) -> list[dict[str, Floats]]:
    """The one draw in which the predictors spread most; the spread of all effects comes last."""
    if not values[-1]:
        return [dict(each) for each in values]
    total = np.sum([(v**2).max(axis=-1) for v in values[-1].values()], axis=0)
    chain, draw = (int(i) for i in np.unravel_index(np.argmax(total), total.shape))

    def one(value: Floats) -> Floats:
        c, d = min(chain, len(value) - 1), min(draw, value.shape[1] - 1)
        return value[c : c + 1, d : d + 1]

    return [{n: one(v) for n, v in each.items()} for each in values]
