"""Correlation of measurements in a series over time, fitted beside observed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.fit import Fit
from bayesmixed.reports._correlation_pictures import (
    correlogram,
    matrix,
    semivariogram,
    squares,
)
from bayesmixed.reports._lags import (
    LAG,
    Pairs,
    Rows,
    by_lag,
    fitted,
    levels_of,
    pairs_of,
    residuals_of,
    rows_of,
    subject_of,
    times_of,
)
from bayesmixed.reports._process_correlation import process_correlation
from bayesmixed.reports._report import Picture, Report, convergence_caveats, interval
from bayesmixed.series import Series
from bayesmixed.structure import dim_of

type Floats = NDArray[np.float64]

_MOST_CELLS = 24


def residual_correlation(fit: Fit) -> Report:
    r"""Residual correlations between visits, or by lag where there are many visits.

    The fitted correlation is that of the model's structure, in every draw. The observed one is of
    the residuals :math:`y - \hat\eta` (with the groups' own effects) at posterior means, over
    :math:`\hat\sigma`: Pearson's, for two visits over the series that have both, for a lag over
    all such pairs.

    Of a `Product` each factor is shown by itself, from pairs that differ in nothing else: two
    outcomes at the same visit, two visits of the same outcome.

    A process in the place of residuals (counts, yes/no outcomes) is not seen. Beside its
    correlation stands that of Pearson residuals :math:`(y - m)/\sqrt V`, with m and V given all but
    the process: as observed, and as expected of outcomes drawn from the model, both with the
    parameters and effects of a draw [2]_. These two can be compared; they are nearer 0 than the
    process's own, because outcomes vary by themselves as well.

    Parameters
    ----------
    fit : Fit
        A fit with ``residual=``.

    Returns
    -------
    Report
        Rows (arm, visit, other) or, beyond 12 visits and for places in space, (arm, lag): fitted
        mean, sd and interval, ``observed``, and the number of ``pairs`` that it is from. Of a
        product rows (arm, factor, visit, other), where ``visit`` is ``"lag"`` beyond 12 visits.
        Pictures: ``matrix`` (up to 12 visits; above the diagonal observed, below fitted), of a
        product one for each factor, by its column, and ``cells`` (up to 24 pairs of an outcome
        and a visit), where an observed pattern that is no product shows; with ``by=`` one of each
        for each arm, such as ``matrix drug``; ``correlogram`` and
        ``semivariogram`` (half the mean square of the difference of two standardised residuals by
        their distance, over the fitted 1 - correlation), which is the clearer one where times are
        irregular, of a product over its second factor.

        Of a process mean, sd and interval are of its own correlation; ``expected`` with the limits
        of 95 % of replicates and ``p``, the share of draws in which the model's is above the
        observed one, stand beside ``observed``. ``matrix`` has the process alone, with posterior
        sds above the diagonal and its sds on it; ``residuals`` observed above and expected below;
        ``correlogram`` and ``semivariogram`` observed over expected, with the band of replicates.

    Raises
    ------
    BayesmixedError
        If the fit has no residual structure.

    References
    ----------
    .. [1] Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, 2nd ed., ch. 3.
    .. [2] Gelman, Meng & Stern (1996), Statistica Sinica 6:733.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("orthodont")
    >>> ar1 = bm.AR1(time="age", within="Subject")
    >>> model = bm.Model("distance ~ age * Sex", data, residual=ar1)
    >>> fit = model.fit(draws=500, tune=500, chains=2, seed=1)
    >>> report = bm.residual_correlation(fit)
    >>> len(report.table)
    6
    """
    series = fit.design.series
    if series is None:
        if fit.spec.process is not None:
            return process_correlation(fit)
        if fit.spec.covariances:
            raise BayesmixedError(
                f"In this model effects are correlated ({listed(fit.spec.covariances)}), and not "
                "residuals, so nothing is observed that could stand beside their correlations. "
                "summary() has the parameters of these."
            )
        raise BayesmixedError(
            "This model's residuals are independent given the effects of its groups. Fit it with "
            'residual=, such as bm.AR1(time="visit", within="patient").'
        )
    times = times_of(series)
    pairs = pairs_of(series, times, residuals_of(fit))
    rows = rows_of(series, times)
    last = max(k for k, axis in enumerate(series.axes) if axis.size > 1)
    lags: Rows = {(LAG, *key): where for key, where in by_lag(series, times, last).items()}
    draws, mean = fitted(fit, series, times, rows | lags)
    curves = {key: draws[key] for key in lags}
    over = series, series.axes[last], lags
    labelled = {key: xr.DataArray(draws[key], dims=("chain", "draw")) for key in rows}
    table = {
        key: {
            **{k: float(v) for k, v in interval(labelled[key]).items()},
            "observed": pairs.correlation(arm, at),
            "pairs": int(pairs.counts[arm][at].sum()),
        }
        for key, (arm, at) in rows.items()
    }
    frame = pd.DataFrame(table).T.astype({"pairs": int})
    frame.index = frame.index.set_names(levels_of(series))
    if series.structure.by is None:
        frame = frame.droplevel("arm")
    shown: dict[str, Picture] = {}
    for k, arm in enumerate(series.arms):
        own = frame if series.structure.by is None else pd.DataFrame(frame.xs(arm, level="arm"))
        shown |= _matrices(series, times, own, mean[k], pairs, k)
    within = subject_of(series)
    return Report(
        "Residual correlation",
        frame,
        xr.Dataset({" ".join(str(p) for p in k if p != ""): v for k, v in labelled.items()}),
        f"Correlation of residuals of one {within}, given the "
        f"predictors and the groups' effects: as fitted by {series.structure} (posterior means and "
        "95 % equal-tailed intervals), and as observed in the residuals at posterior means.",
        (
            "Observed correlations are of residuals from the same fit, so they are no independent "
            "check, and those of few pairs are rough.",
            *convergence_caveats(fit),
        ),
        ("Diggle, Heagerty, Liang & Zeger (2002), Analysis of Longitudinal Data, ch. 3.",),
        {
            **shown,
            "correlogram": partial(correlogram, *over, curves, pairs),
            "semivariogram": partial(semivariogram, series, series.axes[last], lags, curves, pairs),
        },
    )


def _matrices(
    series: Series, times: Floats, table: pd.DataFrame, mean: Floats, pairs: Pairs, arm: int
) -> dict[str, Picture]:
    """Pictures of an arm's matrices: of visits, or of each factor's and of both together."""
    found: dict[str, Picture] = {}
    of = "" if series.structure.by is None else f" {series.arms[arm]}"
    for name, axis, labels, (own, observed) in squares(series, table, "mean", "observed"):
        found[name + of] = partial(matrix, axis.name + of, labels, own, observed)
    if len(series.axes) > 1 and len(times) <= _MOST_CELLS:
        cells = range(len(times))
        seen = np.array([[pairs.correlation(arm, (i, j)) for j in cells] for i in cells])
        name = ", ".join(axis.name for axis in series.axes)
        found[f"cells{of}"] = partial(matrix, name + of, _cells(series, times), mean, seen)
    return found


def _cells(series: Series, times: Floats) -> list[str]:
    """Labels of the distinct visits of a product."""
    parts, first = [], 0
    for axis in series.axes:
        own = times[:, first : first + len(axis.structure.columns)]
        first += own.shape[1]
        labels = axis.labels[dim_of("visit", axis.column)]
        where = np.unique(own, axis=0, return_inverse=True)[1].ravel()
        parts.append([str(labels[k]) for k in where])
    return [", ".join(each) for each in zip(*parts, strict=True)]
