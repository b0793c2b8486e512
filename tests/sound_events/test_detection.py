import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flamlib.sound_events.detection import (
    Detection,
    events_from_scores,
    read_scores,
    stretch_around,
    threshold_of_top,
    to_audacity_labels,
    write_detections,
    write_scores,
)

CAPTIONS = ["a dog barks", 'he says "go"', "der Wind heult, „laut“"]
PLAIN = dict(threshold=0.5, min_duration_s=0.0, merge_gap_s=0.0)

probabilities = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.just(2)),
    elements=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]),
)


def edges_of(scores, frame_s=0.32):
    return np.arange(len(scores) + 1) * frame_s


def column(*scores):
    return np.array(scores)[:, None]


# Events


@given(probabilities)
def test_plain_events_are_the_frames_at_or_above_the_threshold(scores):
    edges = edges_of(scores)
    detections = events_from_scores(scores, edges, ["a", "b"], **PLAIN)
    for i, caption in enumerate(["a", "b"]):
        mine = [d for d in detections if d.caption == caption]
        covered = np.zeros(len(scores), dtype=bool)
        for d in mine:
            inside = (edges[:-1] >= d.onset) & (edges[1:] <= d.offset)
            covered |= inside
            assert d.score == scores[inside, i].max()
        assert covered.tolist() == (scores[:, i] >= 0.5).tolist()
        # Two that touched would be one.
        assert all(a.offset < b.onset for a, b in pairwise(mine))


@given(probabilities)
def test_events_come_in_order_of_onset(scores):
    detections = events_from_scores(scores, edges_of(scores), ["b", "a"], **PLAIN)
    assert [d.onset for d in detections] == sorted(d.onset for d in detections)


def test_gaps_are_closed_up_to_the_given_length():
    scores = column(0.9, 0.1, 0.8, 0.1, 0.1, 0.7)
    settings = PLAIN | {"merge_gap_s": 0.32}
    assert events_from_scores(scores, edges_of(scores), ["rain"], **settings) == [
        Detection(0.0, 3 * 0.32, "rain", 0.9),
        Detection(5 * 0.32, 6 * 0.32, "rain", 0.7),
    ]


def test_short_events_go_and_just_long_enough_ones_stay():
    """From 0.6 s to 0.9 s it is a little less than 0.3 s in binary."""
    edges = np.arange(10) * 0.1
    assert edges[9] - edges[6] < 0.3
    scores = column(0.9, 0.1, 0.8, 0.8, 0.1, 0.1, 0.7, 0.7, 0.7)
    settings = PLAIN | {"min_duration_s": 0.3}
    [left] = events_from_scores(scores, edges, ["rain"], **settings)
    assert (left.onset, left.score) == (edges[6], 0.7)


def test_pieces_are_joined_before_their_length_is_judged():
    scores = column(0.9, 0.1, 0.9)
    settings = PLAIN | {"min_duration_s": 0.9, "merge_gap_s": 0.4}
    assert len(events_from_scores(scores, edges_of(scores), ["rain"], **settings)) == 1


def test_every_caption_may_have_its_own_threshold():
    scores = np.array([[0.6, 0.6]])
    settings = PLAIN | {"threshold": np.array([0.5, 0.7])}
    [heard] = events_from_scores(scores, edges_of(scores), ["rain", "wind"], **settings)
    assert heard.caption == "rain"


def test_nothing_above_the_threshold_is_no_event():
    assert events_from_scores(column(0.1, 0.2), np.arange(3.0), ["rain"], **PLAIN) == []


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\), expected \(2, 1\)"):
        events_from_scores(np.zeros((1, 2)), np.arange(3.0), ["rain"], **PLAIN)
    with pytest.raises(ValueError, match="'rain' is NaN in frame 1"):
        events_from_scores(column(0.0, np.nan), np.arange(3.0), ["rain"], **PLAIN)


# Tables


def test_a_table_of_detections_is_what_it_says(tmp_path):
    detections = [Detection(3 * 0.32, 12345.0, "a dog barks", 0.8333333)]
    write_detections(tmp_path / "events.tsv", detections, filename="street.wav")
    assert (tmp_path / "events.tsv").read_text() == (
        "filename\tonset\toffset\tevent_label\tscore\n"
        "street.wav\t0.96\t12345.0\ta dog barks\t0.833333\n"
    )
    with warnings.catch_warnings():  # on import, it asks for pkg_resources
        warnings.simplefilter("ignore")
        from sed_scores_eval.base_modules.io import read_ground_truth_events

    read = read_ground_truth_events(tmp_path / "events.tsv")
    assert read == {"street": [[0.96, 12345.0, "a dog barks"]]}


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.1, 9), st.floats(0, 1)), max_size=4),
    st.floats(0.1, 100),
)
def test_the_stretch_to_look_at_is_within_the_recording_and_meets_its_surest_event(of, length_s):
    found = [Detection(onset, onset + length, "rain", score) for onset, length, score in of]
    start, stop = stretch_around(found, 100.0, length_s=length_s)
    assert 0 <= start <= stop <= 100
    assert stop - start == pytest.approx(length_s)
    if found:
        surest = max(found, key=lambda event: event.score)
        assert start < surest.offset
        assert stop > surest.onset
    else:
        assert start == 0


def test_dcase_util_reads_captions_in_a_table_that_it_refuses_in_a_label_track(tmp_path):
    with warnings.catch_warnings():  # on import, it asks for pkg_resources
        warnings.simplefilter("ignore")
        from dcase_util.containers import MetaDataContainer
    captions = ["rain; heavy", "wind: strong", "track #1", "this|that", "a dog, far"]
    detections = [Detection(0.5, 1.25, c, 0.5) for c in captions]
    write_detections(tmp_path / "a.tsv", detections, filename="a.wav")
    read = MetaDataContainer().load(filename=str(tmp_path / "a.tsv"))
    assert [(e.onset, e.offset, e.event_label) for e in read] == [(0.5, 1.25, c) for c in captions]


def test_audacity_gets_one_label_a_line():
    text = to_audacity_labels([Detection(0.5, 1.25, "a dog\tbarks\n", 0.8)])
    assert text == "0.500000\t1.250000\ta dog barks (0.80)\n"
    assert to_audacity_labels([]) == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_come_back_to_the_last_digit(tmp_path, dtype):
    scores = np.random.default_rng(0).random((5, 3)).astype(dtype)
    scores[0, 0] = -np.inf
    edges = np.arange(6) * 0.1
    write_scores(tmp_path / "clip.tsv", scores, edges, CAPTIONS)
    again, again_edges, captions = read_scores(tmp_path / "clip.tsv")
    assert np.array_equal(again.astype(dtype), scores)
    assert np.array_equal(again_edges, edges)
    assert captions == CAPTIONS


def test_sed_scores_eval_reads_our_tables_and_we_read_its(tmp_path):
    with warnings.catch_warnings():  # on import, it asks for pkg_resources
        warnings.simplefilter("ignore")
        from sed_scores_eval import io

    scores, edges = np.random.default_rng(0).random((5, 3)), np.arange(6) * 0.1
    (tmp_path / "ours").mkdir()
    write_scores(tmp_path / "ours" / "clip.tsv", scores, edges, CAPTIONS)
    theirs = io.read_sed_scores(tmp_path / "ours")
    assert list(theirs["clip"].columns) == ["onset", "offset", *CAPTIONS]
    read = theirs["clip"][CAPTIONS].to_numpy()
    assert np.allclose(read, scores, rtol=1e-12, atol=0)  # pandas' parser misses a last bit

    io.write_sed_scores(theirs, tmp_path / "theirs")
    again, again_edges, captions = read_scores(tmp_path / "theirs" / "clip.tsv")
    assert np.array_equal(again, read)
    assert np.allclose(again_edges, edges, rtol=1e-12, atol=0)
    assert captions == CAPTIONS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected columns onset, offset"),
        ("onset\toffset\train\n", "a row per frame"),
        ("filename\tonset\toffset\n0\t1\t2\n", "expected columns onset, offset"),
        ("onset\toffset\train\n0\t1\n", "row 2: 2 columns, expected 3"),
        ("onset\toffset\train\n0\t1\tloud\n", "loud"),
        ("onset\toffset\train\n0\t1\t0.5\n1.5\t2\t0.5\n", "row 3: does not start where"),
    ],
)
def test_a_table_that_is_not_one_of_scores_is_named(tmp_path, text, complaint):
    path = tmp_path / "clip.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"clip.tsv.*{complaint}"):
        read_scores(path)


@pytest.mark.parametrize("captions", [["onset"], ["a\\b"], ["rain", "rain"]])
def test_captions_that_the_table_cannot_hold_are_refused(tmp_path, captions):
    with pytest.raises(ValueError, match=r"cannot take|twice"):
        write_scores(tmp_path / "clip.tsv", np.zeros((1, len(captions))), np.arange(2.0), captions)


def test_each_caption_may_have_a_threshold_of_its_own():
    scores = np.array([[0.6, 0.6], [0.2, 0.2]])
    how = PLAIN | {"threshold": np.array([0.5, 0.7])}
    found = events_from_scores(scores, edges_of(scores), CAPTIONS[:2], **how)
    assert [d.caption for d in found] == CAPTIONS[:1]
    for wrong in (np.array([0.5]), np.array([0.5, np.nan]), np.full(3, 0.5)):
        with pytest.raises(ValueError, match=r"thresholds .*: expected one number, or one"):
            events_from_scores(
                scores, edges_of(scores), CAPTIONS[:2], **PLAIN | {"threshold": wrong}
            )


@given(
    st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=1, max_size=12),
    st.sampled_from([0.3, 0.5, 0.6]),
    st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.9]),
)
def test_with_hysteresis_an_event_goes_on_from_a_frame_that_reaches_the_threshold(column, on, off):
    """Against a loop over frames; an off-threshold above the threshold changes nothing."""
    active = [score >= on for score in column]
    for frames in (range(1, len(column)), range(len(column) - 2, -1, -1)):
        step = frames.step
        for k in frames:
            active[k] = active[k] or (active[k - step] and column[k] >= off)
    found = events_from_scores(
        np.array(column)[:, None],
        np.arange(len(column) + 1.0),
        ["rain"],
        threshold=on,
        off_threshold=off,
        min_duration_s=0.0,
        merge_gap_s=0.0,
    )
    covered = [any(d.onset <= k < d.offset for d in found) for k in range(len(column))]
    assert covered == active


@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=1, max_size=12), st.integers(1, 5))
def test_the_threshold_of_the_top_is_the_highest_that_gives_as_many_events(column, n):
    def count(threshold):
        active = np.array([False, *(np.array(column) >= threshold)])
        return int((active[1:] & ~active[:-1]).sum())

    levels = sorted(set(column), reverse=True)
    most = max(map(count, levels))
    expected = next(level for level in levels if count(level) >= min(n, most))
    assert threshold_of_top(np.array(column), n) == expected


def test_a_score_that_is_the_threshold_reaches_it_in_the_scores_own_precision():
    scores, edges = np.full((2, 1), 0.7, np.float32), np.array([0.0, 1.0, 2.0])
    for threshold in (0.7, np.array([0.7])):
        found = events_from_scores(
            scores, edges, ["rain"], threshold=threshold, min_duration_s=0.0, merge_gap_s=0.0
        )
        assert len(found) == 1
