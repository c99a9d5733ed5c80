"""How far effects are sampled centred: as values of their groups rather than standardised.

Where the groups' own data say much about their effects, the posterior of the effects hardly depends
on their standard deviation, but their standardised form does; the centred form then mixes much
better, and where the data say little the non-centred one does. Between them lies a partly centred
form for any share of information (Papaspiliopoulos, Roberts & Skoeld 2007, Statistical Science
22:59). How much the data say is estimated before anything is sampled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesmixed._errors import BayesmixedError, lookup
from bayesmixed.design import Design
from bayesmixed.groups import parents
from bayesmixed.predictor import INTERCEPT, Floats, RandomDesign

#: By grouping, how far each of its effects is centred: from 0, standardised, to 1, as values.
type Centring = Mapping[str, tuple[float, ...]]
#: What a user says of it: groupings to centre, or how far each.
type Centered = Collection[str] | Mapping[str, float] | None

# Below this share the standard deviation may well be near 0, where only standardised effects do.
# Measured on the shipped data at shares of 0.24 to 0.98: docs/methods.md has the table.
_LEAST = 1 / 3
# Information of a group's data on each of its correlated effects, times the effect's variance: from
# here on the centred form takes fewer gradients for an effective draw.
_RICH = 2.5


@dataclass(frozen=True)
class _Evidence:
    """A guess of the predictor from single observations, and how far each can be trusted.

    Parameters
    ----------
    estimate : array
        Departure of the linear predictor from its overall level.
    information : array
        One over the variance of each estimate.
    rows : array of int
        A row of the data that stands for each observation.
    """

    estimate: Floats
    information: Floats
    rows: np.ndarray


def plain(centered: Centered) -> list[str] | dict[str, float] | None:
    """The user's choice as JSON has it."""
    if centered is None or isinstance(centered, Mapping):
        return None if centered is None else dict(centered)
    return sorted(centered)


def told(design: Design) -> dict[str, tuple[float, ...]]:
    """The share that the groups' own data have in what is known of their effects.

    With r the information of a group's data times the variance of an effect it is r / (1 + r).

    Returns
    -------
    dict of str to tuple of float
        By grouping of the first parameter, a share for each effect.
    """
    predictor = design.predictors[design.family.parameters[0].name]
    evidence = _rows(design)
    shares = {}
    # From fine to coarse: what varies within a group is not the group's own.
    for random in sorted(predictor.random, key=lambda r: -len(r.groups.labels)):
        index = random.groups.index[evidence.rows]
        ratios = [_ratio(evidence, index, z) for z in _own_parts(random, evidence, index)]
        # Rounded, so that it does not hang on the order in which numbers are added up.
        shares[random.name] = tuple(round(ratio / (1 + ratio), 2) for ratio, _ in ratios)
        if _encloses(random, evidence, design):
            evidence = _pooled(evidence, index, ratios[0][1])
    return shares


def choose_centred(
    design: Design,
    given: Centered,
    integrated: Collection[str],
) -> Centring:
    """How far effects are sampled centred: the user's choice, or the data's.

    Parameters
    ----------
    design : Design
    given : collection of str, mapping of str to float, or None
        The user's choice: groupings to centre, or how far each.
    integrated : collection of str
        Groupings whose effects are not sampled.

    Raises
    ------
    UnknownNameError
        If the user named a grouping that the model does not have.
    BayesmixedError
        If a share is not between 0 and 1, or groups are correlated.
    """
    known = {r.name: r for r in design.predictors[design.family.parameters[0].name].random}
    if given is None:
        every = {} if known.keys() <= set(integrated) else told(design.sample())
        every = {name: _settled(known[name], shares) for name, shares in every.items()}
    else:
        shares = given if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
        every = {}
        for name, share in shares.items():
            size = lookup(known, name, "grouping").size
            if known[name].between is not None:
                raise BayesmixedError(
                    f"centered={name!r}: effects of groups that are correlated (covariances=) are "
                    "sampled as standardised values. Leave it out of centered."
                )
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise BayesmixedError(
                    f"centered={{{name!r}: {share!r}}}: a number from 0 (standardised) to 1 (as "
                    "values of the groups) is needed."
                )
            every[name] = (float(share),) * size
    free = [n for n, r in known.items() if r.between is None and n not in integrated]
    return {n: shares for n, shares in every.items() if any(shares) and n in free}


def _settled(random: RandomDesign, shares: tuple[float, ...]) -> tuple[float, ...]:
    """How far to centre effects of which the data tell these shares."""
    if not random.is_correlated:
        return tuple(share if share >= _LEAST else 0.0 for share in shares)
    # Between the two forms lies none for correlations: each further effect takes information.
    rich = min(shares) > _RICH * random.size / (1 + _RICH * random.size)
    return (float(rich),) * random.size


def describe(centring: Centring) -> str:
    """The groupings, each with how far it is centred unless that is wholly."""
    parts = []
    for name in sorted(centring):
        shares = dict.fromkeys(f"{share:.0%}".replace("%", " %") for share in centring[name])
        parts.append(name if list(shares) == ["100 %"] else f"{name} ({', '.join(shares)})")
    return ", ".join(parts)


def _rows(design: Design) -> _Evidence:
    """One Fisher-scoring step for every row, from a predictor that is the same for all rows."""
    family, links, y = design.family, design.links, design.y
    first = family.parameters[0].name
    predictor = design.predictors[first]
    eta: dict[str, Any] = {first: np.full(len(y), _level(design))}
    within = _spread_within(design)
    for parameter in family.parameters[1:]:
        if parameter.support == "ordered":
            below = np.cumsum(np.bincount(y.astype(int)))[:-1] / len(y)
            eta[parameter.name] = design.spec.link.forward(np.clip(below, 1e-3, 1 - 1e-3))
        elif parameter.name == "sigma" and design.sampling_sd is not None:
            eta[parameter.name] = np.log(design.sampling_sd)
        else:
            typical = parameter.links[0].forward(np.asarray(parameter.typical(within)))
            eta[parameter.name] = np.full(len(y), float(typical))

    def loglik(shift: float) -> Floats:
        moved = eta | {first: eta[first] + predictor.offset + shift}
        found = family.evaluate(family.loglik, moved, links, y=y, **design.known)
        return np.asarray(found, dtype=float)

    step = 1e-3 * (within if design.spec.link.name == "identity" else 1.0)
    with np.errstate(all="ignore"):
        up, here, down = loglik(step), loglik(0.0), loglik(-step)
        score, information = (up - down) / (2 * step), (2 * here - up - down) / step**2
    usable = np.isfinite(score) & np.isfinite(information) & (information > 0)
    information = np.where(usable, information, 0.0)
    estimate = np.where(usable, score / np.where(usable, information, 1.0), 0.0)
    return _Evidence(estimate, information, np.arange(len(y)))


def _level(design: Design) -> float:
    """A predictor that is the same for all rows."""
    if any(p.support == "ordered" for p in design.family.parameters):
        return 0.0
    working = np.asarray(design.family.working(design.y), dtype=float)
    link = design.spec.link
    offset = float(design.predictors[design.family.parameters[0].name].offset.mean())
    if link.name == "identity":
        return float(working.mean()) - offset
    mean = working.sum() / (len(working) if design.trials is None else design.trials.sum())
    low, high = link.domain
    bounded = np.clip(mean, low + 1e-3, high - 1e-3) if low > -np.inf else mean
    return float(link.forward(np.asarray(bounded))) - offset


def _spread_within(design: Design) -> float:
    """Standard deviation of the outcome about the groups' own lines, in the finest grouping."""
    rest = np.asarray(design.family.working(design.y), dtype=float)
    spread = float(np.std(rest)) or 1.0
    randoms = design.predictors[design.family.parameters[0].name].random
    for random in sorted(randoms, key=lambda r: -len(r.groups.labels)):
        index = random.groups.index
        free = len(rest) - random.size * len(random.groups.labels)
        if free < len(rest) / 10:
            continue
        equal = _Evidence(rest, np.ones(len(rest)), np.arange(len(rest)))
        for z in _own_parts(random, equal, index):
            size = np.bincount(index, weights=z**2)
            line = np.bincount(index, weights=z * rest) / np.where(size > 0, size, 1.0)
            rest = rest - line[index] * z
        return max(float(np.sqrt((rest**2).sum() / free)), 1e-6 * spread)
    return spread


def _own_parts(random: RandomDesign, evidence: _Evidence, index: np.ndarray) -> list[Floats]:
    """What each effect is multiplied by, less what the group's intercept takes up of it."""
    Z = random.Z[evidence.rows]
    if INTERCEPT not in random.effects:
        return list(Z.T)
    weight = np.bincount(index, weights=evidence.information)
    parts = []
    for effect, z in zip(random.effects, Z.T, strict=True):
        mean = np.bincount(index, weights=evidence.information * z) / np.where(weight, weight, 1)
        parts.append(z if effect == INTERCEPT else z - mean[index])
    return parts


def _ratio(evidence: _Evidence, index: np.ndarray, z: Floats) -> tuple[float, float]:
    """Median information of a group times the effects' variance, and that variance.

    The variance is the moment estimate of DerSimonian & Laird (1986), Control. Clin. Trials 7:177.
    """
    weight = np.bincount(index, weights=evidence.information * z**2)
    total = np.bincount(index, weights=evidence.information * z * evidence.estimate)
    told = weight > 0
    if told.sum() < 2:
        return 0.0, 0.0
    weight, effect = weight[told], total[told] / weight[told]
    effect = effect - np.average(effect, weights=weight)
    excess = (weight * effect**2).sum() - (len(weight) - 1)
    variance = max(0.0, excess / (weight.sum() - (weight**2).sum() / weight.sum()))
    return float(np.median(weight) * variance), variance


def _encloses(random: RandomDesign, evidence: _Evidence, design: Design) -> bool:
    """Whether the grouping lies inside every coarser one, so that its groups can stand for rows."""
    inner = random.groups.index[evidence.rows]
    coarser = [g for g in design.groups if len(g.labels) < len(random.groups.labels)]
    return all(parents(inner, g.index[evidence.rows]) is not None for g in coarser)


def _pooled(evidence: _Evidence, index: np.ndarray, variance: float) -> _Evidence:
    """The groups in place of their rows, each with the variance of its own effect added."""
    weight = np.bincount(index, weights=evidence.information)
    total = np.bincount(index, weights=evidence.information * evidence.estimate)
    safe = np.where(weight > 0, weight, 1.0)
    rows = np.zeros(len(weight), dtype=np.intp)
    rows[index] = evidence.rows
    return _Evidence(total / safe, weight / (1 + weight * variance), rows)


@dataclass(frozen=True)
class Carried:
    """What the values of a centred grouping's groups carry besides their own effects.

    Parameters
    ----------
    coefficients : mapping of str to array, shape (groups, slopes)
        For each effect, what the population's slopes are multiplied by in its mean.
    intercept : bool
        Whether the intercept is part of the mean of the groups' intercepts.
    outer : tuple of (str, str)
        Effects of enclosing groupings that are part of the means: (effect, grouping).
    """

    coefficients: Mapping[str, Floats]
    intercept: bool
    outer: tuple[tuple[str, str], ...]


def carry(
    design: Design, centred: Collection[str], integrated: Collection[str] = ()
) -> Mapping[str, Carried]:
    """Let the values of centred groups carry all that is the same for a whole group.

    Where a coefficient and the effects about it are sampled apart, a shift of one is made good by
    the others, and they mix slowly (Gelfand, Sahu & Carlin 1995, Biometrika 82:479). So a column
    of X that is :math:`c_j z` for an effect's :math:`z` goes into the mean of that effect, and so
    do the effects of groupings that enclose the grouping.

    Parameters
    ----------
    design : Design
        The data; what is carried belongs to the first parameter's predictor.
    centred : collection of str
        Names of the groupings that are sampled centred, wholly or partly.
    integrated : collection of str
        Names of the groupings whose effects are not sampled.
    """
    name = design.family.parameters[0].name
    predictor, means = design.predictors[name], design.means(name)
    sampled = [r for r in predictor.random if r.name not in integrated]
    X = predictor.X[:, int(predictor.has_intercept) :]
    free = np.ones(X.shape[1], dtype=bool)
    intercept_is_free = predictor.has_intercept
    loose: dict[tuple[str, str], RandomDesign] = {}
    carried: dict[str, Carried] = {}
    for random in sorted(sampled, key=lambda r: len(r.groups.labels)):
        if random.name in centred:
            coefficients = {
                e: np.zeros((len(random.groups.labels), len(means))) for e in random.effects
            }
            for k, effect in enumerate(random.effects):
                if INTERCEPT not in random.effects and means.any():
                    continue
                found, per_group = _multiples(X, random.Z[:, k], random)
                found &= free
                coefficients[effect][:, found] += per_group[:, found]
                if means.any():
                    coefficients[INTERCEPT][:, found] -= means[found]
                free &= ~found
            outer = [
                key
                for key, o in loose.items()
                if key[0] in random.effects
                and parents(random.groups.index, o.groups.index) is not None
            ]
            for key in outer:
                del loose[key]
            takes = intercept_is_free and INTERCEPT in random.effects
            intercept_is_free &= not takes
            carried[random.name] = Carried(coefficients, takes, tuple(outer))
        loose |= {(effect, random.name): random for effect in random.effects}
    return carried


def _multiples(X: Floats, z: Floats, random: RandomDesign) -> tuple[np.ndarray, Floats]:
    """Which columns are a constant of each group times z, and these constants."""
    index, count = random.groups.index, len(random.groups.labels)
    square = np.bincount(index, weights=z**2, minlength=count)
    cross = np.zeros((count, X.shape[1]))
    np.add.at(cross, index, X * z[:, None])
    per_group = cross / np.where(square > 0, square, 1.0)[:, None]
    rest = np.abs(X - per_group[index] * z[:, None]).max(axis=0, initial=0.0)
    # Against the spread: far from 0, a column that hardly varies is no constant yet.
    spread = np.abs(X - X.mean(axis=0)).max(axis=0, initial=0.0)
    return rest <= 1e-9 * np.maximum(spread, 1e-300), per_group
