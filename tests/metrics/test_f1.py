import numpy as np
import pytest
from oracles import random_clips, sed_eval
from scored_frames import frames
from sklearn.metrics import f1_score

from flamlib.metrics import f1
from flamlib.sound_events.detection import events_from_scores


@pytest.mark.parametrize("seed", range(10))
def test_f1_is_scikit_learns(seed):
    scores, active, known = frames(seed, n_levels=10)
    thresholds = np.array([0.0, 0.2, 0.4, 0.5, 2.0])
    result = f1.f1_over_thresholds(scores, active, thresholds, known)
    has_events = (active & known).any(axis=0)
    for i, threshold in enumerate(thresholds):
        detected = scores >= threshold
        if has_events.any():
            macro = np.mean(
                [
                    f1_score(active[k, c], detected[k, c], zero_division=0.0)
                    for c, k in enumerate(known.T)
                    if has_events[c]
                ]
            )
            assert result["f1_macro"][i] == pytest.approx(macro)
        else:
            assert np.isnan(result["f1_macro"][i])


def test_the_best_threshold_is_the_lowest_of_the_best():
    scores, active = np.array([[0.9], [0.6], [0.1]]), np.array([[True], [True], [False]])
    result = f1.f1_over_thresholds(scores, active, np.array([0.05, 0.2, 0.5, 0.7]))
    assert result["f1_macro"].tolist() == pytest.approx([0.8, 1.0, 1.0, 2 / 3])
    assert result["best_macro"] == 0.2


def test_a_score_at_the_threshold_is_a_detection_in_any_precision():
    scores, active = np.array([[0.7], [0.1]], dtype=np.float32), np.array([[True], [False]])
    assert f1.f1_over_thresholds(scores, active, np.array([0.7]))["f1_macro"] == [1.0]


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValueError, match="rising order"):
        f1.f1_over_thresholds(np.zeros((1, 1)), np.ones((1, 1), bool), np.array([0.5, 0.1]))


# Segments and events


def detections_of(clips, threshold):
    scores, edges, captions, *_ = clips
    settings = {"threshold": threshold, "min_duration_s": 0.0, "merge_gap_s": 0.0}
    return {
        clip: events_from_scores(of, edges, captions, **settings) for clip, of in scores.items()
    }


def as_lists(events, clip):
    """As sed_eval takes them, which needs a file's name on an event and cannot do without any."""
    return [
        {"event_onset": onset, "event_offset": offset, "event_label": caption, "file": clip}
        for onset, offset, caption, *_ in events
    ]


def test_segment_f1_by_hand():
    """The detection reaches into segments 0 to 2, the event into 1 to 3: two of four."""
    detections, ground_truth = {"clip": [(0.5, 2.5, "rain")]}, {"clip": [(1.2, 3.1, "rain")]}
    found = f1.segment_f1(detections, ground_truth, ["rain"], {"clip": 4.0}, segment_s=1.0)
    assert found["f1_macro"] == found["f1_pooled"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["counts"].tolist() == [[[2, 3, 3]]]


COLLARS = {"onset_collar_s": 0.2, "offset_collar_s": 0.2, "offset_collar_rate": 0.2}


def test_event_f1_by_hand():
    """The first detection is 0.2 s early and 0.6 s short of an event of 3 s, both just allowed; the
    second begins too late; the third is of nothing."""
    ground_truth = {"a": [(1.0, 4.0, "rain"), (6.0, 7.0, "rain")], "b": []}
    detections = {"a": [(0.8, 3.4, "rain"), (6.25, 7.0, "rain")], "b": [(0.0, 1.0, "rain")]}
    found = f1.event_f1(detections, ground_truth, ["rain", "wind"], **COLLARS)
    assert found["f1_macro"] == found["f1_pooled"] == pytest.approx(2 * 1 / (3 + 2))
    assert found["counts"].sum(axis=(0, 1)).tolist() == [1, 3, 2]
    assert found["per_caption"] == pytest.approx([0.4, np.nan], nan_ok=True)


def test_each_event_matches_one_detection_and_as_many_match_as_can():
    """Two detections are near the first event, only the earlier of them near the second as well."""
    ground_truth = {"clip": [(1.0, 2.0, "rain"), (1.3, 2.0, "rain")]}
    detections = {"clip": [(1.15, 2.0, "rain"), (0.9, 2.0, "rain")]}
    found = f1.event_f1(detections, ground_truth, ["rain"], **COLLARS)
    assert found["f1_macro"] == 1.0


@pytest.mark.parametrize("seed", range(12))
def test_segment_and_event_f1_are_those_of_sed_eval(seed):
    clips = _, _, captions, ground_truth, durations = random_clips(seed, n_clips=8)
    detections = detections_of(clips, threshold=0.8)
    ours = {
        "segment": f1.segment_f1(detections, ground_truth, captions, durations, segment_s=1.0),
        "event": f1.event_f1(detections, ground_truth, captions, **COLLARS),
    }
    theirs = {
        "segment": sed_eval.sound_event.SegmentBasedMetrics(captions, time_resolution=1.0),
        "event": sed_eval.sound_event.EventBasedMetrics(
            captions,
            t_collar=0.2,
            percentage_of_length=0.2,
            empty_system_output_handling="zero_score",
        ),
    }
    for clip, events in ground_truth.items():
        given = as_lists(events, clip), as_lists(detections[clip], clip)
        theirs["segment"].evaluate(*given, evaluated_length_seconds=durations[clip])
        theirs["event"].evaluate(*given)
    for name, found in ours.items():
        overall = theirs[name].results_overall_metrics()["f_measure"]["f_measure"]
        assert found["f1_pooled"] == pytest.approx(overall, abs=1e-6), name
        of_class = theirs[name].results_class_wise_metrics()
        for caption, value in zip(captions, found["per_caption"], strict=True):
            expected = of_class[caption]["f_measure"]["f_measure"]
            assert value == pytest.approx(np.nan_to_num(expected), abs=1e-6), (name, caption)


def test_an_onset_exactly_a_collar_away_is_near_enough():
    """7.7 - 7.5 is a little more than 0.2 in binary, which makes sed_eval refuse it."""
    detections, ground_truth = {"clip": [(7.5, 8.2, "rain")]}, {"clip": [(7.7, 8.2, "rain")]}
    assert f1.event_f1(detections, ground_truth, ["rain"], **COLLARS)["f1_macro"] == 1.0


def test_without_events_there_is_no_f1_and_no_crash():
    nothing = {"clip": []}
    for found in (
        f1.segment_f1(nothing, nothing, ["rain"], {"clip": 1.0}, segment_s=1.0),
        f1.event_f1(nothing, nothing, ["rain"], **COLLARS),
    ):
        assert np.isnan([found["f1_macro"], found["f1_pooled"]]).all()
        assert np.isnan(found["per_caption"]).all()


def test_clips_that_differ_and_unknown_captions_are_refused():
    with pytest.raises(ValueError, match="same clips"):
        f1.event_f1({}, {"clip": []}, ["rain"], **COLLARS)
    with pytest.raises(ValueError, match="clip 'c': 'wind' is not among"):
        f1.event_f1({"c": [(0, 1, "wind")]}, {"c": []}, ["rain"], **COLLARS)


def test_a_caption_without_events_is_skipped_and_its_detections_are_false():
    ground_truth = {"clip": [(0.0, 3.0, "rain")]}
    detections = {"clip": [(0.0, 3.0, "rain"), (0.0, 3.0, "wind")]}
    captions = ["rain", "wind"]
    for metric in (
        f1.segment_f1(detections, ground_truth, captions, {"clip": 6.0}, segment_s=1.0),
        f1.event_f1(detections, ground_truth, captions, **COLLARS),
    ):
        assert metric["per_caption"] == pytest.approx([1.0, np.nan], nan_ok=True)
        assert metric["f1_macro"] == 1.0
        assert metric["f1_pooled"] == pytest.approx(2 / 3)
