"""What sampling in clusters costs: the design effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import inf
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.compress import unique_rows
from bayesmixed.fit import Fit
from bayesmixed.group_likelihood import INSTEAD, need_independent
from bayesmixed.groups import Groups, parents
from bayesmixed.linpred import random_of
from bayesmixed.reports._average_row import AverageRow, average_row
from bayesmixed.reports._curve import histogram
from bayesmixed.reports._icc import correlations, overdispersed_trials, shared_levels, where
from bayesmixed.reports._latent import is_own_scale
from bayesmixed.reports._process_effect import process_effect
from bayesmixed.reports._report import Report, convergence_caveats, interval
from bayesmixed.reports._series import mean_variance, need_whole_series
from bayesmixed.spec import Grouping
from bayesmixed.subjects import units as units_of

type Floats = NDArray[np.float64]

_DIMS = ("chain", "draw")


def design_effect(
    fit: Fit,
    level: str | None = None,
    cluster_size: float | None = None,
    cv: float = 0.0,
    at: Any = None,
) -> Report:
    r"""How many times the variance of a mean grows because outcomes come in clusters.

    For clusters of the sizes :math:`n_j` in the data it is
    :math:`1 + (\sum n_j^2/\sum n_j - 1)\,\rho` [1]_; for a planned mean size m with coefficient
    of variation c, :math:`1 + ((1 + c^2) m - 1)\,\rho` [2]_. The intraclass correlation
    :math:`\rho` is that of `icc` on the response scale, because the mean is one of outcomes.

    Where residuals are correlated it is that of the rows in the data,
    :math:`1'V1 / \mathrm{tr}\,V` with :math:`V` their covariance given the predictors: the
    variance of their mean over that of as many independent rows with the same variances. For one
    AR(1) series of n it is :math:`1 + 2\sum_{k<n} (1 - k/n)\,\phi^k` [3]_. A process in the
    predictor of counts and yes/no outcomes counts likewise, for rows at the average of their
    predictors; covariances of outcomes come from those of predictors by Hermite polynomials [4]_.

    Parameters
    ----------
    fit : Fit
        A fit with at least one grouping, or correlated residuals.
    level : str, optional
        The grouping whose groups are the clusters, or the column of whose rows make a series.
        Left out where there are several, the design effect is that of all of them: every pair
        of rows in the data has the correlation of what it shares.
    cluster_size : float, optional
        Planned mean number of rows (or of trials) in a cluster; the sizes in the data unless
        given.
    cv : float
        Standard deviation over mean of the planned sizes.
    at : mapping or table, optional
        One value for some predictors, as for `icc`.

    Returns
    -------
    Report
        Rows ``icc`` (of one grouping), ``design_effect``, ``se_inflation`` (its square root) and
        ``effective_sample_size``, which is for the data, or for one planned cluster.

    Raises
    ------
    BayesmixedError
        If nothing varies between groups, no grouping is named for a planned size though there are
        several, a size is not possible, or one is planned though residuals are correlated.
    UnknownNameError
        If there is no such grouping.

    References
    ----------
    .. [1] Kish (1965), Survey Sampling, section 8.2.
    .. [2] Eldridge, Ashby & Kerry (2006), Int. J. Epidemiol. 35:1292.
    .. [3] Bayley & Hammersley (1946), Suppl. J. R. Stat. Soc. 8:184.
    .. [4] Liu & Der Kiureghian (1986), Probabilistic Eng. Mech. 1:105.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("medpar")
    >>> formula = "died ~ age80 + factor(type) + (1 | provnum)"
    >>> fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    >>> report = bm.design_effect(fit)
    >>> list(report.table.index)
    ['icc', 'design_effect', 'se_inflation', 'effective_sample_size']
    >>> planned = bm.design_effect(fit, cluster_size=30)
    """
    if fit.spec.process is not None and len(fit.spec.covariances) == 1:
        return _of_process(fit, level, cluster_size is not None or bool(cv) or at is not None)
    fit.design.need_unrelated("A design effect")
    if fit.design.series is not None:
        return _of_series(fit, level, cluster_size is not None or bool(cv) or at is not None)
    rows = one_row(fit, at)
    levels = shared_levels(fit)
    if level is None and cluster_size is None and len(levels) > 1:
        return _report(fit, rows, _of_all_groupings(fit, rows, tuple(levels), cv), None)
    name = random_of(fit, level).name
    rho = correlations(rows, {name: levels[name]})[..., 0, 0]
    unit = units(fit)
    if cluster_size is None:
        _need_plan(cv)
        sizes = _sizes(fit, [name])
        mean_size, cv = float(sizes.mean()), float(sizes.std() / sizes.mean())
        count, low, high = (float(f(sizes)) for f in (np.sum, np.min, np.max))
        words = f"the {count:,.0f} {unit} in the data, in {len(sizes):,} groups of {name} of " + (
            f"{low:g} to {high:g} (mean {mean_size:.4g})" if low < high else f"{low:g} each"
        )
    else:
        mean_size = count = checked_size(cluster_size, cv)
        spread = f" (coefficient of variation {cv:g})" if cv else ""
        words = f"a planned cluster of {mean_size:g} {unit}{spread}, one group of {name}"
    clusters = _Clusters(f"of clustering by {name}", words, count, kish(rho, mean_size, cv), rho)
    return _report(fit, rows, clusters, name)


@dataclass(frozen=True)
class _Clusters:
    """Some clusters: in words, their number of observations, their design effect and ICC."""

    title: str
    words: str
    count: float
    effect: Floats
    rho: Floats | None = None


def _of_series(fit: Fit, level: str | None, asked: bool) -> Report:
    """The mean of the rows in the data, whose residuals are correlated by the time between them."""
    design = fit.design
    assert design.series is not None
    design.need_rows("A design effect of correlated residuals")
    if not is_own_scale(design):
        need_independent(design, f"A design effect on the {fit.spec.link.name} link", INSTEAD)
    if asked:
        raise BayesmixedError(
            f"Residuals are correlated ({fit.spec.residual}), by when rows were measured, so a "
            "design effect is that of the rows in the data: leave out cluster_size, cv and at."
        )
    index = np.zeros(len(design.y), dtype=np.intp)
    words = f"the {len(index):,} rows in the data"
    if level is not None:
        groups = lookup(units_of(design), level, "grouping or series")
        index = groups.index
        need_whole_series(design, index, level, "level")
        words += f", in {len(groups.labels):,} groups of {level}"
    parts = [mean_variance(piece, index) for piece in fit.pieces()]
    pairs, alone = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    clusters = _Clusters(
        f"of correlated residuals, {fit.spec.residual}", words, float(len(index)), pairs / alone
    )
    return _table(
        fit,
        clusters,
        "Two rows are correlated by the effects of the groups that they share and, in one "
        f"{design.series.structure.within}, by their residuals.",
        (
            "It is for the plain mean of the outcomes; the model weighs rows by their covariance, "
            "and a comparison within series may gain from it.",
            *(
                (f"Rows of different groups of {level} are taken as independent.",)
                if level is not None
                else ()
            ),
        ),
    )


def _of_process(fit: Fit, level: str | None, asked: bool) -> Report:
    """The mean of the rows in the data, whose predictors are correlated by the time between."""
    design, structure = fit.design, fit.spec.process
    assert structure is not None
    first = design.predictors[_first(fit)]
    process = next(r for r in first.random if r.is_process)
    mixed = [p for p in design.predictors.values() if p is not first and p.random]
    counted = design.trials is not None and bool((design.trials > 1).any())
    if mixed or counted or len(process.groups.labels) < len(design.y):
        raise BayesmixedError(
            f"With a process ({structure}) a design effect is for one row of one trial at a time, "
            "and effects of groups on the mean alone. r2(fit) and icc(fit) say what they explain."
        )
    if asked:
        raise BayesmixedError(
            f"Rows are correlated by when they were measured ({structure}), so a design effect is "
            "that of the rows in the data: leave out cluster_size, cv and at."
        )
    index = np.zeros(len(design.y), dtype=np.intp)
    words = f"the {len(index):,} rows in the data"
    if level is not None:
        units = {g.name: g for g in design.groups if not g.grouping.is_process}
        series = Groups.of(Grouping((structure.within,)), design.table.frame)
        groups = lookup({series.name: series} | units, level, "grouping or series")
        if parents(series.index, groups.index) is None:
            raise BayesmixedError(
                f"The series of one {series.name} lie in several groups of {level!r}; use "
                f'level="{series.name}".'
            )
        index = groups.index
        words += f", in {len(groups.labels):,} groups of {level}"
    rows = average_row(fit)
    effect = process_effect(fit, rows, process, index)
    clusters = _Clusters(f"of a process, {structure}", words, float(len(index)), effect)
    return _table(
        fit,
        clusters,
        "Two rows, at the average of their predictors, are correlated by the effects of the groups "
        f"that they share and, in one {structure.within}, by the process.",
        (
            "It is for the plain mean of the outcomes; the model weighs rows by their covariance, "
            "and a comparison within series may gain from it.",
        ),
    )


def _report(fit: Fit, rows: AverageRow, clusters: _Clusters, name: str | None) -> Report:
    return _table(
        fit,
        clusters,
        "Groups are drawn from the population, and the correlation of two outcomes (response "
        f"scale) is that of rows with the same predictors{where(rows)}.",
        cluster_caveats(fit, rows, name),
    )


def _table(fit: Fit, clusters: _Clusters, correlated: str, caveats: tuple[str, ...]) -> Report:
    quantities = {} if clusters.rho is None else {"icc": clusters.rho}
    quantities |= {
        "design_effect": clusters.effect,
        "se_inflation": np.sqrt(clusters.effect),
        "effective_sample_size": clusters.count / clusters.effect,
    }
    draws = xr.Dataset({n: (_DIMS, values) for n, values in quantities.items()})
    table = pd.DataFrame(
        {n: {k: float(v) for k, v in interval(d).items()} for n, d in draws.data_vars.items()}
    ).T.rename_axis("quantity")
    return Report(
        f"Design effect {clusters.title}",
        table,
        draws,
        f"Variance of the mean outcome of {clusters.words}, over that of as many independent "
        f"{units(fit)} (design_effect); its square root, by which standard errors grow "
        "(se_inflation); and how many independent ones they are worth (effective_sample_size). "
        f"{correlated} Posterior means and 95 % equal-tailed intervals.",
        (*caveats, *convergence_caveats(fit)),
        (
            "Kish (1965), Survey Sampling. Wiley.",
            "Eldridge, Ashby & Kerry (2006), International Journal of Epidemiology 35:1292-1300.",
        ),
        {"histogram": partial(_histogram, draws["design_effect"])},
    )


def _of_all_groupings(fit: Fit, rows: AverageRow, names: tuple[str, ...], cv: float) -> _Clusters:
    """The rows in the data, each pair with the correlation of what it shares.

    The variance of a mean of N is that of one observation over N, times the mean over the
    observations of the sum of their correlations with all of them.
    """
    _need_plan(cv)
    count = float(_sizes(fit, []).sum())
    # Ordered pairs, an observation with itself among them, that share at least some groupings.
    least = {
        frozenset(some): float((_sizes(fit, some) ** 2).sum())
        for k in range(1, len(names) + 1)
        for some in combinations(names, k)
    }
    total = rows.outcome_variance()
    effect = np.ones(total.shape[:2])
    for some in least:
        # By inclusion and exclusion those that share these and no others.
        exactly = sum(
            (-1) ** (len(more) - len(some)) * n for more, n in least.items() if some <= more
        )
        pairs = exactly - count * (len(some) == len(names))
        if pairs:
            shared = {n for name in some for n in shared_levels(fit)[name]}
            effect = effect + pairs / count * (rows.shared(shared) / total)[..., 0]
    words = f"the {count:,.0f} {units(fit)} in the data, with what any two of them share of "
    return _Clusters("of all groupings", words + " and ".join(names), count, effect)


def kish(rho: Any, size: float, cv: float = 0.0) -> Any:
    """Design effect of clusters of a mean size whose coefficient of variation is `cv`.

    With the sizes' own cv (dividing by their number) this is Kish's, by the ratio of the sum of
    the squared sizes to the sum of the sizes.
    """
    return 1 + ((1 + cv**2) * size - 1) * rho


def one_row(fit: Fit, at: Any) -> AverageRow:
    """The average row, for one value of the predictors that are given any.

    Raises
    ------
    BayesmixedError
        If several are given, or residuals are correlated.
    """
    need_independent(fit.design, "A design effect", "Use icc(fit) for what groups share.")
    rows = average_row(fit, at)
    if len(rows.values) > 1:
        raise BayesmixedError("Give one value for each predictor in `at`, not several.")
    return rows


def units(fit: Fit) -> str:
    """What an observation is called."""
    return "trials" if fit.design.family.has_trials else "rows"


def _need_plan(cv: float) -> None:
    if cv:
        raise BayesmixedError("cv is for planned clusters; give their mean cluster_size too.")


def _sizes(fit: Fit, names: Sequence[str]) -> Floats:
    """Observations in each group, or in each combination of the groups of several groupings."""
    design = fit.design
    columns = [g.groups.index for g in design.predictors[_first(fit)].random if g.name in names]
    index = unique_rows(columns, len(design.y)).index
    return np.bincount(index, weights=design.trials).astype(np.float64)


def _first(fit: Fit) -> str:
    return fit.design.family.parameters[0].name


def checked_size(size: float, cv: float) -> float:
    """A planned mean size, once it and the sizes' coefficient of variation are possible ones."""
    if not (isinstance(size, Real) and 1 <= size < inf):
        raise BayesmixedError(f"cluster_size must be a number of 1 or more, not {size!r}.")
    if not (isinstance(cv, Real) and 0 <= cv < inf):
        raise BayesmixedError(
            f"cv, the sizes' standard deviation over their mean, must be 0 or more, not {cv!r}."
        )
    return float(size)


def cluster_caveats(fit: Fit, rows: AverageRow, name: str | None) -> tuple[str, ...]:
    """When a design effect, of one grouping or of all of them, misleads."""
    levels = shared_levels(fit)
    found = []
    if name is not None:
        inner = [n for n, shared in levels.items() if name in shared and n != name]
        outer = [n for n in levels[name] if n != name]
        others = [n for n in levels if n not in (name, *inner, *outer)]
        if inner:
            found.append(
                f"Taken to be in different groups of {' and '.join(inner)}: {units(fit)} of the "
                "same one are correlated more, and the design effect of a sample with several "
                "of them is larger."
            )
        if outer:
            found.append(f"Clusters are taken to be in different groups of {' and '.join(outer)}.")
        if others:
            found.append(f"What is shared of {' and '.join(others)} is left out.")
    if overdispersed_trials(rows):
        found.append(
            "Trials of the same row are correlated by more than their groups' effects; that is "
            "left out."
        )
    found.append(
        "It is for a mean, or a comparison of clusters; a comparison within clusters may gain "
        "from them."
    )
    return tuple(found)


def _histogram(draws: xr.DataArray, ax: Axes | None) -> Axes:
    return histogram(draws.to_numpy().ravel(), "design effect", ax)
