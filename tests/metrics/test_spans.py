from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_frames import clip_scores, levels, seeds

from flamlib.metrics import spans
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.spans import SpanChanges
from flamlib.sound_events.events import Event


def rounded(seed, n_levels, **changes):
    """Scores with ties, and pairs of clip and caption that are unknown."""
    of = clip_scores(seed, **changes)
    known = np.random.default_rng(seed).random(of.known.shape) < 0.9
    scores = [np.floor(score * n_levels) / n_levels for score in of.scores]
    return replace(of, scores=scores, known=known)


def counted(of, threshold):
    """False spans a minute and recall of each caption, clip by clip, as the definition reads."""
    n_false, n_found, n_events = np.zeros((3, len(of.captions)))
    detections, events = of.detections(threshold), of.known_events()
    for clip in of.clips:
        for j, caption in enumerate(of.captions):
            true = [event for event in events[clip] if event.caption == caption]
            fits = []
            for span in detections[clip]:
                if span.caption != caption:
                    continue
                inside = sum(overlap(span, event) for event in true)
                if inside >= 0.5 * (span.offset - span.onset) - 1e-7:
                    fits.append(span)
                else:
                    n_false[j] += 1
            for event in true:
                covered = sum(overlap(event, span) for span in fits)
                n_found[j] += covered >= 0.5 * (event.offset - event.onset) - 1e-7
            n_events[j] += len(true)
    has = n_events > 0
    return n_false[has] / (sum(of.durations) / 60), n_found[has] / n_events[has]


def overlap(one, other):
    return max(0.0, min(one.offset, other.offset) - max(one.onset, other.onset))


@given(seeds, levels)
def test_the_curve_is_what_counting_at_every_threshold_gives(seed, n_levels):
    of = rounded(seed, n_levels, n_clips=3)
    changes = SpanChanges.of(of)
    curve = changes.curve()
    every = np.unique(np.concatenate([score.ravel() for score in of.scores]))
    for threshold in np.random.default_rng(seed).choice(every, min(8, len(every)), replace=False):
        false_spans, recall = counted(of, threshold)
        last = np.flatnonzero(curve.threshold >= threshold)[-1]
        assert curve.false_spans[last] == pytest.approx(false_spans.mean(), abs=1e-9)
        assert curve.recall[last] == pytest.approx(recall.mean(), abs=1e-9)
        for row, own in enumerate(changes.by_caption()):
            last = np.flatnonzero(own.threshold >= threshold)[-1]
            assert own.false_spans[last] == pytest.approx(false_spans[row], abs=1e-9)
            assert own.recall[last] == pytest.approx(recall[row], abs=1e-9)


@given(seeds, levels)
@settings(max_examples=15)
def test_recall_at_a_rate_is_the_best_before_there_are_more(seed, n_levels):
    of = rounded(seed, n_levels, n_clips=4)
    best = dict.fromkeys(spans.RATES, 0.0)
    for rate in best:
        for threshold in np.unique(np.concatenate([s.ravel() for s in of.scores]))[::-1]:
            false_spans, recall = counted(of, threshold)
            if false_spans.mean() > rate + 1e-6:
                break
            best[rate] = max(best[rate], recall.mean())
    found = spans.compute(SpanChanges.of(of), threshold=0.5)
    assert {f"recall_at_{rate}": found[f"recall_at_{rate}"] for rate in best} == pytest.approx(
        {f"recall_at_{rate}": value for rate, value in best.items()}
    )
    false_spans, recall = counted(of, 0.5)
    assert found["false_spans"] == pytest.approx(false_spans.mean())
    assert found["event_recall"] == pytest.approx(recall.mean())


def one_clip(scores, events, clip_s=60.0):
    """A clip of a minute with one caption, in frames of a second."""
    return ClipScores(
        ["clip"],
        ["a"],
        1.0,
        [clip_s],
        [np.array(scores, dtype=float)[:, None]],
        [[Event(on, off, "a") for on, off in events]],
        np.ones((1, 1), dtype=bool),
    )


def test_an_event_is_found_where_half_of_it_is_covered():
    scores = np.zeros(60)
    scores[10:12], scores[30] = 0.9, 0.8
    found = spans.compute(SpanChanges.of(one_clip(scores, [(10, 14)])), threshold=0.85)
    assert (found["event_recall"], found["false_spans"]) == (1.0, 0.0)
    found = spans.compute(SpanChanges.of(one_clip(scores, [(10, 14.1)])), threshold=0.75)
    assert (found["event_recall"], found["false_spans"]) == (0.0, 1.0)


def test_one_span_over_all_is_no_detection():
    """Below the noise everything is one span, which fits an event of half of the clip."""
    scores = np.full(60, 0.1)
    scores[31::2] = 0.5
    curve = SpanChanges.of(one_clip(scores, [(0, 31)])).curve()
    assert curve.threshold.tolist() == [np.inf, 0.5, 0.1]
    assert curve.false_spans.tolist() == [0.0, 15.0, 0.0]
    assert curve.recall.tolist() == [0.0, 0.0, 1.0]
    assert curve.recall_at([1, 10, 15]).tolist() == [0.0, 0.0, 1.0]


def test_captions_without_events_are_left_out():
    of = clip_scores()
    of = replace(
        of, ground_truth=[[e for e in es if e.caption != "caption 1"] for es in of.ground_truth]
    )
    changes = SpanChanges.of(of)
    assert len(changes.columns) == len(of.captions) - 1
    each = spans.recall_of_each(changes, len(of.captions), 10)
    assert np.isnan(each).sum() == 1
    expected = counted(of, 0.5)[0]
    assert spans.compute(changes, threshold=0.5)["false_spans"] == pytest.approx(expected.mean())


@given(seeds)
def test_every_clip_once_is_the_number_of_all_and_a_draw_is_a_set_of_its_clips(seed):
    of = rounded(seed, 50, n_clips=4)
    changes = SpanChanges.of(of)
    whole = spans.compute(changes, threshold=0.6)
    statistics = spans.statistics(changes, threshold=0.6)
    assert set(statistics) == set(whole) - {"recall_at_10"}
    once = np.ones(4, dtype=int)
    for name, build in statistics.items():
        assert float(build()(once)) == pytest.approx(whole[name], nan_ok=True), name
    twice = [0, 0, 2, 3]
    drawn = ClipScores(
        [f"{i}" for i in range(4)],
        of.captions,
        of.frame_s,
        [of.durations[i] for i in twice],
        [of.scores[i] for i in twice],
        [of.ground_truth[i] for i in twice],
        of.known[twice],
    )
    expected = spans.compute(SpanChanges.of(drawn), threshold=0.6)
    for name in ("event_recall", "false_spans"):
        assert float(statistics[name]()(np.array([2, 0, 1, 1]))) == pytest.approx(
            expected[name], nan_ok=True
        )
    curves = changes.curve(np.array([2, 0, 1, 1])), SpanChanges.of(drawn).curve()
    assert curves[0].recall_at([5, 10]) == pytest.approx(curves[1].recall_at([5, 10]), nan_ok=True)


def test_without_any_event_there_is_no_recall():
    of = clip_scores(n_clips=2)
    changes = SpanChanges.of(replace(of, known=np.zeros_like(of.known)))
    assert np.isnan(list(spans.compute(changes, threshold=0.5).values())).all()
    assert np.isnan(spans.recall_of_each(changes, len(of.captions), 1)).all()


def test_a_draw_without_any_event_has_no_recall():
    of = replace(clip_scores(n_clips=3), ground_truth=[[Event(1.0, 2.0, "caption 0")], [], []])
    changes = SpanChanges.of(of)
    for build in spans.statistics(changes, threshold=0.5).values():
        assert np.isnan(build()(np.array([0, 1, 2])))


@given(seeds, st.sampled_from([1, 7, 100]))
def test_pieces_of_a_curve_are_the_curve_to_the_bit(seed, n):
    of = rounded(seed, 20, n_clips=3)
    changes = SpanChanges.of(of)
    rates = [0, 0.5, 3, 20, 1e9]
    for drawn in (None, np.array([2, 0, 1])):
        whole = changes.curve(drawn)
        with mock.patch.object(spans, "PIECE", n):
            pieces, recall = list(changes.pieces(drawn)), changes.recall_at(rates, drawn)
        np.testing.assert_array_equal(recall, whole.recall_at(rates))
        for parts, values in zip(zip(*pieces, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), values)
        assert n > 1 or len(pieces) == len(whole.threshold)
