from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_frames import clip_scores, seeds

from flamlib.events import Event
from flamlib.metrics import moments
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.moments import Moments

spans = st.tuples(st.integers(0, 18), st.integers(1, 8)).map(lambda s: (s[0], s[0] + s[1]))


def one_clip(scores, events):
    """A clip with one caption, in frames of a second."""
    scores = np.array(scores, dtype=float)[:, None]
    truth = [Event(float(on), float(off), "a") for on, off in events]
    known = np.ones((1, 1), dtype=bool)
    return ClipScores(["clip"], ["a"], 1.0, [float(len(scores))], [scores], [truth], known)


def slow_precision(windows, events, threshold):
    """Walk down the ranked windows as the scripts of moment retrieval do, in whole seconds."""
    left, hits = list(events), []
    for start, stop in windows:
        fits = []
        for event in left:
            seconds, others = set(range(start, stop)), set(range(*event))
            iou = len(seconds & others) / len(seconds | others)
            if iou >= threshold - 1e-9:
                fits.append((iou, -events.index(event), event))
        if fits:
            left.remove(max(fits)[2])
        hits.append(bool(fits))
    points = [
        (sum(hits[: k + 1]) / len(events), sum(hits[: k + 1]) / (k + 1)) for k in range(len(hits))
    ]
    total, recall = 0.0, 0.0
    for reached in sorted({r for r, _ in points if r > 0}):
        total += (reached - recall) * max(p for r, p in points if r >= reached)
        recall = reached
    return total


@given(st.lists(spans, max_size=10), st.lists(spans, min_size=1, max_size=4, unique=True))
def test_average_precision_is_that_of_the_walk_down_the_ranking(windows, events):
    iou = moments.intersection_over_union(
        np.array(windows, dtype=float).reshape(-1, 2), np.array(events, dtype=float)
    )
    expected = [slow_precision(windows, events, t) for t in moments.PRECISION_IOUS]
    assert moments.average_precision(iou).tolist() == pytest.approx(expected)


@given(seeds)
def test_windows_do_not_depend_on_the_unit_of_scores(seed):
    scores = np.random.default_rng(seed).integers(0, 6, 40) / 4
    edges = np.arange(41.0)
    found = moments.windows(scores, edges)
    assert len(found) <= moments.MAX_WINDOWS
    assert (found == moments.windows(4 * scores - 8, edges)).all()
    assert (found == moments.windows(np.append(scores, -np.inf), np.arange(42.0))).all()
    assert (
        found[0, 0] <= scores.argmax() < found[0, 1] or scores.max() in scores[int(found[0, 0]) :]
    )


def test_a_perfect_answer_and_none():
    events = [(1, 3), (6, 7)]
    scores = np.zeros(10)
    scores[1:3], scores[6] = 0.2, 0.15
    found = moments.compute(Moments.of(one_clip(scores, events)))
    assert found == {
        "moment_r1_50": 1.0, "moment_r1_70": 1.0, "moment_map": 1.0, "n_moment_queries": 1
    }  # fmt: skip
    found = moments.compute(Moments.of(one_clip(np.full(10, -np.inf), events)))
    assert (found["moment_r1_50"], found["moment_map"]) == (0.0, 0.0)


def test_an_iou_of_exactly_the_threshold_counts():
    scores = np.zeros(10)
    scores[0:7] = 1.0
    found = moments.compute(Moments.of(one_clip(scores, [(0, 10)])))
    assert (found["moment_r1_50"], found["moment_r1_70"]) == (1.0, 1.0)
    assert found["moment_map"] == pytest.approx(0.5)  # 0.5, 0.55, 0.6, 0.65 and 0.7 of ten


@given(seeds)
def test_every_clip_once_is_the_number_of_all(seed):
    of = clip_scores(seed)
    known = np.random.default_rng(seed).random(of.known.shape) < 0.8
    found = Moments.of(replace(of, known=known))
    whole = moments.compute(found)
    once = np.ones(len(of.clips), dtype=int)
    for name, build in moments.statistics(found).items():
        assert float(build()(once)) == pytest.approx(whole[name], nan_ok=True)
        of_caption = found.by_caption(len(of.captions))[name]
        n = np.bincount(found.caption, minlength=len(of.captions))
        assert np.nansum(of_caption * n) == pytest.approx(found.by_query()[name].sum())


def test_without_events_there_is_no_query():
    found = moments.compute(Moments.of(clip_scores(ground_truth=[[]] * 6)))
    assert found.pop("n_moment_queries") == 0
    assert np.isnan(list(found.values())).all()
