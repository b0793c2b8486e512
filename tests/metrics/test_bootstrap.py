import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from scored_frames import seeds

from flamlib.metrics import bootstrap


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap.bootstrap(bootstrap.clip_mean(values), 400, n_resamples=2000, seed=1)
    error = values.std() / 20
    assert interval == pytest.approx(values.mean() + 1.96 * error * np.array([-1, 1]), abs=0.01)


def test_the_same_seed_draws_the_same_clips():
    statistic = bootstrap.clip_mean(np.random.default_rng(0).normal(size=9))
    once, again, other = (
        bootstrap.bootstrap(statistic, 9, n_resamples=50, seed=seed) for seed in (1, 1, 2)
    )
    assert once == again != other


def test_a_constant_advantage_is_certain_however_hard_the_clips():
    values = np.random.default_rng(0).normal(size=30)
    better, worse = bootstrap.clip_mean(values + 0.1), bootstrap.clip_mean(values)
    tested = bootstrap.paired_test(better, worse, 30, n_resamples=100, seed=0)
    assert (tested["low"], tested["high"]) == pytest.approx((0.1, 0.1))


def test_draws_with_nothing_to_judge_are_left_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nowhere, seldom = (
            bootstrap.bootstrap(bootstrap.each_draw(of), 3, n_resamples=50, seed=0)
            for of in (lambda times: np.nan, lambda times: 1.0 if times[0] else np.nan)
        )
    assert np.isnan(nowhere).all()
    assert seldom == (1.0, 1.0)


def test_a_number_of_sums_over_clips_is_drawn_with_them():
    counts = np.array([[1, 4], [2, 2], [0, 3]])
    statistic = bootstrap.clip_sum(counts, lambda n: n[0] / n[1])
    assert statistic(np.array([1, 1, 1])) == 3 / 9
    assert statistic(np.array([0, 2, 1])) == 4 / 7


def test_a_model_is_no_different_from_itself():
    same = bootstrap.clip_mean(np.random.default_rng(0).normal(size=30))
    found = bootstrap.paired_test(same, same, 30, n_resamples=99, seed=0)
    assert found == {"difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}


def test_a_difference_by_rounding_is_none():
    values = np.random.default_rng(0).random(30)
    one, other = bootstrap.clip_mean(values), bootstrap.clip_mean(values + 1e-15)
    found = bootstrap.paired_test(one, other, 30, n_resamples=99, seed=0)
    assert found["p_value"] == 1.0


def test_a_constant_advantage_has_the_smallest_p_value_there_is():
    values = np.random.default_rng(0).normal(size=30)
    better, worse = bootstrap.clip_mean(values + 0.1), bootstrap.clip_mean(values)
    found = bootstrap.paired_test(better, worse, 30, n_resamples=99, seed=0)
    assert found["p_value"] == 2 / 100
    assert found["difference"] == pytest.approx(0.1)
    assert bootstrap.paired_test(worse, better, 30, n_resamples=99, seed=0)["p_value"] == 2 / 100


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_is_about_that_of_a_paired_t_test(seed):
    rng = np.random.default_rng(seed)
    one = rng.normal(size=200)
    other = one + rng.normal(0.04, 0.4, size=200)
    ours = bootstrap.paired_test(
        bootstrap.clip_mean(other), bootstrap.clip_mean(one), 200, n_resamples=4000, seed=0
    )
    assert ours["p_value"] == pytest.approx(ttest_rel(other, one).pvalue, abs=0.03)


def test_a_true_null_is_rejected_about_as_often_as_claimed():
    rng = np.random.default_rng(0)
    p_values = [
        bootstrap.paired_test(
            bootstrap.clip_mean(rng.normal(size=60)),
            bootstrap.clip_mean(rng.normal(size=60)),
            60,
            n_resamples=199,
            seed=i,
        )["p_value"]
        for i in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_a_clip_that_says_nothing_leaves_a_mean():
    statistic = bootstrap.clip_mean(np.array([0.5, np.nan, 1.0]))
    assert statistic(np.array([1, 5, 1])) == 0.75
    assert np.isnan(statistic(np.array([0, 3, 0])))


@given(seeds, st.integers(0, 12))
def test_many_draws_at_once_are_those_draws_one_by_one(seed, n_asked):
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(6, np.full(6, 1 / 6), size=5)
    unit, values = rng.integers(0, 6, n_asked), rng.integers(1, 5, n_asked).astype(float)
    for statistic in (
        bootstrap.clip_mean(np.where(draws[0] > 0, np.arange(6.0), np.nan)),
        bootstrap.clip_sum(np.ones((6, 2)), lambda n: n[0]),
        bootstrap.query_mean(values, unit, 6),
        bootstrap.query_median(values, unit, 6),
        bootstrap.group_mean(np.arange(6.0), rng.integers(0, 3, 6)),
    ):
        one_by_one = [float(statistic(times)) for times in draws]
        assert statistic(draws) == pytest.approx(one_by_one, abs=1e-12, nan_ok=True)


@given(seeds, st.integers(1, 20))
def test_what_is_asked_of_a_clip_is_drawn_as_often_as_the_clip(seed, n_asked):
    rng = np.random.default_rng(seed)
    unit, rank = rng.integers(0, 6, n_asked), rng.integers(1, 7, n_asked)
    times = rng.multinomial(6, np.full(6, 1 / 6))
    drawn = np.repeat(rank, times[unit])
    expected = (drawn.mean(), np.median(drawn)) if len(drawn) else (np.nan, np.nan)
    found = [of(rank, unit, 6)(times) for of in (bootstrap.query_mean, bootstrap.query_median)]
    assert found == pytest.approx(expected, nan_ok=True)


@given(seeds)
def test_a_mean_over_groups_is_of_the_groups_that_were_drawn(seed):
    rng = np.random.default_rng(seed)
    right, fold = rng.random(8), rng.choice([1, 4, 10], 8)
    times = rng.multinomial(8, np.full(8, 1 / 8))
    means = [np.average(right[fold == i], weights=times[fold == i])
             for i in np.unique(fold) if times[fold == i].sum()]  # fmt: skip
    assert bootstrap.group_mean(right, fold)(times) == pytest.approx(np.mean(means))


def test_the_median_of_many_draws_is_made_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    statistic = bootstrap.query_median(rng.permutation(30), rng.integers(0, 9, 30), 9)
    draws = rng.multinomial(9, np.full(9, 1 / 9), size=7)
    at_once = statistic(draws)
    monkeypatch.setattr(bootstrap, "SUMS", 60)
    assert (statistic(draws) == at_once).all()
