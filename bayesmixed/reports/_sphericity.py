"""Classical repeated-measures analysis of variance beside a model, and what sphericity assumes."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.fit import Fit
from bayesmixed.places import Places
from bayesmixed.plots import BLUE, GREY, ORANGE
from bayesmixed.reports._curve import histogram
from bayesmixed.reports._repeated_anova import RepeatedAnova, epsilon
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.series import Series
from bayesmixed.subjects import Normal, units, within

type Floats = NDArray[np.float64]
type Row = dict[str, float]

_MOST_VISITS = 12
_COLUMNS = ["mean", "sd", "eti95_lb", "eti95_ub", "classical", "se", "F", "df1", "df2", "p"]


def sphericity(fit: Fit, between: str | None = None) -> Report:
    r"""Classical repeated-measures analysis of variance beside the model.

    The classical tests take all differences between two visits to have one variance (sphericity),
    or correct for it by Greenhouse and Geisser's or Huynh and Feldt's epsilon. Shown beside them is
    what the model says of the same subjects: :math:`\epsilon = \mathrm{tr}(C'VC)^2 / \{(m-1)
    \mathrm{tr}(C'VCC'VC)\}` of the fitted covariance V (with the effects of groups inside the
    subjects), 1 under sphericity; the sd of every difference between two visits; and the mean
    differences themselves.

    Parameters
    ----------
    fit : Fit
        A fit with ``residual=`` and at most 12 visits.
    between : str, optional
        A factor between subjects, such as the arm; adds its interaction with the visits. Sums of
        squares are sequential, as those of R's ``anova``: visits at the subjects' mean.

    Returns
    -------
    Report
        Rows (part, what). ``test``: ``F``, ``df1``, ``df2`` and ``p``, uncorrected and corrected;
        ``Mauchly's W``; ``epsilon``; ``sd of a difference`` by pair, with what sphericity takes
        for all of them in ``classical``; ``difference`` by pair, with the classical mean and its
        standard error from the pooled error. Draws ``epsilon``, ``sd`` and ``difference`` (pair).
        Pictures ``sd`` and ``epsilon``.

    Raises
    ------
    UnknownNameError
        If the factor is not a column of the model.
    BayesmixedError
        If there is no residual structure, visits are too many, or subjects too few.

    References
    ----------
    .. [1] Box (1954), Ann. Math. Stat. 25:484.
    .. [2] Greenhouse & Geisser (1959), Psychometrika 24:95.
    .. [3] Huynh & Feldt (1976), J. Educ. Stat. 1:69; Lecoutre (1991), J. Educ. Stat. 16:371.
    .. [4] Mauchly (1940), Ann. Math. Stat. 11:204.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("orthodont")
    >>> residual = bm.Unstructured(time="age", within="Subject")
    >>> fit = bm.Model(
    ...     "distance ~ factor(age) * Sex", data, residual=residual
    ... ).fit()  # doctest: +SKIP
    >>> bm.sphericity(fit, between="Sex")  # doctest: +SKIP
    """
    series = _series(fit)
    subject, time = series.structure.within, series.structure.columns[0]
    places = Places.of(series, fit.design.table.frame)
    rows = _complete(places, series.size)
    groups = _groups(fit, rows, between)
    anova = RepeatedAnova(fit.design.y[rows], groups)
    if anova.degrees < series.size:
        raise BayesmixedError(
            f"Only {len(rows)} values of {subject} have all {series.size} visits; classical tests "
            "need more of them. The model's own reports use every row."
        )
    labels = [str(v) for v in series.labels["visit"]]
    V, mean = _model(fit, places, rows)
    draws = _draws(fit, V, mean, labels)
    parts = {
        "test": _tests(anova, time, between),
        "Mauchly's W": _mauchly(anova),
        "epsilon": _epsilons(anova, draws),
        "sd of a difference": _pairs(draws["sd"], None, anova),
        "difference": _pairs(draws["difference"], anova.y.mean(axis=0), anova),
    }
    table = pd.concat({n: pd.DataFrame(p).T for n, p in parts.items()}, names=["part", "what"])
    spreads = pd.DataFrame(table.loc["sd of a difference"])
    left = len(units(fit.design)[subject].labels) - len(rows)
    return Report(
        f"Repeated measurements of {fit.spec.response} and sphericity",
        table.reindex(columns=_COLUMNS).astype(float),
        draws,
        f"Classical tests on the {len(rows)} values of {subject} with all {series.size} visits "
        f"({left} others left out), and what the model, fitted to all rows, says of the same "
        "subjects. Sphericity: all differences between two visits have the sd in the column "
        "classical; epsilon is 1 then, and at least "
        f"{1 / (series.size - 1):.2g}. Model: posterior means and 95 % equal-tailed intervals.",
        (
            *(
                ["The classical tests leave out subjects that miss a visit, which is right only "
                 "where missing does not depend on outcomes; the model needs less."]
                if left else []
            ),
            "In small samples Greenhouse and Geisser's epsilon is biased downwards, and Mauchly's "
            "test has little power.",
            "The model's covariance is that of what its predictors leave; the classical one takes "
            "out means by visit and group alone.",
            *convergence_caveats(fit),
        ),
        (
            "Greenhouse & Geisser (1959), Psychometrika 24:95-112.",
            "Huynh & Feldt (1976), J. Educational Statistics 1:69-82; Lecoutre (1991) 16:371.",
            "Mauchly (1940), Annals of Mathematical Statistics 11:204-209.",
        ),
        {
            "sd": partial(_picture_sd, spreads, fit.spec.response),
            "epsilon": partial(_picture_epsilon, draws["epsilon"].to_numpy().ravel(), anova),
        },
    )  # fmt: skip


def _series(fit: Fit) -> Series:
    """Visits of one outcome, as many as sphericity is a matter of."""
    series = fit.design.series
    if series is None:
        raise BayesmixedError(
            "This report compares the covariance of visits with sphericity; fit the model with "
            'residual=, such as bm.Unstructured(time="visit", within="patient").'
        )
    if len(series.axes) > 1:
        raise BayesmixedError(
            f"Sphericity is of one outcome over time, and {series.structure} goes over "
            f"{' and '.join(axis.name for axis in series.axes)}. Fit one outcome at a time."
        )
    if not 2 < series.size <= _MOST_VISITS:
        raise BayesmixedError(
            f"There are {series.size} visits; sphericity is a matter of 3 to {_MOST_VISITS}."
        )
    return series


def _complete(places: Places, size: int) -> NDArray[np.intp]:
    """Rows of the subjects with all visits, shape (subjects, visits), in order of time."""
    order = np.lexsort((*places.times.T[::-1], places.who))
    counts = np.bincount(places.who)
    return np.asarray(order[(counts == size)[places.who[order]]].reshape(-1, size))


def _groups(fit: Fit, rows: NDArray[np.intp], between: str | None) -> NDArray[np.intp]:
    if between is None or not len(rows):
        return np.zeros(len(rows), dtype=np.intp)
    frame = fit.design.table.frame
    lookup({c: c for c in frame.columns}, between, "column of the model")
    codes = pd.factorize(frame[between].iloc[rows.ravel()])[0].reshape(rows.shape)
    if (codes != codes[:, :1]).any() or codes.max() < 1:
        raise BayesmixedError(f"{between} must have two values or more, one in each subject.")
    return np.asarray(codes[:, 0])


def _model(fit: Fit, places: Places, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Covariance of the visits and their means, averaged over the subjects, draws first."""
    covariances, means = [], []
    chains = fit.posterior.sizes["chain"]
    for piece in fit.pieces():
        normal = Normal(piece, fit.design, places, within(fit.design, places.who))
        alike: dict[bytes, list[int]] = {}
        for k, mine in enumerate(rows):
            alike.setdefault(normal.key(mine), []).append(k)
        V = sum(len(m) / len(rows) * normal.covariance(rows[m[0]]) for m in alike.values())
        mean = normal.mean[:, rows].mean(axis=1)
        covariances.append(np.asarray(V).reshape((chains, -1, *np.shape(V)[1:])))
        means.append(mean.reshape((chains, -1, mean.shape[-1])))
    return np.concatenate(covariances, axis=1), np.concatenate(means, axis=1)


def _draws(fit: Fit, V: Floats, mean: Floats, labels: list[str]) -> xr.Dataset:
    pairs = list(combinations(range(len(labels)), 2))
    i, j = np.array(pairs).T
    variance = V[..., i, i] + V[..., j, j] - 2 * V[..., i, j]
    dims = ("chain", "draw", "pair")
    return xr.Dataset(
        {
            "epsilon": (("chain", "draw"), epsilon(V)),
            "sd": (dims, np.sqrt(variance)),
            "difference": (dims, mean[..., j] - mean[..., i]),
        },
        coords={"pair": [f"{labels[b]} vs {labels[a]}" for a, b in pairs]},
    )


def _tests(anova: RepeatedAnova, time: str, between: str | None) -> dict[str, Row]:
    found = {}
    corrections = {
        "uncorrected": 1.0,
        "Greenhouse-Geisser": anova.greenhouse_geisser,
        "Huynh-Feldt": anova.huynh_feldt,
    }
    effects = {time: False} | ({} if between is None else {f"{time}:{between}": True})
    for effect, is_between in effects.items():
        for name, by in corrections.items():
            numbers = anova.test(is_between, by)
            found[f"{effect}, {name}"] = dict(zip(("F", "df1", "df2", "p"), numbers, strict=True))
    return found


def _mauchly(anova: RepeatedAnova) -> dict[str, Row]:
    W, p = anova.mauchly
    return {"": {"classical": W, "p": p}}


def _epsilons(anova: RepeatedAnova, draws: xr.Dataset) -> dict[str, Row]:
    model = {name: float(v) for name, v in interval(draws["epsilon"]).items()}
    return {
        "model": model,
        "Greenhouse-Geisser": {"classical": anova.greenhouse_geisser},
        "Huynh-Feldt": {"classical": anova.huynh_feldt},
    }


def _pairs(draws: xr.DataArray, means: Floats | None, anova: RepeatedAnova) -> dict[str, Row]:
    """By pair the model's posterior beside the classical value; sds where there are no means."""
    frame = xr.Dataset(interval(draws)).to_dataframe()
    pairs = combinations(range(anova.y.shape[1]), 2)
    pooled = (2 * anova.error) ** 0.5
    found: dict[str, Row] = {}
    for (a, b), (name, numbers) in zip(pairs, frame.iterrows(), strict=True):
        row: Any = dict(numbers)
        if means is None:
            row["classical"] = pooled
        else:
            row |= {"classical": means[b] - means[a], "se": pooled / len(anova.y) ** 0.5}
        found[str(name)] = row
    return found


def _picture_sd(table: pd.DataFrame, response: str, ax: Axes | None) -> Axes:
    """The sd of every difference beside the one that sphericity takes for all."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 0.32 * len(table) + 1.6), layout="constrained")
    at = np.arange(len(table))[::-1]
    ax.axvline(table["classical"].iloc[0], color=ORANGE, linestyle="--", label="under sphericity")
    ax.hlines(at, table["eti95_lb"], table["eti95_ub"], color=BLUE, linewidth=1.8)
    ax.scatter(table["mean"], at, color=BLUE, zorder=3, label="model, 95 % interval")
    ax.set_yticks(at, [str(name) for name in table.index])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel(f"sd of a subject's difference in {response}")
    ax.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _picture_epsilon(values: Floats, anova: RepeatedAnova, ax: Axes | None) -> Axes:
    """Posterior of epsilon with the classical estimates and the bounds."""
    ax = histogram(values, "epsilon (1: sphericity)", ax)
    for value, style, name in (
        (anova.greenhouse_geisser, ":", "Greenhouse-Geisser"),
        (anova.huynh_feldt, "-.", "Huynh-Feldt"),
    ):
        ax.axvline(value, color=ORANGE, linestyle=style, label=name)
    for bound in (1 / anova.p, 1.0):
        ax.axvline(bound, color=GREY, linewidth=0.8)
    ax.legend(fontsize=8, framealpha=0.9)
    return ax
