from dataclasses import replace

import moment_reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_frames import clip_scores, seeds

from flamlib.metrics import moments
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.moments import Answer, Moments
from flamlib.sound_events.events import Event

spans = st.tuples(st.integers(0, 18), st.integers(1, 8)).map(lambda s: (s[0], s[0] + s[1]))


def one_clip(scores, events):
    """A clip with one caption, in frames of a second."""
    scores = np.array(scores, dtype=float)[:, None]
    truth = [Event(float(on), float(off), "a") for on, off in events]
    known = np.ones((1, 1), dtype=bool)
    return ClipScores(["clip"], ["a"], 1.0, [float(len(scores))], [scores], [truth], known)


@st.composite
def judged(draw):
    """Ground truth of some queries and predictions, in seconds, tenths or any real number."""
    unit = draw(st.sampled_from([1.0, 0.1, 0.32, draw(st.floats(0.01, 3.0))]))
    seconds = spans.map(lambda span: [unit * span[0], unit * span[1]])
    truth = draw(st.lists(st.lists(seconds, min_size=1, max_size=4), min_size=1, max_size=5))
    truth = [{"qid": str(i), "relevant_windows": of} for i, of in enumerate(truth)]
    predictions = []
    for line in truth:
        found = draw(st.lists(seconds, min_size=1, max_size=13))
        scores = sorted(draw(st.lists(st.integers(0, 5), min_size=len(found), max_size=len(found))))
        windows = [[*w, s] for w, s in zip(found, reversed(scores), strict=True)]
        predictions.append({"qid": line["qid"], "pred_relevant_windows": windows})
    return predictions, truth


def as_ours(predictions, truth):
    """Our metrics of the same, as percentages with two decimals."""
    answers = [
        Answer(
            i,
            0,
            np.array(one["pred_relevant_windows"], dtype=float)[:, :2],
            np.array(of["relevant_windows"], dtype=float),
        )
        for i, (one, of) in enumerate(zip(predictions, truth, strict=True))
    ]
    found = moments.compute(Moments.of_answers(answers, len(truth)))
    assert found.pop("n_moment_queries") == len(truth)
    names = {"mAP": "moment_map", "mAP@0.5": "moment_map_50", "mAP@0.75": "moment_map_75"}
    names |= {"R1@0.5": "moment_r1_50", "R1@0.7": "moment_r1_70"}
    return {theirs: 100 * found[ours] for theirs, ours in names.items()}


@given(judged())
def test_metrics_are_those_of_the_reference_evaluation(case):
    reference = moment_reference.evaluate(*case)
    assert as_ours(*case) == pytest.approx(reference, abs=0.00501)  # it rounds to two decimals


def test_metrics_worked_out_by_hand():
    """Two queries. The first: windows of IoU 8/10 with one of two events, then 0, then 1.

    At thresholds to 0.8 they are hit, miss, hit: 1/2 · 1 + 1/2 · 2/3 = 5/6; at 0.85, 0.9, 0.95
    miss, miss, hit: 1/2 · 1/3 = 1/6. The second: an IoU of 6/10, so 1 at 0.5, 0.55, 0.6, else 0.
    """
    truth = [
        {"qid": "a", "relevant_windows": [[10, 20], [40, 44]]},
        {"qid": "b", "relevant_windows": [[0, 6]]},
    ]
    predictions = [
        {"qid": "a", "pred_relevant_windows": [[12, 20, 0.9], [30, 40, 0.5], [40, 44, 0.1]]},
        {"qid": "b", "pred_relevant_windows": [[0, 10, 0.2]]},
    ]
    expected = {
        "mAP": 100 * ((7 * 5 / 6 + 3 * 1 / 6) / 10 + 3 / 10) / 2,
        "mAP@0.5": 100 * (5 / 6 + 1) / 2,
        "mAP@0.75": 100 * (5 / 6) / 2,
        "R1@0.5": 100.0,
        "R1@0.7": 50.0,
    }
    assert as_ours(predictions, truth) == pytest.approx(expected)
    reference = moment_reference.evaluate(predictions, truth)
    assert reference == {name: round(value, 2) for name, value in expected.items()}


def test_of_more_than_ten_windows_the_first_ten_count():
    miss = [[20.0 + i, 20.5 + i, 0.9] for i in range(10)]
    predictions = [{"qid": "a", "pred_relevant_windows": [*miss, [0, 1, 0.1]]}]
    truth = [{"qid": "a", "relevant_windows": [[0, 1]]}]
    assert set(as_ours(predictions, truth).values()) == {0.0}
    assert set(moment_reference.evaluate(predictions, truth).values()) == {0.0}


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
    assert found.pop("n_moment_queries") == 1
    assert set(found.values()) == {1.0}
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
