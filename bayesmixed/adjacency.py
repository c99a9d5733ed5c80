"""Covariance of areas from which of them are neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from bayesmixed._errors import BayesmixedError, DataError, listed
from bayesmixed.known import KnownCovariance, text_of


def neighbours(adjacent: Mapping[Any, Sequence[Any]] | pd.DataFrame) -> pd.DataFrame:
    r"""Covariance of areas of which each is like its neighbours: the intrinsic autoregression.

    .. math::

        u_i \mid u_{-i} \sim
        N\left(\frac{1}{n_i}\sum_{j \sim i} u_j,\ \frac{\tau^2}{n_i}\right)

    with :math:`n_i` neighbours (Besag, York & Mollié 1991, Annals of the Institute of Statistical
    Mathematics 43:1). Its precision has no inverse; this is the generalised one, where the areas
    of a connected part add up to 0. It is scaled so that the geometric mean of an area's variance
    is 1 in each part, so that a standard deviation means the same on every map (Riebler et al.
    2016, Statistical Methods in Medical Research 25:1145). An area without neighbours has
    variance 1 and is independent of the others (Freni-Sterrantino, Ventrucci & Rue 2018, Spatial
    and Spatio-temporal Epidemiology 26:25).

    Parameters
    ----------
    adjacent : mapping or pandas.DataFrame
        The neighbours of each area, or a table of zeros and ones whose index and columns are the
        areas.

    Returns
    -------
    pandas.DataFrame
        Shape (areas, areas), for ``Model(..., covariances={"area": ...})``.

    Raises
    ------
    BayesmixedError
        If neither was given.
    DataError
        If one area is the neighbour of another but not the other way round, or of itself.

    Examples
    --------
    >>> import bayesmixed as bm
    >>> row = bm.neighbours({"west": ["middle"], "middle": ["west", "east"], "east": ["middle"]})
    >>> row.round(2).loc["west"].tolist()
    [1.36, -0.27, -1.09]
    """
    W = _table(adjacent)
    areas = list(W.index)
    try:
        links = W.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("A table of neighbours holds ones and zeros.") from error
    if not np.isin(links, (0.0, 1.0)).all() or links.diagonal().any():
        raise DataError("Neighbours are ones and zeros, and no area is its own neighbour.")
    one_way = np.argwhere(links != links.T)
    if len(one_way):
        pairs = [f"{areas[i]} and {areas[j]}" for i, j in one_way if i < j]
        raise DataError(f"These are neighbours in one direction only: {listed(pairs, 5)}.")
    count, part = connected_components(links, directed=False)
    K = np.zeros_like(links)
    for c in range(count):
        at = np.flatnonzero(part == c)
        inside = links[np.ix_(at, at)]
        if len(at) == 1:
            K[at, at] = 1.0
            continue
        generalised = np.linalg.pinv(np.diag(inside.sum(axis=1)) - inside, hermitian=True)
        K[np.ix_(at, at)] = generalised / np.exp(np.log(generalised.diagonal()).mean())
    return pd.DataFrame(K, index=areas, columns=areas)


def bym2(adjacent: Mapping[Any, Sequence[Any]] | pd.DataFrame) -> KnownCovariance:
    r"""Areas that are partly like their neighbours: Besag, York & Mollié's model, rescaled.

    .. math:: u = \sigma\left(\sqrt{1 - \phi}\; v + \sqrt{\phi}\; w\right), \qquad
        v \sim N(0, I),\quad w \sim N(0, K)

    with :math:`K` the scaled intrinsic autoregression of `neighbours`, so that :math:`\sigma` is
    one standard deviation of an area whatever the map, and :math:`\phi` the share of the variance
    that is like the neighbours' (Riebler et al. 2016, Statistical Methods in Medical Research
    25:1145; Simpson et al. 2017, Statistical Science 32:1). In the posterior they are
    ``sd_<area>`` and ``phi_<area>``, whose prior is flat between 0 and 1 unless given; Morris et
    al. (2019, Spatial and Spatio-temporal Epidemiology 31:100301) take
    ``Prior("Beta", alpha=0.5, beta=0.5)``.

    Parameters
    ----------
    adjacent : mapping or pandas.DataFrame
        The neighbours of each area, as for `neighbours`.

    Returns
    -------
    KnownCovariance
        For ``Model(..., covariances={"area": ...})``.

    Raises
    ------
    BayesmixedError
        If neither was given.
    DataError
        If one area is the neighbour of another but not the other way round, or of itself.

    Examples
    --------
    >>> import pandas as pd
    >>> import bayesmixed as bm
    >>> row = {"west": ["middle"], "middle": ["west", "east"], "east": ["middle"]}
    >>> data = pd.DataFrame({"area": [*row] * 2, "cases": [3, 5, 8, 2, 6, 9]})
    >>> model = bm.Model(
    ...     "cases ~ 1 + (1 | area)", data, family="poisson", covariances={"area": bm.bym2(row)}
    ... )
    >>> list(model.priors.index)
    ['Intercept', 'sd_area', 'phi_area']
    """
    table = neighbours(adjacent)
    return KnownCovariance(tuple(map(text_of, table.index)), table.to_numpy(), mixed=True)


def _table(adjacent: object) -> pd.DataFrame:
    if isinstance(adjacent, pd.DataFrame):
        if list(adjacent.index) != list(adjacent.columns):
            raise BayesmixedError(
                "The table of neighbours needs the same areas in both directions."
            )
        return adjacent
    if not isinstance(adjacent, Mapping) or not adjacent:
        raise BayesmixedError(
            'neighbours() takes a mapping such as {"a": ["b"], "b": ["a"]}, or a table of zeros '
            f"and ones, not {type(adjacent).__name__}."
        )
    areas = list(adjacent)
    single = [area for area, each in adjacent.items() if not isinstance(each, (list, tuple, set))]
    if single:
        raise BayesmixedError(
            f"The neighbours of {listed(single, 5)} are no list; write [] for none."
        )
    unknown = [n for each in adjacent.values() for n in each if n not in adjacent]
    if unknown:
        raise DataError(
            f"These neighbours are no areas with neighbours of their own: {listed(unknown, 5)}."
        )
    place = {area: i for i, area in enumerate(areas)}
    links = np.zeros((len(areas), len(areas)))
    for area, each in adjacent.items():
        links[place[area], [place[one] for one in each]] = 1.0
    return pd.DataFrame(links, index=areas, columns=areas)
