"""Each group's own fit: maximum likelihood from its rows alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesmixed.defaults import outcome_scale
from bayesmixed.fit import Fit
from bayesmixed.predictor import RandomDesign
from bayesmixed.reports._levels import inside
from bayesmixed.reports._rate import sums

type Floats = NDArray[np.float64]

_MOST_STEPS = 60
_HALVINGS = 12
_TOLERANCE = 1e-7
# Where there is no maximum the likelihood flattens out on the way to infinity: the determinant of
# the information falls below this share of that at the shrunken estimate.
_FLAT = 1e-6


def own_coefficients(fit: Fit, random: RandomDesign) -> Floats:
    r"""Coefficients that maximise the likelihood of each group's own rows.

    What varies between the groups is free in each; all else of the linear predictor, and the
    family's other parameters, is held at its posterior mean. For a normal outcome these are the
    group's least-squares coefficients.

    Parameters
    ----------
    fit : Fit
        The fit.
    random : RandomDesign
        The grouping, of the first parameter's predictor.

    Returns
    -------
    array, shape (groups, effects)
        Fixed and own effect together; NaN where a group's rows do not determine them: too few, or
        perfectly separated, so that there is no maximum.
    """
    design = fit.design
    first = design.family.parameters[0].name
    rest, others, gamma = _held(fit, random, first)
    index, Z = random.groups.index, random.Z
    unit = 1e-3 * outcome_scale(design).unit

    def loglik(eta: Floats) -> Floats:
        found = design.family.evaluate(
            design.family.loglik,
            others | {first: eta[None, None]},
            design.links,
            y=design.y,
            **design.known,
        )
        return np.asarray(found, dtype=np.float64).reshape(-1)

    def of_groups(gamma: Floats) -> Floats:
        with np.errstate(all="ignore"):
            total = sums(loglik(rest + (Z * gamma[index]).sum(axis=1)), index)
        return np.asarray(np.where(np.isfinite(total), total, -np.inf))

    def newton(gamma: Floats) -> tuple[Floats, Floats]:
        return _newton(loglik, rest + (Z * gamma[index]).sum(axis=1), Z, index, unit)

    done = ~_full_rank(random)
    none = done.copy()
    at_start = np.linalg.det(newton(gamma)[1])
    for _ in range(_MOST_STEPS):
        step, _ = newton(gamma)
        step[done] = 0
        gamma, moved = _uphill(of_groups, gamma, step)
        scale = _TOLERANCE * (1 + np.abs(gamma))
        done |= (np.abs(step) < scale).all(axis=1) & moved
        if done.all():
            break
    flat = np.linalg.det(newton(gamma)[1]) < _FLAT * at_start
    gamma[none | ~done | flat] = np.nan
    return gamma


def _held(fit: Fit, random: RandomDesign, first: str) -> tuple[Floats, dict[str, Floats], Floats]:
    """Posterior means that a group's own fit starts from, or holds.

    Of the linear predictor without what the groups estimate, of the other parameters on their
    links' scale, and of the groups' coefficients.
    """
    design, posterior = fit.design, fit.posterior
    terms = design.predictors[first].terms
    start = posterior[f"u_{random.name}"].mean(["chain", "draw"]).to_numpy().copy()
    for k, effect in enumerate(random.effects):
        if effect in terms:
            start[:, k] += float(posterior["beta"][..., terms.index(effect)].mean())
    without = {random.name, *(g.name for g in inside(design, random.groups))}
    free = [k for k, term in enumerate(terms) if term in random.effects]
    # Predictors are linear in coefficients and effects, so the mean one is that of their means.
    mean = _at_mean(fit)
    held = mean.eta(without=without).to_numpy()[0, 0]
    if free:
        beta = mean.posterior["beta"].to_numpy()[0, 0, free]
        held = held - design.predictors[first].X[:, free] @ beta
    others = {name: value for name, value in mean.parameters().items() if name != first}
    return held, others, start


def _at_mean(fit: Fit) -> Fit:
    """A fit of one draw, in which every parameter has its mean on its link's scale."""
    posterior, over = fit.posterior, ["chain", "draw"]
    mean = posterior.mean(over)
    for parameter in fit.design.family.parameters:
        if parameter.name in posterior and parameter.support != "ordered":
            link, values = parameter.links[0], posterior[parameter.name]
            centre = np.asarray(link.forward(values.to_numpy())).mean(axis=(0, 1))
            mean[parameter.name] = (values.dims[2:], np.asarray(link.inverse(centre)))
    one = mean.expand_dims({"chain": 1, "draw": 1})
    return Fit(fit.design, xr.DataTree.from_dict({"posterior": one}))


def _newton(
    loglik: Callable[[Floats], Floats],
    eta: Floats,
    Z: Floats,
    index: NDArray[np.intp],
    unit: float,
) -> tuple[Floats, Floats]:
    """A step of Newton's method in every group, (groups, effects), and the information there."""
    with np.errstate(all="ignore"):
        up, here, down = loglik(eta + unit), loglik(eta), loglik(eta - unit)
    slope = np.nan_to_num((up - down) / (2 * unit))
    # Where the likelihood is not concave, as in heavy tails, the step is uphill all the same.
    curve = np.maximum(np.nan_to_num((2 * here - up - down) / unit**2), 1e-12)
    size = Z.shape[1]
    information = np.empty((int(index.max()) + 1, size, size))
    for i in range(size):
        for j in range(size):
            information[:, i, j] = sums(curve * Z[:, i] * Z[:, j], index)
    score = sums((slope * Z.T), index).T
    step = np.linalg.pinv(information, hermitian=True) @ score[..., None]
    return np.asarray(step[..., 0]), information


def _uphill(
    of_groups: Callable[[Floats], Floats], gamma: Floats, step: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Go the step, or the half of it, and so on, in the groups where the likelihood falls."""
    before = of_groups(gamma)
    share = np.ones(len(gamma))
    for _ in range(_HALVINGS):
        found = of_groups(gamma + share[:, None] * step)
        # Rounding in a sum of log-likelihoods is not a fall.
        fell = ~(found >= before - 1e-9 * (1 + np.abs(before)))
        if not fell.any():
            break
        share[fell] /= 2
    share[fell] = 0
    return gamma + share[:, None] * step, ~fell


def _full_rank(random: RandomDesign) -> NDArray[np.bool_]:
    """Groups whose rows tell all effects apart."""
    size, scale = random.size, np.maximum(np.abs(random.Z).max(axis=0), 1e-300)
    Z = random.Z / scale
    cross = np.empty((len(random.groups.labels), size, size))
    for i in range(size):
        for j in range(size):
            cross[:, i, j] = sums(Z[:, i] * Z[:, j], random.groups.index)
    return np.asarray(np.linalg.matrix_rank(cross, hermitian=True, rtol=1e-10) == size)
