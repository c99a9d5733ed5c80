"""The Python lines that make a fit again from its data."""

from __future__ import annotations

import json
import re
from inspect import signature
from typing import Any

from bayesmixed.covariance import STRUCTURES
from bayesmixed.families import OURS
from bayesmixed.fit import Fit
from bayesmixed.known import KnownCovariance
from bayesmixed.links import LINKS
from bayesmixed.meta import meta_analysis
from bayesmixed.meta._densities import written
from bayesmixed.meta._grid import tau_prior_of
from bayesmixed.meta._heterogeneity import Density
from bayesmixed.meta._reference_priors import ReferencePrior
from bayesmixed.spec import ModelSpec
from bayesmixed.structure import Structure

# The front door writes a given nu as an offset, log(nu).
_WRITTEN_NU = re.compile(r"^log\(|\)$")


def code(fit: Fit) -> str:
    """The Python lines that make the fit again from its data."""
    settings = json.loads(fit.tree.attrs.get("sampling", "{}"))
    synthesis = "method" in fit.posterior.attrs
    if synthesis:
        settings = {n: v for n, v in settings.items() if n in signature(meta_analysis).parameters}
    how = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    unseeded = "# No seed was given, so the draws are other ones in every run.\n"
    note = "" if settings.get("seed") is not None else unseeded if settings else _UNRECORDED
    if synthesis:
        made = _call("fit = bm.meta_analysis", [*_synthesis(fit), *how])
        needed = "import scipy.stats\n" if ": scipy.stats." in made else ""
        return f"import bayesmixed as bm\n{needed}\n{note}{made}"
    model = _call("model = bm.Model", _arguments(fit.spec))
    own = "".join(f"# {line}\n" for line in (*_remade(fit), *_own(fit.spec)))
    return f"import bayesmixed as bm\n\n{own}{model}\n{note}fit = model.fit({', '.join(how)})"


_UNRECORDED = "# How the draws were made, and their seed, is not recorded with this fit.\n"


def _remade(fit: Fit) -> list[str]:
    """Where the model's table is not the one that was given."""
    attributes = fit.posterior.attrs
    if "outcomes" in attributes:
        return ["data: what bm.multivariate_meta_analysis makes of its rows, to be independent."]
    if "treatment" in attributes:
        return ["data: a row an arm, which bm.meta_counts makes of a row a study."]
    return []


def _call(what: str, arguments: list[str]) -> str:
    inside = "".join(f"    {argument},\n" for argument in arguments)
    return f"{what}(\n{inside})"


def _arguments(spec: ModelSpec) -> list[str]:
    first, *others = spec.predictors.items()
    left = spec.response + (f" | trials({spec.trials})" if spec.trials else "")
    ours = spec.family is OURS.get(spec.family.name)
    family = repr(spec.family.name) if ours else _variable(spec.family.name)
    found = [repr(f"{left} ~ {first[1]}"), "data", f"family={family}"]
    if spec.link is not spec.family.link(first[0], None):
        known = spec.link is LINKS.get(spec.link.name)
        found.append(f"link={repr(spec.link.name) if known else _variable(spec.link.name)}")
    if others:
        found.append(f"parameters={ {name: f'~ {p}' for name, p in others}!r}")
    if spec.sampling_sd:
        found.append(f"sampling_sd={spec.sampling_sd!r}")
    related = {n: _covariance(n, c) for n, c in spec.covariances.items() if c is not spec.process}
    if related:
        inside = ", ".join(f"{name!r}: {given}" for name, given in related.items())
        found.append(f"covariances={{{inside}}}")
    residual = spec.residual or spec.process
    if residual is not None:
        found.append(f"residual={_covariance('', residual)}")
    found += _priors(spec)
    return [*found, *([] if spec.center else ["center=False"])]


def _covariance(name: str, given: Structure | KnownCovariance) -> str:
    """A structure as it is written; a known matrix as a variable."""
    if not isinstance(given, Structure):
        return _variable(f"covariance_{name}")
    return f"{'bm.' if type(given).__name__ in STRUCTURES else ''}{given}"


def _own(spec: ModelSpec) -> list[str]:
    """What of the model is the user's own, and has to be there before these lines."""
    found = []
    if spec.family is not OURS.get(spec.family.name):
        found.append(f"{_variable(spec.family.name)}: the bm.Family of your own of that name.")
    if spec.link is not LINKS.get(spec.link.name):
        found.append(f"{_variable(spec.link.name)}: the link of your own of that name.")
    for name, given in {"": spec.residual, **spec.covariances}.items():
        kind = type(given).__name__
        if isinstance(given, Structure) and kind not in STRUCTURES:
            found.append(f"{kind}: the bm.Structure of your own of that name.")
        elif given is not None and not isinstance(given, Structure):
            what = f"the covariance of {name}, a table with its labels"
            found.append(f"{_variable(f'covariance_{name}')}: {what}.")
    return found


def _variable(name: str) -> str:
    """A name of the user's own as a variable's."""
    word = "".join(c if c.isalnum() else "_" for c in name)
    return word if word.isidentifier() else f"own_{word}"


def _synthesis(fit: Fit) -> list[str]:
    """Arguments of `bm.meta_analysis` that stand for the model."""
    spec = fit.spec
    predictor = spec.predictors["mu"]
    # The front door writes the standard error's column, or the root of the variance's.
    known = (spec.sampling_sd or "").replace("`", "")
    variance = known.startswith("sqrt(")
    column = known.removeprefix("sqrt(").removesuffix(")") if variance else known
    found = ["data", f"effect={spec.response.replace('`', '')!r}"]
    found.append(f"{'variance' if variance else 'se'}={column!r}")
    study = fit.posterior.attrs.get("study")  # Of effects that are not groups of the model.
    if predictor.random or study:
        named = study or "/".join(predictor.random[-1].grouping.factors)
        found.append(f"study={named!r}")
    else:
        found.append("common=True")
    if spec.family.name == "between_t":
        found.append("between='t'")
    if "nu" in spec.predictors:
        found.append(f"nu={_WRITTEN_NU.sub('', spec.predictors['nu'].offsets[0])}")
    if "tau" in spec.predictors:
        found.append(f"scale={f'~ {spec.predictors["tau"].fixed}'!r}")
    if predictor.fixed != "1":
        found.append(f"moderators={f'~ {predictor.fixed}'!r}")
    if fit.posterior.attrs.get("measure"):
        found.append(f"measure={fit.posterior.attrs['measure']!r}")
    return [*found, *_priors(spec, tau_prior_of(fit)), f"method={fit.posterior.attrs['method']!r}"]


def _priors(spec: ModelSpec, tau: Density | None = None) -> list[str]:
    """The argument, with a prior of tau that the model's own cannot hold."""
    written_out = {name: _prior(prior) for name, prior in spec.priors.items()}
    if tau is not None:
        own = repr(tau.name) if isinstance(tau, ReferencePrior) else written(tau)
        written_out |= {name: own for name in written_out if name.startswith("sd_")}
    given = [f"{name!r}: {text}" for name, text in written_out.items()]
    given += [] if spec.budget is None else [f"'variance_budget': bm.{spec.budget!r}"]
    return [f"priors={{{', '.join(given)}}}"] if given else []


def _prior(prior: Any) -> str:
    inner = "".join(f", {name}={value!r}" for name, value in prior.parameters)
    return f"bm.Prior({prior.distribution!r}{inner})"
