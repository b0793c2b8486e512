import numpy as np
import own_thresholds
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from flamlib.adaptation import choose
from flamlib.adaptation.choose import Criterion
from flamlib.adaptation.own_labels import LabelledFrames, clips_of
from flamlib.models.caption_thresholds import Chosen
from flamlib.sound_events import detection
from flamlib.sound_events.events import Event, frame_edges
from flamlib.sound_events.smoothing import Smoothing

FRAME_S = 0.5


def clips(scores, events, *, captions=("rain",), decisions=None):
    values = np.array(scores, dtype=np.float32).reshape(len(scores), len(captions))
    one = LabelledFrames("a.wav", events, decisions, len(values) * FRAME_S, values)
    return clips_of([one], list(captions), FRAME_S)


def own(threshold=0.5, captions=("rain",)):
    return [Chosen(caption, threshold, False, 0) for caption in captions]


def spans(scores, threshold):
    edges = frame_edges(len(scores) * FRAME_S, FRAME_S)
    column = np.array(scores, dtype=np.float32)[:, None]
    return detection.events_from_scores(
        column, edges, ["rain"], threshold=threshold, min_duration_s=0.0, merge_gap_s=0.0
    )


@given(
    st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), min_size=1, max_size=12),
    st.integers(0, 6),
)
def test_no_lower_threshold_keeps_the_rate_of_false_spans(scores, allowed):
    """Without an event every span is false: counted by detecting at every threshold."""
    hours = len(scores) * FRAME_S / 3600
    criterion = Criterion("false_per_hour", allowed / hours)
    [choice] = choose.choose(clips(scores, []), own(), criterion)
    counts = {t: len(spans(scores, t)) for t in sorted(set(scores), reverse=True)}
    assert len(spans(scores, choice.threshold)) <= allowed
    assert choice.false_per_hour == pytest.approx(len(spans(scores, choice.threshold)) / hours)
    now = len(spans(scores, choice.threshold))
    on_the_way = np.maximum.accumulate([n for t, n in counts.items() if t < choice.threshold])
    assert not any(now < n <= allowed for n in on_the_way)


def test_a_precision_is_reached_with_as_many_events_as_possible():
    scores = [0.9, 0.1, 0.8, 0.1, 0.7, 0.1, 0.6, 0.1, 0.5, 0.1, 0.4, 0.1]
    events = [Event(at * FRAME_S, (at + 1) * FRAME_S, "rain") for at in (0, 2, 6, 8, 10)]
    [whole] = choose.choose(clips(scores, events), own(), Criterion("precision", 1))
    assert (whole.recall, whole.precision, whole.n_events) == (0.4, 1.0, 5)
    assert 0.7 < whole.threshold < 0.8
    [most] = choose.choose(clips(scores, events), own(), Criterion("precision", 0.8))
    assert (most.recall, most.precision) == (1.0, pytest.approx(5 / 6))


def test_a_precision_that_no_threshold_reaches_detects_nothing():
    events = [Event(at * FRAME_S, (at + 1) * FRAME_S, "rain") for at in (0, 2, 4, 6, 8)]
    found = choose.choose(clips([0.1, 0.9] * 5, events), own(), Criterion("precision", 0.9))
    assert found[0].threshold == 1.0
    assert np.isnan(found[0].precision)


@given(st.floats(0.05, 0.95), st.integers(1, 30))
def test_the_more_events_the_less_the_models_own_threshold_counts(of_model, n_events):
    scores, events = [0.9, 0.1] * n_events, []
    events = [Event(2 * i * FRAME_S, (2 * i + 1) * FRAME_S, "rain") for i in range(n_events)]
    how = {"own": own(of_model), "criterion": Criterion("f1")}
    alone, mixed, kept = (
        choose.choose(clips(scores, events), **how, prior_events=prior)[0].threshold
        for prior in (0, 4, 1e9)
    )
    assert alone == pytest.approx(0.5)
    assert kept == pytest.approx(of_model, abs=1e-4)
    assert min(alone, kept) - 1e-5 <= mixed <= max(alone, kept) + 1e-5
    if n_events > 4:
        near, far = (abs(logit(mixed) - logit(other)) for other in (alone, kept))
        assert near <= far + 1e-3


def test_a_review_has_a_precision_but_no_rate():
    scores = [0.9, 0.1, 0.8, 0.1, 0.7, 0.1]
    events = [Event(i * FRAME_S, (i + 1) * FRAME_S, "rain") for i in (0, 2, 4)]
    reviewed = clips(scores, events, decisions=[True, False, True])
    [choice] = choose.judge(reviewed, [0.6])
    assert (choice.n_events, choice.n_false) == (2, 1)
    assert choice.precision == pytest.approx(2 / 3)
    assert np.isnan(choice.false_per_hour)
    with pytest.raises(ValueError, match="reviewed detections say nothing of false spans an hour"):
        choose.choose(reviewed, own(), Criterion("false_per_hour", 1))
    assert choose.recall_table(reviewed) == {}


def test_without_an_event_there_is_nothing_to_choose_by():
    with pytest.raises(ValueError, match="no event in the labelled recordings"):
        choose.choose(clips([0.9, 0.1], []), own(), Criterion("f1"))


def test_captions_that_are_not_in_the_labels_keep_the_models_thresholds():
    base = own_thresholds.made({"wind": (0.7, 20), "hail": (0.1, 2)})
    events = [Event(0.0, FRAME_S, "rain")]
    choices = choose.choose(clips([0.9, 0.1], events), own(), Criterion("f1"), prior_events=0)
    how = {"model": "1" * 64, "method": "unbiased", "smoothing": Smoothing(3), "default": 0.9}
    made = choose.to_thresholds(choices, base, Criterion("f1"), **how)
    found = [each.threshold for each in made.threshold_for(["rain", "wind", "hail", "snow"])]
    assert found == pytest.approx([0.5, 0.7, 0.8, 0.8])
    assert made.model == "1" * 64
    assert made.novel == 0.6
    alone = choose.to_thresholds(choices, None, Criterion("f1"), **how)
    assert alone.fallback == 0.9
