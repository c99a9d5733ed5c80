"""Predictions for any rows: expected values and new observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import DataError, lookup
from bayesmixed.data import is_numeric
from bayesmixed.design import Design
from bayesmixed.expressions import variables
from bayesmixed.family import Family
from bayesmixed.fit import Fit
from bayesmixed.kriging import Kriging
from bayesmixed.linpred import Groups, LinearPredictor, Whose, choices, linear_predictor
from bayesmixed.newcomers import Newcomers, asked_for, predictor_columns, runs, with_labels
from bayesmixed.reports import _lines
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval
from bayesmixed.sample import generator

type Floats = NDArray[np.float64]
type Kind = Literal["mean", "group", "outcome", "probability"]

_WHOSE = {
    "existing": "with its own effects",
    "new": "a new one from the population",
    "average": "the average one, with effects of 0",
}


def predict(
    fit: Fit,
    newdata: Any = None,
    groups: Groups = "existing",
    kind: Kind = "mean",
    seed: int | None = None,
) -> Report:
    r"""Expected values or new observations for any rows.

    With `groups` "new" three questions have three answers. ``kind="mean"`` is the mean of the
    *population* of groups, :math:`\int E(y \mid u)\,N(u; 0, G)\,du` by quadrature in every draw;
    its interval says how well that one number is known. ``kind="group"`` is the expected value of
    *one* new group, :math:`E(y \mid u)` with u drawn from N(0, G); its interval covers the spread
    of groups as well. ``kind="outcome"`` is one new observation. For existing groups and the
    average one "mean" and "group" are the same.

    Where residuals are correlated, ``kind="outcome"`` draws those of one subject together. For a
    subject in the fit, rows at other times than those seen are drawn given the residuals that were
    seen, draw by draw (kriging [1]_; h visits after the last one, AR(1) has mean
    :math:`\phi^h e` and variance :math:`\sigma^2(1 - \phi^{2h})`). Rows that the fit has seen are
    drawn as if the whole series were measured anew. "mean" and "group" leave out what residuals
    foretell: they are expected values given the effects.

    A process in the place of correlated residuals (counts, yes/no outcomes), and effects of groups
    that are correlated (`covariances`), belong to the predictor. Times that the fit has not seen of
    a series in it, and groups that a known matrix relates to those in the fit, have effects that
    are normal given those that were seen, in every draw: "mean" averages over what is left, "group"
    and "outcome" draw it, a series at a time. New series are drawn as a whole.

    Parameters
    ----------
    fit : Fit
        The fit.
    newdata : table, optional
        The rows: predictors, groupings, offsets, and numbers of trials (1 where left out). Columns
        that only label groups are not needed for "new" and "average" groups. The rows of the fit
        unless given.
    groups : {"existing", "new", "average"} or mapping of str to these
        Whether a row's group has its own effects, is drawn from the population, or has effects of
        0; for all groupings or by grouping (those not named are existing ones). New groups with
        the same label are the same group, and share what is drawn. With correlated residuals or a
        process the column of whose rows make a series may be named too, grouping or not.
    kind : {"mean", "group", "outcome", "probability"}
        See above; "probability" gives that of every category of an ordinal outcome, averaged over
        new groups as "mean" is.
    seed : int, optional
        Of what is drawn at random: effects of new groups and observations.

    Returns
    -------
    Report
        A row for each row of `newdata`, its columns beside the numbers; ``draws["prediction"]``
        has dims (chain, draw, row), and category for probabilities. Pictures ``"intervals"`` and,
        where rows are lines over a number (of several, the one with the most values by which they
        are), ``"lines"``; ``"categories"`` for probabilities.

    Raises
    ------
    UnknownNameError
        If a column, grouping or choice does not exist.
    DataError
        If a value cannot be used, a group is not in the fit and its effects are asked for,
        nothing is known of the residuals at a visit, or probabilities are asked for of an outcome
        without categories.

    References
    ----------
    Skrondal & Rabe-Hesketh (2009), J. R. Stat. Soc. A 172:659, section 7, tells the three kinds
    apart for generalised linear mixed models.

    .. [1] Cressie (1993), Statistics for Spatial Data, section 3.2; Box & Jenkins (1970).

    Examples
    --------
    >>> import pandas as pd
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> day_ten = pd.DataFrame({"Days": [10]})
    >>> mean = bm.predict(fit, day_ten, groups="new")
    >>> person = bm.predict(fit, day_ten, groups="new", kind="group", seed=1)
    >>> bool(person.table.loc[0, "sd"] > mean.table.loc[0, "sd"])
    True
    """
    lookup(dict.fromkeys(_KINDS), kind, "kind of prediction")
    whose = choices(fit.design, groups)
    rows, given = fit.design, fit.design.table.frame
    if newdata is not None:
        labelled, made = with_labels(fit.design, newdata, whose)
        rows = fit.design.unobserved(labelled)
        given = rows.table.frame.drop(columns=made)
    rows.need_rows("A prediction for the rows of the fit")
    check_can(rows, kind)
    new = asked_for(fit.design, rows, whose)
    series = _series(fit, rows, groups) if kind == "outcome" else None
    rng = generator(seed)
    parts = []
    for piece in runs(fit, len(rows.y) * max(1, len(rows.categories))):
        found = linear_predictor(piece, rows, whose)
        eta = dict(found.centre)
        for each in new if kind in ("group", "outcome") else ():
            eta[each.parameter] = eta[each.parameter] + each.shift(each.draw(piece, rng))
        shape = (piece.posterior.sizes["chain"], piece.posterior.sizes["draw"], len(rows.y))
        drawn = None if series is None else series.draw(piece, eta, rng)
        parts.append(_values(found, eta, kind, shape, rng) if drawn is None else drawn)
    labels = rows.table.frame.index.to_numpy()
    dims = ("chain", "draw", "row", "category")[: parts[0].ndim]
    draws = xr.DataArray(np.concatenate(parts, axis=1), dims=dims, coords={"row": labels})
    if kind == "probability":
        draws = draws.assign_coords(category=list(rows.categories))
    table = beside(given, draws)
    label = named(rows, kind)
    return Report(
        f"Predictions of {fit.spec.response}",
        table,
        draws.to_dataset(name="prediction"),
        f"{label}, for the rows given. {_population(whose, kind)} {_given(fit, series)}"
        f"{_continued(rows, whose, new)}Posterior means and 95 % equal-tailed intervals, row by "
        "row.",
        (*_caveats(fit, rows, whose, kind), *_infinite(draws), *convergence_caveats(fit)),
        ("Skrondal & Rabe-Hesketh (2009), J. R. Stat. Soc. A 172:659-687.",),
        _pictures(rows, draws, table, label),
    )


_KINDS = ("mean", "group", "outcome", "probability")


def _series(fit: Fit, rows: Design, groups: Groups) -> Kriging | None:
    """Whose residuals the rows continue, where these are correlated."""
    if fit.design.series is None:
        return None
    within = fit.design.series.structure.within
    whose = groups if isinstance(groups, str) else groups.get(within, "existing")
    return Kriging.of(fit.design, rows, whose)


def _given(fit: Fit, series: Kriging | None) -> str:
    """What was known of the residuals, as a sentence."""
    if series is None:
        return ""
    count, rows = series.conditional, len(series.rows.y)
    return (
        f"Residuals of one series are drawn together ({fit.spec.residual}): "
        + (f"in {count:,} of {rows:,} rows given those seen at other times" * bool(count))
        + (", " if 0 < count < rows else "")
        + (f"in {rows - count:,} rows as a series of their own" if count < rows else "")
        + ". "
    )


def _continued(rows: Design, whose: Mapping[str, Whose], new: Sequence[Newcomers]) -> str:
    """Which rows have effects that follow from those of other groups, in sentences."""
    found = ""
    for each in new:
        if whose[each.random.name] == "existing":
            what = "the process" if each.random.within else f"effects of {each.random.name}"
            found += (
                f"In {int((each.index >= 0).sum()):,} of {len(rows.y):,} rows {what} was not in "
                "the fit, and is normal given what was seen of others that it is correlated with. "
            )
    return found


def named(rows: Design, kind: str) -> str:
    """What is predicted, in words."""
    name = rows.spec.response
    if kind == "probability":
        return f"Probability of each category of {name}"
    first = "New observation of" if kind == "outcome" else "Expected"
    own = " in the row's own group" if kind == "group" else ""
    if rows.categories:
        last = len(rows.categories) - 1
        codes = f"{rows.categories[0]} = 0 to {rows.categories[-1]} = {last}"
        return f"{first} {name} as a number ({codes}){own}"
    if rows.trials is not None and (rows.trials > 1).any():
        return f"{first} {name}, successes out of the row's trials{own}"
    if kind != "outcome" and (rows.trials is not None or rows.family.support == "0 or 1"):
        return f"Probability of {name}{own}"
    return f"{first} {name}{own}"


def check_can(rows: Design, kind: str) -> None:
    """Refuse what the outcome does not have, or what the rows do not tell.

    Raises
    ------
    DataError
        Saying which.
    """
    if kind == "probability" and not rows.categories:
        raise DataError(
            f"Probabilities of categories are for ordinal outcomes; family {rows.family.name} has "
            'none. For a yes/no outcome kind="mean" is the probability.'
        )
    spec = rows.spec
    if kind == "outcome" and spec.sampling_sd is not None and rows.sampling_sd is None:
        raise DataError(
            f"A new observation varies by its own sampling_sd ({spec.sampling_sd}), which the rows "
            "do not have. Add it, or ask for an expected value in place of an observation."
        )


def _values(
    found: LinearPredictor,
    eta: Mapping[str, Floats],
    kind: str,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Floats:
    """Draws of one kind, shape (chain, draw, row) or (chain, draw, row, category)."""
    design, family = found.design, found.design.family
    if kind == "mean":
        return np.broadcast_to(found.mean(), shape)
    if kind == "group":
        return np.broadcast_to(found.evaluate(family.mean, eta), shape)
    if kind == "outcome":
        return simulated(design, eta, shape, rng)

    def probability(category: int, eta: Mapping[str, Floats]) -> Floats:
        y = np.full(shape[-1], float(category))
        log = family.evaluate(family.loglik, eta, design.links, y=y, **design.known)
        return np.asarray(np.exp(log))

    every = [found.average(partial(probability, k)) for k in range(len(design.categories))]
    return np.stack([np.broadcast_to(p, shape) for p in every], axis=-1)


def simulated(
    rows: Design, eta: Mapping[str, Floats], shape: tuple[int, ...], rng: np.random.Generator
) -> Floats:
    """New observations at linear predictors, every one with chance of its own."""
    family: Family = rows.family
    vectors = {p.name for p in family.parameters if p.support == "ordered"}
    full = {n: v if n in vectors else np.broadcast_to(v, shape) for n, v in eta.items()}
    found = family.evaluate(family.simulate, full, rows.links, rng=rng, **rows.known)
    return np.asarray(found, dtype=np.float64)


def beside(frame: pd.DataFrame, draws: xr.DataArray) -> pd.DataFrame:
    """The rows' own columns beside the numbers."""
    numbers = interval(draws)
    own = frame.rename(columns={c: f"{c} (data)" for c in frame.columns if c in numbers})
    own.index = own.index.set_names("row") if own.index.nlevels == 1 else own.index
    if "category" in draws.dims:
        categories = pd.Index(draws["category"].to_numpy(), name="category")
        at = np.repeat(np.arange(len(own)), len(categories))
        index = pd.MultiIndex.from_arrays(
            [own.index[at], np.tile(categories, len(own))], names=["row", "category"]
        )
        own = own.iloc[at].set_axis(index, axis=0)
    return own.assign(**{name: value.to_numpy().ravel() for name, value in numbers.items()})


def _population(whose: Mapping[str, Whose], kind: str) -> str:
    if not whose:
        return "The model has no groups."
    named = "; ".join(f"{name}: {_WHOSE[choice]}" for name, choice in whose.items())
    if "new" not in whose.values():
        return f"Groups: {named}."
    if kind in ("mean", "probability"):
        return f"Groups: {named}. Averaged over the population of new groups by quadrature."
    return f"Groups: {named}. Effects are drawn from the population, one set for each label."


def _caveats(fit: Fit, rows: Design, whose: Mapping[str, Whose], kind: str) -> tuple[str, ...]:
    found = []
    if kind in ("mean", "probability") and "new" in whose.values():
        found.append(
            "The interval is for the mean of the population of groups. A new group's own mean "
            'spreads more widely (kind="group"), and a new observation more widely still '
            '(kind="outcome").'
        )
    elif kind in ("mean", "group") and rows.family.support != "0 or 1":
        found.append(
            "The interval is for an expected value; a new observation spreads more widely "
            '(kind="outcome").'
        )
    if "average" in whose.values() and fit.spec.link.name != "identity":
        found.append(
            "A group with effects of 0 is the middle one on the link's scale; its expected value "
            'is not the mean of the population of groups (groups="new").'
        )
    return (*found, *beyond_the_data(fit, rows))


def _infinite(draws: xr.DataArray) -> tuple[str, ...]:
    share = float((~np.isfinite(draws)).mean())
    if not share:
        return ()
    return (
        f"The expected value is infinite or does not exist in {share:.2%} of draws and rows, so "
        'neither do means and sds over them. kind="outcome" has quantiles in any case.',
    )


def beyond_the_data(fit: Fit, *tables: Design) -> tuple[str, ...]:
    """A caveat for every predictor that lies outside its range in the fit."""
    own, found = fit.design.table.frame, []
    if fit.design.whole is not None:
        return ()
    for name in sorted(predictor_columns(fit.design) & set(own.columns)):
        if not is_numeric(own[name]):
            continue
        least, most = float(own[name].min()), float(own[name].max())
        values = np.concatenate([t.table.frame[name].to_numpy(dtype=float) for t in tables])
        outside = int(((values < least) | (values > most)).sum())
        if outside:
            found.append(
                f"Extrapolation: {name} lies outside its range in the fit ({least:g} to {most:g}) "
                f"in {outside:,} of {len(values):,} rows."
            )
    return tuple(found)


def _pictures(
    rows: Design, draws: xr.DataArray, table: pd.DataFrame, label: str
) -> dict[str, Picture]:
    if "category" in draws.dims:
        return {"categories": partial(_lines.categories, table, draws, label)}
    trials = () if rows.spec.trials is None else variables(rows.spec.trials)
    numbers = predictor_columns(rows) | set(trials)
    factors = {f for groups in rows.groups for f in groups.grouping.factors}
    # All columns by which predictions differ, which the outcome's own does not.
    frame = table[[c for c in table.columns if c in numbers | factors]]
    lines = _lines.Lines.of(frame, numbers)
    found: dict[str, Picture] = {"intervals": partial(_lines.in_order, table, label)}
    return (
        found if lines is None else {"lines": partial(_lines.bands, table, lines, label), **found}
    )
