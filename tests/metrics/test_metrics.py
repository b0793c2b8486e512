"""The contract of the names; each metric is tested beside its own module."""

import inspect

import numpy as np
import pytest

from flamlib.events import Event
from flamlib.metrics import metrics


def test_every_name_is_there_and_says_what_it_is():
    assert metrics.__all__ == sorted(metrics.__all__, key=lambda name: (name.islower(), name))
    for name in metrics.__all__:
        assert name == "ClipStatistic" or inspect.getdoc(getattr(metrics, name))


def test_psds_from_arrays_to_a_float():
    """Found at once in a clip of its own length: 1."""
    value = metrics.psds(
        {"clip": np.array([[0.9], [0.1]])},
        np.array([0.0, 1.0, 2.0]),
        ["rain"],
        {"clip": [(0.0, 1.0, "rain")]},
        {"clip": 2.0},
        dtc_threshold=0.7,
        gtc_threshold=0.7,
        cttc_threshold=None,
        alpha_ct=0.0,
        alpha_st=1.0,
    )
    assert value == 1.0
    assert isinstance(value, float)


def test_the_four_calls_take_arrays_alone():
    scores, active = np.array([[0.9, 0.2], [0.1, 0.4]]), np.array([[True, False], [False, True]])
    assert metrics.frame_auroc(scores, active).keys() == {
        "macro",
        "pooled",
        "per_caption",
        "n_skipped",
    }
    found = metrics.retrieval(np.eye(2), np.eye(2), np.array([0, 1]))
    for direction in ("t2a", "a2t"):
        for name in ("r1", "r5", "r10", "map10", "median_rank"):
            assert found[f"{direction}_{name}"] == 1.0
    assert metrics.expected_calibration_error(scores, active, n_bins=15) == pytest.approx(
        (0.1 + 0.2 + 0.1 + 0.6) / 4
    )


def test_a_caption_that_never_sounds_crashes_nothing():
    scores, active = np.random.default_rng(0).random((6, 2)), np.zeros((6, 2), dtype=bool)
    active[:3, 0] = True
    truth = {"clip": [Event(0.0, 3.0, "rain")]}
    claims = {"clip": [Event(0.0, 3.0, "wind")]}
    captions, collars = (
        ["rain", "wind"],
        dict(onset_collar_s=0.2, offset_collar_s=0.2, offset_collar_rate=0.2),
    )
    assert metrics.frame_auroc(scores, active)["n_skipped"] == 1
    assert metrics.partial_auroc(scores, active, max_fpr=0.1)["n_skipped"] == 1
    assert metrics.average_precision(scores, active)["n_skipped"] == 1
    assert metrics.event_f1(claims, truth, captions, **collars)["n_skipped"] == 1
    assert (
        metrics.segment_f1(claims, truth, captions, {"clip": 6.0}, segment_s=1.0)["n_skipped"] == 1
    )
    value = metrics.psds(
        {"clip": scores},
        np.arange(7.0),
        captions,
        truth,
        {"clip": 6.0},
        dtc_threshold=0.1,
        gtc_threshold=0.1,
        cttc_threshold=0.3,
        alpha_ct=0.5,
        alpha_st=1.0,
    )
    assert 0 <= value <= 1
