"""Which effects are integrated out exactly, and the cross-products that this takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError, listed
from bayesmixed.compress import Sums, add_up, cross_products, places, unique_rows
from bayesmixed.design import Design
from bayesmixed.groups import enclosing, parents
from bayesmixed.instructions import Program
from bayesmixed.layout import Layout
from bayesmixed.predictor import PredictorDesign, RandomDesign
from bayesmixed.program import (
    Population,
    Writer,
    add_constant,
    add_means,
    add_predictor,
    population,
    sorting,
)
from bayesmixed.rotation import rotated, twin

type Floats = NDArray[np.float64]
type Marginalize = Literal["auto", True, False]

# Groups beyond which a sampled dense covariance takes long, and bytes a second from memory: of
# 3,000 groups a gradient took 7.5 ms on two cores of a server.
_MANY = 1000
_SPEED = 2e10
_ADVICE = (
    " A normal outcome with one sd, where one effect varies between these groups, has them "
    "integrated out for one such grouping."
)


def chain(design: Design) -> tuple[RandomDesign, ...]:
    """Groupings that can be integrated out together, from the inside out.

    The one with the most groups, and those around it that lie in one another. The effects of
    groupings that cross them are sampled. Where residuals are correlated, rows of a series belong
    together, and the first is the grouping with the most groups among those that hold whole series.
    Of groupings with a known covariance it is one, and independent effects of the same groups (see
    `rotation`).
    """
    turned = rotated(design)
    if turned is not None:
        other = twin(design)
        return (turned,) if other is None else (turned, other)
    predictor = design.predictors[design.family.parameters[0].name]
    independent = [r for r in predictor.random if r.between is None]
    # Beside groups that are correlated all effects are sampled, unless residuals are too.
    if design.series is None and len(independent) < len(predictor.random):
        return ()
    inside = None if design.series is None else design.series.index
    found: list[RandomDesign] = []
    for random in sorted(independent, key=lambda r: (-len(r.groups.labels), -r.size)):
        index = random.groups.index
        if inside is None or parents(inside, index) is not None:
            found.append(random)
            inside = index
    return tuple(found)


def choose_integrated(
    design: Design, centered: Collection[str] | None, marginalize: Marginalize
) -> tuple[str, ...]:
    """Groupings whose effects are integrated out, from the inside out.

    Parameters
    ----------
    design : Design
    centered : collection of str or None
        Groupings that the user wants sampled.
    marginalize : {"auto", True, False}
        Wherever it can be done, or an error where it cannot, or never.

    Raises
    ------
    BayesmixedError
        If `marginalize` is something else, or True where nothing can be integrated out.
    """
    if marginalize not in ("auto", True, False):
        raise BayesmixedError(f'marginalize={marginalize!r}: "auto", True or False is needed.')
    predictor = design.predictors[design.family.parameters[0].name]
    exact = design.spec.is_normal
    levels = chain(design)
    if marginalize is True and design.spec.covariances and rotated(design) is None:
        raise BayesmixedError(
            "marginalize=True: effects of groups that are correlated (covariances=) are sampled, "
            "unless the outcome is normal with one sd, the covariance known, and one effect varies "
            'between the groups. Use marginalize="auto".'
        )
    if marginalize is True and exact and predictor.random and not levels:
        raise BayesmixedError(
            f"marginalize=True: {listed(r.name for r in predictor.random)} split series of "
            f"{design.spec.residual}; beside correlated residuals effects can be integrated out "
            'only of groups that hold whole series. Use marginalize="auto".'
        )
    if marginalize is True and not (exact and predictor.random):
        raise BayesmixedError(
            "marginalize=True: effects can be integrated out exactly where there are some and the "
            f"outcome is normal with identity link, not for family {design.family.name} with link "
            f"{design.spec.link.name}"
            + ("." if predictor.random else " without random effects.")
            + ' Use marginalize="auto".'
        )
    if not (exact and marginalize):
        return ()
    return tuple(r.name for r in levels if r.name not in (centered or ()))


def dense_notes(design: Design, integrated: Collection[str]) -> tuple[str, ...]:
    """What large known covariances cost where effects are sampled."""
    other, found = twin(design), []
    summed = other is not None and other.name in integrated
    for random in design.predictors[design.family.parameters[0].name].random:
        known = None if random.between is None else random.between.known
        exact = random.name in integrated and not summed
        if known is None or exact or len(known) <= _MANY:
            continue
        if random.name in integrated:
            assert other is not None
            what, advice = f"the sums of their effects and those of {other.name!r} are", ""
        else:
            what, advice = "their effects are", _ADVICE
        found.append(
            f"The covariance of {len(known):,} groups of {random.name!r} is a dense matrix, and "
            f"{what} sampled: each gradient goes through its {known.size / 1e6:.0f} "
            f"million numbers twice, some {16e3 * known.size / _SPEED:.1f} ms, and NUTS takes "
            f"hundreds of thousands of them.{advice}"
        )
    return tuple(found)


def gaussian_program(design: Design, layout: Layout, levels: Sequence[str]) -> Program:
    """A program whose likelihood has the effects of nested groupings integrated out.

    Parameters
    ----------
    design : Design
    layout : Layout
    levels : sequence of str
        The groupings, from the inside out; none where all effects are sampled.
    """
    first, second = design.family.parameters
    predictor = design.predictors[first.name]
    nested = _nested(predictor, levels)
    part = population(design, first.name, layout)
    writer = Writer(layout)
    add_means(writer, part, "")
    # Reduced by a first fit, so that nothing large is subtracted from something large.
    normal, strata = design.reduce(partial(_first_pass, part=part), _add_first)
    reference, *_ = np.linalg.lstsq(normal.sums[0][0], normal.sums[1][0], rcond=None)
    if second.name in design.predictors:
        strata_form = add_predictor(writer, design, second.name, strata.keys)
    else:
        known = design.sampling_sd is not None
        strata_form = writer.form(1, []) if known else add_constant(writer, second)
    second_pass = partial(
        _second_pass, part=part, levels=levels, layout=layout, reference=reference, strata=strata
    )
    found = design.reduce(second_pass, _add_second)
    (leaf, stratum), (ZZ, ZX, Zy) = found.records.keys, found.records.sums
    rows, yy, Xy, XX = found.totals.sums
    arrays = {
        "ZZ": np.moveaxis(ZZ, 0, -1),
        "ZX": np.moveaxis(ZX, 0, -1),
        "Zy": Zy.T,
        "rows": rows,
        "yy": yy,
        "Xy": Xy,
        "XX": XX,
        "reference": reference,
        "terms": [writer.positions[name] for name in part.names],
        "leaf": leaf,
        "stratum": stratum,
        "sizes": [r.size for r in nested],
        "counts": [len(r.groups.labels) for r in nested],
        "parents": enclosing([r.groups.index for r in nested]),
        "levels": [layout.effects[f"_{name}"].covariance for name in levels],
    }
    shape = [0, 0, 0, strata_form, 1]
    return writer.program(shape=shape, **arrays, **_coupling(found))


def _nested(predictor: PredictorDesign, levels: Sequence[str]) -> list[RandomDesign]:
    return [next(r for r in predictor.random if r.name == name) for name in levels]


def _outcome(design: Design) -> tuple[Floats, Floats]:
    """The outcome less its offset, and the rows' weights."""
    y = np.asarray(design.family.working(design.y), dtype=float)
    weight = np.ones(len(y)) if design.sampling_sd is None else design.sampling_sd**-2.0
    return y - design.predictors[design.family.parameters[0].name].offset, weight


def _telling(design: Design) -> list[NDArray[Any]]:
    """Columns that tell error variances apart."""
    second = design.predictors.get(design.family.parameters[1].name)
    return [] if second is None else sorting(second)


def _first_pass(design: Design, part: Population) -> tuple[Sums, Sums]:
    """The normal equations of weighted least squares, and the distinct error variances' rows."""
    X = part.columns(design.predictors[design.family.parameters[0].name])
    y, weight = _outcome(design)
    one = np.zeros(len(y), dtype=np.intp)
    sums = cross_products(one, 1, weight, X, X, y)
    columns = _telling(design)
    first = unique_rows(columns, len(y)).first
    strata = Sums(tuple(c[first] for c in columns), (np.zeros(len(first)),))
    return Sums((), (sums.ZZ, sums.Zy)), strata


def _add_first(parts: Sequence[tuple[Sums, Sums]]) -> tuple[Sums, Sums]:
    normal, strata = zip(*parts, strict=True)
    return add_up(normal), add_up(strata)


@dataclass(frozen=True)
class _Products:
    """Cross-products of the rows.

    Parameters
    ----------
    records : Sums
        By innermost group and error variance: ZZ, ZX and Zy.
    totals : Sums
        By error variance: number of rows, yy, Xy and XX.
    links, sums, pairs : tuple of Sums
        Of each sampled effect, or pair of them, by the keys of `normal.Coupling`; for links
        the innermost group and the error variance in the record's place.
    """

    records: Sums
    totals: Sums
    links: tuple[Sums, ...]
    sums: tuple[Sums, ...]
    pairs: tuple[Sums, ...]


def _add_second(parts: Sequence[_Products]) -> _Products:
    def each(name: str) -> tuple[Sums, ...]:
        every = zip(*(getattr(p, name) for p in parts), strict=True)
        return tuple(add_up(of_one) for of_one in every)

    return _Products(
        add_up([p.records for p in parts]),
        add_up([p.totals for p in parts]),
        each("links"),
        each("sums"),
        each("pairs"),
    )


def _second_pass(
    design: Design,
    part: Population,
    levels: Sequence[str],
    layout: Layout,
    reference: Floats,
    strata: Sums,
) -> _Products:
    """All cross-products with what the first fit leaves over."""
    predictor = design.predictors[design.family.parameters[0].name]
    nested = _nested(predictor, levels)
    X = part.columns(predictor)
    y, weight = _outcome(design)
    rows = len(y)
    y = y - X @ reference
    leaf = nested[0].groups.index if nested else np.zeros(rows, dtype=np.intp)
    Z = np.column_stack([r.Z for r in nested]) if nested else np.zeros((rows, 0))
    telling = _telling(design)
    stratum = places(telling, strata.keys) if telling else np.zeros(rows, dtype=np.intp)
    records = unique_rows([leaf, stratum], rows)
    by_record = cross_products(records.index, len(records), weight, Z, X, y)
    met = unique_rows([stratum], rows)
    totals = cross_products(met.index, len(met), weight, X, X, y)
    yy = np.bincount(met.index, weights=weight * y**2, minlength=len(met))
    columns = _columns(layout, predictor, part)
    links, sums, pairs = [], [], []
    for i, (column, z) in enumerate(columns):
        sampled = z[:, None]
        links.append(_summed([leaf, stratum, column], weight, sampled, Z, y))
        sums.append(_summed([stratum, column], weight, sampled, X, y))
        for j, (other, x) in enumerate(columns[: i + 1]):
            both = unique_rows([stratum, column, other], rows)
            twice = 1.0 if i == j else 2.0
            total = np.bincount(both.index, weights=twice * weight * z * x, minlength=len(both))
            keys = (stratum[both.first], column[both.first], other[both.first])
            pairs.append(Sums(keys, (total,)))
    return _Products(
        Sums(
            (leaf[records.first], stratum[records.first]),
            (by_record.ZZ, by_record.ZX, by_record.Zy),
        ),
        Sums((stratum[met.first],), (np.bincount(met.index), yy, totals.Zy, totals.ZZ)),
        tuple(links),
        tuple(sums),
        tuple(pairs),
    )


def _summed(
    keys: Sequence[NDArray[np.intp]], weight: Floats, Z: Floats, X: Floats, y: Floats
) -> Sums:
    """Cross-products of one column with X and y over the rows of each key."""
    met = unique_rows(keys, len(y))
    found = cross_products(met.index, len(met), weight, Z, X, y)
    return Sums(tuple(k[met.first] for k in keys), (found.ZX[:, 0], found.Zy[:, 0]))


def _columns(
    layout: Layout, predictor: PredictorDesign, part: Population
) -> list[tuple[NDArray[np.intp], Floats]]:
    """For each sampled effect the place of each row's group among the values, and its multiplier.

    The places are those of `effects.values_of`.
    """
    absorbed = {key for carried in part.carried.values() for key in carried.outer}
    randoms = {r.name: r for r in predictor.random}
    found, place = [], 0
    for e in layout.effects.values():
        if e.at < 0:
            continue
        groups = len(e.random.groups.labels)
        for k, effect in enumerate(e.random.effects):
            if not e.tail and (effect, e.random.name) not in absorbed:
                random = randoms[e.random.name]
                found.append((random.groups.index + place, random.Z[:, k]))
            place += groups
    return found


def _coupling(found: _Products) -> dict[str, Any]:
    """The arrays of `normal.Coupling`."""
    arrays: dict[str, list[NDArray[Any]]] = {}

    def add(**given: NDArray[Any]) -> None:
        for name, array in given.items():
            arrays.setdefault(name, []).append(array)

    for one in found.links:
        leaf, stratum, column = one.keys
        record = places([leaf, stratum], found.records.keys)
        add(link_record=record, link_column=column, link=one.sums[0].T)
    for one in found.sums:
        add(sum_stratum=one.keys[0], sum_column=one.keys[1])
        add(sum_y=one.sums[1], sum_X=one.sums[0].T)
    for one in found.pairs:
        add(pair_stratum=one.keys[0], pair=one.sums[0])
        add(pair_first=one.keys[1], pair_second=one.keys[2])
    return {name: np.concatenate(parts, axis=-1) for name, parts in arrays.items()}
