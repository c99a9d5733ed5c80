"""The LKJ prior as machine code: against PyMC, and in the tails against more digits."""

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose

from bayesmixed.graph import interpreted
from bayesmixed.lkj import backward, factor, forward

SIZES = [(2, 1.0), (3, 0.3), (4, 2.0), (20, 5.0)]
# The sizes of the unconstrained numbers; at 1000 a correlation differs from 1 by 5e-7.
SPREADS = [0.0, 1e-8, 0.5, 3.0, 40.0, 1e3]


def points(n):
    """One point for each spread, and one where a single correlation is nearly 1, in rows."""
    rng = np.random.default_rng(n)
    count = n * (n - 1) // 2
    single = np.zeros(count)
    single[0] = -1e3
    return np.vstack([np.multiply.outer(SPREADS, rng.uniform(-1, 1, count)), single])


def weights(n):
    """Derivatives with respect to the factor of something that is linear in it."""
    return np.random.default_rng(n + 1).normal(size=(n, n))


def evaluated(x, n, eta, dL):
    """Density, factor and gradient of the density plus the sum of `dL` times the factor."""
    L, dx = np.full((n, n), np.nan), np.ones(len(x))
    density = forward(x, n, eta, L)
    backward(x, n, eta, L, dL, dx)
    return density, L, dx - 1  # what was there is added to


@pytest.fixture(scope="module", params=SIZES, ids=str)
def compared(request):
    """What we have and what PyMC has, at every point."""
    n, eta = request.param
    with interpreted() as mode:
        with pm.Model() as model:
            rv = pm.LKJCorr("L", n=n, eta=eta)
        value = model.rvs_to_values[rv]
        (L,) = model.replace_rvs_by_values([rv])
        density = model.logp()
        gradient = pytensor.grad(density + (weights(n) * L).sum(), value)
        function = pytensor.function([value], [density, L, gradient], mode=mode)
        theirs = [function(x) for x in points(n)]
    return [evaluated(x, n, eta, weights(n)) for x in points(n)], theirs


def test_density_equals_pymc(compared):
    ours, theirs = ([r[0] for r in rows] for rows in compared)
    assert_allclose(ours, theirs, rtol=1e-10)


def test_factor_equals_pymc(compared):
    ours, theirs = (np.array([r[1] for r in rows]) for rows in compared)
    assert_allclose(ours, theirs, rtol=1e-13)


def test_gradient_equals_pymc(compared):
    # Further out PyMC's own gradient has lost digits.
    ours, theirs = (np.array([r[2] for r in rows[:4]]) for rows in compared)
    assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n", "eta"), SIZES)
def test_gradient_in_the_tails(n, eta):
    """Against complex steps in extended precision, one row at a time.

    The data weigh more than the prior, as they do when they bring a correlation close to 1.
    """
    dL, x = 1e8 * weights(n), points(n)
    order = np.zeros((n, n), dtype=int)
    for k in range(x.shape[1]):  # which number goes where, found by making each of them large
        alone = np.zeros(x.shape[1])
        alone[k] = 10.0
        i, j = np.argwhere(np.tril(factor(alone[None], n)[0], -1) > 0.5)[0]
        order[i, j] = k

    def total(row, i):
        length = np.sqrt(1 + (row**2).sum())
        density = -(2 * eta + n - 1) * np.log(length)
        return density + ((row * dL[i, :i]).sum() + dL[i, i]) / length

    for point in x:
        gradient = evaluated(point, n, eta, dL)[2]
        for i in range(1, n):
            row = point[order[i, :i]].astype(np.clongdouble)
            for j in range(i):
                step = np.zeros(i, dtype=np.clongdouble)
                step[j] = 1e-200j
                expected = float(total(row + step, i).imag / np.longdouble("1e-200"))
                assert_allclose(gradient[order[i, j]], expected, rtol=1e-11, atol=1e-17)


@pytest.mark.parametrize(("n", "eta"), SIZES)
def test_draws_get_the_same_factors(n, eta):
    x = points(n)
    expected = np.array([evaluated(p, n, eta, weights(n))[1] for p in x])
    assert_allclose(factor(x, n), expected, rtol=1e-14)


def test_one_effect_needs_no_numbers():
    density, L, _ = evaluated(np.zeros(0), 1, 2.0, np.ones((1, 1)))
    assert density == pytest.approx(0, abs=1e-15)
    assert_allclose(L, 1)
    assert_allclose(factor(np.zeros((3, 0)), 1), np.ones((3, 1, 1)))


def test_two_effects_have_a_uniform_correlation():
    """LKJ(1): the density on the unconstrained line is half the slope of the correlation."""
    for w in (0.0, -0.7, 3.0, 1e3):
        density, _, _ = evaluated(np.array([w]), 2, 1.0, np.zeros((2, 2)))
        assert_allclose(density, np.log(0.5) - 1.5 * np.log1p(w**2), rtol=1e-13)
