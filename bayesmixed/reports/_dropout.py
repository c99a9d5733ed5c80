"""What a treatment difference would be, had patients who left fared otherwise than the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed._errors import lookup
from bayesmixed.fit import Fit
from bayesmixed.reports._delta import Delta, Given
from bayesmixed.reports._gaps import ASSUMPTIONS
from bayesmixed.reports._imputed import (
    BOTH,
    REFERENCES,
    SIGNS,
    Better,
    arms_of,
    labelled,
    table_of,
    who_left,
)
from bayesmixed.reports._pictures import side_by_side
from bayesmixed.reports._report import Report, convergence_caveats
from bayesmixed.reports._trial import Trial

type Floats = NDArray[np.float64]

_CAVEATS = (
    "The data cannot tell which assumption is right; none of their posteriors is weighted by "
    "evidence.",
    "Under J2R and its like the model's interval narrows as more patients leave, since those are "
    "taken to have no effect; regulators ask for the information-anchored one (Cro et al. 2019).",
)


def dropout_sensitivity(
    fit: Fit,
    treatment: str,
    time: str,
    *,
    reference: Any = None,
    assumptions: Sequence[str] = ("MAR", "J2R", "CIR", "CR"),
    delta: Given | Sequence[Given] = (),
    dlag: Sequence[float] | None = None,
    visit: Any = None,
    margin: float = 0.0,
    better: Better = "higher",
    patient: str | None = None,
    seed: int = 1,
) -> Report:
    r"""The treatment difference at a visit under assumptions on those who left early.

    A patient who left has, from the next visit on, the mean of the assumption: ``"MAR"`` their own
    arm's (missing at random), ``"J2R"`` the reference's (jump to reference), ``"CIR"`` their own
    arm's at the last visit seen plus the reference's increments from there, ``"CR"`` the
    reference's at all visits, ``"LMCF"`` their own arm's at the last visit seen; `delta` adds a
    number to MAR in the arms other than the reference. What is missing is normal about this mean
    given the outcomes that were seen [1]_. Who left the reference arm (but for LMCF), and who only
    missed the visit, is missing at random.

    Two kinds of inference stand side by side, which agree on the estimate and not on its spread:

    - ``information-anchored``: in every draw the missing outcomes are imputed and the completed
      visit is analysed by least squares with the model's terms: multiple imputation, with Rubin's
      variance. An assumption costs as much information as missing at random does [2]_.
    - ``model``: :math:`\delta + \sum_i w_i \{E_A(y_i) - E_{MAR}(y_i)\}` in every draw, with
      :math:`\delta` the model's own difference, E the means given what was seen, and w the weights
      of least squares, people weighted by the Bayesian bootstrap. It takes the assumption as true,
      so that differences borrowed from the reference are known to be 0: its spread is that of the
      frequentist (jackknife or bootstrap) standard error [3]_. For MAR it is the model's contrast.

    Parameters
    ----------
    fit : Fit
        As for `trial_analysis`.
    treatment, time, reference, margin, better, patient
        As for `trial_analysis`.
    assumptions : sequence of {"MAR", "J2R", "CIR", "CR", "LMCF"}
        Which to show; MAR always comes first.
    delta : number or mapping, or sequence of these
        Also MAR with this added to what is missing, in units of the outcome. A number is for all
        who left an arm other than the reference, however long ago. ``{4: 1, 6: 2}`` says what
        every visit adds, from the first one missed on: at week 6 those who left before week 4 are
        moved by 3, and those who left after it by 2. ``{"drug": 2, "placebo": 1}`` is by arm, the
        reference with it; the two go together as ``{"drug": {4: 1, 6: 2}}``.
    dlag : sequence of float, optional
        Lets delta grow with the visits missed: what the first, second, ... visit since leaving
        adds, as shares of delta. With (1, 1, 1) someone who left two visits ago is moved by
        2 delta. Name and meaning are those of rbmi, also where delta is by visit.
    visit : optional
        The visit; the last unless given.
    seed : int
        The same seed gives the same imputations.

    Returns
    -------
    Report
        Rows (assumption, inference, contrast): mean, sd, interval and ``p_better``; draws
        ``difference``, dims (assumption, inference, contrast, chain, draw). Picture
        ``assumptions``.

    Raises
    ------
    UnknownNameError
        If a column, level, visit, arm or assumption does not exist.
    BayesmixedError
        If nothing is missing, a difference cannot be estimated, an amount is not a number,
        `dlag` is not as many numbers as visits were missed, or patients' effects are correlated
        (``covariances=``).
    DataError
        If the treatment or a covariate changes within a patient.

    References
    ----------
    .. [1] Carpenter, Roger & Kenward (2013), J. Biopharm. Stat. 23:1352.
    .. [2] Cro, Carpenter & Kenward (2019), J. R. Stat. Soc. A 182:623.
    .. [3] Wolbers et al. (2022), Pharm. Stat. 21:1246.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("antidepressant")
    >>> residual = bm.Unstructured(time="week", within="patient")
    >>> formula = "change ~ factor(week) * arm + baseline * factor(week)"
    >>> fit = bm.Model(formula, data, residual=residual).fit(seed=1)  # doctest: +SKIP
    >>> bm.dropout_sensitivity(fit, "arm", "week", better="lower", delta=2)  # doctest: +SKIP
    """
    wanted = (assumptions,) if isinstance(assumptions, str) else assumptions
    names = list(dict.fromkeys(["MAR", *wanted]))
    for name in names:
        lookup(ASSUMPTIONS, name, "assumption on drop-out")
    sign = lookup(SIGNS, better, "choice of what is better")
    trial = Trial.of(fit, treatment, time, reference, patient)
    given = list(delta) if isinstance(delta, Sequence) else [delta]
    deltas = [Delta.of(trial, each, dlag) for each in given]
    every = arms_of(trial, visit, names, seed)
    found: dict[str, list[list[Floats]]] = {}
    for name in names:
        found[name] = [[f(name) for f in (d.anchored, d.model)] for d in every]
    gaps = every[0].gaps
    for each in deltas:
        found[f"MAR {each.label}"] = [
            [f("MAR", each.moved(gaps, d.arm)) for f in (d.anchored, d.model)] for d in every
        ]
    draws = labelled(fit, list(found.values()), gaps.trial.contrasts, {"assumption": list(found)})
    table = table_of(draws, sign, margin, ["assumption", "inference", "contrast"])
    shown = table.droplevel("contrast") if len(every) == 1 else table
    label = f"difference in {fit.spec.response}, {gaps.trial.time} {gaps.trial.visits[gaps.at]}"
    return Report(
        f"Drop-out and the difference at {gaps.trial.time} {gaps.trial.visits[gaps.at]}",
        table,
        xr.Dataset({"difference": draws}),
        f"{label[0].upper()}{label[1:]}, under assumptions on patients who left before it: "
        f"{'; '.join(f'{n}: {ASSUMPTIONS[n].name}' for n in names)}."
        + _added(deltas)
        + f" {who_left(gaps)} {BOTH} p_better: posterior probability that the arm is better "
        f"({better}) than {gaps.trial.arms[0]}"
        + (f" by more than {margin:g}" if margin else "")
        + "."
        " Posterior means and 95 % equal-tailed intervals.",
        (*_CAVEATS, *convergence_caveats(fit)),
        REFERENCES,
        {"assumptions": partial(side_by_side, shown, "inference", label, 0.0)},
    )


def _added(deltas: list[Delta]) -> str:
    """What the rows with a delta are."""
    ways = dict.fromkeys(each.growth for each in deltas)
    return "".join(f" MAR and delta: with this added to what is missing{way}." for way in ways)
