"""A made-up multi-centre trial whose patients leave by how they fare, with known truth."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from bayesmixed.datasets.arguments import number, whole

type Floats = NDArray[np.float64]

_BASELINE, _SD_BASELINE = 20.0, 4.0
_CARRIED = 0.6  # points of the score for a point at baseline


def simulate_trial(
    centres: int = 12,
    patients_per_centre: int = 16,
    visits: int = 5,
    *,
    effect: float = -3.0,
    trend: float = -1.0,
    phi: float = 0.7,
    sigma: float = 5.0,
    sd_centre: float = 1.0,
    dropout: float = 0.08,
    dropout_odds: float = 2.0,
    seed: int = 1,
) -> pd.DataFrame:
    r"""Simulate a randomised trial of a symptom score over visits, with monotone drop-out.

    For the visit k = 1, ..., K of patient j in centre i, in the drug arm where :math:`d_{ij} = 1`:

    .. math::

        y_{ijk} = 20 + 0.6 (b_{ij} - 20) + \tau k + \theta \tfrac{k}{K} d_{ij} + a_i + e_{ijk},
        \qquad a_i \sim N(0, \sigma_a^2), \quad e_{ij} \sim N(0, \sigma^2 \phi^{|k - l|})

    with the baseline :math:`b_{ij} \sim N(20, 4^2)`. Half of each centre's patients have the drug,
    drawn by lot. After each visit but the last a patient leaves with odds
    :math:`\frac{p}{1 - p} \omega^{r}`, where r is how much worse (higher) the score at that visit
    was than the centre's placebo patients' of the same baseline expect, in sds: at random given
    what was seen.
    To fit: ``score ~ factor(visit) * arm + baseline + (1 | centre)`` with
    ``residual=bm.AR1(time="visit", within="patient")``.

    Parameters
    ----------
    centres, patients_per_centre, visits : int
        How many; at least 1, 2 and 2.
    effect : float
        Of the drug at the last visit, :math:`\theta` (points).
    trend : float
        Change from visit to visit, :math:`\tau` (points).
    phi, sigma : float
        Correlation of neighbouring visits, from 0 to 1, and residual sd (points), above 0.
    sd_centre : float
        Sd of the centres, :math:`\sigma_a` (points).
    dropout : float
        Chance p of leaving after a visit that went as expected, from 0 to 1.
    dropout_odds : float
        How many times the odds grow with an sd, :math:`\omega`, 0.01 to 100; 1 for chance alone.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    pandas.DataFrame
        One row per visit that took place: ``centre``, ``patient`` (labels, unique over centres),
        ``arm`` (category, placebo first), ``visit``, ``baseline``, ``score``. The truth has the
        drug's effect by visit as ``difference``, and ``score_all``, what all patients would have
        had at the last visit, by patient.

    Raises
    ------
    BayesmixedError
        If an argument is outside its range.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> data = datasets.simulate_trial(dropout=0)
    >>> data.shape, data.attrs["truth"]["difference"][5]
    ((960, 6), -3.0)
    """
    rng = np.random.default_rng(whole("seed", seed, 0))
    centres, each = (
        whole("centres", centres, 1),
        whole("patients_per_centre", patients_per_centre, 2),
    )
    visits, effect = whole("visits", visits, 2), number("effect", effect)
    trend, sigma = number("trend", trend), number("sigma", sigma, 1e-9)
    phi, sd_centre = number("phi", phi, 0, 1), number("sd_centre", sd_centre, 0)
    dropout = number("dropout", dropout, 0, 1)
    odds = log(number("dropout_odds", dropout_odds, 0.01, 100))

    count = centres * each
    centre = np.repeat(np.arange(centres), each)
    drug = np.concatenate([rng.permutation(each) < each // 2 for _ in range(centres)])
    baseline = rng.normal(_BASELINE, _SD_BASELINE, count).round()
    u = rng.normal(0, sd_centre, centres)
    e = _autoregression(rng, (count, visits), phi)
    at = np.arange(1, visits + 1)
    difference = effect * at / visits
    placebo = (_BASELINE + _CARRIED * (baseline - _BASELINE) + u[centre])[:, None] + trend * at
    score = placebo + np.outer(drug, difference) + sigma * e
    row, visit = np.nonzero(_stayed(rng, dropout, odds * (score - placebo) / sigma))

    centre_labels = _labels("C", centres)
    labels = np.array([f"{c}-{p}" for c in centre_labels for p in _labels("P", each)])
    arm = pd.Categorical(np.where(drug, "drug", "placebo"), categories=["placebo", "drug"])
    data = pd.DataFrame(
        {
            "centre": np.array(centre_labels)[centre[row]],
            "patient": labels[row],
            "arm": arm[row],
            "visit": at[visit],
            "baseline": baseline[row],
            "score": score[row, visit],
        }
    )
    data.attrs["truth"] = {
        "difference": dict(zip(at.tolist(), difference.tolist(), strict=True)),
        "baseline": _CARRIED,
        "phi": phi,
        "sigma": sigma,
        "sd_centre": sd_centre,
        "u_centre": dict(zip(centre_labels, u.tolist(), strict=True)),
        "score_all": dict(zip(labels.tolist(), score[:, -1].tolist(), strict=True)),
    }
    return data


def _autoregression(rng: np.random.Generator, shape: tuple[int, int], phi: float) -> Floats:
    """Series with variance 1 and the correlation phi of neighbours."""
    e = rng.standard_normal(shape)
    for k in range(1, shape[1]):
        e[:, k] = phi * e[:, k - 1] + sqrt(1 - phi**2) * e[:, k]
    return e


def _stayed(rng: np.random.Generator, dropout: float, log_odds: Floats) -> NDArray[np.bool_]:
    """Whether a visit took place: up to the first after which the patient leaves.

    Parameters
    ----------
    dropout : float
        The chance of leaving where `log_odds`, shape (patients, visits), adds nothing to it.
    """
    with np.errstate(divide="ignore"):
        leaves = rng.random(log_odds.shape) < expit(logit(dropout) + log_odds)
    leaves[:, -1] = True
    return np.arange(log_odds.shape[1]) <= leaves.argmax(axis=1)[:, None]


def _labels(prefix: str, count: int) -> list[str]:
    """Count from 1, with zeros in front so that labels sort as numbers do."""
    width = max(2, len(str(count)))
    return [f"{prefix}{i:0{width}}" for i in range(1, count + 1)]
