import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flamlib.sound_events.detection import events_from_scores
from flamlib.sound_events.smoothing import Smoothing, hold, median_filter, raise_odds

SCORES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.just(2)),
    elements=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]),
)
ANY_SCORES = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 40),
    elements=st.sampled_from([0.0, 1e-9, 0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.99, 1.0]),
)
NATS = st.sampled_from([0.0, 0.1, 0.5, 0.75, 1.0, 3.0, 50.0])


def frames_of(events, n_frames):
    """Which frames, each of one second, are in an event."""
    active = np.zeros(n_frames, bool)
    for event in events:
        active[round(event.onset) : round(event.offset)] = True
    return active.tolist()


# The median filter


def slow_median_filter(scores, n_frames):
    """The definition, one frame at a time; the clip goes on as its mirror image."""
    n = len(scores)
    mirrored = np.concatenate([scores[::-1], scores, scores[::-1]])
    half = n_frames // 2
    return [sorted(mirrored[n + i - half : n + i + half + 1])[half] for i in range(n)]


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=12), st.sampled_from([1, 3, 5, 9]))
def test_the_median_is_that_of_the_frames_around(scores, n_frames):
    filtered = median_filter(np.array(scores), n_frames)
    assert filtered.tolist() == slow_median_filter(np.array(scores), n_frames)


@given(SCORES)
def test_smoothing_before_or_after_calibration_is_the_same(scores):
    def calibrate(score):
        return 1 / (1 + np.exp(-4 * score + 3))

    once = median_filter(calibrate(scores.T), 3)
    assert np.array_equal(once, calibrate(median_filter(scores.T, 3)))


def test_clips_and_captions_do_not_mix():
    scores = np.random.default_rng(0).random((2, 3, 9))
    apart = [[median_filter(caption, 3) for caption in clip] for clip in scores]
    assert np.array_equal(median_filter(scores, 3), apart)


def test_one_frame_is_no_filter_and_an_even_number_has_no_middle():
    scores = np.array([0.3, 0.1, 0.2])
    assert median_filter(scores, 1).tolist() == scores.tolist()
    with pytest.raises(ValueError, match="odd number of frames, found 4"):
        median_filter(scores, 4)


# Hysteresis


def slow_hold(scores, hysteresis):
    """The definition, one pair of frames at a time."""
    raised = raise_odds(scores, hysteresis)
    return [
        max(
            min(scores[k], *raised[min(k, at) : max(k, at) + 1]) if k != at else scores[at]
            for k in range(len(scores))
        )
        for at in range(len(scores))
    ]


@given(ANY_SCORES, NATS)
def test_a_score_is_the_highest_that_is_carried_to_its_frame(scores, hysteresis):
    assert hold(scores, hysteresis).tolist() == slow_hold(scores, hysteresis)
    assert hold(scores, hysteresis).dtype == scores.dtype


@given(ANY_SCORES, st.sampled_from([0.1, 0.5, 1.0, 3.0]), st.sampled_from([0.04, 0.15, 0.4, 0.9]))
def test_events_of_held_scores_are_those_of_two_thresholds(scores, hysteresis, threshold):
    """At any threshold: an event goes on while its odds are exp(-hysteresis) times as high."""
    odds = threshold / (1 - threshold) * np.exp(-hysteresis)
    how = {"min_duration_s": 0.0, "merge_gap_s": 0.0}
    of = (np.arange(len(scores) + 1.0), ["rain"])
    held = events_from_scores(hold(scores, hysteresis)[:, None], *of, threshold=threshold, **how)
    two = events_from_scores(
        scores[:, None], *of, threshold=threshold, off_threshold=odds / (1 + odds), **how
    )
    assert frames_of(held, len(scores)) == frames_of(two, len(scores))
    assert [event.score for event in held] == [event.score for event in two]


@given(ANY_SCORES, NATS)
def test_what_is_held_is_never_lower_nor_above_all_and_holds_still(scores, hysteresis):
    held = hold(scores, hysteresis)
    assert (held >= scores).all()
    assert held.max(initial=0) == scores.max(initial=0)
    # Backwards the same.
    assert hold(scores[::-1], hysteresis)[::-1].tolist() == held.tolist()


def test_no_hysteresis_is_none_and_captions_do_not_mix():
    scores = np.random.default_rng(0).random((2, 3, 50)).astype(np.float32)
    assert hold(scores, 0.0) is scores
    apart = [[hold(caption, 1.0) for caption in clip] for clip in scores]
    assert np.array_equal(hold(scores, 1.0), apart)


def test_odds_are_raised_as_said():
    score = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    raised = raise_odds(score, np.log(4.0))
    np.testing.assert_allclose(raised, [0, 4 / 13, 0.8, 36 / 37, 1])


@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan])
def test_scores_without_odds_are_refused(score):
    with pytest.raises(ValueError, match=r"between 0 and 1|NaN"):
        Smoothing(hysteresis=1.0)(np.array([0.5, score]))


def test_smoothing_is_the_median_and_then_hysteresis():
    scores = np.random.default_rng(0).random((4, 60))
    expected = hold(median_filter(scores, 3), 0.7)
    assert np.array_equal(Smoothing(3, 0.7)(scores), expected)
    assert np.array_equal(Smoothing()(scores), scores)


@pytest.mark.parametrize(
    "wrong", [{"median_frames": 2}, {"hysteresis": -1.0}, {"hysteresis": np.nan}]
)
def test_what_cannot_be_smoothed_by_is_refused(wrong):
    with pytest.raises(ValueError, match=r"odd number of frames, found 2|0 or more nats"):
        Smoothing(**wrong)


@pytest.mark.parametrize(
    ("smoothing", "text"),
    [
        (Smoothing(), "no smoothing"),
        (Smoothing(3), "a median of 3 frames"),
        (Smoothing(5, 0.75), "a median of 5 frames and a hysteresis of 0.75"),
    ],
)
def test_it_is_said_in_words(smoothing, text):
    assert str(smoothing) == text
