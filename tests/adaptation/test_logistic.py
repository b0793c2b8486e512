import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from flamlib.adaptation import logistic


def rows(seed, n=60, dim=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    return x, x @ np.arange(1, dim + 1) + rng.normal(size=n) > 0.5


@given(st.integers(0, 50))
def test_it_is_sklearns_where_the_start_is_zero(seed):
    """Of which the shift is not held, so it is a column of ones here."""
    x, active = rows(seed)
    importance = np.random.default_rng(seed).uniform(0.1, 2.0, len(x))
    found = logistic.fit(x, active, importance, np.zeros(4), unit=1.0, strength=0.5)
    ones = np.column_stack([x, np.ones(len(x))])
    theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = theirs.fit(ones, active, sample_weight=importance).coef_[0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_without_evidence_it_stays_and_with_a_strong_start_too():
    x, active = rows(0)
    start = np.array([2.0, -1.0, 0.5, 0.1])
    nothing = np.zeros(len(x))
    assert logistic.fit(x, active, nothing, start, unit=3.0, strength=1.0) == pytest.approx(start)
    ones = np.ones(len(x))
    held = logistic.fit(x, active, ones, start, unit=1.0, strength=1e9)
    assert held == pytest.approx(start, abs=1e-4)


def test_what_two_halves_say_is_what_the_whole_says():
    x, active = rows(1)
    how = {"start": np.zeros(4), "unit": 1.0, "strength": 1.0}
    once = logistic.fit(x, active, np.ones(len(x)), **how)
    both = np.concatenate([x, x]), np.concatenate([active, active])
    assert logistic.fit(*both, np.full(2 * len(x), 0.5), **how) == pytest.approx(once, abs=1e-4)
