import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flamlib.compute.distributions import Distribution, KeyedRandom

FORMS = [
    [6.0, 30.0],
    12.0,
    {"normal": [18.0, 5.0], "within": [6.0, 30.0]},
    {"normal": [0.0, 5.0], "within": [6.0, 30.0]},
    {"log_uniform": [6.0, 30.0]},
    {"choice": [6.0, 7.5, 30.0], "weights": [3, 2, 1]},
    {"choice": [6.0, 30.0]},
]
SCIPY = {
    0: stats.uniform(6, 24),
    2: stats.truncnorm((6 - 18) / 5, (30 - 18) / 5, 18, 5),
    3: stats.truncnorm(6 / 5, 30 / 5, 0, 5),
    4: stats.loguniform(6, 30),
}

PINNED = "0x1.fb62c1604853fp-1"  # the bits that recipes of older runs were drawn from


def drawn(form, n=2000, **options):
    distribution = Distribution.of(form, name="x", **options)
    return np.array([distribution.draw(KeyedRandom(0, i)) for i in range(n)])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing_is_drawn_beyond_the_bounds(form):
    distribution = Distribution.of(form, name="x")
    values = drawn(form)
    assert distribution.lowest <= values.min()
    assert values.max() <= distribution.highest


@pytest.mark.parametrize("i", SCIPY)
def test_what_is_drawn_is_distributed_as_scipy_says(i):
    assert stats.kstest(drawn(FORMS[i]), SCIPY[i].cdf).pvalue > 0.001


def test_a_choice_keeps_its_weights():
    values, counts = np.unique(drawn(FORMS[5], 6000), return_counts=True)
    assert values.tolist() == [6.0, 7.5, 30.0]
    assert stats.chisquare(counts, [3000, 2000, 1000]).pvalue > 0.001


def test_whole_numbers_come_alike_both_ends_included():
    values, counts = np.unique(drawn([1, 10], 5000, whole=True), return_counts=True)
    assert values.tolist() == [*range(1, 11)]
    assert stats.chisquare(counts).pvalue > 0.001


def test_a_choice_with_weight_zero_is_never_made():
    assert set(drawn({"choice": [1, 2, 3], "weights": [1, 0, 1]})) == {1, 3}


@given(st.integers(0, 2**64), st.text(), st.integers(0, 2**40))
def test_a_key_says_all(seed, split, index):
    one, other = KeyedRandom(seed, split, index), KeyedRandom(seed, split, index)
    assert [one.random() for _ in range(3)] == [other.random() for _ in range(3)]
    assert KeyedRandom(seed, split, index).random() != KeyedRandom(seed, split, index + 1).random()


def test_a_key_draws_what_it_always_drew():
    assert KeyedRandom(0, "mixture", "train", 0).random().hex() == PINNED


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_a_weighted_pick_never_takes_what_weighs_nothing(weights):
    cumulative = np.cumsum(weights).tolist()
    picks = {KeyedRandom(i).weighted_choice(range(len(weights)), cumulative) for i in range(50)}
    assert all(weights[i] for i in picks)


def test_numbers_of_neighbouring_keys_are_uniform_and_uncorrelated():
    values = np.array([KeyedRandom("mixture", i).random() for i in range(3000)])
    assert stats.kstest(values, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.06


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([30, 6], "the lower bound comes first"),
        ([1, 2, 3], "expected .lowest, highest."),
        ("loud", "'l' is not a finite number"),
        ([True, 2], "True is not a finite number"),
        (math.nan, "nan is not a finite number"),
        ({"normal": [0, 1]}, "within"),
        ({"normal": [0, 0], "within": [0, 1]}, "standard deviation above 0, got 0"),
        (
            {"normal": [0, 1], "within": [1000, 1001]},
            r"within .1000, 1001. has no probability under normal\(0, 1\)",
        ),
        ({"log_uniform": [0, 1]}, "log_uniform needs low > 0, got 0"),
        ({"choice": []}, "choice needs one or more numbers"),
        ({"choice": [1, 2], "weights": [1]}, "choice needs one or more numbers"),
        ({"choice": [1], "within": [0, 1]}, "unknown key 'within' beside choice"),
        ({"poisson": 3}, "exactly one of normal, log_uniform, choice"),
        (None, "expected"),
    ],
)
def test_what_is_no_distribution_is_refused_by_name(form, message):
    with pytest.raises(ValueError, match=f"snr_db: .*{message}"):
        Distribution.of(form, name="snr_db")


def test_a_fraction_is_no_count():
    with pytest.raises(ValueError, match="n_events: expected whole numbers"):
        Distribution.of([1, 2.5], name="n_events", whole=True)
