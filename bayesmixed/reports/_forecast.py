"""A patient's own future, given the visits so far."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed, lookup
from bayesmixed.data import is_numeric
from bayesmixed.design import Design
from bayesmixed.fit import Fit
from bayesmixed.groups import Groups
from bayesmixed.linpred import linear_predictor
from bayesmixed.newcomers import predictor_columns
from bayesmixed.reports import _lines
from bayesmixed.reports._case import Case, before_now, cases, keys_of
from bayesmixed.reports._predict import (
    beside,
    beyond_the_data,
    check_can,
    named,
)
from bayesmixed.reports._report import Picture, Report, convergence_caveats
from bayesmixed.reports._series import need_whole_series
from bayesmixed.rows import take
from bayesmixed.sample import generator
from bayesmixed.subjects import need_apart, units

type Floats = NDArray[np.float64]
type Index = NDArray[np.intp]
type Kind = Literal["mean", "outcome"]

_KINDS = ("mean", "outcome")


def forecast(
    fit: Fit,
    history: Any,
    future: Any,
    group: str | None = None,
    kind: Kind = "mean",
    over: str | None = None,
    seed: int | None = None,
) -> Report:
    r"""What comes next for patients, given their visits so far.

    A patient who is in the fit has effects of its own. For one who is not, the visits in `history`
    update both the effects, from N(0, G), and the parameters. Draws are from
    :math:`p(\theta, u \mid D, y) \propto p(\theta \mid D)\,N(u; 0, G)\,p(y \mid \theta, u)`,
    as those of a refit with these visits would be. Effects are proposed from their exact normal
    posterior where the outcome is normal, else from a t distribution about their mode, and
    importance weights, smoothed and checked [1]_, make the draws exact. Further visits of a patient
    in the fit are weighed in likewise; rows that the fit has already seen count once.

    With correlated residuals the future continues those of the patient's visits, in the fit and in
    the history (kriging, see `predict`), also in what is expected (``kind="mean"``).

    So it is with a process in the place of residuals (counts, yes/no outcomes), whose values at the
    visits are learnt from them. Its values to come are normal given these; ``kind="mean"`` averages
    over what that leaves, and ``kind="outcome"`` draws a patient's together.

    Groups around the patient that are in the fit keep their effects; those that are not are new
    ones, and learn from all their patients in `history`. Otherwise every patient is forecast from
    the fit and its own visits alone.

    Parameters
    ----------
    fit : Fit
        The fit.
    history : table or None
        Visits so far, with outcomes. None for patients in the fit, or those with no visit yet.
    future : table
        Rows to forecast, without outcomes.
    group : str, optional
        The grouping, or the column of whose rows make a series, that is the patient; the one with
        the most groups unless given.
    kind : {"mean", "outcome"}
        The patient's own expected value, or a new observation.
    over : str, optional
        Column on the horizontal axis; the only number that changes within patients unless given.
    seed : int, optional
        Of what is drawn at random.

    Returns
    -------
    Report
        A row for each row of `future`, its columns beside the numbers; ``visits`` is how many of
        the patient's rows inform it, ``effective_draws`` what the weights leave of the fit's draws.
        ``draws["forecast"]`` has dims (chain, draw, row); ``draws["khat"]`` (row) is the weights'
        diagnostic.

    Raises
    ------
    UnknownNameError
        If a column, grouping or choice does not exist.
    DataError
        If a value cannot be used, a label is written differently from the fit's, or `history` has
        patients without a row in `future`.
    BayesmixedError
        If the model has neither groups nor correlated residuals, or visits cannot be weighed in.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).

    Examples
    --------
    >>> import pandas as pd
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> seen = pd.DataFrame({"Subject": "new", "Days": [0, 1, 2], "Reaction": [250, 270, 285]})
    >>> later = pd.DataFrame({"Subject": "new", "Days": [5, 9]})
    >>> bm.forecast(fit, seen, later, seed=1).table["visits"].to_list()
    [3, 3]
    """
    lookup(dict.fromkeys(_KINDS), kind, "kind of forecast")
    who = _patient(fit.design, group)
    need_apart(fit.design, who, "A forecast", "group")
    if fit.design.series is not None:
        need_whole_series(fit.design, who.index, who.name, "group")
    later = fit.design.unobserved(future)
    check_can(later, kind)
    before, repeated = before_now(fit, history, later)
    rng = generator(seed)
    found = cases(fit, before, later, who, rng)
    samples = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    draws = np.empty((samples, len(later.y)))
    khat, effective = np.empty((2, len(later.y)))
    for case in found:
        draws[:, case.rows] = case.draws(kind, rng)
        khat[case.rows], effective[case.rows] = case.updated.khat, case.updated.effective
    report = xr.Dataset(
        {
            "forecast": (
                ("chain", "draw", "row"),
                draws.reshape(fit.posterior.sizes["chain"], -1, len(later.y)),
            ),
            "khat": ("row", khat),
        },
        {"row": later.table.frame.index.to_numpy()},
    )
    table = beside(later.table.frame, report["forecast"])
    table["visits"] = _visits(fit.design, before, later, who)
    table["effective_draws"] = effective
    label = named(later, kind)
    is_yes_no = later.family.support == "0 or 1"
    return Report(
        f"Forecast by {who.name}",
        table,
        report,
        _caption(label, who, before, later) + _process(fit.design, kind),
        (
            *_caveats(table, khat, who.name, repeated, kind == "mean" and not is_yes_no),
            *beyond_the_data(fit, later),
            *convergence_caveats(fit),
        ),
        (
            "Skrondal & Rabe-Hesketh (2009), J. R. Stat. Soc. A 172:659-687.",
            "Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).",
        ),
        _pictures(fit.design, found, draws, table, who, over, label),
    )


def _patient(design: Design, group: str | None) -> Groups:
    """The grouping that is the patient."""
    every = units(design)
    if not every:
        raise BayesmixedError(
            "Nothing varies between groups in this fit, so visits so far say nothing of a "
            "patient's own future; add (1 | patient) or residual=, or use predict()."
        )
    if group is None:
        times = {r.name for p in design.predictors.values() for r in p.random if r.within}
        free = (g for name, g in every.items() if name not in times)
        return max(free, key=lambda g: len(g.labels))
    return lookup(every, group, "grouping")


def _visits(design: Design, before: Design, later: Design, who: Groups) -> Index:
    """How many rows of each future row's patient inform it."""
    sizes = who.sizes if design.whole is None else design.whole.sizes[who.name]
    in_the_fit = pd.Series(sizes, index=who.labels)
    keys = keys_of(later, who)
    counts = keys_of(before, who).value_counts()
    total = keys.map(in_the_fit).fillna(0).to_numpy() + keys.map(counts).fillna(0).to_numpy()
    return np.asarray(total, dtype=np.intp)


def _caption(label: str, who: Groups, before: Design, later: Design) -> str:
    keys = set(keys_of(later, who))
    known = keys & set(who.labels)
    with_history = (keys - known) & set(keys_of(before, who))
    counts = (
        (len(known), "in the fit, with its own effects"),
        (len(with_history), "not in the fit, with effects updated from its visits"),
        (len(keys - known - with_history), "without any visit, drawn from the population"),
    )
    said = "; ".join(f"{n:,} {what}" for n, what in counts if n)
    return (
        f"{label}, of each {who.name} in the rows given, given the visits so far ({said}). "
        "Uncertainty of parameters and of effects is included. Posterior means and 95 % "
        "equal-tailed intervals, row by row."
    )


def _process(design: Design, kind: Kind) -> str:
    """What is done with a process, or with effects of times, where there is no visit."""
    every = (r for p in design.predictors.values() for r in p.random if r.within)
    names = dict.fromkeys(
        "the process" if r.is_process else f"the value of {r.name}" for r in every
    )
    if not names:
        return ""
    how = "averaged over" if kind == "mean" else "drawn together"
    return (
        f" At times without a visit {' and '.join(names)}, normal given those of all visits so "
        f"far, {'are' if len(names) > 1 else 'is'} {how}."
    )


def _caveats(
    table: pd.DataFrame, khat: Floats, name: str, repeated: int, is_spread: bool
) -> tuple[str, ...]:
    found = []
    if is_spread:
        found.append(
            "The interval is for the expected value; a new observation spreads more widely "
            '(kind="outcome").'
        )
    found.append(
        f"Conditional on being seen then: drop-out and death of a {name} are not in the model."
    )
    bad = khat > 0.7
    if bad.any():
        found.append(
            "The visits so far are too surprising for the fit's draws to stand for what they imply "
            f"(Pareto k up to {khat.max():.2f}, above 0.7) in row {listed(table.index[bad], 5)}; "
            "refit with these visits."
        )
    few = ~bad & (table["effective_draws"].to_numpy() < 100)
    if few.any():
        found.append(
            f"Few effective draws ({table['effective_draws'].min():.0f}) stand behind row "
            f"{listed(table.index[few], 5)}; fit with more draws, or refit with these visits."
        )
    if repeated:
        found.append(f"{repeated:,} rows of the history are in the fit already and count once.")
    return tuple(found)


def _pictures(
    design: Design,
    found: Sequence[Case],
    draws: Floats,
    table: pd.DataFrame,
    who: Groups,
    over: str | None,
    label: str,
) -> dict[str, Picture]:
    """A fan for every patient, and intervals in order."""
    ordered: dict[str, Picture] = {"intervals": partial(_lines.in_order, table, label)}
    axis = _axis(design, found, who, over)
    if axis is None:
        return ordered
    fans: dict[str, Picture] = {}
    for case in found:
        for key in keys_of(case.later, who).unique():
            fans[str(key)] = partial(_fan, case, draws[:, case.rows], who, key, axis, label)
    return {**fans, **ordered}


def _axis(design: Design, found: Sequence[Case], who: Groups, over: str | None) -> str | None:
    """The one number that changes within patients, unless named."""
    tables = [d for case in found for d in (*case.past, case.later)]
    frame = pd.concat([d.table.frame for d in tables], ignore_index=True)
    patient = pd.concat([keys_of(d, who) for d in tables], ignore_index=True)
    columns = sorted(predictor_columns(design) | set(design.spec.series))
    numbers = [n for n in columns if n in frame and is_numeric(frame[n])]
    if over is not None:
        return lookup({n: n for n in numbers}, over, "numeric predictor")
    changing = [n for n in numbers if frame[n].groupby(patient).nunique().max() > 1]
    return changing[0] if len(changing) == 1 else None


def _fan(
    case: Case, draws: Floats, who: Groups, key: Any, over: str, label: str, ax: Axes | None
) -> Axes:
    """One patient's past and future, with the line of the population."""
    x, y, own, population = [], [], [], []
    for rows, new in zip((*case.past, case.later), case.new, strict=True):
        at = np.flatnonzero((keys_of(rows, who) == key).to_numpy())
        x.append(rows.table.frame[over].to_numpy(dtype=float)[at])
        # Where probabilities are forecast, the past is shown as proportions too.
        is_one = case.later.trials is not None and bool(np.all(case.later.trials == 1))
        size = rows.trials[at] if rows.trials is not None and is_one else 1.0
        y.append(rows.y[at] / size)
        own.append(case.mean(rows, new)[:, at].mean(axis=0) / size)
        if len(at):
            # It may be infinite: a lognormal outcome whose sigma varies between groups.
            with np.errstate(over="ignore", invalid="ignore"):
                found = linear_predictor(case.fit, take(rows, at), "new").mean()
                population.append(found.mean(axis=(0, 1)) / size)
    every = np.concatenate(x)
    order = np.argsort(every, kind="stable")
    lines = [
        ("population mean", every[order], np.concatenate(population)[order]),
        (f"{who.name} {key}: expected value", every[order], np.concatenate(own)[order]),
    ]
    past = np.concatenate(x[:2]), np.concatenate(y[:2])
    coming = np.argsort(x[2], kind="stable")
    return _lines.fan(x[2][coming], draws[:, at][:, coming], label, over, past, lines, ax)
