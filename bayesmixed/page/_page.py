"""One HTML file that says what was asked, what was found, and how far to trust it."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesmixed._errors import StorageError
from bayesmixed.defaults import assign_priors
from bayesmixed.fit import Fit
from bayesmixed.page._mathematics import formulas
from bayesmixed.page._sections import sections
from bayesmixed.page._tables import Grid

_PACKAGES = ("bayesmixed", "pymc", "nutpie", "arviz", "numpy", "pandas", "xarray")


def report(fit: Fit, path: str | PathLike[str], title: str | None = None) -> Path:
    """Write a fit as one self-contained HTML page.

    It opens without a network: question and model in words and mathematics, data and hierarchy,
    verdict on convergence, effects, variance components, odds ratios, every group in a table that
    sorts and filters, checks, priors, caveats, versions, and the code that made it. A report that
    does not suit the fit is named with the reason.

    Parameters
    ----------
    fit : Fit
        The fit.
    path : path
        The file, such as ``"report.html"``.
    title : str, optional
        The page's heading; the formula unless given.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> data = bm.datasets.load("sleepstudy")
    >>> fit = bm.Model("Reaction ~ Days + (Days | Subject)", data).fit(seed=1)
    >>> bm.report(fit, "report.html").name
    'report.html'
    """
    page = _environment().get_template("page.html.j2").render(**_content(fit, title))
    target = Path(path)
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


def _content(fit: Fit, title: str | None) -> dict[str, Any]:
    own = files("bayesmixed.page")
    parts = list(sections(fit))
    summary = fit.summary().drop(columns="mcse_mean")
    words = "Posterior means, sds and 95 % equal-tailed intervals on the scale of the predictor."
    return {
        "title": title or fit.spec.formula.splitlines()[0],
        # The package's own files: not from data, and not to be escaped.
        "style": Markup((own / "page.css").read_text()),
        "script": Markup((own / "page.js").read_text()),
        "fit": fit,
        "formulas": formulas(fit.design),
        "several": any(r.size > 1 for p in fit.design.predictors.values() for r in p.random),
        "effects": Grid.of(summary, words),
        "sections": parts,
        "priors": Grid.of(_priors(fit), "Priors, and where each is from."),
        "caveats": list(dict.fromkeys(c for part in parts for c in part.caveats)),
        "references": list(dict.fromkeys(r for part in parts for r in part.references)),
        "code": code(fit),
        "versions": {"Python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    }


def _priors(fit: Fit) -> pd.DataFrame:
    assigned = assign_priors(fit.design)
    return pd.DataFrame(
        {
            "prior": [str(a.prior) for a in assigned.values()],
            "from": [a.source for a in assigned.values()],
        },
        index=pd.Index(assigned, name="parameter"),
    )


def code(fit: Fit) -> str:
    """The Python lines that make the fit again from its data."""
    spec, settings = fit.spec, json.loads(fit.tree.attrs.get("sampling", "{}"))
    first, *others = spec.predictors.items()
    left = spec.response + (f" | trials({spec.trials})" if spec.trials else "")
    arguments = [repr(f"{left} ~ {first[1]}"), "data", f"family={spec.family.name!r}"]
    if spec.link is not spec.family.link(first[0], None):
        arguments.append(f"link={spec.link.name!r}")
    if others:
        arguments.append(f"parameters={ {name: f'~ {p}' for name, p in others}!r}")
    if spec.sampling_sd:
        arguments.append(f"sampling_sd={spec.sampling_sd!r}")
    if spec.residual is not None:
        arguments.append(f"residual=bm.{spec.residual}")
    if spec.priors:
        inner = ", ".join(f"{n!r}: {_prior(p)}" for n, p in spec.priors.items())
        arguments.append(f"priors={{{inner}}}")
    if not spec.center:
        arguments.append("center=False")
    inside = "".join(f"    {argument},\n" for argument in arguments)
    how = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
    return (
        f"import bayesmixed as bm\n\nmodel = bm.Model(\n{inside})\n"
        f"{'' if settings else _unrecorded(fit)}fit = model.fit({how})"
    )


def _unrecorded(fit: Fit) -> str:
    """What to know where these lines do not give the very same draws."""
    if fit.posterior.attrs.get("method") == "grid":
        return (
            '# The draws here are independent ones by bm.meta_analysis(..., method="grid"), whose\n'
            "# seed is not recorded. NUTS gives the same posterior up to Monte Carlo error.\n"
        )
    return "# How the draws were made, and their seed, is not recorded with this fit.\n"


def _prior(prior: Any) -> str:
    inner = "".join(f", {name}={value!r}" for name, value in prior.parameters)
    return f"bm.Prior({prior.distribution!r}{inner})"
