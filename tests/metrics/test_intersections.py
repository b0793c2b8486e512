import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.metrics.intersections import changes, event_table
from flamlib.sound_events.events import Event
from flamlib.sound_events.runs import runs_of

CAPTIONS = ["dog", "rain", "bell"]
N_FRAMES = 6
EDGES = np.arange(N_FRAMES + 1) * 0.25
COST = np.array([100.0, 10_000.0, 1_000_000.0])  # tells the cross-triggers of a sum apart

times = st.integers(0, 12).map(lambda i: i / 8)
some_events = st.lists(
    st.builds(
        lambda a, b, caption: Event(min(a, b), max(a, b) + 1 / 8, caption),
        times,
        times,
        st.sampled_from(CAPTIONS),
    ),
    max_size=5,
)
some_scores = st.lists(
    st.lists(st.sampled_from([-np.inf, 0.0, 0.5, 1.0]), min_size=3, max_size=3),
    min_size=N_FRAMES,
    max_size=N_FRAMES,
).map(np.array)


def overlap(a, b):
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def slow_counts(score, events, caption, threshold, dtc, gtc, cttc):
    """The definition, at one threshold: false alarms, with cross-triggers at their cost, and
    events found. All durations are eighths, so that nothing is rounded."""
    of = {c: [(e[0], e[1]) for e in events if e[2] == c] for c in range(len(CAPTIONS))}
    active = (score[:, caption] >= threshold) & (score[:, caption] > -np.inf)
    detections = [(EDGES[a], EDGES[b]) for a, b in runs_of(active)]
    relevant, alarms = [], 0.0
    for d in detections:
        length = d[1] - d[0]
        if sum(overlap(d, e) for e in of[caption]) >= dtc * length:
            relevant.append(d)
            continue
        alarms += 1
        for other in set(of) - {caption}:
            seconds = sum(overlap(d, e) for e in of[other])
            alarms += COST[other] * (seconds > 0 and seconds >= cttc * length)
    found = sum(sum(overlap(d, e) for d in relevant) >= gtc * (e[1] - e[0]) for e in of[caption])
    return alarms, found


@given(st.lists(st.tuples(some_scores, some_events), min_size=1, max_size=3))
def test_at_every_threshold_the_changes_add_up_to_the_counts(clips):
    dtc, gtc, cttc = 0.5, 0.25, 0.25
    names = [str(i) for i in range(len(clips))]
    ground_truth = dict(zip(names, (events for _, events in clips), strict=True))
    events = event_table(names, CAPTIONS, ground_truth, dict.fromkeys(names, 2.0))
    asked = np.array([0, 2])
    threshold, alarms, found = changes(
        [score for score, _ in clips],
        EDGES,
        events,
        asked,
        clip_s=np.full(len(clips), 2.0),
        dtc_threshold=dtc,
        gtc_threshold=gtc,
        cttc_threshold=cttc,
        cross_trigger_cost=COST,
    )
    rows = list(zip(events.onset, events.offset, events.caption, events.clip, strict=True))
    for row, caption in enumerate(asked):
        for level in (0.0, 0.5, 1.0):
            slow = [
                slow_counts(score, [r for r in rows if r[3] == i], caption, level, dtc, gtc, cttc)
                for i, (score, _) in enumerate(clips)
            ]
            passed = threshold[row] >= level
            assert alarms[row][passed].sum() == sum(alarms for alarms, _ in slow)
            assert found[row][passed].sum() == sum(found for _, found in slow)


def test_events_of_one_caption_that_overlap_or_touch_are_one():
    truth = {"a": [(0.0, 1.0, "dog"), (1.0, 2.0, "dog"), (1.5, 3.0, "dog"), (2.0, 2.5, "rain")]}
    table = event_table(["a"], CAPTIONS, truth, {"a": 3.0})
    assert table.caption.tolist() == [0, 1]
    assert table.onset.tolist() == [0.0, 2.0]
    assert table.offset.tolist() == [3.0, 2.5]


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        ((1.0, 1.0, "dog"), r"'a', Event\(onset=1.0, offset=1.0.*onset < offset"),
        ((2.0, 1.0, "dog"), "onset < offset"),
        ((-1.0, 1.0, "dog"), "onset < offset"),
        ((np.nan, 1.0, "dog"), "onset < offset"),
        ((1.0, 3.5, "dog"), "'a'.*3.0 s long"),
        ((1.0, 2.0, "cat"), "'a'.*cat.*no scores"),
    ],
)
def test_an_event_that_cannot_be_meant_is_named_with_its_clip(event, complaint):
    with pytest.raises(ValueError, match=complaint):
        event_table(["a"], CAPTIONS, {"a": [event]}, {"a": 3.0})


def test_an_end_rounded_to_a_microsecond_may_be_after_the_clip():
    assert len(event_table(["a"], CAPTIONS, {"a": [(1.0, 2.000001, "dog")]}, {"a": 2.0}).clip) == 1


@pytest.mark.parametrize("missing", ["ground_truth", "durations"])
def test_the_clips_must_be_the_same_everywhere(missing):
    given = {"ground_truth": {"a": [], "b": []}, "durations": {"a": 1.0, "b": 1.0}}
    del given[missing]["b"]
    with pytest.raises(ValueError, match=rf"missing in {missing} \['b'\]"):
        event_table(["a", "b"], CAPTIONS, **given)
    given[missing]["c"] = given[missing]["a"]
    with pytest.raises(ValueError, match=r"without scores \['c'\]"):
        event_table(["a", "b"], CAPTIONS, **given)
