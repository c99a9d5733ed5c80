"""One HTML file that says what was asked, what was found, and how far to trust it."""

from __future__ import annotations

import platform
from collections.abc import Collection
from importlib.metadata import version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesmixed._errors import StorageError, lookup
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.meta._densities import written
from bayesmixed.meta._grid import tau_prior_of
from bayesmixed.page._attempt import Failure, attempt
from bayesmixed.page._bars import Panel
from bayesmixed.page._code import code
from bayesmixed.page._curves import curves
from bayesmixed.page._mathematics import formulas
from bayesmixed.page._panels import coefficients
from bayesmixed.page._sections import sections
from bayesmixed.page._tables import Grid
from bayesmixed.page._words import question, statement

_PACKAGES = ("bayesmixed", "pymc", "nutpie", "arviz", "numpy", "pandas", "xarray")


def report(
    fit: Fit,
    path: str | PathLike[str],
    title: str | None = None,
    units: Collection[str] | None = None,
) -> Path:
    """Write a fit as one self-contained HTML page.

    It opens without a network: question and model in words and mathematics, data and hierarchy,
    verdict on convergence, effects, variance components, odds ratios, every group in a table that
    sorts and filters, checks, priors beside posteriors, caveats, versions, and the code that made
    it. Drawings answer to pointer and keyboard. A part that cannot be made is named with the
    reason, and costs nothing of the others.

    Parameters
    ----------
    fit : Fit
        The fit.
    path : path
        The file, such as ``"report.html"``.
    title : str, optional
        The page's heading; the formula unless given.
    units : collection of str, optional
        Groupings whose groups are drawn and listed; all of them unless given.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StorageError
        If the file cannot be written.
    UnknownNameError
        If there is no such grouping.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> bm.report(fit, "report.html").name
    'report.html'
    """
    target, known = Path(path), {g.name: g for g in fit.design.groups}
    for name in units or ():
        lookup(known, name, "grouping")
    if not target.parent.is_dir():
        raise StorageError(f"The report could not be written: there is no folder {target.parent}.")
    content = _content(fit, title, set(known if units is None else units))
    page = _environment().get_template("page.html.j2").render(**content)
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"The report could not be written to {target}: {error}") from error
    return target


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("bayesmixed.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _content(fit: Fit, title: str | None, units: Collection[str]) -> dict[str, Any]:
    own = files("bayesmixed.page")
    parts = list(sections(fit, units))
    design = fit.design
    return {
        "title": title or fit.spec.formula.splitlines()[0],
        # The package's own files: not from data, and not to be escaped.
        "style": Markup((own / "page.css").read_text(encoding="utf-8")),
        "script": Markup((own / "page.js").read_text(encoding="utf-8")),
        "fit": fit,
        "verdict": attempt("the verdict", lambda: (fit.converged, str(fit.convergence))),
        "question": attempt("the question", lambda: question(design)),
        "statement": attempt("the model in words", lambda: statement(design)),
        "formulas": attempt("the model in mathematics", lambda: formulas(design)),
        "tree": attempt("the hierarchy", design.tree),
        "several": any(r.size > 1 for p in design.predictors.values() for r in p.random),
        "effects": attempt("the effects", lambda: _effects(fit)),
        "sections": parts,
        "priors": attempt("the priors", lambda: Grid.of(_priors(fit), "Priors, and where from.")),
        "curves": attempt("priors and posteriors", lambda: curves(fit)),
        "caveats": list(dict.fromkeys(c for part in parts for c in part.caveats)),
        "references": list(dict.fromkeys(r for part in parts for r in part.references)),
        "code": attempt("the code", lambda: code(fit)),
        "versions": {"Python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    }


def _effects(fit: Fit) -> tuple[Grid, tuple[Panel, ...]]:
    summary = fit.summary().drop(columns="mcse_mean")
    for name in ("ess_bulk", "ess_tail"):
        whole = [round(v) if np.isfinite(v) else np.nan for v in summary[name]]
        summary[name] = pd.Series(whole, summary.index, dtype=object)
    words = "Posterior means, sds and 95 % equal-tailed intervals on the scale of the predictor."
    panels = attempt("the effects' drawing", lambda: coefficients(summary, fit.spec.link.name))
    return Grid.of(summary, words), () if isinstance(panels, Failure) else tuple(panels)


def _priors(fit: Fit) -> pd.DataFrame:
    assigned, own = assign_priors(fit.design), tau_prior_of(fit)
    texts = {name: str(a.prior) for name, a in assigned.items()}
    if own is not None:
        texts |= {name: written(own) for name in texts if name.startswith("sd_")}
    return pd.DataFrame(
        {
            "prior": list(texts.values()),
            "from": [_source(fit, a.source) for a in assigned.values()],
        },
        index=pd.Index(assigned, name="parameter"),
    )


def _source(fit: Fit, source: str) -> str:
    """Where a prior is from; a meta-analysis gives its model all of them."""
    scaled = any(note.startswith("Default priors are scaled") for note in fit.notes)
    return "yours, or scaled (see Data)" if scaled and source == "yours" else source
