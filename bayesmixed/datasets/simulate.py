"""Made-up data with known truth, for what no small public data set covers.

Each table keeps the parameters that made it in ``attrs["truth"]``, a plain dict with the names that
a fit of the model under "To fit" uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesmixed._errors import BayesmixedError
from bayesmixed.datasets.arguments import coefficients, number, pair, whole

_BLOOD_PRESSURE = {
    "Intercept": 112.0,
    "age": 0.5,
    "years": 1.0,
    "treated": 0.0,
    "years:treated": -2.5,
}
_READMISSION = {"age10": 0.25, "comorbidity": 0.3}
_COMORBIDITY = 2.0  # mean
_LIBRARY = 5_000.0  # median


def simulate_blood_pressure(
    clinics: int = 20,
    patients_per_clinic: int = 15,
    visits: int = 6,
    *,
    follow_up: float = 5.0,
    beta: Mapping[str, float] | None = None,
    sd_clinic: float = 4.0,
    sd_patient: tuple[float, float] = (9.0, 1.5),
    cor_patient: float = -0.3,
    sigma: float = 7.0,
    dropout: float = 0.0,
    seed: int = 1,
) -> pd.DataFrame:
    r"""Simulate systolic blood pressure over years, in patients of clinics.

    At :math:`t_{ijk}` years, the visit :math:`k` of patient :math:`j` in clinic :math:`i`:

    .. math::

        y_{ijk} &= \beta_0 + \beta_1 \mathrm{age}_{ij} + \beta_2 t_{ijk}
                 + \beta_3 \mathrm{treated}_{ij} + \beta_4 t_{ijk} \mathrm{treated}_{ij}
                 + a_i + b_{0ij} + b_{1ij} t_{ijk} + e_{ijk} \\
        a_i &\sim N(0, \sigma_a^2), \qquad
        (b_{0ij}, b_{1ij}) \sim N(0, D P D), \qquad e_{ijk} \sim N(0, \sigma^2)

    A coin decides who is treated. The first visit is at 0 years; later ones are planned at equal
    intervals and miss their date by up to 40 % of an interval.
    To fit: ``sbp ~ age + years * treated + (1 | clinic) + (years | patient)``.

    Parameters
    ----------
    clinics, patients_per_clinic : int
        How many.
    visits : int
        Planned visits of each patient, at least 2.
    follow_up : float
        Planned time of the last visit (years).
    beta : mapping of str to float, optional
        Coefficients to change: ``Intercept`` (112 mmHg), ``age`` (0.5 mmHg per year of age),
        ``years`` (1), ``treated`` (0), ``years:treated`` (-2.5).
    sd_clinic : float
        Sd of the clinics' intercepts (mmHg).
    sd_patient : tuple of float
        Sd of the patients' intercepts (mmHg) and slopes (mmHg per year).
    cor_patient : float
        Correlation of the two.
    sigma : float
        Residual sd (mmHg).
    dropout : float
        Chance that a patient leaves early. The last visit is then any but the planned last one,
        with equal chances, whatever the blood pressure.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    pandas.DataFrame
        One row per visit: ``clinic``, ``patient`` (labels, unique over clinics), ``years`` since
        the first visit, ``age`` at the first visit (years), ``treated`` (0/1), ``sbp`` (mmHg).

    Raises
    ------
    BayesmixedError
        If an argument is outside its range.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> data = datasets.simulate_blood_pressure(clinics=5, seed=3)
    >>> data.shape, data.attrs["truth"]["sigma"]
    ((450, 6), 7.0)
    """
    rng = _generator(seed)
    clinics = whole("clinics", clinics, 1)
    per_clinic = whole("patients_per_clinic", patients_per_clinic, 1)
    row, years = _visits(rng, clinics * per_clinic, visits, follow_up, dropout)
    fixed = coefficients(_BLOOD_PRESSURE, beta)
    sd_clinic, sigma = number("sd_clinic", sd_clinic, 0), number("sigma", sigma, 0)
    sds = pair("sd_patient", sd_patient, "the sd of intercepts and of slopes")
    cor = number("cor_patient", cor_patient, -1, 1)

    clinic_labels = _labels("C", clinics)
    labels = [f"{c}-{p}" for c in clinic_labels for p in _labels("P", per_clinic)]
    clinic = np.repeat(np.arange(clinics), per_clinic)[row]
    age = rng.normal(60, 10, len(labels)).clip(30, 90).round()[row]
    treated = rng.integers(0, 2, len(labels))[row]
    u_clinic = rng.normal(0, sd_clinic, clinics)
    z = rng.standard_normal((len(labels), 2))
    u = np.column_stack([z[:, 0], cor * z[:, 0] + sqrt(1 - cor**2) * z[:, 1]]) * sds

    X = np.column_stack([np.ones(row.size), age, years, treated, years * treated])
    mean = X @ list(fixed.values()) + u_clinic[clinic] + u[row, 0] + u[row, 1] * years
    data = pd.DataFrame(
        {
            "clinic": np.array(clinic_labels)[clinic],
            "patient": np.array(labels)[row],
            "years": years,
            "age": age,
            "treated": treated,
            "sbp": mean + rng.normal(0, sigma, row.size),
        }
    )
    data.attrs["truth"] = {
        "beta": fixed,
        "sd_clinic": sd_clinic,
        "sd_patient": {"Intercept": sds[0], "years": sds[1]},
        "cor_patient": cor,
        "sigma": sigma,
        "u_clinic": _by_label(clinic_labels, u_clinic),
        "u_patient": {
            "Intercept": _by_label(labels, u[:, 0]),
            "years": _by_label(labels, u[:, 1]),
        },
    }
    return data


def _visits(
    rng: np.random.Generator, patients: int, visits: int, follow_up: float, dropout: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Draw who comes and when: the patient's index and the time of every visit."""
    visits = whole("visits", visits, 2)
    interval = number("follow_up", follow_up, 0, exclude=0) / (visits - 1)
    leaves = rng.random(patients) < number("dropout", dropout, 0, 1)
    kept = np.where(leaves, rng.integers(1, visits, patients), visits)
    delay = rng.uniform(-0.4, 0.4, (patients, visits))
    delay[:, 0] = 0
    patient, visit = np.nonzero(np.arange(visits) < kept[:, None])
    return patient, interval * (visit + delay[patient, visit])


def simulate_readmissions(
    hospitals: int = 60,
    sizes: tuple[int, int] = (25, 500),
    icc: float = 0.057,
    base_rate: float = 0.15,
    *,
    beta: Mapping[str, float] | None = None,
    case_mix_sd: float = 0.3,
    seed: int = 1,
) -> pd.DataFrame:
    r"""Simulate readmissions of patients in hospitals of very different sizes.

    For patient :math:`j` of hospital :math:`i`:

    .. math::

        \mathrm{logit} \Pr(y_{ij} = 1) &= \beta_0 + \beta_1 \mathrm{age10}_{ij}
            + \beta_2 \mathrm{comorbidity}_{ij} + u_i, \qquad u_i \sim N(0, \sigma_u^2) \\
        \sigma_u^2 &= \frac{\mathrm{icc}}{1 - \mathrm{icc}} \frac{\pi^2}{3}, \qquad
        \mathrm{age10}_{ij} \sim N(m_i, 1), \quad m_i \sim N(0, \mathtt{case\_mix\_sd}^2), \quad
        \mathrm{comorbidity}_{ij} \sim \mathrm{Poisson}(2)

    Hospitals with older patients have higher raw rates without being worse.
    To fit: ``readmitted ~ age10 + comorbidity + (1 | hospital)``, family ``bernoulli``.

    Parameters
    ----------
    hospitals : int
        How many.
    sizes : tuple of int
        Fewest and most patients of a hospital; sizes are uniform on the log scale between them, so
        that small hospitals are common.
    icc : float
        Share of the latent-scale variance that lies between hospitals, given the patients; 0 to
        less than 1.
    base_rate : float
        Risk in an average hospital (:math:`u_i = 0`) of a patient of average age and comorbidity,
        0.001 to 0.999; it sets :math:`\beta_0`.
    beta : mapping of str to float, optional
        Coefficients to change: ``age10`` (0.25), ``comorbidity`` (0.3); log odds ratios.
    case_mix_sd : float
        Sd of the hospitals' mean of ``age10``.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    pandas.DataFrame
        One row per patient: ``hospital`` (label), ``age10`` (decades from the average age),
        ``comorbidity`` (number of conditions), ``readmitted`` (0/1).

    Raises
    ------
    BayesmixedError
        If an argument is outside its range.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> data = datasets.simulate_readmissions(hospitals=10, sizes=(30, 30))
    >>> data.shape, round(data.attrs["truth"]["sd_hospital"], 3)
    ((300, 4), 0.446)
    """
    rng = _generator(seed)
    hospitals = whole("hospitals", hospitals, 1)
    hospital = np.repeat(np.arange(hospitals), _sizes(rng, hospitals, sizes))
    icc = number("icc", icc, 0, 1, exclude=1)
    base_rate = number("base_rate", base_rate, 0.001, 0.999)
    slopes = coefficients(_READMISSION, beta)
    intercept = log(base_rate / (1 - base_rate)) - slopes["comorbidity"] * _COMORBIDITY
    sd = sqrt(icc / (1 - icc) * pi**2 / 3)

    labels = _labels("H", hospitals)
    u = rng.normal(0, sd, hospitals)
    mean_age10 = rng.normal(0, number("case_mix_sd", case_mix_sd, 0), hospitals)
    age10 = rng.normal(mean_age10[hospital], 1)
    comorbidity = rng.poisson(_COMORBIDITY, hospital.size)
    eta = intercept + slopes["age10"] * age10 + slopes["comorbidity"] * comorbidity + u[hospital]
    data = pd.DataFrame(
        {
            "hospital": np.array(labels)[hospital],
            "age10": age10,
            "comorbidity": comorbidity,
            "readmitted": (eta + rng.logistic(size=hospital.size) > 0).astype(np.int64),
        }
    )
    data.attrs["truth"] = {
        "beta": {"Intercept": intercept, **slopes},
        "sd_hospital": sd,
        "icc": icc,
        "u_hospital": _by_label(labels, u),
    }
    return data


def _sizes(rng: np.random.Generator, hospitals: int, sizes: tuple[int, int]) -> NDArray[np.int64]:
    """Draw numbers of patients, uniform on the log scale."""
    meaning = "the fewest and the most patients of a hospital"
    pair("sizes", sizes, meaning)
    low, high = (whole(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes))
    if low > high:
        raise BayesmixedError(f"sizes must be {meaning}, in this order, not {sizes!r}.")
    drawn = np.exp(rng.uniform(log(low), log(high + 1), hospitals)).astype(np.int64)
    return drawn.clip(low, high)  # exp(log(low)) can fall just short of low


def simulate_cells(
    patients: int = 20,
    cells: int = 100,
    genes: int = 50,
    *,
    share: float = 0.2,
    effect: float = 0.7,
    sd_patient: tuple[float, float] = (0.2, 0.6),
    alpha: float = 2.0,
    seed: int = 1,
) -> pd.DataFrame:
    r"""Simulate counts of genes in cells of patients in two arms.

    For gene :math:`g` in cell :math:`c` of patient :math:`p`, with library size :math:`s_{pc}`:

    .. math::

        y_{pcg} &\sim \mathrm{NegBin}(\mu_{pcg}, \alpha), \qquad
        \mathrm{var} = \mu + \mu^2 / \alpha \\
        \log \mu_{pcg} &= \log s_{pc} + \beta_{0g} + \beta_{1g} \mathrm{treated}_p + u_{pg},
        \qquad u_{pg} \sim N(0, \sigma_g^2)

    Arms belong to patients: half of them, rounded down, are treated, so cells of one patient are no
    independent evidence of an effect. The library is the whole of the cell's counts, of which these
    genes are a part; its size is log-normal with median 5,000. Genes differ in their mean count,
    log-normal with median 1 at that size.
    To fit, gene by gene: ``gene_0001 ~ treated + offset(log(library_size)) + (1 | patient)``,
    family ``negative_binomial``.

    Parameters
    ----------
    patients : int
        How many, at least 2.
    cells : int
        Cells of each patient.
    genes : int
        How many.
    share : float
        Share of the genes that the treatment affects, rounded to whole genes drawn at random.
    effect : float
        Size of the effect in those, a log ratio of means, -10 to 10; up or down with equal chances.
    sd_patient : tuple of float
        Smallest and largest :math:`\sigma_g`, at most 3; a gene's own is uniform between them.
    alpha : float
        Size parameter of the negative binomial, 0.01 to 1,000,000; smaller means more
        overdispersion.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    pandas.DataFrame
        One row per cell: ``patient`` (label), ``treated`` (0/1), ``library_size``, then one column
        per gene. The truth is a dict by gene.

    Raises
    ------
    BayesmixedError
        If an argument is outside its range.

    Examples
    --------
    >>> from bayesmixed import datasets
    >>> data = datasets.simulate_cells(patients=6, cells=10, genes=4, share=0.5)
    >>> data.shape, sum(gene["beta"]["treated"] != 0 for gene in data.attrs["truth"].values())
    ((60, 7), 2)
    """
    rng = _generator(seed)
    patients, cells = whole("patients", patients, 2), whole("cells", cells, 1)
    genes = whole("genes", genes, 1)
    # The limits keep every mean within what counts can hold.
    low, high = pair("sd_patient", sd_patient, "the smallest and the largest sd", high=3)
    if low > high:
        raise BayesmixedError(f"sd_patient must be in ascending order, not {sd_patient!r}.")
    effect = number("effect", effect, -10, 10)
    alpha = number("alpha", alpha, 0.01, 1e6)

    intercept = rng.normal(0, 1, genes) - log(_LIBRARY)
    affected = rng.permutation(genes) < round(number("share", share, 0, 1) * genes)
    slope = np.where(affected, effect * rng.choice([-1, 1], genes), 0.0)
    sd = rng.uniform(low, high, genes)
    treated = (rng.permutation(patients) < patients // 2).astype(np.int64)
    u = rng.normal(0, sd, (patients, genes))

    patient = np.repeat(np.arange(patients), cells)
    library = rng.lognormal(log(_LIBRARY), 0.4, patient.size).round()
    mean = library[:, None] * np.exp(intercept + np.outer(treated, slope) + u)[patient]
    names = _labels("gene_", genes, width=4)
    counts = pd.DataFrame(rng.negative_binomial(alpha, alpha / (alpha + mean)), columns=names)
    counts.insert(0, "patient", np.array(_labels("P", patients))[patient])
    counts.insert(1, "treated", treated[patient])
    counts.insert(2, "library_size", library.astype(np.int64))
    counts.attrs["truth"] = {
        name: {
            "beta": {"Intercept": float(b0), "treated": float(b1)},
            "sd_patient": float(s),
            "alpha": alpha,
        }
        for name, b0, b1, s in zip(names, intercept, slope, sd, strict=True)
    }
    return counts


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(whole("seed", seed, 0))


def _labels(prefix: str, count: int, width: int = 2) -> list[str]:
    """Count from 1, with zeros in front so that labels sort as numbers do."""
    width = max(width, len(str(count)))
    return [f"{prefix}{i:0{width}}" for i in range(1, count + 1)]


def _by_label(labels: list[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(labels, values.tolist(), strict=True))
