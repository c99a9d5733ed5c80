"""Structures of residual correlation tried in an order that was fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import pandas as pd

from bayesmixed._errors import BayesmixedError, DataError, SamplingError, lookup
from bayesmixed.covariance import AR1, CompoundSymmetry, Toeplitz, Unstructured
from bayesmixed.data import to_pandas
from bayesmixed.fit import Fit
from bayesmixed.model import Model
from bayesmixed.structure import Structure


@dataclass(frozen=True)
class Ladder:
    """The fits of a ladder; nothing that was sampled is lost.

    Parameters
    ----------
    fit : Fit
        The first that converged; its notes say why each one before was left. Where none did, the
        last one, which says so.
    fits : mapping of str to Fit
        Every fit, by its structure as written, in the order in which they were tried.
    left : mapping of str to str
        Why each structure was left.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("orthodont")
    >>> steps = bm.ladder(time="age", within="Subject")
    >>> tried = bm.fit_ladder("distance ~ age", data, steps, seed=1)  # doctest: +SKIP
    >>> tried.table, tried.fit  # doctest: +SKIP
    """

    fit: Fit
    fits: Mapping[str, Fit] = field(repr=False)
    left: Mapping[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """A row a structure that was tried: what came of it, and the verdict's numbers."""
        rows: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys([*self.left, *self.fits]):
            row = rows[name] = {"outcome": "left" if name in self.left else "kept"}
            if name in self.fits:
                verdict = self.fits[name].convergence
                row["max_rhat"] = verdict.max_rhat
                row["min_ess"] = min(verdict.min_ess_bulk, verdict.min_ess_tail)
                row["divergences"] = verdict.divergences
            row["why"] = self.left.get(name, "")
        columns = ["outcome", "max_rhat", "min_ess", "divergences", "why"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("residual")

    def __str__(self) -> str:
        """What was tried, and the fit."""
        lines = [f"{name}: left. {why}" for name, why in self.left.items()]
        return "\n".join([*lines, "", str(self.fit)])


def ladder(time: str, within: str, by: str | None = None) -> tuple[Structure, ...]:
    """The usual order for a mixed model for repeated measures, from the freest to the plainest.

    Unstructured, heterogeneous Toeplitz, heterogeneous AR(1), heterogeneous compound symmetry,
    AR(1), compound symmetry, as trial protocols fix it beforehand [1]_.

    Parameters
    ----------
    time, within, by : str
        As for every structure.

    Returns
    -------
    tuple of Structure

    References
    ----------
    .. [1] Mallinckrodt et al. (2008), Drug Inf. J. 42:303.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> [s.name for s in bm.ladder(time="week", within="patient")][:2]
    ['heterogeneous unstructured', 'heterogeneous toeplitz']
    """
    columns: dict[str, Any] = {"time": time, "within": within, "by": by}
    return (
        Unstructured(**columns),
        Toeplitz(**columns, heterogeneous=True),
        AR1(**columns, heterogeneous=True),
        CompoundSymmetry(**columns, heterogeneous=True),
        AR1(**columns),
        CompoundSymmetry(**columns),
    )


def fit_ladder(
    formula: str,
    data: Any,
    residuals: Sequence[Structure],
    *,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Ladder:
    """Fit a model with one residual structure after another, until a fit converges.

    The order is fixed before the data are seen, so that the structure is not chosen by its result.

    Parameters
    ----------
    formula : str
        As for `Model`.
    data : table
        As for `Model`.
    residuals : sequence of Structure
        In the order in which they are tried, such as ``bm.ladder(time="week", within="patient")``.
    options : mapping of str to value, optional
        Further arguments of `Model`, such as ``{"priors": {...}}``.
    **settings
        Arguments of `Model.fit`, such as ``seed=1``; the same for all structures.

    Returns
    -------
    Ladder
        ``fit`` is the first that converged (`Fit.converged`), ``fits`` has all that were tried,
        ``left`` why each was left, also where the data do not allow it. Ctrl-C ends the ladder at
        the structure that it stopped.

    Raises
    ------
    BayesmixedError
        If no structure suits the data, or a column or argument does not exist; all is checked
        before the first is sampled.
    SamplingError
        If none of the structures could be sampled.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("antidepressant")
    >>> formula = "change ~ factor(week) * arm + baseline * factor(week)"
    >>> steps = bm.ladder(time="week", within="patient")
    >>> tried = bm.fit_ladder(formula, data, steps, seed=1)  # doctest: +SKIP
    >>> bm.trial_analysis(tried.fit, "arm", "week", better="lower")  # doctest: +SKIP
    """
    known = {name: name for name in signature(Model.fit).parameters if name != "self"}
    for name in settings:
        lookup(known, name, "argument of Model.fit")
    if isinstance(residuals, Structure) or not residuals:
        raise BayesmixedError(
            "residuals takes two structures or more, in the order in which they are tried, such as "
            'bm.ladder(time="week", within="patient").'
        )
    models = _models(formula, data, residuals, options or {})
    fits: dict[str, Fit] = {}
    left: dict[str, str] = {}
    for name, model in models.items():
        if isinstance(model, DataError):
            left[name] = str(model)
            continue
        try:
            fits[name] = found = model.fit(**settings)
        except SamplingError as error:
            left[name] = str(error)
            continue
        if found.converged:
            return Ladder(_noted(found, left), fits, left)
        left[name] = " ".join(found.convergence.problems)
        if found.interrupted:
            break
    if not fits:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise SamplingError(f"None of {len(models)} structures could be sampled. {reasons}")
    last = next(reversed(fits))
    others = {name: why for name, why in left.items() if name != last}
    missed = f"None of the {len(models)} structures converged; this is the last of them."
    if fits[last].interrupted:
        missed = "Stopped before any structure converged; this is the one that was stopped."
    return Ladder(_noted(fits[last], others, missed), fits, left)


def _models(
    formula: str, data: Any, residuals: Sequence[Structure], options: Mapping[str, Any]
) -> dict[str, Model | DataError]:
    """A model for each structure, or why the data do not allow one."""
    known = {name: name for name in signature(Model).parameters}
    for name in options:
        lookup(known, name, "argument of Model")
    if {"formula", "data", "residual"} & set(options):
        raise BayesmixedError("options holds further arguments of Model; residuals has structures.")
    table = to_pandas(data)
    if len(set(map(str, residuals))) < len(residuals):
        raise BayesmixedError("A structure stands in residuals twice; name each once.")
    models: dict[str, Model | DataError] = {}
    for residual in residuals:
        try:
            models[str(residual)] = Model(formula, table, residual=residual, **options)
        except DataError as error:
            models[str(residual)] = error
    first = next(iter(models.values()))
    if isinstance(first, DataError) and not any(isinstance(m, Model) for m in models.values()):
        raise first
    return models


def _noted(fit: Fit, left: Mapping[str, str], *more: str) -> Fit:
    """The fit, with why each structure before it was left among its notes."""
    notes = [f"{name} was tried before, and left: {why}" for name, why in left.items()]
    return replace(fit, notes=(*fit.notes, *notes, *more))
