import numpy as np
import pytest
from oracles import create_score_dataframe, random_clips, segment_based

from flamlib.metrics import ranking, segments


def test_an_event_that_ends_at_an_edge_does_not_reach_into_the_next_segment():
    active = segments.active_segments([(0.3, 0.6, "rain")], ["rain"], n_segments=4, segment_s=0.1)
    assert active[:, 0].tolist() == [False, False, False, True]
    active = segments.active_segments([(0.3, 0.6, "rain")], ["rain"], n_segments=8, segment_s=0.1)
    assert active[:, 0].tolist() == [False] * 3 + [True] * 3 + [False] * 2


def test_the_score_of_a_segment_is_the_highest_of_the_frames_that_reach_into_it():
    """Frames of 0.4 s: the third spans 0.8 to 1.2 s, so it reaches into both segments."""
    scores, edges = np.array([[0.1], [0.2], [0.9], [0.3], [0.4]]), np.arange(6) * 0.4
    found = segments.segment_scores(scores, edges, n_segments=2, segment_s=1.0)
    assert found[:, 0].tolist() == [0.9, 0.9]


def test_a_segment_without_frames_is_refused():
    with pytest.raises(ValueError, match=r"segment 1 begins at .*, but the frames end at"):
        segments.segment_scores(
            np.zeros((2, 1)), np.array([0, 0.4, 0.8]), n_segments=2, segment_s=1.0
        )


@pytest.mark.parametrize("seed", range(8))
def test_the_partial_auroc_of_segments_is_that_of_sed_scores_eval(seed):
    """Its default normalisation, and McClish's."""
    clips = scores, edges, captions, truth, durations = random_clips(seed, n_frames=25)
    rows = [
        segments.segment_scores(scores[clip], edges, n_segments=10, segment_s=1.0) for clip in truth
    ]
    active = [
        segments.active_segments(truth[clip], captions, n_segments=10, segment_s=1.0)
        for clip in truth
    ]
    area = ranking.partial_auroc(np.concatenate(rows), np.concatenate(active), max_fpr=0.1)
    tables = {clip: create_score_dataframe(scores[clip], edges, captions) for clip in scores}
    for ours, corrected in ((area / 0.1, False), (ranking.mcclish(area, 0.1), True)):
        theirs, _ = segment_based.auroc(
            tables, truth, durations, segment_length=1.0, max_fpr=0.1, mcclish_correction=corrected
        )
        assert ranking.mean_of_known(ours) == pytest.approx(theirs["mean"], abs=1e-6), clips
