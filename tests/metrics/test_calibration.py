import numpy as np
import pytest
from hypothesis import given
from scored_frames import seeds

from flamlib.metrics import calibration


def test_the_example_of_torchmetrics():
    prob = np.array([0.25, 0.25, 0.55, 0.75, 0.75])
    active = np.array([0, 0, 1, 1, 1], dtype=bool)
    assert calibration.expected_calibration_error(prob, active, n_bins=2) == pytest.approx(0.29)
    bins = calibration.reliability(prob, active, n_bins=2)
    assert bins["centre"].tolist() == [0.25, 0.75]
    assert bins["mean_prob"].tolist() == pytest.approx([0.25, 2.05 / 3])
    assert bins["frequency"].tolist() == [0.0, 1.0]
    assert bins["count"].tolist() == [2, 3]


@given(seeds)
def test_calibration_error_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    prob = rng.random((30, 4)).round(rng.integers(1, 4))
    active = rng.random(prob.shape) < prob**2
    expected = 0.0
    for k in range(8):  # eighths, so that no probability is on the wrong side of an edge
        inside = (prob >= k / 8) & ((prob < (k + 1) / 8) | (k == 7))
        if inside.any():
            expected += inside.mean() * abs(active[inside].mean() - prob[inside].mean())
    assert calibration.expected_calibration_error(prob, active, n_bins=8) == pytest.approx(expected)


def test_claiming_the_truth_is_calibrated_and_claiming_the_opposite_is_not():
    active = np.array([True, False, True])
    for measure in (calibration.expected_calibration_error, calibration.brier):
        assert measure(active.astype(float), active) == 0.0
        assert measure(1.0 - active, active) == 1.0


def test_empty_bins_say_nothing():
    bins = calibration.reliability(np.array([1.0]), np.array([True]), n_bins=3)
    assert bins["count"].tolist() == [0, 0, 1]
    assert np.isnan(bins["frequency"][:2]).all()


@pytest.mark.parametrize("claim", [-0.1, 1.5, np.nan])
def test_a_logit_is_not_a_probability(claim):
    with pytest.raises(ValueError, match="logits"):
        calibration.brier(np.array([claim]), np.array([True]))


@given(seeds)
def test_sums_of_clips_add_up_to_those_of_all(seed):
    rng = np.random.default_rng(seed)
    prob, clip = rng.random((30, 4)), rng.integers(0, 5, (30, 4))
    active = rng.random(prob.shape) < prob
    sums = calibration.bin_sums(prob, active, clip, n_clips=5, n_bins=8)
    whole = calibration.reliability(prob, active, 8)
    for name, values in calibration.reliability_of(sums.sum(axis=0)).items():
        assert values == pytest.approx(whole[name], nan_ok=True), name
    expected = calibration.expected_calibration_error(prob, active, 8)
    assert calibration.ece_of(sums.sum(axis=0)) == pytest.approx(expected)
    assert calibration.brier_of(sums.sum(axis=0)) == pytest.approx(calibration.brier(prob, active))
    mine = clip == 3
    if mine.any():
        assert calibration.brier_of(sums[3]) == pytest.approx(
            calibration.brier(prob[mine], active[mine])
        )
    nothing = np.zeros((4, 8))
    assert np.isnan([calibration.ece_of(nothing), calibration.brier_of(nothing)]).all()


def test_certainty_that_is_wrong_costs_what_it_claims():
    active = np.array([True, False, True, False])
    assert calibration.nats(np.array([0.0, 0, 800, 800]), active) == pytest.approx(
        [np.log(2), np.log(2), 0, 800]
    )
