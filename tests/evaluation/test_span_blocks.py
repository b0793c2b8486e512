from dataclasses import replace
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_frames import seeds

from flamlib.evaluation import span_blocks
from flamlib.metrics import spans
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.spans import SpanChanges
from flamlib.sound_events.events import Event


def made(seed, n_clips=9, n_captions=5, ties=True):
    """Clips of a minute in frames of 0.25 s; the last caption never sounds."""
    rng = np.random.default_rng(seed)
    captions = [f"caption {j}" for j in range(n_captions)]
    scores = rng.random((n_clips, 240, n_captions)).astype(np.float32)
    if ties:
        scores = scores.round(1)
    truth = []
    for _ in range(n_clips):
        onsets = rng.integers(0, 50, 2 * (n_captions - 1))
        truth.append(
            [Event(float(a), a + 4.0, captions[j // 2]) for j, a in enumerate(onsets[::2])]
        )
    known = rng.random((n_clips, n_captions)) < 0.9
    clips = [f"clip {i}" for i in range(n_clips)]
    return ClipScores(clips, captions, 0.25, [60.0] * n_clips, list(scores), truth, known)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([240 * 9, 240 * 9 * 2, 1 << 20]), st.sampled_from([1, 3, 9]))
def test_metrics_are_those_of_all_spans_to_the_bit(seed, block, n_few):
    of = made(seed, ties=seed % 2 == 0)
    whole = SpanChanges.of(of)
    found, recall = span_blocks.find(of, threshold=0.6, n_few=n_few, block=block)
    np.testing.assert_array_equal(recall, spans.recall_of_each(whole, len(of.captions), 1))
    expected = spans.compute(whole, threshold=0.6)
    for band in (1, 200, 1 << 20):
        with mock.patch.object(span_blocks, "BAND", band):
            assert span_blocks.compute(found, threshold=0.6) == expected
    found = SpanChanges.merged(found)
    assert spans.compute(found, threshold=0.6) == expected
    draws = np.random.default_rng(0).multinomial(9, np.ones(9) / 9, size=3)
    expected = spans.statistics(whole, threshold=0.6)
    for name, build in spans.statistics(found, threshold=0.6).items():
        np.testing.assert_array_equal(build()(draws), expected[name]()(draws))


def test_what_no_metric_needs_is_not_kept():
    of = made(0, n_clips=40)
    loud = replace(of, scores=[score**0.1 for score in of.scores])
    whole = SpanChanges.of(loud)
    found, _ = span_blocks.find(loud, threshold=0.99)
    assert len(SpanChanges.merged(found).threshold) < 0.9 * len(whole.threshold)


def test_a_few_clips_that_mislead_change_nothing():
    """The only clip with false spans is the one that is looked at."""
    of = made(1, ties=False)
    quiet = replace(of, scores=[of.scores[0], *(0 * score for score in of.scores[1:])])
    whole = SpanChanges.of(quiet)
    found, _ = span_blocks.find(quiet, threshold=0.9, n_few=1)
    assert span_blocks.compute(found, threshold=0.9) == spans.compute(whole, threshold=0.9)


def test_where_nothing_sounds_there_is_no_recall():
    of = made(0)
    silent = replace(of, ground_truth=[[] for _ in of.clips])
    found, recall = span_blocks.find(silent, threshold=0.5, block=1)
    assert np.isnan(recall).all()
    assert np.isnan(list(span_blocks.compute(found, threshold=0.5).values())).all()
