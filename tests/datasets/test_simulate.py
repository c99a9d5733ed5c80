"""The simulators repeat by seed, make what they say they make, and refuse what they cannot."""

from math import log, pi, sqrt

import numpy as np
import pandas as pd
import pytest

from bayesmixed import datasets
from bayesmixed._errors import BayesmixedError

# Seeds are fixed, so a test either always passes or always fails. A right simulator would miss a
# limit of 4 standard errors for 1 seed in 16,000 (in 5,000 where jackknife blocks give the error).
LIMIT = 4.0
SIMULATORS = [
    datasets.simulate_blood_pressure,
    datasets.simulate_readmissions,
    datasets.simulate_cells,
    datasets.simulate_trial,
]


def assert_sd(values, sd):
    """The standard error of a normal sample's sd is sd / sqrt(2 (n - 1))."""
    assert np.std(values, ddof=1) == pytest.approx(sd, abs=LIMIT * sd / sqrt(2 * (len(values) - 1)))


def assert_jackknife(statistic, groups, truth):
    """A statistic of many independent groups, one row each, against its standard error.

    Leaving out one of 50 blocks of groups in turn gives the error with 49 degrees of freedom.
    """
    blocks = np.array_split(np.arange(len(groups)), 50)
    left = np.array([statistic(np.delete(groups, block, axis=0)) for block in blocks])
    error = sqrt(49 / 50 * np.sum((left - left.mean()) ** 2))
    assert statistic(groups) == pytest.approx(truth, abs=LIMIT * error)


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_seed_decides_everything(simulate):
    first, again, other = simulate(seed=7), simulate(seed=7), simulate(seed=8)
    pd.testing.assert_frame_equal(first, again)
    assert first.attrs == again.attrs
    assert not first.equals(other)
    assert first.attrs["truth"] != other.attrs["truth"]


class TestBloodPressure:
    def test_shape(self):
        data = datasets.simulate_blood_pressure(clinics=3, patients_per_clinic=4, visits=5)
        assert list(data.columns) == ["clinic", "patient", "years", "age", "treated", "sbp"]
        assert len(data) == 3 * 4 * 5
        assert data.groupby("patient").clinic.nunique().eq(1).all()
        assert data.patient.nunique() == 12
        assert data.groupby("patient")[["age", "treated"]].nunique().eq(1).all().all()

    def test_visits_are_irregular_and_in_order(self):
        data = datasets.simulate_blood_pressure(follow_up=5, visits=6)
        years = data.years.to_numpy().reshape(-1, 6)
        assert (years[:, 0] == 0).all()
        assert (np.diff(years) > 0).all()
        assert np.abs(years - np.arange(6)).max() <= 0.4
        assert len(np.unique(years[:, 1:])) == years[:, 1:].size

    def test_dropout(self):
        data = datasets.simulate_blood_pressure(clinics=100, visits=5, dropout=0.3)
        kept = data.groupby("patient").size()
        assert kept.between(1, 5).all()
        # A share of n patients has standard error sqrt(p (1 - p) / n); each of the four early
        # ends has a quarter of the 30 %.
        for visits, share in {1: 0.075, 2: 0.075, 3: 0.075, 4: 0.075, 5: 0.7}.items():
            error = sqrt(share * (1 - share) / len(kept))
            assert (kept == visits).mean() == pytest.approx(share, abs=LIMIT * error)

    def test_truth_is_what_made_the_data(self):
        data = datasets.simulate_blood_pressure(
            clinics=400, visits=4, beta={"treated": -3}, cor_patient=0.5
        )
        truth = data.attrs["truth"]
        assert truth["beta"]["treated"] == -3
        u_clinic = pd.Series(truth["u_clinic"])
        u = pd.DataFrame(truth["u_patient"])
        assert_sd(u_clinic, truth["sd_clinic"])
        assert_sd(u["Intercept"], truth["sd_patient"]["Intercept"])
        assert_sd(u["years"], truth["sd_patient"]["years"])
        # A correlation's standard error is (1 - r^2) / sqrt(n).
        realised = u["Intercept"].corr(u["years"])
        assert realised == pytest.approx(0.5, abs=LIMIT * 0.75 / sqrt(len(u)))

        # Without the random effects the data are a linear regression with independent residuals.
        X, random = self.fixed_and_random(data)
        y = data.sbp.to_numpy() - random
        estimate = np.linalg.solve(X.T @ X, X.T @ y)
        error = truth["sigma"] * np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
        beta = list(truth["beta"].values())
        assert (np.abs(estimate - beta) < LIMIT * error).all()
        assert_sd(y - X @ beta, truth["sigma"])

    def test_without_residuals_the_equation_is_exact(self):
        data = datasets.simulate_blood_pressure(sigma=0, dropout=0.5)
        X, random = self.fixed_and_random(data)
        beta = list(data.attrs["truth"]["beta"].values())
        assert data.sbp.to_numpy() == pytest.approx(X @ beta + random)

    @staticmethod
    def fixed_and_random(data):
        truth, years = data.attrs["truth"], data.years
        assert list(truth["beta"]) == ["Intercept", "age", "years", "treated", "years:treated"]
        X = np.column_stack([years * 0 + 1, data.age, years, data.treated, years * data.treated])
        intercept, slope = (data.patient.map(truth["u_patient"][t]) for t in ("Intercept", "years"))
        return X, (data.clinic.map(truth["u_clinic"]) + intercept + slope * years).to_numpy()


class TestTrial:
    def test_shape(self):
        data = datasets.simulate_trial(centres=3, patients_per_centre=6, visits=4, dropout=0)
        assert list(data.columns) == ["centre", "patient", "arm", "visit", "baseline", "score"]
        assert len(data) == 3 * 6 * 4
        people = data.drop_duplicates("patient")
        assert people.groupby("centre", observed=True)["arm"].value_counts().eq(3).all()
        assert data.groupby("patient")[["arm", "baseline"]].nunique().eq(1).all().all()

    def test_truth_is_what_made_the_data(self):
        data = datasets.simulate_trial(centres=200, sd_centre=2, dropout=0, phi=0.6)
        truth = data.attrs["truth"]
        assert_sd(pd.Series(truth["u_centre"]), 2)
        drug = (data["arm"] == "drug").to_numpy()
        mean = (
            20
            + 0.6 * (data["baseline"] - 20)
            - data["visit"]
            + data["centre"].map(truth["u_centre"])
        )
        mean = mean + drug * data["visit"].map(truth["difference"])
        e = (data["score"] - mean).to_numpy().reshape(-1, 5)
        assert_sd(e[:, 0], truth["sigma"])
        # Correlations of n pairs have standard error (1 - r^2) / sqrt(n).
        for lag in (1, 3):
            r = 0.6**lag
            found = np.corrcoef(e[:, 0], e[:, lag])[0, 1]
            assert found == pytest.approx(r, abs=LIMIT * (1 - r**2) / sqrt(len(e)))
        last = data.groupby("patient")["score"].last()
        pd.testing.assert_series_equal(last, pd.Series(truth["score_all"]), check_names=False)

    def test_who_fares_worse_leaves(self):
        data = datasets.simulate_trial(centres=300, effect=0, sd_centre=0, dropout=0.1)
        data.attrs.clear()  # pandas copies the truth at every step
        mean = 20 + 0.6 * (data["baseline"] - 20) - data["visit"]
        r = ((data["score"] - mean) / 5).to_numpy()
        leaves = ~data.duplicated("patient", keep="last").to_numpy()
        early = (data["visit"] < 5).to_numpy()
        # Chances in narrow bands of r, for one more sd: 1 / (1 + 9 / 2^r).
        for low in (-1.0, 0.0, 1.0):
            band = early & (r > low - 0.1) & (r < low + 0.1)
            chance = 1 / (1 + 9 / 2**low)
            error = sqrt(chance * (1 - chance) / band.sum())
            assert leaves[band].mean() == pytest.approx(chance, abs=LIMIT * error)
        assert (
            data.groupby("patient")["visit"]
            .apply(lambda v: list(v) == [*range(1, len(v) + 1)])
            .all()
        )

    def test_leaving_by_chance_alone(self):
        data = datasets.simulate_trial(centres=300, dropout=0.2, dropout_odds=1)
        data.attrs.clear()
        kept = data.groupby("patient").size()
        for visits, share in {1: 0.2, 2: 0.16, 5: 0.8**4}.items():
            error = sqrt(share * (1 - share) / len(kept))
            assert (kept == visits).mean() == pytest.approx(share, abs=LIMIT * error)


class TestReadmissions:
    def test_shape(self):
        data = datasets.simulate_readmissions(hospitals=200)
        sizes = data.groupby("hospital").size()
        assert list(data.columns) == ["hospital", "age10", "comorbidity", "readmitted"]
        assert len(sizes) == 200
        assert sizes.between(25, 500).all()
        assert set(data.readmitted) == {0, 1}
        # On the log scale the middle of 25 to 501 is 112: half of the hospitals are smaller.
        assert (sizes < 112).mean() == pytest.approx(0.5, abs=LIMIT * 0.5 / sqrt(200))

    def test_one_size(self):
        data = datasets.simulate_readmissions(hospitals=5, sizes=(1, 1))
        assert data.groupby("hospital").size().eq(1).all()

    def test_icc_sets_the_sd(self):
        truth = datasets.simulate_readmissions(hospitals=4000, sizes=(1, 1)).attrs["truth"]
        variance = truth["sd_hospital"] ** 2
        assert variance / (variance + pi**2 / 3) == pytest.approx(truth["icc"]) == 0.057
        assert_sd(list(truth["u_hospital"].values()), truth["sd_hospital"])

    def test_truth_is_what_made_the_data(self):
        data = datasets.simulate_readmissions(hospitals=300, icc=0.1)
        truth = data.attrs["truth"]
        u = pd.Series(truth["u_hospital"]).loc[data.hospital].to_numpy()
        x = {"Intercept": 1.0, "age10": data.age10, "comorbidity": data.comorbidity}
        eta = sum(truth["beta"][term] * values for term, values in x.items()) + u
        p = 1 / (1 + np.exp(-eta))
        # Under the truth each score sum(w (y - p)) has mean 0 and variance sum(w^2 p (1 - p)).
        for w in (1.0, data.age10, data.comorbidity, u):
            score = np.sum(w * (data.readmitted - p))
            assert abs(score) < LIMIT * np.sqrt(np.sum(w**2 * p * (1 - p)))

    def test_realised_icc_on_the_response_scale(self):
        # Without case mix the risk is expit(b0 + u), whose variance quadrature gives; pairs of
        # patients of a hospital estimate E p^2 without bias.
        data = datasets.simulate_readmissions(
            3000, (40, 40), icc=0.2, base_rate=0.3, beta={"age10": 0, "comorbidity": 0}
        )
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        weights = weights / weights.sum()
        p = 1 / (1 + np.exp(-log(0.3 / 0.7) - data.attrs["truth"]["sd_hospital"] * nodes))
        mean = weights @ p
        icc = (weights @ p**2 - mean**2) / (mean * (1 - mean))

        events = data.groupby("hospital").readmitted.sum().to_numpy()

        def realised(events):
            mean = events.mean() / 40
            return (np.mean(events * (events - 1)) / (40 * 39) - mean**2) / (mean * (1 - mean))

        assert_jackknife(realised, events, icc)


class TestCells:
    def test_shape(self):
        data = datasets.simulate_cells(patients=5, cells=10, genes=12)
        genes = [f"gene_{i:04}" for i in range(1, 13)]
        assert list(data.columns) == ["patient", "treated", "library_size", *genes]
        assert data.groupby("patient").size().eq(10).all()
        assert data.groupby("patient").treated.nunique().eq(1).all()
        assert data.groupby("patient").treated.first().sum() == 2
        assert (data.dtypes.drop("patient") == "int64").all()
        assert (data[genes] >= 0).all().all()
        assert list(data.attrs["truth"]) == genes

    def test_share_and_size_of_effects(self):
        truth = datasets.simulate_cells(genes=50, share=0.3, effect=0.5).attrs["truth"]
        slopes = np.array([gene["beta"]["treated"] for gene in truth.values()])
        assert (slopes != 0).sum() == 15
        assert set(np.abs(slopes)) == {0, 0.5}
        assert set(np.sign(slopes)) == {-1, 0, 1}
        assert all(0.2 <= gene["sd_patient"] <= 0.6 for gene in truth.values())

    def test_truth_is_what_made_the_data(self):
        data = datasets.simulate_cells(1000, 20, 3, share=1, sd_patient=(0.2, 0.4), alpha=3)
        size = data.library_size.to_numpy().reshape(1000, 20)
        treated = data.treated.to_numpy().reshape(1000, 20)[:, 0]
        for name, gene in data.attrs["truth"].items():
            y = data[name].to_numpy().reshape(1000, 20)
            rate, square = y / size, y * (y - 1) / size**2
            # With r the rate of a patient, E y/s = E r; pairs of cells give E r^2, and
            # E y(y - 1)/s^2 = (1 + 1/alpha) E r^2. Patients are independent.
            pairs = (rate.sum(1) ** 2 - (rate**2).sum(1)) / (20 * 19)
            moments = np.column_stack([rate.mean(1), pairs, square.mean(1)])
            for arm in (0, 1):
                groups = moments[treated == arm]
                mean = gene["beta"]["Intercept"] + arm * gene["beta"]["treated"]
                variance = gene["sd_patient"] ** 2
                assert_jackknife(lambda m: log(m[:, 0].mean()), groups, mean + variance / 2)
                assert_jackknife(
                    lambda m: log(m[:, 1].mean() / m[:, 0].mean() ** 2), groups, variance
                )
                assert_jackknife(
                    lambda m: m[:, 2].mean() / m[:, 1].mean(), groups, 1 + 1 / gene["alpha"]
                )


@pytest.mark.parametrize(
    ("simulate", "arguments", "message"),
    [
        (0, {"clinics": 0}, r"clinics must be a whole number of at least 1, not 0"),
        (0, {"patients_per_clinic": 1.5}, r"patients_per_clinic must be a whole number"),
        (0, {"visits": 1}, r"visits must be a whole number of at least 2, not 1"),
        (0, {"follow_up": 0}, r"follow_up must be a finite number from 0 but not 0, not 0"),
        (0, {"sd_clinic": -1}, r"sd_clinic must be a finite number from 0, not -1"),
        (0, {"sd_patient": 9}, r"sd_patient must be two numbers, the sd of intercepts and of sl"),
        (0, {"sd_patient": (9, -1)}, r"sd_patient\[1\] must be a finite number from 0, not -1"),
        (0, {"cor_patient": 1.2}, r"cor_patient must be a finite number from -1 to 1, not 1.2"),
        (0, {"sigma": float("nan")}, r"sigma must be a finite number from 0, not nan"),
        (0, {"dropout": 2}, r"dropout must be a finite number from 0 to 1, not 2"),
        (0, {"beta": {"treatd": 1}}, r"no coefficient 'treatd'. Did you mean 'treated'"),
        (0, {"beta": {"treated": "low"}}, r"beta\['treated'\] must be a finite number, not 'low'"),
        (0, {"seed": -1}, r"seed must be a whole number of at least 0, not -1"),
        (1, {"hospitals": True}, r"hospitals must be a whole number of at least 1, not True"),
        (1, {"sizes": 30}, r"sizes must be two numbers, the fewest and the most patients"),
        (1, {"sizes": (0, 10)}, r"sizes\[0\] must be a whole number of at least 1, not 0"),
        (1, {"sizes": (50, 25)}, r"sizes must be .* in this order, not \(50, 25\)"),
        (1, {"icc": 1}, r"icc must be a finite number from 0 to 1 but not 1, not 1"),
        (1, {"base_rate": 0}, r"base_rate must be a finite number from 0.001 to 0.999, not 0"),
        (1, {"beta": {"age": 1}}, r"no coefficient 'age'. Did you mean 'age10'"),
        (1, {"case_mix_sd": -0.1}, r"case_mix_sd must be a finite number from 0, not -0.1"),
        (2, {"patients": 1}, r"patients must be a whole number of at least 2, not 1"),
        (2, {"genes": "all"}, r"genes must be a whole number of at least 1, not 'all'"),
        (2, {"share": -0.1}, r"share must be a finite number from 0 to 1, not -0.1"),
        (2, {"effect": 11}, r"effect must be a finite number from -10 to 10, not 11"),
        (2, {"sd_patient": (0.6, 0.2)}, r"sd_patient must be in ascending order, not \(0.6, 0.2\)"),
        (2, {"alpha": 0}, r"alpha must be a finite number from 0.01 to 1e\+06, not 0"),
    ],
)
def test_refused_arguments(simulate, arguments, message):
    with pytest.raises(BayesmixedError, match=message):
        SIMULATORS[simulate](**arguments)


@pytest.mark.parametrize(
    ("simulate", "arguments"),
    [
        (0, {"clinics": 1, "patients_per_clinic": 1, "visits": 2, "sigma": 0, "dropout": 1}),
        (0, {"sd_clinic": 0, "sd_patient": (0, 0), "cor_patient": -1}),
        (1, {"hospitals": 1, "icc": 0, "case_mix_sd": 0}),
        (1, {"hospitals": np.int64(3), "icc": np.float64(0.9), "base_rate": 0.001}),
        (2, {"patients": 2, "cells": 1, "genes": 1, "share": 0, "sd_patient": [0, 3]}),
        (2, {"share": 1, "effect": 10, "sd_patient": (3, 3), "alpha": 0.01}),
    ],
)
def test_ends_of_the_ranges_work(simulate, arguments):
    data = SIMULATORS[simulate](**arguments)
    assert len(data) > 0
    assert not data.isna().any().any()
